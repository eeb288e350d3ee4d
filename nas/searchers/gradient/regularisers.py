"""Regularisers of one choice's architecture parameters; each returns a scalar with a graph."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def decay(logits: Tensor) -> Tensor:
    """Half the squared norm: w times its gradient is Adam's weight decay w (DARTS, arXiv:1806.09055, A.1.1)."""
    return logits.square().sum() / 2


def entropy(probabilities: Tensor) -> Tensor:
    """Entropy in nats, from 0 to log n; adding it makes a choice decide, subtracting it keeps the choice open."""
    # the logarithm of 0 and its gradient would give 0 * infinity
    return -(probabilities * probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()).sum()


def to_uniform(probabilities: Tensor) -> Tensor:
    """Squared distance to equal probabilities."""
    return (probabilities - 1 / len(probabilities)).square().sum()


def dirichlet_kl(concentration: Tensor, anchor: float = 1.0) -> Tensor:
    """Kullback-Leibler divergence of a Dirichlet distribution from the symmetric one with concentration `anchor`.

    With anchor 1, the uniform distribution on the simplex, it is the regulariser of DrNAS (arXiv:2006.10355).
    """
    other = torch.full_like(concentration, anchor)
    total = concentration.sum()
    normalisers = total.lgamma() - concentration.lgamma().sum() - other.sum().lgamma() + other.lgamma().sum()
    return normalisers + ((concentration - other) * (concentration.digamma() - total.digamma())).sum()


def dirichlet_distance(concentration: Tensor, anchor: float = 1.0) -> Tensor:
    """Squared distance of concentrations to one value: DrNAS's other regulariser."""
    return (concentration - anchor).square().sum()


PENALTIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "none": lambda logits, learnt: logits.new_zeros(()),
    "decay": lambda logits, learnt: decay(logits),
    "entropy": lambda logits, learnt: entropy(learnt),
    "uniform": lambda logits, learnt: to_uniform(learnt),
}
"""Functions of the parameters and of the learned probabilities."""
