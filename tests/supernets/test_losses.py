"""Distillation losses against their formulas, written out, and against finite differences."""

import math

import pytest
import torch
from torch import Tensor

from supernets.losses import CLIP, adaptive_alpha_divergence, alpha_divergence, at_temperature, soft_cross_entropy

ALPHAS = [-2.0, -1.0, -0.4, 0.0, 0.3, 0.5, 1.0, 1.7]


def logits(*shape: int, seed: int = 0, scale: float = 1.5, dtype: torch.dtype = torch.float64) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def divergence(q: list[float], p: list[float], alpha: float) -> float:
    """As the AlphaNet paper has it, with its two limits."""
    pairs = list(zip(q, p, strict=True))
    if alpha == 1:
        return sum(b * math.log(b / a) for a, b in pairs)
    if alpha == 0:
        return sum(a * math.log(a / b) for a, b in pairs)
    return (sum(a * (b / a) ** alpha for a, b in pairs) - 1) / (alpha * (alpha - 1))


def gradient(loss: Tensor, outputs: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss, outputs, retain_graph=True)
    return found


# --- alpha-divergences ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", ALPHAS)
def test_alpha_divergence_is_its_formula(alpha: float) -> None:
    outputs, teacher = logits(6, 5), logits(6, 5, seed=1)
    found = alpha_divergence(outputs, teacher, alpha)
    expected = [
        divergence(q, p, alpha) for q, p in zip(outputs.softmax(-1).tolist(), teacher.softmax(-1).tolist(), strict=True)
    ]
    assert found.tolist() == pytest.approx(expected, rel=1e-11) and min(expected) > 0
    assert alpha_divergence(outputs, outputs, alpha).abs().max() < 1e-14


@pytest.mark.parametrize("alpha", ALPHAS)
def test_its_gradient_is_that_of_finite_differences(alpha: float) -> None:
    outputs, teacher = logits(3, 2, 4).requires_grad_(), logits(3, 2, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda outputs: alpha_divergence(outputs, teacher, alpha), outputs, atol=1e-7)
    alpha_divergence(outputs, teacher, alpha).sum().backward()
    assert teacher.grad is None


@pytest.mark.parametrize("limit", [0.0, 1.0])
def test_the_limits_are_those_of_the_formula(limit: float) -> None:
    outputs, teacher = logits(6, 5).requires_grad_(), logits(6, 5, seed=1)
    there = alpha_divergence(outputs, teacher, limit)
    for side in (-1, 1):
        near = alpha_divergence(outputs, teacher, limit + side * 1e-6)
        assert torch.allclose(near, there, rtol=1e-4) and not torch.equal(near, there)
        assert torch.allclose(gradient(near.sum(), outputs), gradient(there.sum(), outputs), rtol=1e-4, atol=1e-5)


def test_at_alpha_1_it_is_distillation() -> None:
    outputs, teacher = logits(7, 10).requires_grad_(), logits(7, 10, seed=1)
    loss = alpha_divergence(outputs, teacher, 1.0).mean()
    kd = soft_cross_entropy(outputs, teacher)
    entropy = -(teacher.softmax(-1) * teacher.log_softmax(-1)).sum(-1).mean()
    assert loss.item() == pytest.approx((kd - entropy).item(), rel=1e-12)
    assert torch.allclose(gradient(loss, outputs), gradient(kd, outputs), rtol=0, atol=1e-16)


def test_a_clip_bounds_the_power_and_forgets_no_example() -> None:
    outputs, teacher = logits(50, 4).requires_grad_(), logits(50, 4, seed=1)
    found = alpha_divergence(outputs, teacher, -1.0, clip=5.0)
    q, p = outputs.softmax(-1), teacher.softmax(-1)
    power = (q / p).detach()
    over = (power > 5).any(-1)
    assert 5 < int(over.sum()) < 45
    bounded = power.clamp(max=5.0)
    assert torch.allclose(found, ((q * bounded).sum(-1) - 1) / 2, rtol=1e-12)
    written_out = (bounded * q.detach() * q.log()).sum()  # -1/alpha sum q (p/q)^alpha d log q
    slope = gradient(found.sum(), outputs)
    assert torch.allclose(slope, gradient(written_out, outputs), atol=1e-13)
    assert (slope[over].abs().sum(-1) > 1e-3).all()
    unclipped = alpha_divergence(outputs, teacher, -1.0)
    assert torch.equal(found[~over], unclipped[~over]) and (found[over] < unclipped[over]).all()


def test_the_adaptive_one_takes_the_larger_for_each_example() -> None:
    outputs, teacher = logits(64, 6).requires_grad_(), logits(64, 6, seed=1)
    below, above = alpha_divergence(outputs, teacher, -1.0, CLIP), alpha_divergence(outputs, teacher, 1.0)
    first = below > above
    assert 8 < int(first.sum()) < 56
    found = adaptive_alpha_divergence(outputs, teacher)
    expected = (below[first].sum() + above[~first].sum()) / 64
    assert found.item() == pytest.approx(expected.item())
    assert torch.allclose(gradient(found, outputs), gradient(expected, outputs), atol=1e-15)


@pytest.mark.parametrize("loss", [soft_cross_entropy, adaptive_alpha_divergence])
def test_far_apart_outputs_give_finite_losses_and_gradients(loss: object) -> None:
    outputs = torch.tensor([[300.0, 0, -300], [0, 0, 0], [-150, 150, 0]]).requires_grad_()
    teacher = torch.tensor([[-300.0, 0, 300], [0, 0, 0], [150, -150, 0]])
    found = loss(outputs, teacher)  # type: ignore[operator]
    slope = gradient(found, outputs)
    assert found.isfinite() and slope.isfinite().all() and slope.abs().max() <= CLIP
    half = loss(outputs.bfloat16(), teacher.bfloat16())  # type: ignore[operator]
    assert half.dtype == torch.float32 and half.isfinite()


# --- temperature ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_temperature_softens_both_and_keeps_the_size(temperature: float) -> None:
    outputs, teacher = logits(5, 3, 4).requires_grad_(), logits(5, 3, 4, seed=1)
    found = at_temperature(soft_cross_entropy, temperature)(outputs, teacher)
    p, q = (teacher / temperature).softmax(-1), (outputs / temperature).softmax(-1)
    assert found.item() == pytest.approx(-(p * q.log()).sum().item() * temperature**2 / 15)
    assert torch.allclose(gradient(found, outputs), temperature * (q - p).detach() / 15)


def test_at_high_temperature_it_is_half_the_squared_distance_of_centred_logits() -> None:
    outputs, teacher = logits(5, 4).requires_grad_(), logits(5, 4, seed=1)
    slope = gradient(at_temperature(soft_cross_entropy, 1e4)(outputs, teacher), outputs)
    apart = (outputs - teacher).detach()
    assert torch.allclose(slope, (apart - apart.mean(-1, keepdim=True)) / 4 / 5, atol=1e-4)


def test_equal_temperatures_give_the_same_function() -> None:
    assert at_temperature(soft_cross_entropy, 1.0) is soft_cross_entropy
    assert at_temperature(soft_cross_entropy, 2.0) is at_temperature(soft_cross_entropy, 2)
    assert at_temperature(soft_cross_entropy, 2.0) is not at_temperature(adaptive_alpha_divergence, 2.0)
