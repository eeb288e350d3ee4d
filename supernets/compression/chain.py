"""A chain of convolutions: drop some activations, then merge the layers between the remaining ones.

    boundary 0 -> convolution, batch norm -> activation -> boundary 1 -> ... -> boundary L

A segment is a run of layers without an activation inside. It pads once, at its input, so that one convolution can
replace it exactly. Its outputs keep their size but differ at the borders from those of layers that pad one by one, so a
thinned network needs further training. A shortcut adds the value at one boundary to the value at a later one, before
the activation there. A segment that contains the whole shortcut merges it, as ones at the centre of the kernel; a
shortcut whose two ends are ends of segments stays an addition.
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
"""The boundaries where it starts and ends."""

ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softsign, nn.LogSigmoid),
)
"""Activations that can be dropped."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution, the batch norm to fold into it, and the modules that follow."""

    convolution: _ConvNd
    """A convolution without padding; `padding` holds the amount."""
    padding: Sizes
    norm: _BatchNorm | None = None
    after: tuple[nn.Module, ...] = ()

    @property
    def removable(self) -> bool:
        """Whether exactly one activation follows."""
        return len(self.after) == 1 and isinstance(self.after[0], ACTIVATIONS)

    @property
    def bars(self) -> bool:
        """Whether something follows that must stay, such as pooling."""
        return bool(self.after) and not self.removable

    @property
    def stride(self) -> Sizes:
        return tuple(self.convolution.stride)

    @property
    def kernel(self) -> Kernel:
        return folded(self.convolution, self.norm)


class Segment(nn.Module):
    """A run of layers without an activation inside, which pads once.

    Args:
        shortcuts: the shortcuts within the segment, with boundaries counted from its start.
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
        """Return one convolution that computes what the segment computes in evaluation mode."""
        kernels = [identity(self._layers[0].convolution)]
        for boundary, layer in enumerate(self._layers, 1):
            kernel = kernels[-1].then(layer.kernel)
            for (begin, end), margin in self.margins.items():
                if end == boundary:
                    kernel = kernel.plus(kernels[begin], margin)
            kernels.append(kernel)
        return Layer(kernels[-1].convolution(like=self._layers[0].convolution.weight), self.padding)


class Chain(nn.Module):
    """Segments with activations between them, built by `read` and `thinned`. The chain copies the layers.

    Args:
        ends: the boundaries at which segments end, ascending; the last one is the end of the chain. None: every one.
        kept: the ends whose activation stays. None: all of them.

    Raises:
        CompressionError: the ends are invalid, a segment cannot be merged, or a shortcut cannot be added.
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
        """Shortcuts that stay additions: pairs of positions among the segment ends, 0 being the input."""

    @classmethod
    def read(cls, modules: Iterable[nn.Module], shortcuts: Sequence[Shortcut] = ()) -> Chain:
        """Return the chain of modules that run one after the other. Each module keeps its training mode.

        Args:
            modules: convolutions, each followed by a batch norm, an activation or other modules; the method unpacks
                `nn.Sequential`. Anything but a batch norm or a single activation stays, and merging stops there.
            shortcuts: pairs of boundaries, counted in convolutions: (1, 3) adds the output of the first layer to the
                output of the third layer's convolution and batch norm, before its activation.

        Raises:
            CompressionError: the first module is not a convolution, a convolution is of a kind that cannot be merged,
                or a shortcut joins outputs of different shape.
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
        """The boundaries after each layer, numbered from 1."""
        return range(1, len(self.layers) + 1)

    def can_merge(self, begin: int, end: int) -> bool:
        """Return whether one convolution can replace the layers between two boundaries, without their activations."""
        inner = range(begin + 1, end)
        cut = any((a in inner or b in inner) and not (begin <= a and b <= end) for a, b in self.shortcuts)
        return not cut and not any(self.layers[boundary - 1].bars for boundary in inner)

    def thinned(self, ends: Iterable[int], kept: Collection[int]) -> Chain:
        """Return a copy with other segments and activations, which includes the weights, for further training."""
        return Chain(self.layers, self.shortcuts, ends, kept)

    def values(self, x: Tensor) -> list[Tensor]:
        """Return the chain's input, then the output of each segment after its activation."""
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
        """Return the shorter network, with one convolution per segment and batch norms folded in.

        It computes what the chain computes in evaluation mode. It is a plain `nn.Sequential` unless shortcuts remain
        as additions; then it is a chain.
        """
        pairs = zip(self.ends, (self.segment(*span).merged() for span in self._spans()), strict=True)
        layers = [replace(layer, after=self._after(end)) for end, layer in pairs]
        if self.added:
            return Chain(layers, self.added)
        plain = (module for layer in layers for module in (padded(layer), *layer.after))
        return copy.deepcopy(nn.Sequential(*plain))

    def segment(self, begin: int, end: int) -> Segment:
        """Return the layers between two boundaries, without inner activations; the segment shares their weights."""
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
    """Return a copy of the layer's convolution that does its own padding."""
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
    """Yield the modules, with each `nn.Sequential` replaced by its contents and identities skipped."""
    for module in modules:
        if isinstance(module, nn.Sequential):
            yield from _opened(module)
        elif not isinstance(module, nn.Identity):
            yield module
