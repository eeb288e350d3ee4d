"""Parts of CARBS by themselves: transforms, groups and fronts, expected improvement, the Gaussian process."""

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import check_grad
from scipy.stats import norm

from nas.errors import NasError
from nas.fidelity._gaussian import Form, GaussianProcess, negative_log_posterior
from nas.fidelity.acquisition import log_expected_improvement, log_nearness, log_probability_above_zero
from nas.fidelity.pareto_groups import Group, front, grouped, least_sampled
from nas.fidelity.variables import Linear, Log, Logit, Variable

# --- variables ---


@given(st.floats(-3, 3), st.floats(0.1, 5))
def test_transforms_invert(basic: float, scale: float) -> None:
    linear, log, logit = Linear("a", 0.0, scale), Log("b", 1.0, scale), Logit("c", 0.5, min(scale, 2))
    for variable in (linear, log, logit):
        value = variable.backward(np.array([basic]))
        assert variable.inside(value).all()
        assert variable.backward(variable.forward(value)) == pytest.approx(value, rel=1e-12, abs=1e-12)
    for variable in (linear, log):
        assert variable.forward(variable.backward(np.array([basic]))) == pytest.approx(basic, abs=1e-12)


def test_transforms_by_hand() -> None:
    assert Linear("a", 0.0, scale=4).forward(np.array([2.0])) == 0.5
    assert Log("a", 1.0, scale=2).forward(np.array([100.0])) == 1.0
    assert Logit("a", 0.5).forward(np.array([10 / 11])) == pytest.approx(1.0)


def test_far_out_nothing_overflows() -> None:
    far = np.array([-1e6, 1e6])
    assert not Log("a", 1.0).inside(Log("a", 1.0).backward(far)).any()
    assert not Logit("a", 0.5).inside(Logit("a", 0.5).backward(far)).any()


@pytest.mark.parametrize(
    ("kind", "settings", "told"),
    [
        (Linear, {"centre": 0.0, "scale": 0.0}, "scale of 'v' is 0.0: it must be above 0"),
        (Linear, {"centre": 5.0, "most": 4.0}, "centre of 'v' is 5.0: it must lie within -inf to 4"),
        (Log, {"centre": 0.0}, "centre of 'v' is 0.0: it must lie within 0 to inf"),
        (Logit, {"centre": 1.0}, "centre of 'v' is 1.0: it must lie within 0 to 1"),
        (Logit, {"centre": 0.5, "integer": True}, "'v' is a Logit.*take Linear or Log"),
        (Linear, {"centre": 2.5, "scale": 9, "integer": True}, "centre of 'v' is 2.5: 'v' is an integer; round it"),
        (Linear, {"centre": 4, "scale": 1, "integer": True}, "scale of 'v' is 1, .*set scale to 3.33 or more"),
        (Log, {"centre": 2, "scale": 0.5, "integer": True}, "moves by 0.83: an integer must .*set scale to 0.587"),
    ],
)
def test_variables_that_cannot_be(kind: type[Variable], settings: dict[str, Any], told: str) -> None:
    with pytest.raises(NasError, match=told):
        kind("v", **settings)


def test_the_remedy_for_an_integer_is_one() -> None:
    Linear("v", 4, scale=1 / 0.3, integer=True)
    for centre in (1, 2, 7, 100):
        Log("v", centre, scale=math.log10(1 + 1 / centre) / 0.3, integer=True)
    assert list(Log("v", 8, integer=True).nearest(np.array([0.0, 0.9, 1.0]))) == [1, 8, 10]


# --- groups ---

RUNS = [(0, 1), (1, 1)], [(0.6, 2)], [(0.55, 3), (0.75, 3)], [(0.8, 4)]


def groups() -> list[Group]:
    return grouped(((float(i),), score, cost) for i, some in enumerate(RUNS) for score, cost in some)


def keys(chosen: list[Group]) -> list[int]:
    return [int(group.key[0]) for group in chosen]


def test_the_front_of_groups_and_the_conservative_one() -> None:
    assert keys(front(groups(), 0.0, conservative=False)) == [0, 1, 2, 3]
    assert keys(front(groups(), 0.0)) == [0, 2, 3]


def test_the_front_begins_with_the_best_of_the_cheap_ones_repeated_ones_preferred() -> None:
    def alone(i: int, score: float, cost: float, n: int = 1) -> Group:
        return Group((float(i),), (score,) * n, (cost,) * n)

    cheap = [alone(0, 0.1, 1), alone(1, 0.3, 2), alone(2, 0.2, 3)]
    dear = [alone(i, 0.25 + i / 100, 10 + i) for i in range(3, 11)]
    assert keys(front([*cheap, *dear]))[0] == 1
    repeated = [alone(0, 0.1, 1), alone(1, 0.3, 2), alone(2, 0.2, 3, n=2)]
    assert keys(front([*repeated, *dear]))[0] == 2
    assert keys(front(repeated[:1])) == [0]
    assert front([]) == []


def test_groups_gather_equal_settings() -> None:
    found = grouped([((1.0,), 1.0, 2.0), ((2.0,), 5.0, 5.0), ((1.0,), 3.0, 4.0)])
    assert found == [Group((1.0,), (1.0, 3.0), (2.0, 4.0)), Group((2.0,), (5.0,), (5.0,))]
    assert (found[0].score, found[0].cost, found[0].repeated, found[1].repeated) == (2.0, 3.0, True, False)


def test_the_least_sampled_is_the_cheapest_of_those_with_fewest_runs() -> None:
    chosen = front(groups(), 0.0, conservative=False)
    assert least_sampled(chosen).key == (1.0,)
    assert least_sampled(chosen, [(1.0,)]).key == (3.0,)
    assert least_sampled(chosen, [(1.0,), (3.0,)]).key == (0.0,)


# --- acquisition ---


@pytest.mark.parametrize(("mean", "spread"), [*product((-3.0, -0.4, 0.0, 2.0), (0.3, 1.0)), (-5.0, 0.9)])
def test_expected_improvement_is_the_integral(mean: float, spread: float) -> None:
    integral, _ = quad(
        lambda f: (f - 0.2) * norm.pdf(f, mean, spread), 0.2, 0.2 + 12, epsabs=1e-300, epsrel=1e-10, limit=200
    )
    found = log_expected_improvement(np.array([mean]), np.array([spread]), 0.2)[0]
    assert found == pytest.approx(math.log(integral), rel=1e-6)


def test_without_spread_it_is_what_is_gained() -> None:
    mean, bias = np.array([-1.0, 0.5, 1.5, 4.0]), 1.0
    for best in (0.0, 0.3):
        gained = np.exp(log_expected_improvement(mean, np.full(4, 1e-12), best + bias))
        assert gained == pytest.approx(np.maximum(0, mean - best - bias), abs=1e-11)


def test_far_from_all_hope_there_is_still_an_order() -> None:
    z = -np.logspace(-1, 5, 400)
    found = log_expected_improvement(z, np.ones(len(z)), 0.0)
    assert np.isfinite(found).all() and (np.diff(found) < 0).all()
    assert np.abs(np.diff(found[(z > -1.2) & (z < -0.8)])).max() < 0.2  # no step where the formulas meet


def test_nearness_is_to_the_nearest_origin() -> None:
    origins, points = np.array([[0.0, 0.0], [3.0, 0.0]]), np.array([[0.0, 0.6], [2.7, 0.0]])
    assert log_nearness(points, origins, 0.3) == pytest.approx([-2.0, -0.5])


def test_the_probability_of_success_uses_the_standard_deviation() -> None:
    found = np.exp(log_probability_above_zero(np.array([0.5]), np.array([0.1])))
    assert found == pytest.approx(norm.cdf(5.0))
    assert abs(float(found[0]) - norm.cdf(0.5 / 0.01)) > 1e-8


# --- the process ---


def data(n: int = 12, d: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, d))
    return x, np.sin(2 * x[:, 0]) + 0.3 * x[:, -1]


@pytest.mark.parametrize("form", [Form(), Form(smooth=True, linear=False), Form(smooth=True)])
def test_the_gradient_is_that_of_the_posterior(form: Form) -> None:
    x, y = data()
    for seed in range(3):
        logs = np.random.default_rng(seed).normal(-0.5, 0.5, size=5)
        value = lambda logs: negative_log_posterior(logs, x, y, form)[0]  # noqa: E731
        slope = lambda logs: negative_log_posterior(logs, x, y, form)[1]  # noqa: E731
        assert check_grad(value, slope, logs) < 1e-4 * max(1.0, float(np.abs(slope(logs)).max()))


def test_predictions_are_those_of_scikit_learn() -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern

    x, y = data()
    logs = np.log([1.3, 0.4, 0.02, 0.8, 1.7])
    kernel = ConstantKernel(1.3) * Matern([0.8, 1.7], nu=1.5) + ConstantKernel(0.4) * DotProduct(1.0)
    theirs = GaussianProcessRegressor(kernel, alpha=0.02 + 1e-9, optimizer=None).fit(x, y)
    points = np.random.default_rng(1).standard_normal((20, 2))
    mean, spread = theirs.predict(points, return_std=True)
    found = GaussianProcess(x, y, logs=logs).predict(points)
    assert found[0] == pytest.approx(mean, abs=1e-9) and found[1] == pytest.approx(spread, abs=1e-7)


def test_a_fit_learns_and_knows_less_far_away() -> None:
    x, y = data(40)
    process = GaussianProcess(x, y)
    points = np.random.default_rng(3).uniform(-1, 1, size=(50, 2))
    mean, spread = process.predict(points)
    assert np.corrcoef(mean, np.sin(2 * points[:, 0]) + 0.3 * points[:, 1])[0, 1] > 0.95
    assert process.predict(np.array([[20.0, 20.0]]))[1][0] > 3 * spread.max()


def test_a_draw_is_believed_and_has_the_right_spread() -> None:
    x, y = data(6)
    process, point = GaussianProcess(x, y), np.array([[1.5, -1.5]])
    mean, spread = process.predict(point)
    draws = []
    for seed in range(200):
        drawn = process.with_draws(point, np.random.default_rng(seed))
        draws.append(drawn._y[-1])
        assert drawn.predict(point)[1][0] < spread[0]
    assert np.mean(draws) == pytest.approx(mean[0], abs=4 * spread[0] / math.sqrt(200))
    assert np.std(draws) == pytest.approx(spread[0], rel=0.2)
