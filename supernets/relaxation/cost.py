"""Costs as sums of tables over few choices; their expectation over a mixture is exact and differentiable.

Tables for parameters and multiply-accumulates come from counts: the share of each parameter or module depends on few
choices. Tables for latencies come from a fit, with one table for each choice and each pair of choices.
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
"""Largest total number of entries in fitted tables; above it, the fit omits pairs of choices."""
RIDGE = 1e-4
"""Ridge penalty on the squares of fitted entries, relative to the mean square of a sample's indicators."""
HELD_OUT = 5
"""Every HELD_OUT-th sample is held out to measure the quality of the fit."""


@dataclass(frozen=True, eq=False)
class Cost:
    """A cost of architectures: a constant and a sum of tables.

    Attributes:
        r2: share of the variance between networks that a fitted cost explains on held-out samples; 1 for counts.
    """

    space: Space
    constant: float
    tables: tuple[Table, ...]
    r2: float = 1.0

    def __call__(self, mixture: Mixture) -> Tensor:
        """Return the expected cost over a mixture, a scalar."""
        total = torch.tensor(self.constant, dtype=torch.float64)
        for table in self.tables:
            chances = mixture.chances(table.joint)
            total = (
                total.to(chances.device) + chances.double() @ torch.tensor(table.values, device=chances.device).double()
            )
        return total

    def of(self, arch: Architecture) -> float:
        """Return the cost of one architecture."""
        codes = self.space.codes([arch])[0]
        total = self.constant
        for table in self.tables:
            matches = np.flatnonzero((table.joint.codes == codes[list(table.joint.slots)]).all(1))
            total += sum(float(table.values[row]) for row in matches)
        return total


def counted_params(space: Space, build: Build) -> Cost:
    """Return the number of parameters as a cost, with tied parameters counted once."""

    def count(arch: Architecture) -> Mapping[Key, int]:
        return {(name,): parameter.numel() for name, parameter in build_skeleton(build, arch).named_parameters()}

    return _counted(space, tabulate(space, count, counting=True))


def counted_macs(space: Space, build: Build, example: Tensor | tuple[Tensor, ...]) -> Cost:
    """Return the multiply-accumulates of one example as a cost, as `Profile.macs` counts them."""
    inputs = tuple(tensor.to("meta") for tensor in (example if isinstance(example, tuple) else (example,)))

    def count(arch: Architecture) -> Mapping[Key, int]:
        return _own_macs(build_skeleton(build, arch).to("meta").eval(), inputs)

    return _counted(space, tabulate(space, count, counting=True))


def _own_macs(module: nn.Module, inputs: tuple[Tensor, ...]) -> dict[Key, int]:
    """Return multiply-accumulates by module path, without those of the module's children."""
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
    """Return the cost that sums the tables, merged where they have the same combinations."""
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
    """Return a cost fitted by ridge regression to measured or predicted values of architectures.

    Args:
        archs: some hundreds or more, drawn with ``uniform="choices"`` so that every option occurs often.
        values: one value per architecture, such as milliseconds.

    Raises:
        SupernetError: there are too few architectures, the lengths differ, or a value is not finite.
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
    """Return coefficients and constant. The indicators of a table sum to 1, so the constant is the mean."""
    mean = float(y.mean())
    gram = columns @ columns.T  # the dual form: usually there are more entries than samples
    return columns.T @ np.linalg.solve(gram + RIDGE * np.trace(gram) / len(y) * np.eye(len(y)), y - mean), mean


def _pairs(space: Space) -> list[Joint]:
    """Return a joint for every choice and every pair of choices, each with its conditions.

    Only single choices if the pairs would need more than `MAX_COLUMNS` entries.
    """
    free = [index for index, kept in enumerate(space.domains) if len(kept) > 1]
    alone = [_joint(space, (slot,)) for slot in free]
    pairs = [_joint(space, pair) for pair in itertools.combinations(free, 2)]
    return alone + pairs if sum(len(joint.codes) for joint in alone + pairs) <= MAX_COLUMNS else alone


def _joint(space: Space, slots: tuple[int, ...]) -> Joint:
    """Return all combinations of these slots and of the slots that decide whether they are active."""
    own = set(slots)
    while parents := {parent for slot in own for parent, _ in space.slots[slot].conditions} - own:
        own |= parents
    ordered = tuple(sorted(own))
    rows = np.array(combinations(space, ordered), dtype=np.int16)
    return Joint(ordered, rows)


def _indicators(joint: Joint, codes: npt.NDArray[np.int16]) -> npt.NDArray[np.float64]:
    """Return indicators (n, combinations): 1 where a network has the combination."""
    found: npt.NDArray[np.bool_] = (codes[:, None, list(joint.slots)] == joint.codes[None]).all(-1)
    return found.astype(np.float64)
