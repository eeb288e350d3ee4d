"""Fronts learnt in one run: they span, each target has its own, and a run cut anywhere ends with the same bits."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gains
import pytest
import torch
from gains import GAINS, Missing, Price

from nas.errors import NasError
from nas.objectives.limits import parse
from nas.records import Distribution
from nas.searchers.gradient.config import GradientSearchError
from nas.searchers.gradient.front import FrontConfig, by_target, front, simplex
from nas.searchers.gradient.hypernetwork import Hypernetwork
from nas.searchers.gradient.logits import Condition
from nas.searchers.gradient.objectives import Objectives
from supernets import Supernet

CHEAP_FIRST = Price(0.5, 1.0, 2.5, 6.0)
CHEAP_LAST = Price(4.0, 3.0, 2.0, 1.0)
DEVICES = {"ms@cpu": CHEAP_FIRST, "ms@gpu": CHEAP_LAST}


class Cut(Exception):
    """Stands for whatever ends a search."""


def quietly(task: Any = None, supernet: Supernet | None = None, **settings: Any) -> dict[str, Distribution]:
    """By label."""
    apart = {name: settings.pop(name) for name in ("directory", "measured") if name in settings}
    costs = settings.pop("costs", {"price": Price()})
    objectives = settings.pop("objectives", ("error", *costs))
    limits = [parse(text) for text in settings.pop("limits", ())]
    own = {name: settings.pop(name) for name in list(settings) if name in FrontConfig.__dataclass_fields__}
    config = FrontConfig(gains.config(**{"method": "darts", "steps": 200, "lr_arch": 0.015, **settings}), **own)
    found = front(
        supernet or gains.supernet(), task or Missing(), config,
        costs=costs, objectives=objectives, limits=limits, progress=False, **apart,
    )  # fmt: skip
    return {each.label: replace(each, seconds=0.0) for each in found}


def best(preference: float, price: Price) -> tuple[str, ...]:
    """The known optimum of the linear scalarisation: a block pays where its share of the gains outweighs its price."""
    return tuple(
        "on" if (1 - preference) * gain / sum(GAINS) > preference * cost / sum(price.prices) else "off"
        for gain, cost in zip(GAINS, price.prices, strict=True)
    )


def expected(distribution: Distribution, price: Price) -> float:
    shares = list(gains.LEVELS.values())
    rows = [distribution.final[f"level.{index}"] for index in range(len(GAINS))]
    return sum(
        cost * sum(p * s for p, s in zip(row, shares, strict=True))
        for cost, row in zip(price.prices, rows, strict=True)
    )


def test_the_front_spans_and_its_optima_are_the_known_ones() -> None:
    found = quietly()
    assert list(found) == ["0.00", "0.25", "0.50", "0.75", "1.00"]
    for label, distribution in found.items():
        assert distribution.arch.level == best(float(label), Price()), label
    prices = [expected(distribution, Price()) for distribution in found.values()]
    assert prices[0] > 3.8 and prices[1] > prices[2] + 1 > prices[3] + 2 and prices[-1] < 0.2


@pytest.mark.parametrize("all_targets", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_each_target_has_a_front_of_its_own(all_targets: bool) -> None:
    found = quietly(costs=DEVICES, divisions=2, all_targets=all_targets)
    assert list(found) == ["cpu 0.00", "cpu 0.50", "cpu 1.00", "gpu 0.00", "gpu 0.50", "gpu 1.00"]
    for label, distribution in found.items():
        target, preference = label.split()
        assert distribution.arch.level == best(float(preference), DEVICES[f"ms@{target}"]), label
        assert distribution.settings["objectives"] == ["error", f"ms@{target}"]


def test_chebyshev_balances_where_a_linear_sum_takes_all_or_nothing() -> None:
    """Gains and prices in proportion: every mixture lies on the front, and no linear sum holds one in the middle."""
    price = Price(*GAINS)
    found = quietly(costs={"price": price}, scalarisation="chebyshev")
    shares = {label: expected(distribution, price) / sum(GAINS) for label, distribution in found.items()}
    assert shares["0.50"] == pytest.approx(0.5, abs=0.1)
    assert shares["0.25"] == pytest.approx(0.75, abs=0.15) and shares["0.75"] == pytest.approx(0.25, abs=0.15)


@pytest.mark.parametrize("bounds", ["projection", pytest.param("lagrangian", marks=pytest.mark.slow)])
def test_limits_hold_for_their_target(bounds: str) -> None:
    found = quietly(costs=DEVICES, limits=["ms@cpu <= 1"], divisions=2, bounds=bounds, steps=100)
    costs = {label: DEVICES[f"ms@{label[:3]}"].of(distribution.arch) for label, distribution in found.items()}
    assert all(cost <= 1 for label, cost in costs.items() if label.startswith("cpu"))
    assert costs["gpu 0.00"] > 4
    assert not any("limit" in line for distribution in found.values() for line in distribution.warnings)


def test_equal_seeds_give_equal_fronts() -> None:
    one, other, third = (quietly(steps=15, train_weights=True, seed=seed) for seed in (1, 1, 2))
    assert one == other and one["0.50"].probabilities != third["0.50"].probabilities


@pytest.mark.parametrize("settings", [{}, {"bounds": "lagrangian", "limits": ["price <= 1"]}])
def test_cut_and_resumed_is_as_never_cut(tmp_path: Path, settings: dict[str, Any]) -> None:
    settings = {**settings, "steps": 10, "train_weights": True, "checkpoint_every": 2, "method": "drnas"}
    whole, resumed = gains.supernet(), gains.supernet()
    found = quietly(supernet=whole, **settings)
    with pytest.raises(Cut):
        quietly(Missing(before=_cutting(15)), directory=tmp_path, **settings)
    taken: list[int] = []
    assert quietly(Missing(before=taken.append), resumed, directory=tmp_path, **settings) == found
    assert min(taken) == 12 and all(
        torch.equal(resumed.state_dict()[name], tensor) for name, tensor in whole.state_dict().items()
    )


def _cutting(step: int) -> Callable[[int], None]:
    def before(now: int) -> None:
        if now == step:
            raise Cut

    return before


def test_the_simplex_is_divided_evenly() -> None:
    assert list(simplex(2, 2)) == [(1.0, 0.0), (0.5, 0.5), (0.0, 1.0)]
    three = list(simplex(3, 4))
    assert len(three) == len(set(three)) == 15 and all(sum(preference) == 1 for preference in three)


def test_objectives_are_sorted_by_target() -> None:
    names = ("error", "ms@cpu", "params", "ms@gpu")
    assert by_target(names) == {"cpu": ("error", "params", "ms@cpu"), "gpu": ("error", "params", "ms@gpu")}
    assert by_target(("error", "params")) == {"": ("error", "params")}


def test_conditions_begin_near_what_the_method_begins_with() -> None:
    start = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0, 4.0, 5.0])}
    network = Hypernetwork(start, 2, 2, seed=1)
    conditions = [Condition(("error", "ms"), (share, 1 - share), target) for share in (0.0, 1.0) for target in (0, 1)]
    for logits in map(network.logits, conditions):
        assert all((logits[path] - vector).abs().max() < 0.2 for path, vector in start.items())
    assert len({float(network.logits(condition)["a"][0].detach()) for condition in conditions}) == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objectives": ("error",)}, "a front needs two or more, so name another"),
        ({"costs": {**DEVICES, "mj@gpu": Price()}}, "give every target the same objectives"),
        ({"scalarisation": "mean"}, "'mean' is unknown: choose one of linear, chebyshev"),
        ({"divisions": 0}, "divisions = 0: it must be at least 1"),
        ({"limits": ["price <= -1"]}, "nearest found is price = 0"),
    ],
)
def test_what_cannot_be_is_said(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(GradientSearchError, match=message) as caught:
        quietly(**settings)
    assert isinstance(caught.value, NasError) and "\n" not in str(caught.value)


def test_a_regulariser_counts_by_the_range_of_the_loss_beside_costs() -> None:
    space = gains.Blocks()
    objectives = Objectives(space, {"price": Price()}, ["price"])
    objectives.measure(lambda archs: [0.001 * index for index, _ in enumerate(archs)])
    both, alone = Condition(("error", "price"), (0.5, 0.5)), Condition(("error",), (1.0,))
    assert objectives.unit(both) == objectives.loss_range.width == pytest.approx(0.007)
    assert objectives.unit(alone) == 1
