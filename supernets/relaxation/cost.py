"""Costs as sums of tables over few choices, whose expectation over a mixture is exact and differentiable.

Parameters and multiply-accumulates are counted: each parameter's and each module's share depends on few choices.
Latencies are fitted: a table for each choice and for each pair of choices.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from search_spaces import Architecture, Space
from supernets.errors import SupernetError
from supernets.relaxation.mixture import Joint, Mixture
from supernets.relaxation.tables import Key, Table, combinations, tabulate
from supernets.skeleton import Build, build_skeleton

MAX_COLUMNS = 4000
"""Entries of fitted tables, beyond which pairs are left out and choices stand alone."""
RIDGE = 1e-4
"""The weight of the squares of fitted entries, against the mean square of a sample's indicators."""
HELD_OUT = 5
"""One sample in so many is not fitted but tells how well the fit does."""


@dataclass(frozen=True, eq=False)
class Cost:
    """A cost of architectures: a constant and a sum of tables.

    Attributes:
        r2: how much of the variance between networks a fitted cost explains, on samples not fitted; 1 where counted.
    """

    space: Space
    constant: float
    tables: tuple[Table, ...]
    r2: float = 1.0

    def __call__(self, mixture: Mixture) -> Tensor:
        """The expectation over a mixture, a scalar."""
        total = torch.tensor(self.constant, dtype=torch.float64)
        for table in self.tables:
            chances = mixture.chances(table.joint)
            total = (
                total.to(chances.device) + chances.double() @ torch.tensor(table.values, device=chances.device).double()
            )
        return total

    def of(self, arch: Architecture) -> float:
        """The cost of one architecture."""
        codes = self.space.codes([arch])[0]
        total = self.constant
        for table in self.tables:
            matches = np.flatnonzero((table.joint.codes == codes[list(table.joint.slots)]).all(1))
            total += sum(float(table.values[row]) for row in matches)
        return total


def counted_params(space: Space, build: Build) -> Cost:
    """Parameters, tied ones once."""

    def count(arch: Architecture) -> Mapping[Key, int]:
        return {(name,): parameter.numel() for name, parameter in build_skeleton(build, arch).named_parameters()}

    return _counted(space, tabulate(space, count, counting=True))


def counted_macs(space: Space, build: Build, example: Tensor | tuple[Tensor, ...]) -> Cost:
    """Multiply-accumulates of one example, as `Profile.macs`: what each module runs itself."""
    inputs = tuple(tensor.to("meta") for tensor in (example if isinstance(example, tuple) else (example,)))

    def count(arch: Architecture) -> Mapping[Key, int]:
        return _own_macs(build_skeleton(build, arch).to("meta").eval(), inputs)

    return _counted(space, tabulate(space, count, counting=True))


def _own_macs(module: nn.Module, inputs: tuple[Tensor, ...]) -> dict[Key, int]:
    """Multiply-accumulates by module path, those of its children left out."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(*inputs)
    totals = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items() if name != "Global"}
    own = dict(totals)
    for name, total in totals.items():
        parent = name.rpartition(".")[0]
        while parent and parent not in totals:
            parent = parent.rpartition(".")[0]
        if parent:
            own[parent] -= total
    return {(name,): flops // 2 // inputs[0].shape[0] for name, flops in own.items() if flops}


def _counted(space: Space, tables: Mapping[Key, Table]) -> Cost:
    """Tables of the same combinations added up."""
    sums: dict[Hashable, tuple[Joint, npt.NDArray[np.float64]]] = {}
    constant = 0.0
    for table in tables.values():
        if table.joint.slots:
            joint, values = sums.get(table.joint.key, (table.joint, np.zeros(len(table.values))))
            sums[joint.key] = joint, values + np.array(table.values, dtype=np.float64)
        else:
            constant += float(table.values[0])
    return Cost(space, constant, tuple(Table(joint, tuple(values)) for joint, values in sums.values()))


def fitted(space: Space, archs: Sequence[Architecture], values: Sequence[float]) -> Cost:
    """A cost fitted to what was measured or predicted of architectures, by ridge regression.

    Args:
        archs: some hundreds or more, drawn with ``uniform="choices"``, so that every option is seen often.
        values: one a network, as milliseconds.

    Raises:
        SupernetError: too few architectures, or values that are not finite.
    """
    y = np.asarray(values, dtype=np.float64)
    if len(archs) < 2 * HELD_OUT or len(archs) != len(y) or not np.isfinite(y).all():
        raise SupernetError(
            f"{len(archs)} architectures and {len(y)} values, {int((~np.isfinite(y)).sum())} of them not finite: a "
            f"cost is fitted to {2 * HELD_OUT} or more architectures with a finite value each"
        )
    codes = space.codes(archs)
    joints = _pairs(space)
    columns = np.concatenate([_indicators(joint, codes) for joint in joints], axis=1)
    held = np.arange(len(y)) % HELD_OUT == HELD_OUT - 1
    beta, mean = _ridge(columns[~held], y[~held])
    missed = y[held] - mean - columns[held] @ beta
    r2 = 1 - float(missed @ missed) / max(float(np.square(y[held] - y[held].mean()).sum()), 1e-30)
    beta, mean = _ridge(columns, y)
    ends = np.cumsum([0, *(len(joint.codes) for joint in joints)])
    tables = [Table(joint, tuple(beta[a:b])) for joint, (a, b) in zip(joints, itertools.pairwise(ends), strict=True)]
    return Cost(space, float(mean), tuple(tables), r2)


def _ridge(columns: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], float]:
    """Coefficients and constant: the indicators of a table sum to 1, so the constant is the mean."""
    mean = float(y.mean())
    gram = columns @ columns.T  # there are more entries than samples, mostly
    return columns.T @ np.linalg.solve(gram + RIDGE * np.trace(gram) / len(y) * np.eye(len(y)), y - mean), mean


def _pairs(space: Space) -> list[Joint]:
    """Every choice with the choices that turn it off, alone and with every other; alone where that is too much."""
    free = [index for index, kept in enumerate(space.domains) if len(kept) > 1]
    alone = [_joint(space, (slot,)) for slot in free]
    pairs = [_joint(space, pair) for pair in itertools.combinations(free, 2)]
    return alone + pairs if sum(len(joint.codes) for joint in alone + pairs) <= MAX_COLUMNS else alone


def _joint(space: Space, slots: tuple[int, ...]) -> Joint:
    """All combinations of these slots and of those that decide whether they are active."""
    own = set(slots)
    while parents := {parent for slot in own for parent, _ in space.slots[slot].conditions} - own:
        own |= parents
    ordered = tuple(sorted(own))
    rows = np.array(combinations(space, ordered), dtype=np.int16)
    return Joint(ordered, rows)


def _indicators(joint: Joint, codes: npt.NDArray[np.int16]) -> npt.NDArray[np.float64]:
    """(n, combinations) 1 where a network has the combination."""
    found: npt.NDArray[np.bool_] = (codes[:, None, list(joint.slots)] == joint.codes[None]).all(-1)
    return found.astype(np.float64)
