"""Bounds, and the augmented Lagrangian that keeps several of them while something else is minimised."""

import json
import math

import pytest
import torch
from torch import Tensor

from nas.errors import NasError
from nas.searchers.gradient.bounds import AugmentedLagrangian, Bound, excess


def first(point: Tensor) -> Tensor:
    return point[0]


def second(point: Tensor) -> Tensor:
    return point[1]


@pytest.mark.parametrize("numbers", [(1.0, 2.0), (math.inf, -math.inf), (math.nan, 0.0)])
def test_bounds_that_are_none_are_refused(numbers: tuple[float, float]) -> None:
    with pytest.raises(NasError, match=r"params is bounded by .* <= params <= .*: give a lower bound, an upper"):
        Bound(first, upper=numbers[0], lower=numbers[1], name="params")


def test_excess_is_a_share_of_the_bound() -> None:
    bounds = [Bound(first, upper=10.0, lower=5.0), Bound(second, upper=0.0)]
    assert excess(bounds, torch.tensor([12.0, 0.5])).tolist() == pytest.approx([0.2, -1.4, 0.5])
    assert excess(bounds, torch.tensor([4.0, -0.5])).tolist() == pytest.approx([-0.6, 0.2, -0.5])


def solved(bounds: list[Bound[Tensor]], start: Tensor, wished: Tensor) -> tuple[Tensor, AugmentedLagrangian]:
    """The point nearest to the one wished for that keeps the bounds."""
    point, state = start.clone().requires_grad_(), AugmentedLagrangian.start(len(excess(bounds, start)))
    for _ in range(40):
        for _ in range(30):
            loss = (point - wished).square().sum() / 2 + state.term(excess(bounds, point))
            (gradient,) = torch.autograd.grad(loss, point)
            with torch.no_grad():
                point -= gradient / (1 + sum(state.weights))
        state = state.updated(excess(bounds, point))
    return point.detach(), state


def test_it_finds_the_optimum_and_its_multipliers() -> None:
    """min |x - (3, -1)|² / 2 with x0 <= 2, x1 >= 1 and x0 + x1 <= 100: (2, 1), multipliers 1 and 2 by slopes."""
    bounds = [Bound(first, upper=2.0), Bound(second, lower=1.0), Bound(torch.sum, upper=100.0)]
    point, state = solved(bounds, torch.zeros(2, dtype=torch.float64), torch.tensor([3.0, -1.0], dtype=torch.float64))
    assert point.tolist() == pytest.approx([2.0, 1.0], abs=1e-6)
    assert state.multipliers == pytest.approx((2.0, 2.0, 0.0), abs=1e-5)  # per share of the bound, which is 2 and 1


def test_what_is_kept_adds_nothing() -> None:
    state = AugmentedLagrangian.start(2)
    kept = torch.tensor([-0.5, -0.1], requires_grad=True)
    term = state.term(kept)
    assert term.item() == 0 and torch.autograd.grad(term, kept)[0].tolist() == [0, 0]
    assert state.updated(kept).multipliers == (0, 0) and state.updated(kept).weights == state.weights


def test_weights_grow_only_where_misses_stay() -> None:
    state = AugmentedLagrangian.start(3).updated(torch.tensor([1.0, 1.0, -1.0]))
    after = state.updated(torch.tensor([0.9, 0.1, -1.0]))
    assert after.weights[0] > state.weights[0] and after.weights[1:] == state.weights[1:]
    assert after.multipliers == pytest.approx((1.9, 1.1, 0.0))


def test_multipliers_fall_again_where_bounds_are_kept() -> None:
    state = AugmentedLagrangian.start(1).updated(torch.tensor([1.0]))
    for _ in range(5):
        state = state.updated(torch.tensor([-0.3]))
    assert state.multipliers == (0.0,)


def test_state_goes_through_json() -> None:
    for state in (AugmentedLagrangian.start(2), AugmentedLagrangian.start(2).updated(torch.tensor([0.25, -1.0]))):
        text = json.dumps(state.state(), allow_nan=False)
        assert AugmentedLagrangian.restored(json.loads(text)) == state
