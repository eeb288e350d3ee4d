"""The mask that turns a stored tensor into the expectation of its padded slices: one elementwise product.

At index (i, j) the mask is P(size0 > i and size1 > j). It is constant between neighbouring sizes of an axis, so the
computation works on cells: it puts each combination's probability at the corner of its slice on the grid of distinct
sizes, takes reversed cumulative sums along the axes, and spreads the cells over the tensor by indexing. Axes that share
no choice are independent, and each has its own mask. On a centred axis (a convolution kernel's) the cells are rings.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from supernets.layout import Axes, Shape
from supernets.relaxation.linear import spread_product
from supernets.relaxation.mixture import Joint, Mixture
from supernets.relaxation.tables import Table

DENSE = 1 << 16
"""Largest number of entries for which the map from combinations to cells is a matrix: one product, not many steps."""


@dataclass(frozen=True, eq=False)
class Axis:
    """One elastic axis of the blocked view: its distinct sizes, and the cell of each index."""

    place: int  # of the blocked view
    sizes: tuple[int, ...]  # distinct, ascending; the last is the full size
    cells: Tensor  # (size,) index to cell


@dataclass(frozen=True, eq=False)
class Corners:
    """Axes whose sizes depend on common choices, and the last cell of each combination's slice."""

    axes: tuple[Axis, ...]
    joint: Joint
    corner: Tensor  # (n,) flat, on the grid of cells

    @classmethod
    def of_lengths(cls, joint: Joint, lengths: Sequence[int]) -> Corners:
        """Return the corners of one axis, with a cell between each distinct length and the next."""
        sizes = tuple(sorted(set(lengths)))
        cells = torch.tensor([cell for cell, n in enumerate(np.diff([0, *sizes])) for _ in range(n)], dtype=torch.long)
        return cls((Axis(0, sizes, cells),), joint, torch.tensor([sizes.index(length) for length in lengths]))

    @property
    def grid(self) -> Shape:
        return tuple(len(axis.sizes) for axis in self.axes)

    @cached_property
    def _matrix(self) -> Tensor | None:
        """(n, cells): 1 where a combination's slice contains a cell."""
        n, cells = len(self.corner), int(np.prod(self.grid))
        if n * cells > DENSE:
            return None
        marks = torch.zeros(n, cells).scatter_(1, self.corner[:, None], 1.0).view(n, *self.grid)
        return _summed(marks, range(1, marks.dim())).view(n, cells)

    def mask(self, mixture: Mixture) -> Tensor:
        """Return the mask on the grid: P(every size reaches the cell)."""
        return mixture.known(self._key, lambda: self._made(mixture))

    def along(self, mixture: Mixture) -> Tensor:
        """Return the mask of a single axis, (size,); all tensors with an equal axis share it."""
        cells = self.axes[0].cells

        def made() -> Tensor:
            mask = self.mask(mixture)
            return mask.index_select(0, cells.to(mask.device))

        return mixture.known((*self._key, self._cells), made)

    @cached_property
    def _key(self) -> tuple[object, ...]:
        return "mask", self.joint.key, self.grid, self.corner.numpy().tobytes()

    @cached_property
    def _cells(self) -> bytes:
        return self.axes[0].cells.numpy().tobytes()

    def _made(self, mixture: Mixture) -> Tensor:
        chances = mixture.chances(self.joint)
        if self._matrix is not None:
            return (chances @ self._matrix.to(chances)).view(self.grid)
        flat = chances.new_zeros(int(np.prod(self.grid))).index_add(0, self.corner.to(chances.device), chances)
        return _summed(flat.view(self.grid), range(len(self.grid)))

    def multiplied(self, tensor: Tensor, mixture: Mixture) -> Tensor:
        """Return the tensor, in its blocked view, times the mask."""
        if len(self.axes) == 1:
            shape = [1] * tensor.dim()
            shape[self.axes[0].place] = -1
            return tensor * self.along(mixture).to(tensor).view(shape)
        return spread_product(
            tensor,
            self.mask(mixture).to(tensor),
            tuple(axis.place for axis in self.axes),
            tuple(axis.cells for axis in self.axes),
        )


@dataclass(frozen=True, eq=False)
class Mask:
    """The mask of one tensor: a product over groups of axes that share no choice."""

    groups: tuple[Corners, ...]

    @property
    def separable(self) -> bool:
        """Whether the mask is a product of one mask per axis."""
        return all(len(group.axes) == 1 for group in self.groups)

    def along(self, place: int, size: int, mixture: Mixture) -> Tensor:
        """Return the mask of one axis of a separable mask, (size,); ones if the axis is not elastic."""
        for group in self.groups:
            if group.axes[0].place == place:
                return group.along(mixture)
        return torch.ones(size)

    def apply(self, tensor: Tensor, mixture: Mixture) -> Tensor:
        """Return the expectation of the padded slices of a tensor in its blocked view."""
        for group in self.groups:
            tensor = group.multiplied(tensor, mixture)
        return tensor


def mask_of(axes: Axes, shape: Shape, tables: Mapping[int, Table]) -> Mask:
    """Return the mask of a tensor of this full shape, where `tables` gives the sizes of elastic axes.

    Raises:
        ValueError: no combination has an axis at its full size, the slices of an axis are not nested, or the number of
            blocks depends on the architecture.
    """
    if axes.grids:
        raise ValueError(f"axis {axes.grids[0][0]} has another number of blocks in other networks")
    places = np.cumsum([0, *(2 if k > 1 else 1 for k in axes.blocks)])
    made = {number: _axis(axes, shape, number, int(places[number + 1]) - 1, table) for number, table in tables.items()}
    groups = [
        _corners(
            [made[number] for number in group], [_divided(tables[number], axes.blocks[number]) for number in group]
        )
        for group in _connected(tables)
    ]
    return Mask(tuple(groups))


def _divided(table: Table, blocks: int) -> Table:
    return Table(table.joint, tuple(size // blocks for size in table.values)) if blocks > 1 else table


def _axis(axes: Axes, shape: Shape, number: int, place: int, table: Table) -> Axis:
    blocks = axes.blocks[number]
    sizes = tuple(sorted({size // blocks for size in table.values}))
    full = shape[number] // blocks
    if sizes[-1] != full:
        raise ValueError(f"axis {number} is {full} long and no combination of choices has more than {sizes[-1]}")
    starts = [(full - size) // 2 if number in axes.centred else 0 for size in sizes]
    cells = torch.full((full,), len(sizes) - 1)
    for cell in reversed(range(len(sizes))):
        inside = slice(starts[cell], starts[cell] + sizes[cell])
        if cell + 1 < len(sizes):
            outer = slice(starts[cell + 1], starts[cell + 1] + sizes[cell + 1])
            if not outer.start <= inside.start <= inside.stop <= outer.stop:
                raise ValueError(f"axis {number} has kernels of {sizes}, of which one does not lie in the next")
        cells[inside] = cell
    return Axis(place, sizes, cells)


def _corners(axes: Sequence[Axis], tables: Sequence[Table]) -> Corners:
    joint, values = joined(tables)
    index = [tuple(axis.sizes.index(size) for axis, size in zip(axes, sizes, strict=True)) for sizes in values]
    grid = tuple(len(axis.sizes) for axis in axes)
    flat = np.ravel_multi_index(tuple(np.array(index, dtype=np.int64).T), grid)
    return Corners(tuple(axes), joint, torch.from_numpy(np.asarray(flat)))


def joined(tables: Sequence[Table]) -> tuple[Joint, list[tuple[int, ...]]]:
    """Return the combinations of all choices of several tables, and each table's value for each combination."""
    if len(tables) == 1:
        return tables[0].joint, [(value,) for value in tables[0].values]
    slots = tuple(sorted({slot for table in tables for slot in table.joint.slots}))
    rows: dict[tuple[int, ...], tuple[int, ...]] = {(): ()}
    have: tuple[int, ...] = ()
    for table in tables:
        union = tuple(sorted({*have, *table.joint.slots}))
        merged: dict[tuple[int, ...], tuple[int, ...]] = {}
        entries = list(zip(table.joint.codes.tolist(), table.values, strict=True))
        for (row, values), (codes, value) in itertools.product(rows.items(), entries):
            one, other = dict(zip(have, row, strict=True)), dict(zip(table.joint.slots, codes, strict=True))
            if all(one[slot] == other[slot] for slot in one.keys() & other.keys()):
                both = one | other
                merged[tuple(both[slot] for slot in union)] = (*values, value)
        rows, have = merged, union
    codes = np.array(list(rows), dtype=np.int16).reshape(len(rows), len(slots))
    return Joint(slots, codes, missing=any(table.joint.missing for table in tables)), list(rows.values())


def _connected(tables: Mapping[int, Table]) -> list[list[int]]:
    """Return the axes in groups; axes with a choice in common are in the same group."""
    groups: list[tuple[set[int], list[int]]] = []
    for number, table in tables.items():
        slots, members = set(table.joint.slots), [number]
        for group in [group for group in groups if group[0] & slots]:
            groups.remove(group)
            slots, members = slots | group[0], [*group[1], *members]
        groups.append((slots, members))
    return [sorted(members) for _, members in groups]


def _summed(mask: Tensor, axes: Sequence[int]) -> Tensor:
    """Return reversed cumulative sums along some axes."""
    for axis in axes:
        mask = mask.flip(axis).cumsum(axis).flip(axis)
    return mask
