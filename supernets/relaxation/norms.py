"""Normalisation in expectation: the exact mixture of the norms over each possible width.

With widths u_1 < u_2 < ... of probabilities p_k, the mixture at channel i is sum over u_k > i of p_k (x_i - m_k) r_k,
where m_k and r_k are mean and reciprocal standard deviation of the leading u_k channels. One thin matrix product
computes all of these from x and another maps them back to channels, so the cost is about that of one norm for any
number of widths. Normalising over the padded full width instead would be wrong even for a one-hot mixture.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, reduce
from math import gcd, prod
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from supernets.relaxation.precision import as_norm, exactly, for_norm


def mixed_layer_norm(
    x: Tensor,
    widths: Sequence[int],
    chances: Tensor,
    eps: float,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    centred: bool = True,
) -> Tensor:
    """Return the mixture of layer norms over the last axis of x (..., d); of RMS norms if not `centred`.

    Args:
        widths: distinct and ascending; the last one is d.
        chances: (num_widths,) the probabilities of the widths.
        weight: (d,) unmasked; the mixture includes its mask.
        bias: (d,) masked.
    """
    flat = for_norm(x).reshape(-1, x.shape[-1])
    weight = torch.ones_like(flat[0]) if weight is None else weight.to(flat)
    bias = None if bias is None else bias.to(flat)
    with exactly(x.device.type):
        y: Tensor = _MixedLayerNorm.apply(  # type: ignore[no-untyped-call]
            flat, chances.to(flat), weight, bias, _prefixes(tuple(widths), eps, centred)
        )
    return as_norm(y.view(x.shape), x.dtype)


class _Prefixes:
    """Statistics of the leading channels for each width, and the constants that compute them."""

    def __init__(self, widths: tuple[int, ...], eps: float, centred: bool) -> None:
        self.widths, self.eps, self.centred = widths, eps, centred
        self._constants: dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor]] = {}

    def constants(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return two matrices (num_widths, d): 1 where a width has a channel, and the map to means over each width."""
        key = like.dtype, like.device
        if key not in self._constants:
            reach = (torch.arange(self.widths[-1]) < torch.tensor(self.widths)[:, None]).to(like)
            self._constants[key] = reach, reach / reach.sum(1, keepdim=True)
        return self._constants[key]

    def reciprocals(self, means: Tensor, squares: Tensor) -> Tensor:
        """Return reciprocal standard deviations from the means of x and of its squares."""
        variance = (squares - means.square()).clamp_min_(0) if self.centred else squares
        return torch.rsqrt(variance + self.eps)


@cache
def _prefixes(widths: tuple[int, ...], eps: float, centred: bool) -> _Prefixes:
    return _Prefixes(widths, eps, centred)


class _MixedLayerNorm(torch.autograd.Function):
    """A hand-written gradient, because autograd would pass over the channels several times as often.

    Statistics have shape (num_widths, rows): a thin product is several times faster with its short side first.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, chances: Tensor, weight: Tensor, bias: Tensor | None, prefixes: _Prefixes
    ) -> Tensor:
        if prefixes.centred:  # leaves the result unchanged, but brings sums of squares to the scale of the variance
            x = x - x[:, : prefixes.widths[0]].mean(-1, keepdim=True)
        reach, averaging = prefixes.constants(x)
        reach = reach * weight
        means, squares = averaging @ x.T, averaging @ x.square().T
        scales = prefixes.reciprocals(means, squares).mul_(chances[:, None])
        ctx.prefixes = prefixes
        ctx.save_for_backward(x, means, squares, chances, weight)
        y = (scales.T @ reach).mul_(x)
        if prefixes.centred:
            y.addmm_((scales * means).T, reach, alpha=-1)
        return y if bias is None else y.add_(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, means, squares, chances, weight = ctx.saved_tensors
        prefixes: _Prefixes = ctx.prefixes
        reach, averaging = prefixes.constants(x)
        weighted, with_x = reach * weight, grad * x
        reciprocals = prefixes.reciprocals(means, squares)
        scales = chances[:, None] * reciprocals
        for_scales = weighted @ with_x.T
        for_weight = scales @ with_x if ctx.needs_input_grad[2] else None
        if prefixes.centred:
            for_offsets = weighted @ grad.T  # of -scales * means
            for_scales.addcmul_(for_offsets, means, value=-1)
            for_weight = None if for_weight is None else for_weight.sub_((scales * means) @ grad)
        # twice the derivative by the mean square, which equals that by the variance; a variance clamped to 0 multiplies
        # a row of zeros
        for_squares = -for_scales * scales * reciprocals.square()
        for_x = (scales.T @ weighted).mul_(grad).addcmul_(x, torch.mm(for_squares.T, averaging, out=with_x))
        if prefixes.centred:
            for_x.addmm_((for_offsets * scales).addcmul_(for_squares, means).T, averaging, alpha=-1)
        return (
            for_x,
            (for_scales * reciprocals).sum(1) if ctx.needs_input_grad[1] else None,
            None if for_weight is None else (reach * for_weight).sum(0),
            grad.sum(0) if ctx.needs_input_grad[3] else None,
            None,
        )


def mixed_group_norm(x: Tensor, options: Sequence[tuple[int, int]], chances: Tensor, eps: float) -> Tensor:
    """Return the mixture of group norms of x (N, C, ...), before weight and bias.

    Args:
        options: pairs of numbers of channels and groups; at least one has all C channels.
        chances: (num_options,) the probabilities of the options.
    """
    cell = reduce(gcd, (channels // groups for channels, groups in options))
    dtype, x = x.dtype, for_norm(x)
    chances = chances.to(x)
    x = x - x.detach().mean(tuple(range(1, x.dim())), keepdim=True)
    places = prod(x.shape[2:])
    cells = x.reshape(len(x), -1, cell, places)
    sums, squares = cells.sum((2, 3)), cells.square().sum((2, 3))  # (N, n)
    scale, offset = torch.zeros_like(sums), torch.zeros_like(sums)
    for (channels, groups), chance in zip(options, chances, strict=True):
        used, own = channels // cell, channels // groups * places
        mean = sums[:, :used].reshape(-1, groups, used // groups).sum(-1) / own  # (N, groups)
        variance = (squares[:, :used].reshape(-1, groups, used // groups).sum(-1) / own - mean.square()).clamp_min(0)
        factor = chance * torch.rsqrt(variance + eps)
        scale = scale + _padded(factor, used, sums.shape[1])
        offset = offset + _padded(factor * mean, used, sums.shape[1])
    return as_norm((cells * scale[..., None, None] - offset[..., None, None]).reshape(x.shape), dtype)


def _padded(values: Tensor, used: int, total: int) -> Tensor:
    """Map (N, groups) to (N, total): each group's value in its cells, and 0 beyond."""
    repeated = values.repeat_interleave(used // values.shape[1], 1)
    return torch.nn.functional.pad(repeated, (0, total - used))
