"""Compute costs of many networks at once, from tables of costs per module.

The cost of a module depends on few choices (its width, kernel, position in the depth), so tables over their
combinations give the cost of any network as a sum. The tables come from the same survey as those of the relaxation,
which checks them on random networks. Activation bytes are omitted: what a module keeps for the backward pass depends on
which other modules keep the same tensor.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from torch import Tensor

from search_spaces import Architecture, Space
from supernets.profile import profile_parts
from supernets.relaxation.tables import Key, RelaxationError, Table, tabulate
from supernets.skeleton import Build, build_skeleton

IntArray = npt.NDArray[np.int64]
Column = tuple[str, str]
"""A kind of layer and a figure, such as ("Conv2d", "macs")."""

_WHOLE = ""
_FIGURES = ("count", "params", "macs", "output_bytes")


@dataclass(frozen=True, eq=False)
class _Sum:
    """Sums of costs that depend on the same choices, for each combination of these."""

    slots: tuple[int, ...]
    bases: IntArray
    """(slots,) the place values that turn a combination into a number."""
    numbers: IntArray
    """(m,) the numbers of the combinations, ascending."""
    values: IntArray
    """(m, columns)."""

    def of(self, codes: npt.NDArray[np.int16]) -> IntArray:
        """Return the costs (n, columns); 0 for combinations not in the table, such as those of an absent block."""
        asked = (codes[:, list(self.slots)].astype(np.int64) + 1) @ self.bases
        at = np.minimum(np.searchsorted(self.numbers, asked), len(self.numbers) - 1)
        found: IntArray = np.where((self.numbers[at] == asked)[:, None], self.values[at], 0)
        return found


class Counts:
    """Costs of the networks of a space: the same as `profile_network`, at thousands of networks per second.

    The first call profiles the networks that the tables need, some hundreds in a large space. If a module depends on
    too many combinations of choices for a table, the class profiles every network instead, once each.

    Args:
        example: one input, or a tuple of inputs, with a batch axis.
    """

    def __init__(self, space: Space, build: Build, example: Tensor | tuple[Tensor, ...]) -> None:
        self.space = space
        self._build = build
        self._example = example
        self._seen: dict[Architecture, dict[Key, int]] = {}

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """Parameters and multiply-accumulates of the whole network, then four figures for each kind of layer.

        The kinds are those in the networks from which the tables were made.
        """
        self._tables  # noqa: B018 - which looks at networks
        kinds = dict.fromkeys(kind for found in self._seen.values() for kind, _, _ in found if kind != _WHOLE)
        whole = tuple((_WHOLE, name) for name in ("params", "macs"))
        return whole + tuple((kind, figure) for kind in kinds for figure in _FIGURES)

    @property
    def tabulated(self) -> bool:
        """Whether there are tables, which give costs of thousands of networks per second."""
        return self._tables is not None

    def __call__(self, archs: Sequence[Architecture] | npt.NDArray[np.int16]) -> IntArray:
        """Return the costs (n, columns) of architectures or their codes."""
        codes = archs if isinstance(archs, np.ndarray) else self.space.codes(archs)
        found = np.zeros((len(codes), len(self.columns)), dtype=np.int64)
        if self._tables is None:
            for row, arch in zip(found, self.space.decode(codes), strict=True):
                self._count(arch, row)
            return found
        constant, sums = self._sums
        for table in sums:
            found += table.of(codes)
        return found + constant

    @cached_property
    def _tables(self) -> dict[Key, Table] | None:
        """The tables of every figure of every module; None if they would be too large."""
        try:
            return tabulate(self.space, self._observed, counting=True)
        except RelaxationError:
            return None

    @cached_property
    def _sums(self) -> tuple[IntArray, list[_Sum]]:
        """Return the costs common to all networks, and the tables of equal combinations, summed."""
        index = {column: number for number, column in enumerate(self.columns)}
        constant = np.zeros(len(index), dtype=np.int64)
        merged: dict[Hashable, tuple[Table, IntArray]] = {}
        for (kind, figure, _), table in (self._tables or {}).items():
            at, values = index[kind, figure], np.array(table.values, dtype=np.int64)
            if not table.joint.slots:
                constant[at] += values[0]
                continue
            _, sums = merged.setdefault(table.joint.key, (table, np.zeros((len(values), len(index)), dtype=np.int64)))
            sums[:, at] += values
        return constant, [self._numbered(table, sums) for table, sums in merged.values()]

    def _numbered(self, table: Table, values: IntArray) -> _Sum:
        slots = table.joint.slots
        sizes = [max(self.space.domains[slot]) + 2 for slot in slots]  # codes from -1
        bases = np.cumprod([1, *sizes[:-1]], dtype=np.int64)
        numbers = (np.asarray(table.joint.codes, dtype=np.int64) + 1) @ bases
        order = np.argsort(numbers)
        return _Sum(slots, bases, numbers[order], values[order])

    def _observed(self, arch: Architecture) -> Mapping[Key, int]:
        """Return every figure of every module, cached by architecture."""
        if arch in self._seen:
            return self._seen[arch]
        found = self._seen[arch] = {}
        for path, part in profile_parts(build_skeleton(self._build, arch), self._example).items():
            figures = dict(zip(_FIGURES, astuple(part.layers), strict=True))
            found |= {(_WHOLE, name, path): figures[name] for name in ("params", "macs") if figures[name]}
            if part.costs:
                found |= {(part.kind, name, path): value for name, value in figures.items() if value}
        return found

    def _count(self, arch: Architecture, row: IntArray) -> None:
        """Add the costs of one network to its row; kinds without columns count only in the whole network's figures."""
        index = {column: number for number, column in enumerate(self.columns)}
        for (kind, figure, _), value in self._observed(arch).items():
            if (kind, figure) in index:
                row[index[kind, figure]] += value
