"""The architecture's gradient through one step of the weights (DARTS, arXiv:1806.09055, section 2.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

LENGTH = 0.01
"""How far finite differences move the weights; the paper's value, footnote 2."""

Loss = Callable[[], Tensor]
"""Returns the same value for the same weights and architecture: it seeds its random numbers."""


def unrolled_gradient(
    parameters: Sequence[Tensor],
    weights: Mapping[str, Tensor],
    train: Loss,
    valid: Loss,
    backward: Callable[[Tensor], Mapping[str, Tensor]],
    rate: float,
) -> tuple[Tensor, list[Tensor]]:
    """Return the validation loss at w' = w - rate * grad_w train, and its gradient by the architecture (eq. 7).

    The step of the weights is plain gradient descent, whatever their optimiser. Second derivatives are central
    differences (eq. 8), exact if grad_a train is a polynomial of degree two or lower in the weights.

    Args:
        parameters: leaves of the architecture.
        weights: every shared tensor, including buffers; moved in place and restored bit for bit.
        backward: runs backward from a loss, returns the available gradients by the names of `weights`, and clears them.
        rate: learning rate of the step of the weights.
    """
    before = {name: tensor.clone() for name, tensor in weights.items()}

    def at(directions: Mapping[str, Tensor], length: float) -> None:
        _restore(weights, before)
        _move(weights, directions, length)

    try:
        at(backward(train()), -rate)
        _taken(parameters)  # discard gradients of the training loss
        loss = valid()
        ahead = backward(loss)  # the leaves now hold the first term of eq. 7
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
    """Return the gradients of these leaves and clear them."""
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
