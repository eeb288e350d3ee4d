"""Costs of very many networks at once: counted by module once, then looked up in tables.

What a module costs depends on few choices (its own width, kernel, position in the depth), so a table for each module
under all combinations of these gives the cost of any network as a sum. The tables come from the same probing as those
of the relaxation, which checks them on random networks. Activation bytes are left out: what a module keeps for backward
depends on which others keep the same tensor.
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
"""A figure of a kind of layer, as ("Conv2d", "macs")."""

_WHOLE = ""
_FIGURES = ("count", "params", "macs", "output_bytes")


@dataclass(frozen=True, eq=False)
class _Sum:
    """Costs that depend on the same choices, summed for each of their combinations."""

    slots: tuple[int, ...]
    bases: IntArray
    """(slots,) a combination is a number in these places."""
    numbers: IntArray
    """(m,) the combinations, ascending."""
    values: IntArray
    """(m, columns)."""

    def of(self, codes: npt.NDArray[np.int16]) -> IntArray:
        """(n, columns); nothing where the choices are in no combination, as that of a block that is not there."""
        asked = (codes[:, list(self.slots)].astype(np.int64) + 1) @ self.bases
        at = np.minimum(np.searchsorted(self.numbers, asked), len(self.numbers) - 1)
        found: IntArray = np.where((self.numbers[at] == asked)[:, None], self.values[at], 0)
        return found


class Counts:
    """The costs of the networks of a space: equal to `profile_network`, for thousands a second.

    The first call profiles as many networks as the tables need, some hundreds in a large space. Where a module depends
    on too many choices together for tables, every network is profiled, once.

    Args:
        example: one input, with its batch axis, or several.
    """

    def __init__(self, space: Space, build: Build, example: Tensor | tuple[Tensor, ...]) -> None:
        self.space = space
        self._build = build
        self._example = example
        self._seen: dict[Architecture, dict[Key, int]] = {}

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """Parameters and multiply-accumulates of the whole; then four figures of each kind of layer.

        The kinds are those of the networks that the tables were made from.
        """
        self._tables  # noqa: B018 - which looks at networks
        kinds = dict.fromkeys(kind for found in self._seen.values() for kind, _, _ in found if kind != _WHOLE)
        whole = tuple((_WHOLE, name) for name in ("params", "macs"))
        return whole + tuple((kind, figure) for kind in kinds for figure in _FIGURES)

    @property
    def tabulated(self) -> bool:
        """Whether there are tables, which count thousands of networks in a second."""
        return self._tables is not None

    def __call__(self, archs: Sequence[Architecture] | npt.NDArray[np.int16]) -> IntArray:
        """(n, columns) of architectures or their codes."""
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
        """Every figure of every module, counted once."""
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
        """Adds what one network costs to its row; what is of a kind without columns counts in the whole."""
        index = {column: number for number, column in enumerate(self.columns)}
        for (kind, figure, _), value in self._observed(arch).items():
            if (kind, figure) in index:
                row[index[kind, figure]] += value
