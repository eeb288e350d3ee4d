"""CARBS: its asks follow from what it was told, go along the front, keep to bounds and caps, and shun what fails."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nas.errors import NasError
from nas.fidelity._axes import Axes
from nas.fidelity._models import Models, NormalScores, Scale, Told
from nas.fidelity.acquisition import log_expected_improvement, log_nearness
from nas.fidelity.carbs import Carbs
from nas.fidelity.pareto_groups import front, grouped
from nas.fidelity.variables import STEP, Linear, Log, Logit

Settings = dict[str, float | int]
XY = (Linear("x", 0.0), Log("cost", 1.0, least=1, most=100))


def truth(x: float, cost: float) -> float:
    """Higher is better."""
    return -((x - 2) ** 2) + 0.5 * math.log(cost)


def tuned(carbs: Carbs, n: int, value: Callable[[Settings], float | None], noise: float = 0.05) -> list[Settings]:
    rng, asked = np.random.default_rng([carbs.seed, 7]), []
    for _ in range(n):
        settings = carbs.ask()
        asked.append(settings)
        found = value(settings)
        carbs.tell(
            settings, None if found is None else found + noise * rng.standard_normal(), settings.get("cost", 1.0)
        )
    return asked


def loss(settings: Settings) -> float:
    return -truth(settings["x"], settings["cost"])


# --- against random search ---


def area(points: list[Settings]) -> float:
    """Mean over log costs up to 100 of the best true score that costs no more; -6 before there is any."""
    grid = np.linspace(0, math.log(100), 201)
    best = np.full(len(grid), -6.0)
    for point in points:
        reached = grid >= math.log(point["cost"]) - 1e-12
        best = np.where(reached, np.maximum(best, truth(point["x"], point["cost"])), best)
    return float(best.mean())


def at_random(seed: int, n: int) -> list[Settings]:
    """Over four units about the centre, in which the best is, and all costs."""
    rng = np.random.default_rng([seed, 8])
    return [{"x": rng.uniform(-4, 4), "cost": 10 ** rng.uniform(0, 2)} for _ in range(n)]


@pytest.mark.parametrize(("seeds", "least"), [(2, 2), pytest.param(10, 8, marks=pytest.mark.slow)])
def test_the_front_beats_that_of_random_search(seeds: int, least: int) -> None:
    wins = sum(area(tuned(Carbs(XY, seed=seed), 40, loss)) > area(at_random(seed, 40)) for seed in range(seeds))
    assert wins >= least


# --- determinism ---


def mixed() -> list[Any]:
    return [Log("lr", 1e-3), Linear("layers", 8, scale=4, least=1, integer=True), Logit("momentum", 0.9)]


def quality(settings: Settings) -> float | None:
    if settings["lr"] > 1e-2:
        return None
    return abs(math.log10(settings["lr"]) + 2.5) + 1 / settings["layers"] + abs(settings["momentum"] - 0.95)


def test_asks_follow_from_the_seed_and_what_was_told() -> None:
    first, again, other = (Carbs(mixed(), seed=seed) for seed in (0, 0, 1))
    asked = tuned(first, 15, quality)
    assert asked == tuned(again, 15, quality)
    assert asked != tuned(other, 15, quality)
    restored = Carbs(mixed(), seed=0)
    for run in first.told:
        restored.tell(restored.axes.settings(run.key), run.value, run.cost)
    assert restored.ask() == first.ask()


def test_several_runs_at_once_lie_apart_and_are_deterministic() -> None:
    def asked() -> list[Settings]:
        carbs = Carbs(XY, seed=3, again_every=0)
        tuned(carbs, 12, loss)
        return [carbs.ask() for _ in range(4)]

    found = asked()
    assert found == asked()
    assert len({tuple(settings.values()) for settings in found}) == 4


def test_what_was_told_is_not_pending_any_more() -> None:
    carbs = Carbs(XY)
    one, two = carbs.ask(), carbs.ask()
    carbs.tell(two, None)
    carbs.tell({"x": 0.5, "cost": 2.0}, 1.0, 2.0)
    assert carbs.pending == [carbs.axes.key(one)]
    assert [run.value for run in carbs.told] == [None, 1.0]


# --- bounds, integers, caps, failures ---


def test_settings_keep_their_bounds_and_integers_are_whole() -> None:
    asked = tuned(Carbs(mixed(), seed=2), 25, quality)
    assert all(isinstance(settings["layers"], int) and settings["layers"] >= 1 for settings in asked)
    assert len({settings["layers"] for settings in asked}) > 3
    assert all(0 < settings["momentum"] < 1 and settings["lr"] > 0 for settings in asked)


def test_settings_in_a_corner_of_many_bounds_are_found() -> None:
    """Almost no step from a corner of 12 dimensions stays within."""
    corner = [Linear(f"x{i}", 1.0, least=0, most=1) for i in range(12)]
    axes = Axes(corner)
    keys = axes.near(axes.centre, 50, np.random.default_rng(0))
    assert len(keys) == 50 and all(0 <= number <= 1 for key in keys for number in key)


def test_nothing_is_asked_for_that_is_predicted_to_cost_too_much() -> None:
    carbs = Carbs(XY, seed=1, most_cost=10)
    asked = tuned(carbs, 30, loss, noise=0.0)
    assert max(settings["cost"] for settings in asked[10:]) < 12
    far = Carbs(XY, seed=1, most_cost=1e-3)  # where all cost too much, the cheapest is asked for
    assert np.median([settings["cost"] for settings in tuned(far, 20, loss)]) < 2


def num_failed(seed: int, bias: float) -> int:
    """Of the last 25 of 40 runs, where what lies a little beyond the best fails."""
    asked = tuned(Carbs(XY, seed=seed, bias=bias), 40, lambda settings: None if settings["x"] > 2.1 else loss(settings))
    return sum(settings["x"] > 2.1 for settings in asked[15:])


@pytest.mark.parametrize("seeds", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_what_fails_is_shunned(seeds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    careful, usual = ([num_failed(seed, bias) for seed in range(seeds)] for bias in (0.0, 1.0))
    monkeypatch.setattr("nas.fidelity._models._successes", lambda axes, told: None)
    careless = [num_failed(seed, 1.0) for seed in range(seeds)]
    assert max(careful) <= 8
    assert sum(careful) < sum(usual) < sum(careless)


def test_where_all_fail_it_keeps_asking_about_the_centre() -> None:
    asked = tuned(Carbs(XY, seed=0), 12, lambda settings: None)
    assert np.abs([settings["x"] for settings in asked]).max() < 5 * STEP
    assert Carbs(XY).front() == []


def test_each_fifth_run_repeats_one_of_the_front() -> None:
    carbs = Carbs(XY, seed=0)
    for number in range(1, 26):
        known, on_front = (
            [run.key for run in carbs.told],
            [carbs.axes.key(settings) for settings, _, _ in carbs.front()],
        )
        settings = carbs.ask()
        assert (carbs.axes.key(settings) in known) == (number % 5 == 0)
        if number % 5 == 0:
            assert carbs.axes.key(settings) in on_front
        carbs.tell(settings, loss(settings), settings["cost"])


def test_the_front_is_told_as_it_was_told() -> None:
    carbs = Carbs(XY, cost_quantile=0.0)
    for x, cost, value in ((0.0, 1.0, 3.0), (0.0, 1.0, 2.0), (1.0, 2.0, 1.0), (1.5, 4.0, 1.5)):
        carbs.tell({"x": x, "cost": cost}, value, cost)
    carbs.tell({"x": 2.0, "cost": 8.0}, math.nan)
    assert carbs.front() == [({"x": 0.0, "cost": 1.0}, 2.5, 1.0), ({"x": 1.0, "cost": 2.0}, 1.0, 2.0)]


# --- models ---


def models(cost: float | None, bias: float = 1.0) -> tuple[Models, Axes, list[Told]]:
    """After 15 runs, each with this cost or costs of their own."""
    axes = Axes([Linear("x", 0.0), Linear("y", 0.0)])
    rng = np.random.default_rng(5)
    told = []
    for _ in range(15):
        x, y = rng.standard_normal(2)
        told.append(Told((x, y), float((x - 1) ** 2 + y**2), cost or float(np.exp(x + 0.5 * y))))
    chosen = front(grouped((run.key, -(run.value or 0.0), run.cost or 0.0) for run in told))
    return Models(axes, told, [], chosen, np.random.default_rng(0), bias=bias), axes, told


def test_at_one_cost_and_without_the_clamp_the_ranking_is_that_of_expected_improvement_times_nearness() -> None:
    believed, _, told = models(cost=3.0)
    points = np.random.default_rng(1).normal(size=(300, 2))
    mean, spread, cost = believed.predict(points)
    assert cost == pytest.approx(3.0)
    (best,) = believed.origins
    level = NormalScores(np.array([-(run.value or 0.0) for run in told]))(
        np.array([-min(run.value or 0.0 for run in told)])
    )
    plain = log_expected_improvement(mean, spread, level + 1.0) + log_nearness(points, best[None], STEP)
    assert (np.argsort(believed.log_acquisition(points)) == np.argsort(plain)).all()


def test_the_clamp_only_raises_what_is_to_be_beaten() -> None:
    believed, _, _ = models(cost=None)
    points = np.random.default_rng(1).normal(size=(300, 2))
    free = believed.log_acquisition(points)
    for seed in range(10):
        clamped = believed.log_acquisition(points, np.random.default_rng(seed))
        assert (clamped <= free + 1e-12).all() and (clamped < free - 1e-6).any()


def test_costs_are_learnt_on_their_logarithm() -> None:
    believed, _, told = models(cost=None)
    points = np.random.default_rng(2).uniform(-1, 1, size=(50, 2))
    predicted = believed.predict(points)[2]
    assert np.log(predicted) == pytest.approx(points[:, 0] + 0.5 * points[:, 1], abs=0.3)
    scale = Scale(np.log([run.cost or 0.0 for run in told]))
    scaled = scale(np.log([run.cost or 0.0 for run in told]))
    assert (scaled.min(), scaled.max()) == pytest.approx((-1, 1))
    assert (Scale(np.zeros(3))(np.zeros(3)) == 0).all()


def test_scores_become_normal_by_few_quantiles() -> None:
    rng = np.random.default_rng(0)
    scores = np.exp(3 * rng.standard_normal(400))
    normal = NormalScores(scores)(scores)
    assert normal.mean() == pytest.approx(0, abs=0.1) and normal.std() == pytest.approx(1, abs=0.1)
    order = np.argsort(scores)
    assert (np.diff(normal[order]) >= 0).all()
    assert np.abs(normal).max() == pytest.approx(3.02, abs=0.01)  # the normal quantile of 1 - 1 / 800
    assert (NormalScores(np.full(5, 2.0))(np.full(3, 2.0)) == 0).all()


# --- what cannot be ---


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"seed": -1}, "seed is -1: it must be a whole number, 0 or more"),
        ({"most_cost": 0}, "most_cost is 0: it must be above 0"),
        ({"startup": 0}, "startup is 0"),
        ({"again_every": 1}, "again_every is 1: it must be 0 for never, or 2 or more"),
        ({"bias": -1}, "bias is -1"),
        ({"cost_quantile": 2}, "cost_quantile is 2: it must be from 0 to 1"),
    ],
)
def test_settings_that_cannot_be_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(NasError, match=told):
        Carbs(XY, **settings)


def test_variables_need_names_of_their_own() -> None:
    for variables in ([], [Linear("x", 0.0), Log("x", 1.0)]):
        with pytest.raises(NasError, match="give at least one, and each another name"):
            Carbs(variables)


@pytest.mark.parametrize(
    ("settings", "cost", "told"),
    [
        ({"x": 0.0}, 1.0, "settings are of x: they must be of cost, x"),
        ({"x": 0.0, "cost": 200.0}, 1.0, "'cost' is 200.0: it must be a number within 1 to 100"),
        ({"x": math.nan, "cost": 2.0}, 1.0, "'x' is nan"),
        ({"x": "low", "cost": 2.0}, 1.0, "'x' is 'low'"),
        ({"x": 0.0, "cost": 2.0}, 0.0, "the cost is 0.0 of a run that did not fail"),
        ({"x": 0.0, "cost": 2.0}, None, "the cost is None"),
    ],
)
def test_what_cannot_be_told(settings: dict[str, Any], cost: float | None, told: str) -> None:
    with pytest.raises(NasError, match=told):
        Carbs(XY).tell(settings, 1.0, cost)
