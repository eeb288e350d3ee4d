"""Losses of one network's outputs against another's: what distillation minimises. Logits are (..., classes)."""

from collections.abc import Callable

from torch import Tensor

DistillationLoss = Callable[[Tensor, Tensor], Tensor]
"""From a network's outputs and its teacher's, which get no gradient, to a scalar."""


def soft_cross_entropy(outputs: Tensor, teacher: Tensor) -> Tensor:
    """Mean over all but the last axis of -sum(softmax(teacher) log_softmax(outputs)): KL but for a constant."""
    target = teacher.detach().float().softmax(-1)
    return -(target * outputs.float().log_softmax(-1)).sum(-1).mean()
