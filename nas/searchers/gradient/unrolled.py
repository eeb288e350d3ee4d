"""The architecture's gradient through one step of the weights (DARTS, arXiv:1806.09055, section 2.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

LENGTH = 0.01
"""How far finite differences move the weights; the paper's, footnote 2."""

Loss = Callable[[], Tensor]
"""The same value for the same weights and architecture: it seeds whatever it draws."""


def unrolled_gradient(
    parameters: Sequence[Tensor],
    weights: Mapping[str, Tensor],
    train: Loss,
    valid: Loss,
    backward: Callable[[Tensor], Mapping[str, Tensor]],
    rate: float,
) -> tuple[Tensor, list[Tensor]]:
    """The validation loss at w' = w - rate * grad_w train, and its gradient with respect to the architecture (eq. 7).

    The step of the weights is that of plain gradient descent, whatever their optimiser is. Its second derivatives are
    central differences (eq. 8), exact where grad_a train is of degree two in the weights or lower.

    Args:
        parameters: leaves of the architecture.
        weights: every shared tensor, buffers too; moved in place and put back bit for bit.
        backward: runs backward from a loss and returns gradients by the names of `weights` as far as there are any;
            leaves none behind.
        rate: of the step of the weights.
    """
    before = {name: tensor.clone() for name, tensor in weights.items()}

    def at(directions: Mapping[str, Tensor], length: float) -> None:
        _restore(weights, before)
        _move(weights, directions, length)

    try:
        at(backward(train()), -rate)
        _taken(parameters)  # what the training loss has left in them
        loss = valid()
        ahead = backward(loss)  # and the first term of eq. 7, in the leaves
        direct = _taken(parameters)
        norm = float(sum(gradient.double().square().sum() for gradient in ahead.values()) ** 0.5)
        if norm == 0:
            return loss.detach(), direct
        length = LENGTH / norm
        at(ahead, length)
        above = _gradients(train(), parameters)
        at(ahead, -length)
        below = _gradients(train(), parameters)
    finally:
        _restore(weights, before)
        _taken(parameters)
    pairs = zip(direct, above, below, strict=True)
    return loss.detach(), [first - rate * (up - down) / (2 * length) for first, up, down in pairs]


def _gradients(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [torch.zeros_like(leaf) if grad is None else grad for leaf, grad in zip(parameters, found, strict=True)]


def _taken(parameters: Sequence[Tensor]) -> list[Tensor]:
    """The gradients in these leaves, which have none afterwards."""
    taken = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in parameters]
    for leaf in parameters:
        leaf.grad = None
    return taken


@torch.no_grad()
def _restore(weights: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> None:
    for name, tensor in weights.items():
        tensor.copy_(before[name])


@torch.no_grad()
def _move(weights: Mapping[str, Tensor], directions: Mapping[str, Tensor], length: float) -> None:
    for name, direction in directions.items():
        weights[name].add_(direction, alpha=length)
