"""Units of a supernet that can change places: axes of parameters that must be permuted together, found by probing.

A smaller architecture reads the leading part of every elastic axis. Which units lead can be chosen, as long as the
network computes the same: the rows of one matrix are permuted together with the vectors beside them and the columns of
the matrix that reads them. Axes that the same choices move are candidates; a random permutation of them, whose outputs
are compared, decides. Heads may only move whole, so units are as fine as the outputs allow.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.func import functional_call

from search_spaces import Architecture
from supernets.errors import SupernetError
from supernets.layout import Shape, blocked_view
from supernets.planning import Example
from supernets.store import leading
from supernets.supernet import Supernet
from supernets.views import leaves

TOLERANCE = 1e-5
"""By how much outputs may differ, as a share of their largest, where units have only changed places. Networks run in
float64, in which that is about 1e-15; some models go through float32 on the way, as norms of transformers do."""
CHANGES = "the largest network computes something else when their units change places"
_WINDOW = 4  # matrices that lie together in one group of a block: query, key, value and output


@dataclass(frozen=True)
class Part:
    """One axis of a stored tensor, in ``blocks`` fused blocks that are permuted alike."""

    name: str
    axis: int
    size: int
    blocks: int
    sizes: tuple[int, ...]
    """That networks have, of one block."""

    def index(self, order: Tensor) -> Tensor:
        """(size,) where each entry of the axis comes from, when units come in an order (units,)."""
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

    choices: tuple[str, ...]
    """That decide how many units a network has."""
    parts: tuple[Part, ...]
    units: int
    outputs: bool = False
    """Whether the features of the outputs change places with them, which the task does not mind."""

    @property
    def label(self) -> str:
        return f"{' x '.join(self.choices)} ({self.parts[0].name})"


@dataclass(frozen=True)
class Left:
    """Axes that stay as they are, and why."""

    choices: tuple[str, ...]
    names: tuple[str, ...]
    why: str


def coupled(supernet: Supernet, probe: Probe) -> tuple[list[Group], list[Left]]:
    """The groups of a supernet's elastic axes, each verified by a probe, and what is left alone.

    Raises:
        SupernetError: outputs of the largest network are not finite.
    """
    groups: list[Group] = []
    left: dict[tuple[str, ...], list[Part]] = {}
    for choices, parts in _candidates(supernet).items():
        found, rest = _split(probe, choices, parts)
        groups += found
        left |= {choices: rest} if rest else {}
    for one, other in itertools.combinations(list(left), 2):  # as query heads, and the fewer key heads they share
        if set(one) & set(other) and one in left and other in left:
            choices = tuple(sorted({*one, *other}))
            found, rest = _split(probe, choices, left[one] + left[other])
            if not rest:
                groups += found
                del left[one], left[other]
    return groups, [Left(own, tuple(part.name for part in parts), _reason(parts)) for own, parts in left.items()]


def _reason(parts: Sequence[Part]) -> str:
    if not _counts(parts):
        return "networks have sizes that share no unit smaller than the largest"
    return CHANGES


def _candidates(supernet: Supernet) -> dict[tuple[str, ...], list[Part]]:
    """Elastic axes by the choices that move them, in the order of the model. Kernel axes keep their centre and stay."""
    survey = supernet.survey
    sizes: dict[tuple[str, int], set[int]] = defaultdict(set)
    moved: dict[tuple[str, int], dict[str, None]] = defaultdict(dict)
    shapes = {**survey.shapes, **{name: tuple(buffer.shape) for name, buffer in survey.buffers.items()}}
    largest = {**survey.variants[0].shapes, **{name: tuple(b.shape) for name, b in survey.variants[0].buffers.items()}}
    for variant in survey.variants:
        there = {**variant.shapes, **{name: tuple(b.shape) for name, b in variant.buffers.items() if name in shapes}}
        for name, shape in there.items():
            for axis, size in enumerate(shape):
                sizes[name, axis].add(size)
                if variant.choice is not None and size != largest.get(name, shapes[name])[axis]:
                    moved[name, axis][variant.choice] = None
    found: dict[tuple[str, ...], list[Part]] = defaultdict(list)
    for (name, axis), choices in moved.items():
        axes = survey.axes.get(name)
        if axes is not None and axis in axes.centred:
            continue
        blocks = axes.blocks[axis] if axes is not None else 1
        all_sizes = tuple(sorted(size // blocks for size in sizes[name, axis]))
        found[tuple(sorted(choices))].append(Part(name, axis, shapes[name][axis], blocks, all_sizes))
    return dict(found)


def _counts(parts: Sequence[Part]) -> list[int]:
    """Numbers of units, above 1, that cut every axis so that each network has whole ones, the finest first."""
    possible: set[int] | None = None
    for part in parts:
        step, block = math.gcd(*part.sizes), part.size // part.blocks
        own = {block // unit for unit in range(1, step + 1) if step % unit == 0}
        possible = own if possible is None else possible & own
    return sorted((count for count in possible or () if count > 1), reverse=True)


def _split(probe: Probe, choices: tuple[str, ...], parts: list[Part]) -> tuple[list[Group], list[Part]]:
    """Groups of parts that are permuted together, the smaller ones first, and what belongs to none."""
    groups: list[Group] = []
    rest = list(parts)
    for window in _windows(probe.supernet, parts):
        chosen = [part for part in rest if part in window]
        if len(chosen) == len(window) < len(rest) and (units := probe.finest(chosen)):
            groups.append(Group(choices, tuple(chosen), units, probe.reordered))
            rest = [part for part in rest if part not in chosen]
    for inside in ((), *_repeated(_windows(probe.supernet, rest))):
        outside = [part for part in rest if part not in inside]
        if outside and (units := probe.finest(outside)):
            groups.append(Group(choices, tuple(outside), units, probe.reordered))
            return groups, list(inside)
    return groups, rest


def _repeated(windows: Iterable[list[Part]]) -> list[tuple[Part, ...]]:
    """The insides of blocks that are alike but for their numbers, together."""
    alike: dict[tuple[str, ...], list[Part]] = defaultdict(list)
    for window in windows:
        alike[tuple(re.sub(r"\d+", "*", part.name) for part in window)] += window
    return [tuple(dict.fromkeys(parts)) for parts in alike.values()]


def _windows(supernet: Supernet, parts: Sequence[Part]) -> Iterator[list[Part]]:
    """What may be the inside of a block: what some successive matrices write, and what the one behind them reads."""
    at = {(part.name, part.axis): part for part in parts}
    names = list(dict.fromkeys([*supernet.survey.shapes, *supernet.survey.buffers]))
    order = _in_place(names)
    matrices = [name for name in order if len(supernet.survey.shapes.get(name, ())) > 1]
    for length in range(1, _WINDOW):
        for first in range(len(matrices) - length):
            begin, end = matrices[first], matrices[first + length]
            inside = [name for name in order[order.index(begin) : order.index(end)] if (name, 0) in at]
            if (end, 1) in at and inside:
                yield [*(at[name, 0] for name in inside), at[end, 1]]


def _in_place(names: Sequence[str]) -> list[str]:
    """Buffers beside the parameters of their module, in the model's order."""
    owners = dict.fromkeys(name.rpartition(".")[0] for name in names)
    by_owner: dict[str, list[str]] = {owner: [] for owner in owners}
    for name in names:
        by_owner[name.rpartition(".")[0]].append(name)
    return [name for own in by_owner.values() for name in own]


class Probe:
    """Compares outputs of a supernet's largest networks when units of its stored tensors have changed places.

    Args:
        example: what networks take; two rows of it are enough.
        minds: whether it matters that the features of an output (its last axis) come in an order (features,). None
            says that it does.
    """

    def __init__(self, supernet: Supernet, example: Example, minds: Callable[[Tensor], bool] | None = None) -> None:
        self.supernet = supernet
        self.minds = minds or (lambda order: True)
        self.reordered = False  # whether the features of the outputs had changed places when they last were the same
        self.inputs = (example,) if isinstance(example, Tensor) else tuple(example)
        self.values = {name: _exact(tensor) for name, tensor in supernet.state_dict().items()}

    def finest(self, parts: Sequence[Part]) -> int:
        """The largest number of units whose places do not matter; 0 where there is none."""
        counts = _counts(parts)
        if not counts or not self.same(parts, counts[-1]):
            return 0
        return next((count for count in counts if self.same(parts, count)), 0)

    def same(self, parts: Sequence[Part], units: int) -> bool:
        """Whether the networks compute the same when the units of some axes come in an order, for two random ones."""
        orders = [torch.randperm(units, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
        straight = torch.arange(units)
        return all(self.agrees(parts, order.flip(0) if torch.equal(order, straight) else order) for order in orders)

    def agrees(self, parts: Sequence[Part], order: Tensor) -> bool:
        """Whether the networks compute the same when the units of some axes come in an order (units,)."""
        changed = permuted(self.values, parts, order)
        if any(part.name not in self._showing for part in parts):
            return False  # no network has all of it
        archs = dict.fromkeys(arch for part in parts for arch in self._showing[part.name])
        self.reordered = False
        return all(self._agree(arch, changed, parts, order) for arch in archs)

    def _agree(self, arch: Architecture, changed: Mapping[str, Tensor], parts: Sequence[Part], order: Tensor) -> bool:
        expected = self._expected(arch)
        found = self._outputs(arch, {**self.values, **changed})
        if all(close(one, other) for one, other in zip(found, expected, strict=True)):
            return True
        return any(self._agree_reordered(found, expected, part.index(order)) for part in parts if part.blocks == 1)

    def _agree_reordered(self, found: Sequence[Tensor], expected: Sequence[Tensor], index: Tensor) -> bool:
        """Whether the outputs are the same but for the order of their features, and nobody minds that."""
        moved = [one[..., index] if one.dim() and one.shape[-1] == len(index) else one for one in expected]
        same = all(close(one, other) for one, other in zip(found, moved, strict=True)) and not self.minds(index)
        self.reordered |= same
        return same

    @cached_property
    def _showing(self) -> dict[str, tuple[Architecture, ...]]:
        """By tensor the architectures to look at: the largest, and where it has not the tensor one that has."""
        largest, survey = self.supernet.space.largest(), self.supernet.survey
        showing: dict[str, tuple[Architecture, ...]] = dict.fromkeys(survey.variants[0].buffers, (largest,))
        for name, shape in survey.shapes.items():
            having = [variant.arch for variant in survey.variants if variant.shapes.get(name) == shape]
            if having:
                showing[name] = (largest,) if having[0] == largest else (largest, having[0])
        return showing

    def _expected(self, arch: Architecture) -> list[Tensor]:
        if arch not in self._known:
            self._known[arch] = self._outputs(arch, self.values)
            if not all(bool(torch.isfinite(one).all()) for one in self._known[arch]):
                raise SupernetError(
                    f"the network {arch.json()} gives what is no finite number on the example, so nothing can be "
                    "verified on it: see that the weights and the data are finite"
                )
        return self._known[arch]

    @cached_property
    def _known(self) -> dict[Architecture, list[Tensor]]:
        return {}

    @cached_property
    def _networks(self) -> dict[Architecture, nn.Module]:
        return {}

    def _outputs(self, arch: Architecture, values: Mapping[str, Tensor]) -> list[Tensor]:
        if arch not in self._networks:
            self._networks[arch] = self.supernet.extract(arch).double().eval()
        network = self._networks[arch]
        own = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        taken = {name: self._read(name, values[name], tuple(t.shape)) for name, t in own.items() if name in values}
        with torch.no_grad():
            return list(leaves(functional_call(network, taken, tuple(_exact(x) for x in self.inputs))))

    def _read(self, name: str, value: Tensor, shape: Shape) -> Tensor:
        """What a network reads of a stored tensor."""
        axes = self.supernet.survey.axes.get(name)
        if axes is None:
            return leading(value, shape)
        return axes.box(shape, tuple(value.shape)).of(blocked_view(value.contiguous(), axes)).reshape(shape)


def permuted(values: Mapping[str, Tensor], parts: Sequence[Part], order: Tensor) -> dict[str, Tensor]:
    """The tensors of some parts with their units in an order (units,)."""
    changed: dict[str, Tensor] = {}
    for part in parts:
        tensor = changed.get(part.name, values[part.name])
        changed[part.name] = tensor.index_select(part.axis, part.index(order).to(tensor.device))
    return changed


def close(one: Tensor, other: Tensor) -> bool:
    """Whether outputs are equal but for rounding."""
    if one.shape != other.shape or not one.is_floating_point():
        return torch.equal(one, other)
    scale = float(other.abs().max()) or 1.0
    return float((one - other).abs().max()) <= TOLERANCE * scale


def _exact(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor
