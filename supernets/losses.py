"""Distillation losses between the outputs of a network and its teacher. Logits are (..., classes).

The teacher gets no gradient. Each index of the leading axes is a separate example.
"""

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

DistillationLoss = Callable[[Tensor, Tensor], Tensor]
"""Maps a network's outputs and its teacher's, which get no gradient, to a scalar."""

CLIP = 5.0  # AlphaNet's bound for alpha = -1


def soft_cross_entropy(outputs: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over examples of -sum(softmax(teacher) log_softmax(outputs)): KL up to a constant."""
    target = _wide(teacher.detach()).softmax(-1)
    return -(target * _wide(outputs).log_softmax(-1)).sum(-1).mean()


def adaptive_alpha_divergence(outputs: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over examples of the larger of two alpha-divergences (AlphaNet, arXiv:2102.07954).

    alpha = 1 penalises too little probability where the teacher's is high, alpha = -1 too much where the teacher's is
    low. For alpha = -1, (p / q)^alpha is unbounded and therefore clipped.
    """
    below = alpha_divergence(outputs, teacher, -1.0, CLIP)
    return torch.maximum(below, alpha_divergence(outputs, teacher, 1.0)).mean()


def alpha_divergence(outputs: Tensor, teacher: Tensor, alpha: float, clip: float = math.inf) -> Tensor:
    """(...,) divergence D = sum_i q_i ((p_i / q_i)^alpha - 1) / (alpha (alpha - 1)) of each example's q from p.

    q is the network's distribution, p the teacher's. D goes to KL(p, q) as alpha goes to 1 and to KL(q, p) as it goes
    to 0, and both are taken as such. `clip` bounds (p_i / q_i)^alpha, wherever it stands.

    The gradient is that of D: with d q_i = q_i d log q_i and sum_i d q_i = 0 it is, for every alpha,

        dD = -sum_i q_i u_i d log q_i,    u_i = ((p_i / q_i)^alpha - 1) / alpha,    log(p_i / q_i) at alpha = 0.

    With a clip it is this sum with clipped powers; the derivative of what was clipped would forget those examples.
    """
    log_p, log_q = _wide(teacher.detach()).log_softmax(-1), _wide(outputs).log_softmax(-1)
    with torch.no_grad():
        log_ratio, q = log_p - log_q, log_q.exp()
        excess = _excess(alpha * log_ratio, log_q, clip)  # q ((p/q)^alpha - 1)
        drive = q * log_ratio if alpha == 0 else excess / alpha  # q u
        value = ((excess + q) * log_ratio).sum(-1) if alpha == 1 else drive.sum(-1) / (alpha - 1)
    slope = -(drive * log_q).sum(-1)
    return value + (slope - slope.detach())


def _excess(log_power: Tensor, log_q: Tensor, clip: float) -> Tensor:
    """Return q (power - 1): accurate if the power is near 1, and without overflow if q is tiny and the power huge."""
    q = log_q.exp()
    near = q * log_power.clamp(-1, 1).expm1()
    excess = torch.where(log_power.abs() < 1, near, (log_q + log_power).exp() - q)
    return excess if clip == math.inf else torch.minimum(excess, (clip - 1) * q)


@cache
def at_temperature(loss: DistillationLoss, temperature: float) -> DistillationLoss:
    """Return T^2 loss(outputs / T, teacher / T); the factor keeps the gradient's scale as T grows (arXiv:1503.02531,
    2.1).

    Equal arguments return the same function object, so that steps with it compare equal; T = 1 returns `loss` itself.
    """
    if temperature == 1:
        return loss

    def tempered(outputs: Tensor, teacher: Tensor) -> Tensor:
        return temperature**2 * loss(_wide(outputs) / temperature, _wide(teacher) / temperature)

    return tempered


def _wide(logits: Tensor) -> Tensor:
    """Return logits in at least float32."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
