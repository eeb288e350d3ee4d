"""Normalisation of an expectation: the exact mixture of what each of the possible widths would normalise to.

With widths u_1 < u_2 < ... of probabilities p_k, the mixture at channel i is sum over u_k > i of p_k (x_i - m_k) r_k,
where m_k and r_k are mean and reciprocal standard deviation of the leading u_k channels. All of these come from x by a
thin matrix product, and go back to channels by another, so the cost is about that of a norm however many widths there
are.
Normalising over the padded full width instead is wrong even where the mixture has become one-hot.
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
    """The mixture over the last axis of x (..., d); not `centred` is RMS norm.

    Args:
        widths: distinct and rising; the last is d.
        chances: (num_widths,) their probabilities.
        weight: (d,) without a mask, which the mixture has in it.
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
    """Statistics of the leading channels, and the affine maps that follow from them: (num_widths, rows) each."""

    def __init__(self, widths: tuple[int, ...], eps: float, centred: bool) -> None:
        self.widths, self.eps, self.centred = widths, eps, centred
        self._constants: dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor]] = {}

    def constants(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """(num_widths, d) 1 where a width has a channel; and what a product with gives means over leading channels."""
        key = like.dtype, like.device
        if key not in self._constants:
            reach = (torch.arange(self.widths[-1]) < torch.tensor(self.widths)[:, None]).to(like)
            self._constants[key] = reach, reach / reach.sum(1, keepdim=True)
        return self._constants[key]

    def reciprocals(self, means: Tensor, squares: Tensor) -> Tensor:
        """Of the standard deviations, from means of x and of its squares."""
        variance = (squares - means.square()).clamp_min_(0) if self.centred else squares
        return torch.rsqrt(variance + self.eps)


@cache
def _prefixes(widths: tuple[int, ...], eps: float, centred: bool) -> _Prefixes:
    return _Prefixes(widths, eps, centred)


class _MixedLayerNorm(torch.autograd.Function):
    """Written out, autograd would go over the channels several times as often.

    Statistics lie (num_widths, rows): a thin product is several times faster with its short side in front.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, chances: Tensor, weight: Tensor, bias: Tensor | None, prefixes: _Prefixes
    ) -> Tensor:
        if prefixes.centred:  # which changes nothing, but sums of squares are then of the size of the variance
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
        # twice the derivative by the mean square, which is that by the variance; a variance cut off at 0 has a row of
        # zeros to multiply
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
    """The mixture, before weight and bias, over the channels and places of x (N, C, ...).

    Args:
        options: numbers of channels and of groups; some has all C channels.
        chances: (num_options,) their probabilities.
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
    """(N, groups) to (N, total): each group's value in its cells, 0 beyond."""
    repeated = values.repeat_interleave(used // values.shape[1], 1)
    return torch.nn.functional.pad(repeated, (0, total - used))
