"""Noise for the logits of a choice, in their dtype and on their device; drawn in float64."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def gumbel(like: Tensor, rng: torch.Generator) -> Tensor:
    """Standard Gumbel noise: adding it to log-probabilities makes the arg max a sample of them."""
    waiting = torch.empty(like.shape, dtype=torch.float64, device=rng.device).exponential_(generator=rng)
    return -waiting.clamp_min(torch.finfo(torch.float64).tiny).log().to(like)


def half_normal(like: Tensor, rng: torch.Generator) -> Tensor:
    """The absolute value of standard normal noise."""
    return torch.randn(like.shape, dtype=torch.float64, device=rng.device, generator=rng).abs().to(like)


NOISES: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {"gumbel": gumbel, "half-normal": half_normal}
