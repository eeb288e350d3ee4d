"""Derive, from the layouts of each network's axes, the single way to slice the stored axis.

An axis is a grid of levels, such as (key heads, queries per group, features per head), and networks differ in some
levels. Neighbouring levels merge if the faster one never changes, because their leading parts then form one leading
part. The result is either a plain leading part, a count of blocks that all networks share, or counts per network.
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from math import prod

from torch import nn

from search_spaces import Architecture
from supernets.errors import ShapeError, SupernetError, UnequalPartsError
from supernets.families import implied
from supernets.joined import joined
from supernets.layout import Axes, Blocks, Centre, Extent, Grid, Layout, Layouts, Parts, Shape


@dataclass(frozen=True)
class Cut:
    """The layout of one network's parameter: for each axis, the counts above its fastest level."""

    shape: Shape
    counts: tuple[Shape, ...]
    centred: frozenset[int]
    parts: Mapping[int, Parts] = field(default_factory=dict)
    """Axes with parts of unequal sizes."""
    given: frozenset[int] = frozenset()
    """Axes whose layout the user declared."""
    loose: frozenset[int] = frozenset()
    """Axes whose counts may differ in other networks."""

    def with_blocks(self, blocks: Sequence[Blocks]) -> "Cut":
        """Return a copy with these axes in blocks."""
        counts = {one.axis: (one.count,) for one in blocks}
        return replace(self, counts=tuple(counts.get(axis, own) for axis, own in enumerate(self.counts)))

    def levels(self, axis: int) -> Shape:
        counts = self.counts[axis]
        return (*counts, self.shape[axis] // prod(counts))


def cuts(
    module: nn.Module, layouts: Layouts, arch: Architecture, names: Container[str] | None = None
) -> dict[str, Cut]:
    """Return the layouts of a network's parameters, or of those with these names.

    Classes imply layouts; the user's layouts override them.

    Raises:
        SupernetError: a layout names an axis that does not exist.
        ShapeError: a fused axis does not divide into its blocks, or its parts do not add up to its length.
    """
    known = implied(module)
    parts = {name for _, _, own in joined(module) for name in own}  # whose layouts are in that of the whole
    return {
        name: _cut(
            name,
            tuple(parameter.shape),
            known.get(name, []),
            [] if name in parts else list(_given(name, layouts, arch)),
        )
        for name, parameter in module.named_parameters(remove_duplicate=False)
        if names is None or name in names
    }


def unequal(module: nn.Module, layouts: Layouts, arch: Architecture) -> dict[str, Parts]:
    """Return the parameters of a network whose class or user declares parts."""
    known = implied(module)
    found = {}
    for name, _ in module.named_parameters():
        for layout in (*known.get(name, []), *_given(name, layouts, arch)):
            if isinstance(layout, Parts):
                found[name] = layout
    return found


def _given(name: str, layouts: Layouts, arch: Architecture) -> Iterator[Layout]:
    for pattern, given in layouts.items():
        if fnmatchcase(name, pattern):
            fixed = isinstance(given, tuple | Blocks | Centre | Grid | Parts)
            found = given if fixed else given(arch)  # type: ignore[operator] # what is no layout is a function
            for layout in found if isinstance(found, tuple) else (found,):
                yield layout if fixed or not isinstance(layout, Blocks) else Grid(layout.count, axis=layout.axis)


def _cut(name: str, shape: Shape, known: Sequence[Layout], given: Sequence[Layout]) -> Cut:
    centred, fused = set[int](), dict[int, Blocks | Grid | Parts]()
    for layout in (*known, *given):
        for axis in layout.axes if isinstance(layout, Centre) else (layout.axis,):
            if not 0 <= axis < len(shape):
                raise SupernetError(
                    f"layout of {name} names axis {axis}; its shape {shape} has axes 0 to {len(shape) - 1}"
                )
            if isinstance(layout, Centre):
                centred.add(axis)
            else:
                fused[axis] = (layout.equal or layout) if isinstance(layout, Parts) else layout
    counts = tuple(_counts(fused.get(axis)) for axis in range(len(shape)))
    for layout in (*known, *given):
        if isinstance(layout, Parts) and sum(layout.sizes) != shape[axis := layout.axis]:
            raise ShapeError(
                f"{name} has {shape[axis]} rows along axis {axis}, and its layout tells of parts of "
                f"{', '.join(map(str, layout.sizes))}: give sizes that add up to them, as a function of the "
                "architecture where they move"
            )
    for axis, own in enumerate(counts):
        if shape[axis] % prod(own):
            raise ShapeError(
                f"{name} has {shape[axis]} rows along axis {axis}, which do not divide into {prod(own)} fused blocks; "
                "correct the layout or the space"
            )
    return Cut(
        shape,
        counts,
        frozenset(centred),
        {axis: layout for axis, layout in fused.items() if isinstance(layout, Parts)},
        frozenset(layout.axis for layout in given if not isinstance(layout, Centre)),
        frozenset(axis for axis, layout in fused.items() if not isinstance(layout, Blocks)),
    )


def _counts(layout: Layout | None) -> Shape:
    if isinstance(layout, Blocks):
        return (layout.count,) if layout.count > 1 else ()
    return layout.counts if isinstance(layout, Grid) else ()


# --- the common layout of all networks ------------------------------------------------------------------------------


@dataclass(frozen=True)
class AxisNesting:
    """The way to slice one axis, for all networks."""

    full: Shape
    """The levels at the stored size."""
    groups: tuple[int, ...]
    """The number of levels in each merged group, in order; only the first level of a group may differ in networks."""
    varies: bool = False
    """Whether the counts of blocks differ between networks."""
    loose: bool = False
    """Whether networks outside the survey may have other counts."""
    redivided: bool = False
    """Whether the fastest levels were merged, because the networks' levels do not fit one grid of the stored size."""
    told: bool = False
    """Whether a class or the user declared the layout."""
    parts: Parts | None = None

    @property
    def counts(self) -> Shape:
        """The counts of blocks at each level above the fastest, at the stored size."""
        return _grouped(self.full, self.groups)[:-1]

    def own(self, cut: Cut, axis: int) -> Shape | None:
        """Return the counts of one network; None if its layout does not fit."""
        if not self.loose:
            return self.counts
        levels = cut.levels(axis)
        if self.redivided:
            levels = _shallow(levels, len(self.full) - 1)
        if cut.parts.get(axis) != self.parts or len(levels) != len(self.full):
            return None
        if any(n > full for n, full in zip(levels, self.full, strict=True)) or not _keep(
            levels, self.full, self.groups
        ):
            return None
        counts = _grouped(levels, self.groups)[:-1]
        return counts if self.varies or counts == self.counts else None


@dataclass(frozen=True)
class Nesting:
    """The way to slice a stored parameter."""

    by_axis: tuple[AxisNesting, ...]
    centred: frozenset[int]

    @cached_property
    def axes(self) -> Axes:
        return Axes(
            tuple(prod(one.counts) for one in self.by_axis),
            self.centred,
            tuple((axis, one.counts) for axis, one in enumerate(self.by_axis) if one.varies),
        )

    @property
    def loose(self) -> bool:
        """Whether the counts of each network need a check."""
        return any(one.loose for one in self.by_axis)

    def extent(self, name: str, cut: Cut, arch: Architecture) -> Extent:
        """Return the shape of a network's parameter with its own counts.

        Raises:
            ShapeError: the network's blocks do not fit those of the surveyed networks.
        """
        counts = []
        for axis, one in enumerate(self.by_axis):
            own = one.own(cut, axis)
            if own is None:
                raise ShapeError(
                    f"build({arch.json()}) has {name} in blocks of {cut.levels(axis)} along axis {axis}, which do not "
                    f"fit into {one.full} as the networks that were looked at do; show the supernet such an "
                    "architecture: Supernet(..., also=[arch])"
                )
            counts.append(own)
        return Extent.of(cut.shape, tuple(counts))


def nest(name: str, found: Sequence[Cut], stored: Shape, explored: bool) -> Nesting:
    """Return the way to slice a parameter with these layouts in networks, stored at this shape.

    Args:
        explored: whether the survey changed every choice while the parameter existed, so that levels without a change
            are constant.

    Raises:
        UnequalPartsError: choices change parts of unequal sizes.
        ShapeError: counts that the user declared do not fit the stored size.
    """
    return Nesting(
        tuple(_nest_axis(name, axis, found, size, explored) for axis, size in enumerate(stored)), found[0].centred
    )


def _nest_axis(name: str, axis: int, found: Sequence[Cut], size: int, explored: bool) -> AxisNesting:
    _check_even(name, axis, found)
    levels = [cut.levels(axis) for cut in found]
    fitting = _fitting(levels, size)
    loose, redivided = any(axis in cut.loose for cut in found), fitting != levels
    if redivided and any(axis in cut.given for cut in found):
        raise ShapeError(
            f"{name} has {size} rows along axis {axis} at most, which its networks divide into blocks "
            f"({', '.join(map(str, sorted(set(levels))[:4]))}) that do not fit into one another: correct the layout or "
            "the space, so that one network has the largest number of each"
        )
    full = _largest(fitting)
    groups = _joined(fitting, full) if loose and explored else (1,) * len(full)
    varies = len({_grouped(own, groups)[:-1] for own in fitting}) > 1 or (loose and not explored and len(full) > 1)
    told = any(cut.counts[axis] or axis in cut.given or axis in cut.loose for cut in found)
    return AxisNesting(full, groups, varies, loose, redivided, told, found[0].parts.get(axis))


def _fitting(levels: Sequence[Shape], size: int) -> list[Shape]:
    """Return the levels; merge the fastest ones if they do not fit one grid of the stored size in all networks."""
    if len(set(map(len, levels))) == 1 and prod(_largest(levels)) == size:
        return list(levels)
    for kept in range(min(map(len, levels)) - 1, 0, -1):
        fitting = [_shallow(own, kept) for own in levels]
        if prod(_largest(fitting)) == size:
            return fitting
    return [_shallow(own, 0) for own in levels]


def _shallow(levels: Shape, kept: int) -> Shape:
    """Return the first `kept` levels, and the rest as one."""
    return (*levels[:kept], prod(levels[kept:]))


def _largest(levels: Iterable[Shape]) -> Shape:
    return tuple(map(max, zip(*levels, strict=True)))


def _joined(levels: Iterable[Shape], full: Shape) -> tuple[int, ...]:
    """Return the number of levels per group: a level joins the one before if it never changes, or that one is 1."""
    levels, sizes, slow = list(levels), [1], full[0]
    for at in range(1, len(full)):
        if slow == 1 or all(own[at] == full[at] for own in levels):
            sizes[-1] += 1
            slow *= full[at]
        else:
            sizes.append(1)
            slow = full[at]
    return tuple(sizes)


def _keep(levels: Shape, full: Shape, groups: Sequence[int]) -> bool:
    """Return whether the slice of each group of levels is a single leading part."""
    at = 0
    for count in groups:
        slow = full[at]
        for fast in range(at + 1, at + count):
            if slow > 1 and levels[fast] != full[fast]:
                return False
            slow *= full[fast]
        at += count
    return True


def _grouped(levels: Shape, groups: Sequence[int]) -> Shape:
    starts = [sum(groups[:at]) for at in range(len(groups))]
    return tuple(prod(levels[start : start + count]) for start, count in zip(starts, groups, strict=True))


def _check_even(name: str, axis: int, found: Sequence[Cut]) -> None:
    parts = {cut.parts.get(axis) for cut in found}
    if len(parts) > 1:
        sizes = next(own.sizes for own in parts if own is not None)
        raise UnequalPartsError(
            f"{name} fuses parts of {', '.join(map(str, sizes))} rows along axis {axis}, and choices move them: no "
            "slice of one tensor keeps them apart"
        )
