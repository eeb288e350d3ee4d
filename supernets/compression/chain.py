"""A chain of convolutions, in which activations can be left out and what lies between the others merged.

    boundary 0 -> convolution, batch norm -> activation -> boundary 1 -> ... -> boundary L

A segment is a run of layers without an activation inside. It pads once, in front, so that one convolution can stand for
it exactly; its outputs are as large as before, but other at the borders, which is why a network is trained on first.
A shortcut from one boundary to another, added before the activation there, is merged where a segment holds all of it,
as ones in the middle of the kernel; where segments end at both of its ends it stays an addition.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from supernets.compression.merging import (
    Kernel,
    Sizes,
    both_sides,
    folded,
    identity,
    padding_of,
    total_padding,
)
from supernets.errors import CompressionError

Shortcut = tuple[int, int]
"""From boundary to boundary."""

ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softsign, nn.LogSigmoid),
)
"""What can be left out."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution, the batch norm that is folded into it, and what comes behind."""

    convolution: _ConvNd
    """It does not pad by itself."""
    padding: Sizes
    norm: _BatchNorm | None = None
    after: tuple[nn.Module, ...] = ()

    @property
    def removable(self) -> bool:
        """Whether what comes behind is one activation."""
        return len(self.after) == 1 and isinstance(self.after[0], ACTIVATIONS)

    @property
    def bars(self) -> bool:
        """Whether it is something that must stay, as a pooling."""
        return bool(self.after) and not self.removable

    @property
    def stride(self) -> Sizes:
        return tuple(self.convolution.stride)

    @property
    def kernel(self) -> Kernel:
        return folded(self.convolution, self.norm)


class Segment(nn.Module):
    """Layers without an activation inside, which pad once.

    Args:
        shortcuts: within it, between boundaries counted from its beginning.
    """

    def __init__(self, layers: Sequence[Layer], shortcuts: Iterable[Shortcut] = ()) -> None:
        super().__init__()
        self._layers = tuple(layers)
        parts = ((layer.convolution, *([layer.norm] if layer.norm else [])) for layer in layers)
        self.stages = nn.ModuleList(nn.Sequential(*part) for part in parts)
        self.padding = _padding(layers)
        self.margins = {(begin, end): _padding(layers[begin:end]) for begin, end in shortcuts}

    def forward(self, x: Tensor) -> Tensor:
        values = [F.pad(x, both_sides(self.padding)) if any(self.padding) else x]
        for boundary, stage in enumerate(self.stages, 1):
            y = stage(values[-1])
            for (begin, end), margin in self.margins.items():
                if end == boundary:
                    y = y + F.pad(values[begin], [-size for size in both_sides(margin)])
            values.append(y)
        return values[-1]

    def merged(self) -> Layer:
        """One convolution with the same outputs, as the segment is in evaluation."""
        kernels = [identity(self._layers[0].convolution)]
        for boundary, layer in enumerate(self._layers, 1):
            kernel = kernels[-1].then(layer.kernel)
            for (begin, end), margin in self.margins.items():
                if end == boundary:
                    kernel = kernel.plus(kernels[begin], margin)
            kernels.append(kernel)
        return Layer(kernels[-1].convolution(like=self._layers[0].convolution.weight), self.padding)


class Chain(nn.Module):
    """Segments with activations between them, made by `read` and `thinned`: it copies the layers it is given.

    Args:
        ends: the boundaries at which segments end, ascending; the last is the end of the chain. None: all.
        kept: those of them whose activation stays. None: all.

    Raises:
        CompressionError: the ends are no such boundaries, a segment cannot be merged, or a shortcut cannot be added.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        shortcuts: Sequence[Shortcut] = (),
        ends: Iterable[int] | None = None,
        kept: Collection[int] | None = None,
    ) -> None:
        super().__init__()
        self.layers = copy.deepcopy(tuple(layers))
        self.shortcuts = tuple(shortcuts)
        self.ends = tuple(self.boundaries if ends is None else ends)
        self.kept = self.ends if kept is None else tuple(sorted(kept))
        self._check()
        self.segments = nn.ModuleList(self.segment(*span) for span in self._spans())
        self.after = nn.ModuleList(nn.Sequential(*self._after(end)) for end in self.ends)
        places = {boundary: place for place, boundary in enumerate((0, *self.ends))}
        merged = [shortcut for span in self._spans() for shortcut in self._within(*span)]
        self.added = tuple((places[a], places[b]) for a, b in self.shortcuts if (a, b) not in merged)
        """Shortcuts that stay additions, between ends of segments, counted."""

    @classmethod
    def read(cls, modules: Iterable[nn.Module], shortcuts: Sequence[Shortcut] = ()) -> Chain:
        """The chain of modules that run one behind the other, each in the mode it is in.

        Args:
            modules: convolutions, each with a batch norm, an activation or anything else behind it; sequences among
                them are opened. What is neither batch norm nor one activation stays, and nothing is merged across it.
            shortcuts: pairs of boundaries, counted in convolutions: (1, 3) adds what comes out of the first layer to
                what the third one's convolution and batch norm give, before its activation.

        Raises:
            CompressionError: it does not begin with a convolution, one is of a sort that is not merged, or a shortcut
                joins outputs of different shape.
        """
        layers: list[Layer] = []
        for module in _opened(modules):
            if isinstance(module, _ConvNd):
                layers.append(Layer(_unpadded(module), padding_of(module)))
            elif not layers:
                raise CompressionError(
                    f"a chain begins with a convolution, not with {type(module).__name__}: leave it out"
                )
            elif isinstance(module, _BatchNorm) and not layers[-1].after and layers[-1].norm is None:
                layers[-1] = replace(layers[-1], norm=module)
            else:
                layers[-1] = replace(layers[-1], after=(*layers[-1].after, module))
        if not layers:
            raise CompressionError("a chain has no convolution: give the modules that hold some, in the order they run")
        return cls(layers, shortcuts)

    @property
    def boundaries(self) -> range:
        """Behind each layer, from 1 on."""
        return range(1, len(self.layers) + 1)

    def can_merge(self, begin: int, end: int) -> bool:
        """Whether the layers between two boundaries can be one convolution, their activations left out."""
        inner = range(begin + 1, end)
        cut = any((a in inner or b in inner) and not (begin <= a and b <= end) for a, b in self.shortcuts)
        return not cut and not any(self.layers[boundary - 1].bars for boundary in inner)

    def thinned(self, ends: Iterable[int], kept: Collection[int]) -> Chain:
        """A copy, weights too, with other segments and activations: ready to be trained on."""
        return Chain(self.layers, self.shortcuts, ends, kept)

    def values(self, x: Tensor) -> list[Tensor]:
        """What goes into the first segment and comes out behind each, activations included."""
        values = [x]
        for place, (segment, after) in enumerate(zip(self.segments, self.after, strict=True), 1):
            y = segment(values[-1])
            for begin, end in self.added:
                if end == place:
                    y = y + values[begin]
            values.append(after(y))
        return values

    def forward(self, x: Tensor) -> Tensor:
        return self.values(x)[-1]

    def merged(self) -> nn.Module:
        """The short network: each segment one convolution, batch norms folded, outputs as in evaluation.

        Plain torch, a `nn.Sequential`, where no shortcut is left to add; otherwise a chain.
        """
        pairs = zip(self.ends, (self.segment(*span).merged() for span in self._spans()), strict=True)
        layers = [replace(layer, after=self._after(end)) for end, layer in pairs]
        if self.added:
            return Chain(layers, self.added)
        plain = (module for layer in layers for module in (padded(layer), *layer.after))
        return copy.deepcopy(nn.Sequential(*plain))

    def segment(self, begin: int, end: int) -> Segment:
        """The layers between two boundaries, without the activations inside; it shares their weights."""
        return Segment(self.layers[begin:end], [(a - begin, b - begin) for a, b in self._within(begin, end)])

    def _spans(self) -> list[tuple[int, int]]:
        return list(zip((0, *self.ends), self.ends, strict=False))

    def _within(self, begin: int, end: int) -> list[Shortcut]:
        return [(a, b) for a, b in self.shortcuts if begin <= a and b <= end]

    def _after(self, boundary: int) -> tuple[nn.Module, ...]:
        layer = self.layers[boundary - 1]
        return layer.after if layer.bars or boundary in self.kept else ()

    # --- checks

    def _check(self) -> None:
        length = len(self.layers)
        if not self.ends or sorted({*self.ends, length}) != list(self.ends) or self.ends[0] < 1:
            raise CompressionError(
                f"segments end at {self.ends}: give ascending boundaries from 1 on, the last one {length}"
            )
        if inside := sorted(set(self.kept) - set(self.ends)):
            raise CompressionError(
                f"activations are kept at {inside}, where no segment ends: end one there, or leave them out"
            )
        for begin, end in self.shortcuts:
            self._check_shortcut(begin, end)
        for begin, end in self._spans():
            if not self.can_merge(begin, end):
                rule = "a shortcut begins or ends inside, or what must stay lies there"
                raise CompressionError(f"layers {begin + 1} to {end} are no segment: {rule}; end segments there")

    def _check_shortcut(self, begin: int, end: int) -> None:
        if not 0 <= begin < end <= len(self.layers):
            rule = f"give boundaries from 0 to {len(self.layers)}, the first one before the second"
            raise CompressionError(f"shortcut {(begin, end)} is not in a chain of {len(self.layers)} layers: {rule}")
        branch = self.layers[begin:end]
        channels = branch[0].convolution.in_channels, branch[-1].convolution.out_channels
        kept = all(
            size == 1 + 2 * padding and stride == 1
            for layer in branch
            for size, padding, stride in zip(layer.convolution.kernel_size, layer.padding, layer.stride, strict=True)
        )
        if channels[0] != channels[1] or not kept or any(layer.bars for layer in branch[:-1]):
            rule = "all between must be convolutions and activations that keep channels and sizes"
            raise CompressionError(f"shortcut {(begin, end)} cannot be added as it is: {rule}; end the chain before it")


def padded(layer: Layer) -> _ConvNd:
    """Its convolution, padding by itself."""
    found = copy.deepcopy(layer.convolution)
    found.padding = layer.padding
    return found


def _unpadded(convolution: _ConvNd) -> _ConvNd:
    found = copy.deepcopy(convolution)
    found.padding = (0,) * len(convolution.kernel_size)
    found.padding_mode = "zeros"
    return found


def _padding(layers: Sequence[Layer]) -> Sizes:
    return total_padding([layer.padding for layer in layers], [layer.stride for layer in layers])


def _opened(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """Sequences among modules replaced by what is in them; identities left out."""
    for module in modules:
        if isinstance(module, nn.Sequential):
            yield from _opened(module)
        elif not isinstance(module, nn.Identity):
            yield module
