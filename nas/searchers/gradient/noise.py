"""Noise for the logits of a choice, with their dtype and device; drawn in float64."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def gumbel(like: Tensor, rng: torch.Generator) -> Tensor:
    """Return standard Gumbel noise: the arg max of log probabilities plus this noise is a sample from them."""
    waiting = torch.empty(like.shape, dtype=torch.float64, device=rng.device).exponential_(generator=rng)
    return -waiting.clamp_min(torch.finfo(torch.float64).tiny).log().to(like)


def half_normal(like: Tensor, rng: torch.Generator) -> Tensor:
    """Return the absolute value of standard normal noise."""
    return torch.randn(like.shape, dtype=torch.float64, device=rng.device, generator=rng).abs().to(like)


NOISES: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {"gumbel": gumbel, "half-normal": half_normal}
