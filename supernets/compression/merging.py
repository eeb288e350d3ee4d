"""Merge consecutive convolutions into one: with only batch norm between them, their composition is linear.

    y = W2 * (W1 * x + b1) + b2 = W * x + b,   W = W2 * W1 of kernel k1 + s1 (k2 - 1),   b = b2 + sum of W2 b1

The two agree up to rounding, borders included, as long as nothing pads between them (arXiv:2301.12187). The stride of
the first convolution dilates the kernel of the second, and strides multiply.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from supernets.errors import CompressionError

Sizes = tuple[int, ...]
"""One number per spatial axis."""

CONVOLUTIONS: dict[type[_ConvNd], Callable[..., Tensor]] = {
    nn.Conv1d: F.conv_transpose1d,
    nn.Conv2d: F.conv_transpose2d,
    nn.Conv3d: F.conv_transpose3d,
}
"""Convolutions that can be merged, each with its adjoint, which multiplies kernels."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """A convolution without padding, as a value in float64."""

    kind: type[_ConvNd]
    weight: Tensor
    """(out, in / groups, *sizes)."""
    bias: Tensor
    """(out,)."""
    stride: Sizes
    groups: int

    @property
    def sizes(self) -> Sizes:
        return tuple(self.weight.shape[2:])

    def then(self, other: Kernel) -> Kernel:
        """Return this kernel followed by the other, with gcd(groups) groups: dense after depthwise is dense."""
        groups = math.gcd(self.groups, other.groups)
        first, second = self._grouped(groups), other._grouped(groups)
        product = CONVOLUTIONS[self.kind]
        pairs = zip(second.chunk(groups), first.chunk(groups), strict=True)
        weight = torch.cat([product(outer, inner, stride=self.stride) for outer, inner in pairs])
        sums = second.flatten(2).sum(2).view(groups, -1, second.shape[1])  # (groups, out / groups, between / groups)
        passed = (sums @ self.bias.view(groups, -1, 1)).flatten()
        stride = tuple(a * b for a, b in zip(self.stride, other.stride, strict=True))
        return Kernel(self.kind, weight, other.bias + passed, stride, groups)

    def plus(self, other: Kernel, margin: Sizes) -> Kernel:
        """Return the sum of both on one input, with `margin` output positions cropped on each side of the other."""
        groups = math.gcd(self.groups, other.groups)
        around = [n * stride for n, stride in zip(margin, other.stride, strict=True)]
        weight = self._grouped(groups) + F.pad(other._grouped(groups), both_sides(around))
        return replace(self, weight=weight, bias=self.bias + other.bias, groups=groups)

    def _grouped(self, groups: int) -> Tensor:
        """Return the weight of the same convolution with fewer groups, with zeros for the new connections."""
        joined = self.groups // groups
        inputs = self.weight.shape[1]
        out = len(self.weight) // self.groups
        apart = self.weight.reshape(groups, joined, out, inputs, *self.sizes)
        found = apart.new_zeros(groups, joined, out, joined, inputs, *self.sizes)
        for number in range(joined):
            found[:, number, :, number] = apart[:, number]
        dense: Tensor = found.reshape(-1, joined * inputs, *self.sizes)
        return dense

    def convolution(self, like: Tensor) -> _ConvNd:
        """Return a module without padding, with the dtype and device of a tensor."""
        out, inputs = self.weight.shape[0], self.weight.shape[1] * self.groups
        settings: dict[str, Any] = {"stride": self.stride, "groups": self.groups}
        made = self.kind(inputs, out, self.sizes, **settings, device=like.device, dtype=like.dtype)
        with torch.no_grad():
            made.weight.copy_(self.weight)
            made.bias.copy_(self.bias)  # type: ignore[union-attr]
        return made


def identity(like: _ConvNd) -> Kernel:
    """Return the identity on the input of a convolution: depthwise kernels of size 1 and value 1."""
    channels, axes = like.in_channels, len(like.kernel_size)
    weight = like.weight.new_ones(channels, 1, *[1] * axes, dtype=torch.float64)
    return Kernel(_kind(like), weight, weight.new_zeros(channels), (1,) * axes, channels)


def folded(convolution: _ConvNd, norm: _BatchNorm | None = None) -> Kernel:
    """Return a convolution with the following batch norm folded in, as it is in evaluation mode.

    Raises:
        CompressionError: the batch norm keeps no statistics.
    """
    weight = convolution.weight.detach().double()
    bias = weight.new_zeros(len(weight)) if convolution.bias is None else convolution.bias.detach().double()
    stride, groups = tuple(convolution.stride), convolution.groups
    if norm is None:
        return Kernel(_kind(convolution), weight, bias, stride, groups)
    if norm.running_mean is None or norm.running_var is None:
        raise CompressionError(
            f"a {type(norm).__name__} keeps no running statistics, so it is not linear in evaluation and cannot be "
            "folded: give it track_running_stats=True and train it on, or leave its layer out"
        )
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight.detach().double()
    shift = 0.0 if norm.bias is None else norm.bias.detach().double()
    scaled = weight * scale.view(-1, *[1] * (weight.dim() - 1))
    return Kernel(_kind(convolution), scaled, (bias - norm.running_mean.double()) * scale + shift, stride, groups)


def padding_of(convolution: _ConvNd) -> Sizes:
    """Return the number of zeros on each side of each axis, after a check that the convolution can be merged.

    Raises:
        CompressionError: the convolution is transposed, of another class, dilated, or has another kind of padding.
    """
    _kind(convolution)
    if any(step != 1 for step in convolution.dilation):
        raise CompressionError(
            f"{convolution} has dilation {convolution.dilation}: only convolutions with 1 are merged"
        )
    padding = convolution.padding
    if padding == "valid":
        return (0,) * len(convolution.kernel_size)
    if padding == "same" and all(size % 2 for size in convolution.kernel_size):
        padding = tuple(size // 2 for size in convolution.kernel_size)
    if isinstance(padding, str) or (convolution.padding_mode != "zeros" and any(padding)):
        raise CompressionError(
            f"{convolution} pads its sides differently or with other than zeros: only convolutions with as many zeros "
            "on both sides are merged"
        )
    return tuple(padding)


def total_padding(paddings: Sequence[Sizes], strides: Sequence[Sizes]) -> Sizes:
    """Return the padding before the first convolution that replaces the padding of each: sum of p_l prod s_<l.

    The outputs keep their size.
    """
    total, scale = [0] * len(paddings[0]), [1] * len(paddings[0])
    for padding, stride in zip(paddings, strides, strict=True):
        total = [sum_ + p * s for sum_, p, s in zip(total, padding, scale, strict=True)]
        scale = [s * step for s, step in zip(scale, stride, strict=True)]
    return tuple(total)


def both_sides(sizes: Sequence[int]) -> list[int]:
    """Return the sizes as `F.pad` expects them, last axis first."""
    return [size for size in reversed(sizes) for _ in range(2)]


def _kind(convolution: _ConvNd) -> type[_ConvNd]:
    if type(convolution) not in CONVOLUTIONS:
        known = ", ".join(kind.__name__ for kind in CONVOLUTIONS)
        raise CompressionError(
            f"{type(convolution).__name__} is not merged: only {known} are, and not what derives from them"
        )
    return type(convolution)
