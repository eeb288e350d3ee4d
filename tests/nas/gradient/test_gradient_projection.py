"""Projection onto bounds: exact where it can be checked, and nearest."""

import math
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from nas.errors import NasError
from nas.searchers.gradient import method
from nas.searchers.gradient.bounds import Bound, excess
from nas.searchers.gradient.projection import project, softmax

SIZES = {"a": 4, "b": 3, "c": 6}

Cost = Callable[[Mapping[str, Tensor]], Tensor]


def drawn(seed: int, spread: float = 1.0, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return {path: spread * torch.randn(size, dtype=dtype, generator=rng) for path, size in SIZES.items()}


def costs(seed: int) -> dict[str, Tensor]:
    """Of each option; from about 3 to about 27 in all."""
    rng = torch.Generator().manual_seed(100 + seed)
    return {path: 1 + 8 * torch.rand(size, dtype=torch.float64, generator=rng) for path, size in SIZES.items()}


def additive(table: Mapping[str, Tensor]) -> Cost:
    return lambda found: torch.stack([found[path].double() @ table[path] for path in table]).sum()


def product(table: Mapping[str, Tensor]) -> Cost:
    """As parameters of a layer are: width times width."""
    return lambda found: (found["a"].double() @ table["a"]) * (found["b"].double() @ table["b"])


def of(cost: Cost, logits: Mapping[str, Tensor]) -> float:
    return cost(softmax(logits)).item()


def way(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    return math.sqrt(sum(float((one[path] - other[path]).square().sum()) for path in one))


def below(cost: Cost, logits: Mapping[str, Tensor], share: float, table: Mapping[str, Tensor]) -> float:
    """A bound at this share of the way from the least cost to the present one."""
    least = cost({path: torch.nn.functional.one_hot(t.argmin(), len(t)).double() for path, t in table.items()}).item()
    return least + share * (of(cost, logits) - least)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("make", [additive, product])
@pytest.mark.parametrize("share", [0.9, 0.5, 0.15])
def test_it_lands_on_the_bound_and_stays_there(seed: int, make: Callable[..., Cost], share: float) -> None:
    logits, table = drawn(seed), costs(seed)
    cost = make(table)
    bound = Bound(cost, upper=below(cost, logits, share, table))
    found = project(logits, [bound])
    assert of(cost, found) == pytest.approx(bound.upper, rel=1e-9)
    for path, vector in found.items():
        assert float((vector - logits[path]).sum()) == pytest.approx(0, abs=1e-10)
    again = project(found, [bound])
    assert all(again[path] is found[path] for path in found)


def test_what_keeps_the_bounds_is_not_touched() -> None:
    logits, cost = drawn(0), additive(costs(0))
    found = project(logits, [Bound(cost, upper=of(cost, logits) + 1, lower=1.0)])
    assert all(found[path] is logits[path] for path in logits)
    assert project({}, [Bound(cost, upper=1.0)]) == {} and project(logits, []) == logits


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.8, 0.3])
def test_no_random_point_that_keeps_the_bound_is_nearer(seed: int, share: float) -> None:
    """20,000 of them: some anywhere, most not far from where the projection led."""
    logits, table = drawn(seed), costs(seed)
    cost = additive(table)
    upper = below(cost, logits, share, table)
    found = project(logits, [Bound(cost, upper=upper)])
    change, least = torch.cat([found[path] - logits[path] for path in logits]), way(found, logits)
    rng = torch.Generator().manual_seed(seed)

    def kept(centre: Tensor, spread: float, num: int) -> Tensor:
        """Changes that lead to where the bound is kept."""
        noise = torch.randn((100_000, len(change)), dtype=torch.float64, generator=rng)
        changes = centre * (0.5 + torch.rand((100_000, 1), dtype=torch.float64, generator=rng)) + spread * noise
        parts = zip(SIZES, changes.split(list(SIZES.values()), dim=1), strict=True)
        total = torch.stack([(logits[path] + part).softmax(1) @ table[path] for path, part in parts]).sum(0)
        return changes[total <= upper][:num]

    points = torch.cat([kept(torch.zeros_like(change), 3.0, 1_000), kept(change, 0.1 * least, 19_000)])
    assert len(points) == 20_000 and points.norm(dim=1).min() >= least


@pytest.mark.parametrize("seed", range(3))
def test_no_step_along_the_bound_is_shorter(seed: int) -> None:
    """The change is a multiple of the cost's slope: the condition of a nearest point."""
    logits, table = drawn(seed), costs(seed)
    cost = product(table)
    found = project(logits, [Bound(cost, upper=below(cost, logits, 0.4, table))])
    leaves = {path: vector.clone().requires_grad_() for path, vector in found.items() if path != "c"}
    slopes = torch.cat(torch.autograd.grad(cost(softmax(leaves)), list(leaves.values())))
    change = torch.cat([found[path] - logits[path] for path in leaves])
    assert torch.nn.functional.cosine_similarity(change, -slopes, dim=0) == pytest.approx(1, abs=1e-9)
    assert torch.allclose(found["c"], logits["c"], rtol=0, atol=1e-12), "costs do not depend on it"


@pytest.mark.parametrize("seed", range(6))
def test_several_costs_with_bounds_from_both_sides(seed: int) -> None:
    logits, tables = drawn(seed), [costs(seed + more) for more in (0, 20, 40)]
    first, second, third = additive(tables[0]), additive(tables[1]), product(tables[2])
    bounds = [
        Bound(first, upper=0.85 * of(first, logits), name="params"),
        Bound(second, lower=of(second, logits), upper=2 * of(second, logits), name="macs"),
        Bound(third, upper=0.9 * of(third, logits), name="latency"),
    ]
    found = project(logits, bounds)
    missed = excess(bounds, softmax(found))
    assert missed.max() <= 1e-9 and (missed.abs() <= 1e-9).any()
    assert way(found, logits) >= max(way(project(logits, [bound]), logits) for bound in bounds) - 1e-9
    again = project(found, bounds)
    assert all(again[path] is found[path] for path in found)


def test_equal_bounds_are_an_equation() -> None:
    logits, cost = drawn(1), additive(costs(1))
    wanted = 0.9 * of(cost, logits)
    assert of(cost, project(logits, [Bound(cost, upper=wanted, lower=wanted)])) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("spread", [5.0, 40.0])
def test_decided_choices_are_moved_although_costs_have_no_slope_there(spread: float) -> None:
    table = costs(2)
    logits = {path: spread * torch.nn.functional.one_hot(t.argmax(), len(t)).double() for path, t in table.items()}
    cost = additive(table)
    bound = Bound(cost, upper=below(cost, logits, 0.3, table))
    found = project(logits, [bound])
    assert of(cost, found) == pytest.approx(bound.upper, rel=1e-9)
    assert way(found, logits) < 3 * spread


def test_float32_stays_and_is_left_alone_the_second_time() -> None:
    logits = drawn(3, dtype=torch.float32)
    cost = additive(costs(3))
    bound = Bound(cost, upper=0.7 * of(cost, logits))
    found = project(logits, [bound])
    assert all(vector.dtype == torch.float32 for vector in found.values())
    assert of(cost, found) == pytest.approx(bound.upper, rel=1e-6)
    again = project(found, [bound])
    assert all(again[path] is found[path] for path in found)


@pytest.mark.parametrize("text", ["drnas", "small-temperature"])
def test_other_methods_learn_otherwise(text: str) -> None:
    """Costs of what a method has learnt: Dirichlet means, softmax at a low temperature."""
    one, logits = method(text), drawn(4, spread=0.3)

    def learnt(logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {path: one.learnt(vector) for path, vector in logits.items()}

    cost = additive(costs(4))
    bound = Bound(cost, upper=0.8 * cost(learnt(logits)).item())
    assert cost(learnt(project(logits, [bound], learnt))).item() == pytest.approx(bound.upper, rel=1e-9)


@pytest.mark.parametrize(
    ("upper", "lower", "message"),
    [
        (
            1.0,
            -math.inf,
            r"no probabilities keep params <= 1, the nearest found is \d\S+: raise the bound or give .* cheaper",
        ),
        (
            math.inf,
            99.0,
            r"no probabilities keep params >= 99, the nearest found is \d\S+: lower the bound .* costlier",
        ),
    ],
)
def test_a_bound_out_of_reach_is_named(upper: float, lower: float, message: str) -> None:
    with pytest.raises(NasError, match=message):
        project(drawn(0), [Bound(additive(costs(0)), upper=upper, lower=lower, name="params")])
