"""Axes of stored tensors as permutable units: one axis (`Part`), and axes that are permuted together (`Group`)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from supernets.layout import Shape
from supernets.survey import Survey, Variant


@dataclass(frozen=True)
class Part:
    """One axis of a stored tensor, in ``blocks`` fused blocks with the same permutation of units."""

    name: str
    axis: int
    size: int
    """Length of the axis over all blocks."""
    blocks: int
    counts: frozenset[int]
    """Possible numbers of units in a block, such that every network reads whole units."""
    choices: tuple[str, ...]
    """Choices that decide how much of the axis a network reads; empty if every surveyed network reads all of it."""

    def entries(self, unit: int, units: int) -> Tensor:
        """Return the positions along the axis, (size / units,), of one unit out of ``units``."""
        block = self.size // self.blocks
        within = unit * (block // units) + torch.arange(block // units)
        return (torch.arange(self.blocks)[:, None] * block + within).flatten()

    def index(self, order: Tensor) -> Tensor:
        """Return the source position of each entry of the axis, (size,), for an order of units (units,)."""
        block = self.size // self.blocks
        within = (order[:, None] * (block // len(order)) + torch.arange(block // len(order))).flatten()
        return (torch.arange(self.blocks)[:, None] * block + within).flatten()

    def units_first(self, tensor: Tensor, units: int) -> Tensor:
        """Return the entries of each unit, (units, rest), in a tensor of the stored tensor's shape."""
        block = self.size // self.blocks
        cut = tensor.movedim(self.axis, 0).reshape(self.blocks, units, block // units, -1)
        return cut.transpose(0, 1).reshape(units, -1)


@dataclass(frozen=True)
class Group:
    """Axes whose units are permuted together."""

    parts: tuple[Part, ...]
    units: int
    outputs: bool = False
    """Whether the features of the network's outputs are permuted too, to which the task's loss is invariant."""

    @cached_property
    def choices(self) -> tuple[str, ...]:
        """The choices that decide how many units a network has."""
        return tuple(sorted({choice for part in self.parts for choice in part.choices}))

    @property
    def label(self) -> str:
        return f"{' x '.join(self.choices) or 'an alternative'} ({self.parts[0].name})"


def permuted(values: Mapping[str, Tensor], parts: Sequence[Part], order: Tensor) -> dict[str, Tensor]:
    """Return the tensors of some parts with their units in an order (units,)."""
    changed: dict[str, Tensor] = {}
    for part in parts:
        tensor = changed.get(part.name, values[part.name])
        changed[part.name] = tensor.index_select(part.axis, part.index(order).to(tensor.device))
    return changed


def candidates(survey: Survey) -> list[Part]:
    """Return the axes of stored floating-point tensors that may be reordered.

    These are the axes whose size depends on choices, and the axes of tensors that the largest network lacks, because
    the survey may not include their smaller sizes. Centred kernel axes are excluded.
    """
    found = [
        part
        for name, stored in _stored(survey).items()
        for axis in range(len(stored))
        if not (name in survey.axes and axis in survey.axes[name].centred)
        for part in _parts(survey, name, axis, stored[axis])
    ]
    moved = frozenset(count for part in found if part.choices for count in part.counts)
    lacking = [part for part in found if not part.choices and part.name not in _shapes(survey.variants[0])]
    finest = {part: max(part.counts, default=1) for part in lacking}  # the axis may be coupled to no other
    bounded = {part: replace(part, counts=part.counts & (moved | {finest[part]})) for part in lacking}
    return [own for part in found if (own := bounded.get(part, part)).counts and (part.choices or part in bounded)]


def _parts(survey: Survey, name: str, axis: int, size: int) -> Iterator[Part]:
    """Yield one part for each level of the grid that an axis represents."""
    seen = [(variant.choice, _levels(survey, variant, name, axis)) for variant in _having(survey, name)]
    full = tuple(max(levels[at] for _, levels in seen) for at in range(len(seen[0][1])))
    for at, most in enumerate(full):
        step = math.gcd(*(levels[at] for _, levels in seen))
        moving = {choice for choice, levels in seen if choice is not None and levels[at] != most}
        counts = frozenset(most // unit for unit in range(1, step + 1) if step % unit == 0 and unit < most)
        yield Part(name, axis, size, math.prod(full[:at]), counts, tuple(sorted(moving)))


def _levels(survey: Survey, variant: Variant, name: str, axis: int) -> Shape:
    """Return how many entries a network has at each level of an axis, slowest level first."""
    size = _shapes(variant)[name][axis]
    if name in survey.buffers:
        axes = survey.buffer_axes.get(name)
        counts = axes.counts[axis] if axes is not None else ()
    else:
        nesting = survey.nestings[name].by_axis[axis]
        counts = nesting.own(variant.cuts[name], axis) or nesting.counts
    return (*counts, size // math.prod(counts))


def _having(survey: Survey, name: str) -> list[Variant]:
    return [variant for variant in survey.variants if name in _shapes(variant)]


def _shapes(variant: Variant) -> dict[str, Shape]:
    return {**variant.shapes, **{name: tuple(buffer.shape) for name, buffer in variant.buffers.items()}}


def _stored(survey: Survey) -> dict[str, Shape]:
    """Return the shapes of floating-point parameters and buffers, grouped by module in the model's order."""
    shapes = {name: shape for name, shape in survey.shapes.items() if survey.dtypes[name].is_floating_point}
    shapes |= {name: tuple(b.shape) for name, b in survey.buffers.items() if b.is_floating_point()}
    by_owner: dict[str, list[str]] = defaultdict(list)
    for name in shapes:
        by_owner[name.rpartition(".")[0]].append(name)
    return {name: shapes[name] for own in by_owner.values() for name in own}
