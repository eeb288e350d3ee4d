"""Regularisers against their definitions and torch's distributions."""

import math

import pytest
import torch
from torch.distributions import Dirichlet, kl_divergence

from nas.searchers.gradient.regularisers import (
    PENALTIES,
    decay,
    dirichlet_distance,
    dirichlet_kl,
    entropy,
    to_uniform,
)

VALUES = torch.tensor([0.5, 0.25, 0.25, 0.0], dtype=torch.float64)


def test_values_by_hand() -> None:
    assert float(decay(torch.tensor([3.0, -4.0]))) == 12.5
    assert float(entropy(VALUES)) == pytest.approx(1.5 * math.log(2))
    assert float(to_uniform(VALUES)) == pytest.approx(0.125)
    assert float(to_uniform(torch.full((5,), 0.2))) == pytest.approx(0, abs=1e-14)
    assert float(dirichlet_distance(torch.tensor([1.0, 3.0, 0.5]))) == pytest.approx(4.25)


@pytest.mark.parametrize("anchor", [0.5, 1.0, 3.0])
def test_dirichlet_divergence_is_torchs(anchor: float) -> None:
    concentration = torch.tensor([0.2, 1.0, 2.5, 7.0], dtype=torch.float64)
    known = kl_divergence(Dirichlet(concentration), Dirichlet(torch.full_like(concentration, anchor)))
    assert torch.allclose(dirichlet_kl(concentration, anchor), known, rtol=1e-12)


def test_dirichlet_regularisers_are_least_at_their_anchor() -> None:
    for regulariser in (dirichlet_kl, dirichlet_distance):
        anchored = torch.full((6,), 2.0, dtype=torch.float64, requires_grad=True)
        value = regulariser(anchored, 2.0)
        (gradient,) = torch.autograd.grad(value, anchored)
        assert value.abs() < 1e-12 and gradient.abs().max() < 1e-12
        assert regulariser(anchored + 0.1, 2.0) > 0 and regulariser(anchored - 0.1, 2.0) > 0


def test_entropy_of_a_decided_choice_has_a_finite_gradient() -> None:
    logits = torch.tensor([300.0, 0.0, -300.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(entropy(logits.softmax(-1)), logits)
    assert gradient.isfinite().all()


def test_each_penalty_pulls_its_own_way() -> None:
    logits = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64, requires_grad=True)
    best = {}
    for name, penalty in PENALTIES.items():
        value = penalty(logits, logits.softmax(-1))
        best[name] = torch.autograd.grad(value, logits)[0][0] if value.requires_grad else 0
    assert best["none"] == 0 and best["entropy"] < 0 < min(best["decay"], best["uniform"])
