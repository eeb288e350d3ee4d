"""The finite-difference gradient through a step of the weights against the one that autograd derives."""

import torch
from torch import Tensor

from nas.searchers.gradient.unrolled import unrolled_gradient

RATE = 0.3


class Quadratic:
    """Losses of degree two in the weights w and the architecture a, which meet in a product."""

    def __init__(self) -> None:
        rng = torch.Generator().manual_seed(3)

        def normal(*size: int) -> Tensor:
            return torch.randn(*size, dtype=torch.float64, generator=rng)

        self.w = {"one": normal(4), "two": normal(2, 3)}
        self.a = [normal(3).requires_grad_(), normal(2).requires_grad_()]
        self.inner, self.outer = normal(10, 15), normal(8, 15)
        self.leaf: list[Tensor] = []

    def loss(self, matrix: Tensor, w: list[Tensor]) -> Tensor:
        one, two = w
        first, second = self.a
        joined = torch.cat([one, two.flatten(), first, second])
        return (matrix @ joined).square().sum() + (two @ first).square().sum() + (one[:2] * second).sum()

    def leaves(self) -> list[Tensor]:
        self.leaf = [tensor.detach().requires_grad_() for tensor in self.w.values()]
        return self.leaf

    def backward(self, loss: Tensor) -> dict[str, Tensor]:
        loss.backward()
        found = [leaf.grad for leaf in self.leaf]
        return {name: grad for name, grad in zip(self.w, found, strict=True) if grad is not None}

    def analytic(self) -> tuple[Tensor, list[Tensor]]:
        w = self.leaves()
        steps = torch.autograd.grad(self.loss(self.inner, w), w, create_graph=True)
        loss = self.loss(self.outer, [leaf - RATE * step for leaf, step in zip(w, steps, strict=True)])
        return loss, list(torch.autograd.grad(loss, self.a))

    def found(self) -> tuple[Tensor, list[Tensor]]:
        return unrolled_gradient(
            self.a,
            self.w,
            lambda: self.loss(self.inner, self.leaves()),
            lambda: self.loss(self.outer, self.leaves()),
            self.backward,
            RATE,
        )


def test_it_is_exact_on_quadratic_losses() -> None:
    toy = Quadratic()
    (loss, found), (expected_loss, expected) = toy.found(), toy.analytic()
    assert torch.allclose(loss, expected_loss.detach(), rtol=1e-12, atol=0)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-9)


def test_it_is_not_the_first_order_gradient() -> None:
    toy = Quadratic()
    first = torch.autograd.grad(toy.loss(toy.outer, toy.leaves()), toy.a)
    assert all((one - other).abs().max() > 1 for one, other in zip(toy.found()[1], first, strict=True))


def test_weights_come_back_bit_for_bit_and_no_gradient_stays() -> None:
    toy = Quadratic()
    before = {name: tensor.clone() for name, tensor in toy.w.items()}
    toy.found()
    assert all(torch.equal(toy.w[name], tensor) for name, tensor in before.items())
    assert all(leaf.grad is None for leaf in toy.a)
