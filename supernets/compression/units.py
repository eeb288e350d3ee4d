"""Axes of stored tensors as units that can change places: one axis (`Part`), and axes that move together (`Group`)."""

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
    """One axis of a stored tensor, in ``blocks`` fused blocks whose units change places alike."""

    name: str
    axis: int
    size: int
    """Of the axis, all blocks together."""
    blocks: int
    counts: frozenset[int]
    """Numbers of units that cut a block so that every network reads whole ones."""
    choices: tuple[str, ...]
    """That decide how much of the axis a network reads; none where no network that was looked at reads less."""

    def entries(self, unit: int, units: int) -> Tensor:
        """(size / units,) positions along the axis that belong to one of so many units."""
        block = self.size // self.blocks
        within = unit * (block // units) + torch.arange(block // units)
        return (torch.arange(self.blocks)[:, None] * block + within).flatten()

    def index(self, order: Tensor) -> Tensor:
        """(size,) where each entry of the axis comes from when units come in an order (units,)."""
        block = self.size // self.blocks
        within = (order[:, None] * (block // len(order)) + torch.arange(block // len(order))).flatten()
        return (torch.arange(self.blocks)[:, None] * block + within).flatten()

    def units_first(self, tensor: Tensor, units: int) -> Tensor:
        """(units, rest): the entries of ``tensor``, of the shape of the stored one, that belong to each unit."""
        block = self.size // self.blocks
        cut = tensor.movedim(self.axis, 0).reshape(self.blocks, units, block // units, -1)
        return cut.transpose(0, 1).reshape(units, -1)


@dataclass(frozen=True)
class Group:
    """Axes whose units change places together."""

    parts: tuple[Part, ...]
    units: int
    outputs: bool = False
    """Whether the features of the network's outputs change places with them, which the task's loss does not see."""

    @cached_property
    def choices(self) -> tuple[str, ...]:
        """Those that decide how many units a network has."""
        return tuple(sorted({choice for part in self.parts for choice in part.choices}))

    @property
    def label(self) -> str:
        return f"{' x '.join(self.choices) or 'an alternative'} ({self.parts[0].name})"


def permuted(values: Mapping[str, Tensor], parts: Sequence[Part], order: Tensor) -> dict[str, Tensor]:
    """The tensors of some parts with their units in an order (units,)."""
    changed: dict[str, Tensor] = {}
    for part in parts:
        tensor = changed.get(part.name, values[part.name])
        changed[part.name] = tensor.index_select(part.axis, part.index(order).to(tensor.device))
    return changed


def candidates(survey: Survey) -> list[Part]:
    """The axes of stored floating-point tensors that may be reordered: those that choices move, and those of tensors
    that the largest network lacks, whose smaller sizes no variant may have shown. Kernel axes keep their centre."""
    found = [
        part
        for name, stored in _stored(survey).items()
        for axis in range(len(stored))
        if not (name in survey.axes and axis in survey.axes[name].centred)
        for part in _parts(survey, name, axis, stored[axis])
    ]
    moved = frozenset(count for part in found if part.choices for count in part.counts)
    lacking = [part for part in found if not part.choices and part.name not in _shapes(survey.variants[0])]
    finest = {part: max(part.counts, default=1) for part in lacking}  # of an axis that may well be coupled to no other
    bounded = {part: replace(part, counts=part.counts & (moved | {finest[part]})) for part in lacking}
    return [own for part in found if (own := bounded.get(part, part)).counts and (part.choices or part in bounded)]


def _parts(survey: Survey, name: str, axis: int, size: int) -> Iterator[Part]:
    """One for each level of the grid that an axis is."""
    seen = [(variant.choice, _levels(survey, variant, name, axis)) for variant in _having(survey, name)]
    full = tuple(max(levels[at] for _, levels in seen) for at in range(len(seen[0][1])))
    for at, most in enumerate(full):
        step = math.gcd(*(levels[at] for _, levels in seen))
        moving = {choice for choice, levels in seen if choice is not None and levels[at] != most}
        counts = frozenset(most // unit for unit in range(1, step + 1) if step % unit == 0 and unit < most)
        yield Part(name, axis, size, math.prod(full[:at]), counts, tuple(sorted(moving)))


def _levels(survey: Survey, variant: Variant, name: str, axis: int) -> Shape:
    """How many entries a network has at each level of an axis, the slowest first."""
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
    """Buffers beside the parameters of their module, in the model's order; whole numbers are left out."""
    shapes = {name: shape for name, shape in survey.shapes.items() if survey.dtypes[name].is_floating_point}
    shapes |= {name: tuple(b.shape) for name, b in survey.buffers.items() if b.is_floating_point()}
    by_owner: dict[str, list[str]] = defaultdict(list)
    for name in shapes:
        by_owner[name.rpartition(".")[0]].append(name)
    return {name: shapes[name] for own in by_owner.values() for name in own}
