"""Normalisation of an expectation: the exact mixture of what each of the possible widths would normalise to.

With widths u_1 < u_2 < ... of probabilities p_k, the mixture at channel i is sum over u_k > i of p_k (x_i - m_k) r_k,
where m_k and r_k are mean and reciprocal standard deviation of the leading u_k channels. These are prefix sums over
cells of channels, and the mixture is one affine map a cell: O(d) however many widths there are. Normalising over the
padded full width instead is wrong even where the mixture has become one-hot.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import gcd

import torch
from torch import Tensor


def mixed_layer_norm(x: Tensor, widths: Sequence[int], chances: Tensor, eps: float, centred: bool = True) -> Tensor:
    """The mixture, before weight and bias, over the last axis of x (..., d); not `centred` is RMS norm.

    Args:
        widths: distinct and rising; the last is d.
        chances: (num_widths,) their probabilities.
    """
    cell = reduce(gcd, widths)
    ends = [width // cell - 1 for width in widths]
    if centred:  # which changes nothing, but sums of squares are then of the size of the variance
        x = x - x[..., : widths[0]].detach().mean(-1, keepdim=True)
    cells = x.unflatten(-1, (-1, cell))  # (..., n, cell)
    count = torch.tensor(widths, dtype=x.dtype, device=x.device)
    squares = cells.square().sum(-1).cumsum(-1)[..., ends] / count  # (..., num_widths)
    if centred:
        means = cells.sum(-1).cumsum(-1)[..., ends] / count
        scales = chances * torch.rsqrt((squares - means.square()).clamp_min(0) + eps)
        return (cells * _outward(scales, ends)[..., None] - _outward(scales * means, ends)[..., None]).flatten(-2)
    return (cells * _outward(chances * torch.rsqrt(squares + eps), ends)[..., None]).flatten(-2)


def mixed_group_norm(x: Tensor, options: Sequence[tuple[int, int]], chances: Tensor, eps: float) -> Tensor:
    """The mixture, before weight and bias, over the channels and places of x (N, C, ...).

    Args:
        options: numbers of channels and of groups; some has all C channels.
        chances: (num_options,) their probabilities.
    """
    cell = reduce(gcd, (channels // groups for channels, groups in options))
    x = x - x.detach().mean(tuple(range(1, x.dim())), keepdim=True)
    cells = x.flatten(2).unflatten(1, (-1, cell)) if x.dim() > 2 else x[..., None].unflatten(1, (-1, cell))
    places = cells.shape[-1]
    sums, squares = cells.sum((2, 3)), cells.square().sum((2, 3))  # (N, n)
    scale, offset = torch.zeros_like(sums), torch.zeros_like(sums)
    for (channels, groups), chance in zip(options, chances, strict=True):
        used, own = channels // cell, channels // groups * places
        mean = sums[:, :used].unflatten(1, (groups, -1)).sum(-1) / own  # (N, groups)
        variance = (squares[:, :used].unflatten(1, (groups, -1)).sum(-1) / own - mean.square()).clamp_min(0)
        factor = chance * torch.rsqrt(variance + eps)
        scale = scale + _padded(factor, used, sums.shape[1])
        offset = offset + _padded(factor * mean, used, sums.shape[1])
    return (cells * scale[..., None, None] - offset[..., None, None]).reshape(x.shape)


def _outward(values: Tensor, ends: Sequence[int]) -> Tensor:
    """(..., num_widths) to (..., n): in each cell the sum over the widths that reach it."""
    sums = values.flip(-1).cumsum(-1).flip(-1)
    repeats = [end - start for start, end in zip([-1, *ends[:-1]], ends, strict=True)]
    return sums.repeat_interleave(torch.tensor(repeats, device=values.device), -1)


def _padded(values: Tensor, used: int, total: int) -> Tensor:
    """(N, groups) to (N, total): each group's value in its cells, 0 beyond."""
    repeated = values.repeat_interleave(used // values.shape[1], 1)
    return torch.nn.functional.pad(repeated, (0, total - used))
