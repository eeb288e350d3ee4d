"""What building one variant after another tells: names, shapes, and which choices move them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from search_spaces import Architecture, Space
from supernets.errors import ShapeError, SupernetError
from supernets.layout import Axes, Layouts, Shape, check_patterns, named_axes
from supernets.skeleton import Build, build_skeleton
from supernets.store import leading


@dataclass(frozen=True)
class Variant:
    """One built architecture: the largest but for one choice."""

    choice: str | None  # None for the largest itself, and for what the user added
    arch: Architecture
    shapes: dict[str, Shape]
    trainable: dict[str, bool]
    dtypes: dict[str, torch.dtype]
    axes: dict[str, Axes]
    buffers: dict[str, Tensor]  # the persistent ones


@dataclass(frozen=True)
class Row:
    """How one stored parameter varies."""

    name: str
    shape: Shape
    axes: dict[int, tuple[str, ...]]  # elastic axis -> the choices that move it
    present: tuple[str, ...]  # the choices that decide whether it exists

    @property
    def elastic(self) -> bool:
        return bool(self.axes or self.present)


@dataclass(frozen=True)
class Coverage:
    """Which parameters are elastic, along which axes, under which choices; and which choices move nothing."""

    rows: tuple[Row, ...]
    idle: tuple[str, ...]
    multiples: tuple[str, ...] = ()
    """Axes that may be fused: always so many times another axis of their parameter, with the layout to say so."""

    def table(self) -> str:
        """The report as aligned text, one line a parameter."""
        lines = [("parameter", "shape", "elastic axes", "present under")]
        for row in self.rows:
            axes = "; ".join(f"{axis}: {', '.join(choices)}" for axis, choices in row.axes.items()) or "-"
            lines.append(
                (row.name, "x".join(map(str, row.shape)) or "scalar", axes, ", ".join(row.present) or "always")
            )
        widths = [max(len(line[i]) for line in lines) for i in range(4)]
        text = "\n".join(
            "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines
        )
        text += f"\nchoices that move no parameter: {', '.join(self.idle)}" if self.idle else ""
        return "\n".join([text, *self.multiples])


@dataclass(frozen=True)
class Survey:
    """The union of what the variants have."""

    variants: tuple[Variant, ...]
    shapes: dict[str, Shape]  # the largest size along every axis
    axes: dict[str, Axes]
    trainable: dict[str, bool]
    dtypes: dict[str, torch.dtype]
    buffers: dict[str, Tensor]  # persistent, and in every variant the leading part of the largest

    def source(self, name: str) -> Variant:
        """The variant whose own initialisation covers most of ``name``."""
        return max(
            (variant for variant in self.variants if name in variant.shapes),
            key=lambda variant: torch.Size(variant.shapes[name]).numel(),
        )

    def coverage(self) -> Coverage:
        largest = self.variants[0]
        rows = [self._row(name, shape, largest) for name, shape in self.shapes.items()]
        moving = {choice for row in rows for choices in (*row.axes.values(), row.present) for choice in choices}
        choices = dict.fromkeys(variant.choice for variant in self.variants if variant.choice is not None)
        idle = tuple(choice for choice in choices if choice not in moving)
        return Coverage(tuple(rows), idle, tuple(filter(None, map(self._multiple, rows))))

    def _multiple(self, row: Row) -> str:
        """What to say of a matrix of which one moved axis is always a whole multiple of the other, and not fused."""
        if len(row.shape) != 2 or set(row.axes) != {0, 1} or row.axes[0] != row.axes[1] or self.axes[row.name].fused:
            return ""
        seen = {variant.shapes[row.name] for variant in self.variants if row.name in variant.shapes}
        for long in (0, 1):
            ratios = {shape[long] / shape[1 - long] for shape in seen}
            if len(ratios) == 1 and (count := ratios.pop()) in (2, 3, 4):
                return (
                    f"axis {long} of {row.name} is always {count:.0f} times the other: if it holds {count:.0f} blocks "
                    f"side by side, say layout={{{row.name!r}: Blocks({count:.0f}, axis={long})}}; hidden layers need "
                    "nothing"
                )
        return ""

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
        return Row(name, shape, {axis: tuple(moved[axis]) for axis in sorted(moved)}, tuple(present))


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
    shapes, axes, trainable, dtypes = _union(variants)
    if not shapes:
        raise SupernetError(
            f"build({labelled[0][1].json()}) has no parameters; a supernet shares the weights of a model that has some"
        )
    check_patterns(layouts, shapes)
    return Survey(tuple(variants), shapes, axes, trainable, dtypes, _shared_buffers(variants))


def _look(choice: str | None, arch: Architecture, build: Build, layouts: Layouts) -> Variant:
    module = build_skeleton(build, arch)
    _check_derived(module)
    parameters = dict(module.named_parameters())
    persistent = _persistent_buffers(module)
    return Variant(
        choice,
        arch,
        {name: tuple(parameter.shape) for name, parameter in parameters.items()},
        {name: parameter.requires_grad for name, parameter in parameters.items()},
        {name: parameter.dtype for name, parameter in parameters.items()},
        named_axes(module, layouts),
        {name: buffer for name, buffer in module.named_buffers() if name in persistent},
    )


def _check_derived(module: nn.Module) -> None:
    """No buffer may be computed from the values of parameters: a slice of these would want another one."""
    for path, own in module.named_modules():
        derived = [name for name, buffer in own.named_buffers(recurse=False) if buffer.is_meta]
        if derived or type(own).__name__ == "_Orthogonal":
            where, _, _ = path.partition(".parametrizations")
            raise SupernetError(
                f"{where} has a {type(own).__name__.lstrip('_')}, which is computed from the values of its weight when "
                "the model is built, so slices of the weight cannot have it: leave it out, use weight_norm, or apply "
                "it to an extracted network"
            )


def _persistent_buffers(module: nn.Module) -> set[str]:
    return {
        f"{path}.{name}" if path else name
        for path, owner in module.named_modules()
        for name in owner._buffers
        if name not in owner._non_persistent_buffers_set
    }


def _agreed(found: Sequence[Axes]) -> Axes:
    """How a parameter is cut in all variants; along an axis where they differ it is not fused.

    Groups of queries differ where their number is a choice: whole groups are then the leading part.
    """
    blocks = tuple(counts[0] if len(set(counts)) == 1 else 1 for counts in zip(*(a.blocks for a in found), strict=True))
    return Axes(blocks, found[0].centred)


def _union(
    variants: Sequence[Variant],
) -> tuple[dict[str, Shape], dict[str, Axes], dict[str, bool], dict[str, torch.dtype]]:
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
    return (
        shapes,
        {name: _agreed([variant.axes[name] for variant in variants if name in variant.axes]) for name in shapes},
        {name: first[name].trainable[name] for name in shapes},
        {name: first[name].dtypes[name] for name in shapes},
    )


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
