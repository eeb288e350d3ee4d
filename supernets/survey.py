"""A survey of the variants of a space: names, shapes, and the choices on which they depend."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from search_spaces import Architecture, Space
from supernets.ends import Ends, ends
from supernets.errors import ShapeError, SupernetError
from supernets.joined import joined
from supernets.layout import Axes, Blocks, Extent, Layouts, Shape, check_patterns
from supernets.nesting import Cut, Nesting, cuts, nest
from supernets.parametrized import spectral_norms
from supernets.skeleton import Build, build_skeleton
from supernets.store import leading


@dataclass(frozen=True)
class Variant:
    """One built architecture: the largest one, except for one choice."""

    choice: str | None  # None for the largest itself, and for what the user added
    arch: Architecture
    shapes: dict[str, Shape]
    trainable: dict[str, bool]
    dtypes: dict[str, torch.dtype]
    cuts: dict[str, Cut]
    ends: dict[str, Ends]
    buffers: dict[str, Tensor]  # the persistent ones
    joined: tuple[str, ...] = ()  # parameters that are held part by part


@dataclass(frozen=True)
class Row:
    """How one stored parameter varies."""

    name: str
    shape: Shape
    axes: dict[int, tuple[str, ...]]  # elastic axis -> the choices that move it
    present: tuple[str, ...]  # the choices that decide whether it exists
    blocks: dict[int, str] = field(default_factory=dict)  # elastic axis -> in what blocks it is, where it is in some

    @property
    def elastic(self) -> bool:
        return bool(self.axes or self.present)


@dataclass(frozen=True)
class Coverage:
    """The elastic parameters, with the axes and choices involved, and the choices that change nothing."""

    rows: tuple[Row, ...]
    idle: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """Axes that may be sliced wrongly, with the layout to give: possibly fused axes, heads that lose their pairs."""

    def table(self) -> str:
        """Return the report as aligned text, one line per parameter, then the notes."""
        lines = [("parameter", "shape", "elastic axes", "present under")]
        for row in self.rows:
            axes = (
                "; ".join(f"{axis}: {', '.join(names)}{row.blocks.get(axis, '')}" for axis, names in row.axes.items())
                or "-"
            )
            lines.append(
                (row.name, "x".join(map(str, row.shape)) or "scalar", axes, ", ".join(row.present) or "always")
            )
        widths = [max(len(line[i]) for line in lines) for i in range(4)]
        text = "\n".join(
            "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines
        )
        idle = [f"choices that move no parameter: {', '.join(self.idle)}"] if self.idle else []
        return "\n".join([text, *idle, *self.notes])


@dataclass(frozen=True)
class Survey:
    """The union of the variants' parameters and buffers."""

    variants: tuple[Variant, ...]
    shapes: dict[str, Shape]  # the largest size along every axis
    nestings: dict[str, Nesting]
    trainable: dict[str, bool]
    dtypes: dict[str, torch.dtype]
    buffers: dict[str, Tensor]  # persistent, and in every variant the leading part of the largest
    layouts: Layouts
    proved: Mapping[str, tuple[Blocks, ...]] = field(default_factory=dict)  # by runs on an example
    notes: tuple[str, ...] = ()

    def with_proved(self, proved: Mapping[str, tuple[Blocks, ...]], notes: tuple[str, ...]) -> "Survey":
        """Return the survey with further layouts, and notes on the runs that proved them."""
        variants = tuple(
            replace(v, cuts={name: cut.with_blocks(proved.get(name, ())) for name, cut in v.cuts.items()})
            for v in self.variants
        )
        return replace(
            self,
            variants=variants,
            nestings=self.nestings | {name: _nested(name, variants, self.shapes[name]) for name in proved},
            layouts={**proved, **self.layouts},
            proved=proved,
            notes=notes,
        )

    @cached_property
    def ends(self) -> dict[str, Ends]:
        """The input and output axes of each layer's weight, for layers of known classes."""
        return {name: axes for variant in self.variants for name, axes in variant.ends.items()}

    @cached_property
    def axes(self) -> dict[str, Axes]:
        """The slicing of each stored parameter."""
        return {name: nesting.axes for name, nesting in self.nestings.items()}

    @cached_property
    def buffer_axes(self) -> dict[str, Axes]:
        """The slicing of buffers that belong to a fused weight of their shape, such as a batch norm's statistics."""
        weights = {name: f"{name.rpartition('.')[0]}.weight".lstrip(".") for name in self.buffers}
        return {
            name: self.axes[weight]
            for name, weight in weights.items()
            if self.shapes.get(weight) == tuple(self.buffers[name].shape) and self.axes[weight].fused
        }

    def extents(self, module: nn.Module, arch: Architecture) -> dict[str, Extent]:
        """Of a network, the parameters of which it has to say itself in how many blocks they are.

        Raises:
            ShapeError: one has another number of blocks than in any network that was looked at.
        """
        if not self._loose:
            return {}
        found = cuts(module, self.layouts, arch, self._loose)
        return {name: self._loose[name].extent(name, cut, arch) for name, cut in found.items()}

    @cached_property
    def _loose(self) -> dict[str, Nesting]:
        return {name: nesting for name, nesting in self.nestings.items() if nesting.loose}

    def source(self, name: str) -> Variant:
        """Return the variant whose initialisation covers most of ``name``."""
        return max(
            (variant for variant in self.variants if name in variant.shapes),
            key=lambda variant: torch.Size(variant.shapes[name]).numel(),
        )

    def coverage(self) -> Coverage:
        largest = self.variants[0]
        rows = [self._row(name, shape, largest) for name, shape in self.shapes.items()]
        moving = {choice for row in rows for choices in (*row.axes.values(), row.present) for choice in choices}
        choices = dict.fromkeys(variant.choice for variant in self.variants if variant.choice is not None)
        return Coverage(tuple(rows), tuple(choice for choice in choices if choice not in moving), self.notes)

    def _row(self, name: str, shape: Shape, largest: Variant) -> Row:
        moved: dict[int, dict[str, None]] = defaultdict(dict)
        present: dict[str, None] = {}
        reference = largest.shapes.get(name)
        for variant in self.variants:
            if variant.choice is None:
                continue
            found = variant.shapes.get(name)
            if (found is None) != (reference is None):
                present[variant.choice] = None
            elif found is not None:
                for axis, (size, full) in enumerate(zip(found, reference or shape, strict=True)):
                    if size != full:
                        moved[axis][variant.choice] = None
        axes = self.nestings[name].axes
        traced = {blocks.axis for blocks in self.proved.get(name, ())}
        how = {axis: " as a run has shown" if axis in traced else "" for axis in range(len(shape))}
        blocks = {axis: f" in {count} blocks{how[axis]}" for axis, count in enumerate(axes.blocks) if count > 1}
        blocks |= {axis: " in blocks by architecture" for axis, _ in axes.grids}
        return Row(name, shape, {axis: tuple(moved[axis]) for axis in sorted(moved)}, tuple(present), blocks)


def survey(space: Space, build: Build, layouts: Layouts, also: Sequence[Architecture] = ()) -> Survey:
    """Build the largest architecture, each option of each choice in turn, and what the user adds; take the union.

    Raises:
        ShapeError: two architectures give one name tensors of different rank.
        SupernetError: a layout pattern matches no parameter, or the model has no parameters.
    """
    # a label such as "stages.0.kernel.2=5" names the choice first
    varied = ((label.partition("=")[0], arch) for label, arch in space.variants())
    labelled: list[tuple[str | None, Architecture]] = [
        (None, space.largest()),
        *varied,
        *((None, arch) for arch in also),
    ]
    seen: set[Architecture] = set()
    variants = []
    for choice, arch in labelled:
        if arch not in seen:
            seen.add(arch)
            variants.append(_look(choice, arch, build, layouts))
    shapes, first = _union(variants)
    if not shapes:
        raise SupernetError(
            f"build({labelled[0][1].json()}) has no parameters; a supernet shares the weights of a model that has some"
        )
    check_patterns(layouts, [*shapes, *{name for variant in variants for name in variant.joined}])
    return Survey(
        tuple(variants),
        shapes,
        {name: _nested(name, variants, shape) for name, shape in shapes.items()},
        {name: first[name].trainable[name] for name in shapes},
        {name: first[name].dtypes[name] for name in shapes},
        _shared_buffers(variants),
        layouts,
    )


def _nested(name: str, variants: Sequence[Variant], stored: Shape) -> Nesting:
    found = [variant.cuts[name] for variant in variants if name in variant.shapes]
    return nest(name, found, stored, explored=name in variants[0].shapes)


def _look(choice: str | None, arch: Architecture, build: Build, layouts: Layouts) -> Variant:
    module = build_skeleton(build, arch)
    parameters = dict(module.named_parameters())
    persistent = _persistent_buffers(module)
    return Variant(
        choice,
        arch,
        {name: tuple(parameter.shape) for name, parameter in parameters.items()},
        {name: parameter.requires_grad for name, parameter in parameters.items()},
        {name: parameter.dtype for name, parameter in parameters.items()},
        cuts(module, layouts, arch),
        ends(module),
        {name: buffer for name, buffer in module.named_buffers() if name in persistent},
        tuple(name for name, _, _ in joined(module)),
    )


def _persistent_buffers(module: nn.Module) -> set[str]:
    own = {name for one in spectral_norms(module) for name in one.names}  # each network finds them for its weights
    return {
        f"{path}.{name}" if path else name
        for path, owner in module.named_modules()
        for name in owner._buffers
        if name not in owner._non_persistent_buffers_set
    } - own


def _union(variants: Iterable[Variant]) -> tuple[dict[str, Shape], dict[str, Variant]]:
    """Return the largest shape of each parameter, and the first variant with this shape."""
    shapes: dict[str, Shape] = {}
    first: dict[str, Variant] = {}
    for variant in variants:
        for name, shape in variant.shapes.items():
            known = shapes.get(name)
            if known is not None and len(known) != len(shape):
                raise ShapeError(
                    f"{name} has shape {known} for {first[name].arch.json()} but {shape} for {variant.arch.json()}: "
                    "tensors of different rank cannot share weights; "
                    "give the two alternatives different names (structure.one_of does)"
                )
            first.setdefault(name, variant)
            shapes[name] = tuple(map(max, known, shape)) if known is not None else shape
    return shapes, first


def _shared_buffers(variants: Sequence[Variant]) -> dict[str, Tensor]:
    """Buffers that every variant can slice from the largest; others are each network's own, as its class made them."""
    largest: dict[str, Tensor] = {}
    for variant in variants:
        for name, buffer in variant.buffers.items():
            if name not in largest or buffer.numel() > largest[name].numel():
                largest[name] = buffer
    return {
        name: buffer.clone()
        for name, buffer in largest.items()
        if all(_is_leading(v.buffers[name], buffer) for v in variants if name in v.buffers)
    }


def _is_leading(small: Tensor, large: Tensor) -> bool:
    return (
        small.dtype == large.dtype
        and small.dim() == large.dim()
        and all(n <= m for n, m in zip(small.shape, large.shape, strict=True))
        and torch.equal(small, leading(large, tuple(small.shape)))
    )
