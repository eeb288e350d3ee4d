"""The single definition of a slice: the part of a stored tensor that a smaller tensor uses.

The blocked view of a stored tensor splits every fused axis in two, ``(k * n, ...) -> (k, n, ...)``. In this view every
smaller tensor is a box: the leading part of a feature axis, the centre of a convolution kernel's axis.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod
from typing import Any

import torch
from torch import Tensor

from supernets.errors import SupernetError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Blocks:
    """``count`` equal blocks fused along ``axis``, each sliced separately.

    ``[q|k|v]`` is ``Blocks(3)``, an LSTM ``Blocks(4)``.
    """

    count: int
    axis: int = 0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise SupernetError(
                f"Blocks(count={self.count}): a fused axis has at least one block; give a count of 1 or more"
            )


@dataclass(frozen=True)
class Centre:
    """Keep the centre of these axes instead of their leading part, as for convolution kernels."""

    axes: tuple[int, ...]

    def __init__(self, *axes: int) -> None:
        object.__setattr__(self, "axes", axes)


@dataclass(frozen=True)
class Grid:
    """An axis that is a grid of blocks within blocks, each level sliced separately.

    ``counts`` gives the slow levels; the rest is the fast level. Grouped queries are
    ``Grid(num_key_value_heads, queries_per_group)``, and ``Grid(k)`` equals ``Blocks(k)``. If counts depend on the
    architecture, use a function of the architecture as the layout.
    """

    counts: tuple[int, ...]
    axis: int

    def __init__(self, *counts: int, axis: int = 0) -> None:
        if not counts or min(counts) < 1:
            raise SupernetError(f"Grid{counts}: a grid has at least one level; give counts of 1 or more")
        object.__setattr__(self, "counts", counts)
        object.__setattr__(self, "axis", axis)


@dataclass(frozen=True)
class Parts:
    """Parts of unequal ``sizes`` fused along an axis, each sliced separately: [q|k|v] with fewer keys than queries.

    If sizes depend on the architecture, use a function of the architecture as the layout. ``grids`` holds the counts of
    each part's slow levels, as in `Grid`: ``((groups, queries), (groups,), (groups,))``. With ``groups`` above 1 the
    axis interleaves the parts: each group, one after the other, holds an equal share of every part.
    """

    sizes: tuple[int, ...]
    axis: int
    grids: tuple[tuple[int, ...], ...]
    groups: int

    def __init__(
        self, *sizes: int, axis: int = 0, grids: Sequence[tuple[int, ...]] | None = None, groups: int = 1
    ) -> None:
        counts = ((),) * len(sizes) if grids is None else tuple(map(tuple, grids))
        if not sizes or min(sizes) < 1 or len(counts) != len(sizes):
            raise SupernetError(f"Parts{sizes}: give parts of 1 or more, and a grid for each or none at all")
        if groups < 1 or any(size % groups or size % prod(own) for size, own in zip(sizes, counts, strict=True)):
            raise SupernetError(f"Parts{sizes}: sizes do not divide into {groups} groups and the grids {counts}")
        object.__setattr__(self, "sizes", sizes)
        object.__setattr__(self, "axis", axis)
        object.__setattr__(self, "grids", counts)
        object.__setattr__(self, "groups", groups)

    @property
    def equal(self) -> Grid | None:
        """The equivalent grid if all parts have the same layout, else None."""
        slow, *others = (tuple(n for n in own if n > 1) for own in self.grids)
        if len(set(self.sizes)) > 1 or any(other != slow for other in others):
            return None
        if self.groups == 1:
            return Grid(len(self.sizes), *slow, axis=self.axis)
        return Grid(self.groups, len(self.sizes), *slow[1:], axis=self.axis) if slow[:1] == (self.groups,) else None

    @property
    def of_rows(self) -> "Parts":
        """The same parts along axis 0, as for a vector."""
        return Parts(*self.sizes, groups=self.groups)


Layout = Blocks | Centre | Grid | Parts
Given = Layout | tuple[Layout, ...]
Layouts = Mapping[str, Given | Callable[[Any], Given]]
"""Layouts by name pattern, possibly as functions of the architecture."""


class Extent(tuple[int, ...]):
    """The shape of one network's parameter, with the number of blocks on each axis in that network."""

    counts: tuple[Shape, ...]

    @classmethod
    def of(cls, shape: Shape, counts: tuple[Shape, ...]) -> "Extent":
        extent = cls(shape)
        extent.counts = counts
        return extent


@dataclass(frozen=True)
class Box:
    """A box in the blocked view of a stored tensor: its start and size along every axis."""

    start: Shape
    size: Shape

    def of(self, blocked: Tensor) -> Tensor:
        """Return the box as a view of ``blocked``."""
        for axis, (start, size) in enumerate(zip(self.start, self.size, strict=True)):
            if size != blocked.shape[axis]:
                blocked = blocked.narrow(axis, start, size)
        return blocked

    def covers(self, other: "Box") -> bool:
        return all(
            a <= b and b + m <= a + n for a, n, b, m in zip(self.start, self.size, other.start, other.size, strict=True)
        )

    def within(self, outer: "Box") -> "Box":
        """Return the same box in the coordinates of ``outer``."""
        return Box(tuple(b - a for a, b in zip(outer.start, self.start, strict=True)), self.size)

    def union(self, other: "Box") -> "Box":
        """Return the smallest box around both."""
        start = tuple(map(min, self.start, other.start))
        stop = (max(a + n, b + m) for a, n, b, m in zip(self.start, self.size, other.start, other.size, strict=True))
        return Box(start, tuple(end - begin for begin, end in zip(start, stop, strict=True)))


@dataclass(frozen=True)
class Axes:
    """The slicing of one parameter's axes: ``blocks[i]`` fused blocks along axis i, the kernel axes ``centred``."""

    blocks: Shape
    centred: frozenset[int]
    grids: tuple[tuple[int, Shape], ...] = ()
    """Axes whose number of blocks depends on the architecture, with their counts at the stored size."""

    @property
    def counts(self) -> tuple[Shape, ...]:
        """The number of blocks at each level above the last, for each axis."""
        grids = dict(self.grids)
        return tuple(grids.get(axis, (k,) if k > 1 else ()) for axis, k in enumerate(self.blocks))

    def blocked(self, shape: Shape) -> Shape:
        """Return ``shape`` with every fused axis split: ``(k * n,) -> (k, n)``."""
        counts = shape.counts if isinstance(shape, Extent) else self.counts
        return tuple(size for n, own in zip(shape, counts, strict=True) for size in (*own, n // prod(own)))

    def box(self, shape: Shape, stored: Shape) -> Box:
        """Return the index of a tensor of ``shape`` within one of shape ``stored``."""
        start: list[int] = []
        for axis, (n, full, own) in enumerate(zip(shape, stored, self.counts, strict=True)):
            start += [0] * len(own) + [(full - n) // 2 if axis in self.centred else 0]
        return Box(tuple(start), self.blocked(shape))

    def kept(self, axis: int, shape: Shape, stored: Shape) -> Tensor:
        """Return the entries, (shape[axis],), along an axis of a tensor of shape ``stored`` that ``shape`` keeps."""
        box = self.box(shape, stored)
        first = sum(len(own) + 1 for own in self.counts[:axis])
        levels = slice(first, first + len(self.counts[axis]) + 1)
        entries = torch.arange(stored[axis]).view(self.blocked(stored)[levels])
        return Box(box.start[levels], box.size[levels]).of(entries).flatten()

    @property
    def fused(self) -> bool:
        return any(self.counts)


def check_patterns(layouts: Layouts, names: Iterable[str]) -> None:
    """Raise if a layout pattern matches nothing: an unnoticed typo would share fused weights wrongly."""
    names = list(names)
    for pattern in layouts:
        if not any(fnmatchcase(name, pattern) for name in names):
            known = ", ".join(names[:6]) + ", ..." * (len(names) > 6)
            raise SupernetError(f"layout pattern {pattern!r} matches no parameter; the model has {known}")


def blocked_view(tensor: Tensor, axes: Axes) -> Tensor:
    """Return a view of ``tensor`` (contiguous) with its fused axes split."""
    return tensor.view(axes.blocked(tuple(tensor.shape))) if axes.fused else tensor
