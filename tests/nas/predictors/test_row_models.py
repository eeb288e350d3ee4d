"""Models over rows: closed forms against what they stand for, stacking, and rows that are of no space."""

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from nas.predictors.models import MODELS, EnsembleModel, RidgeModel
from nas.predictors.models._nonnegative import bounded
from nas.predictors.models._selection import Target, leave_one_out, leave_one_out_rows
from nas.predictors.models.ensemble import _weights


def curved(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of three numbers of very different size, and a positive value of them."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=(n, 3))
    y = np.exp(x[:, 0] + x[:, 1] * x[:, 2]) * rng.lognormal(0, 0.02, n)
    return x * [1e3, 1.0, 1e-3] + [5e3, 0, 0], y


def test_leaving_one_out_in_closed_form_equals_doing_it() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(12, 3))
    y = rows @ [1.0, -2.0, 0.5] + rng.normal(size=12) / 10
    kernel = rows @ rows.T + 1.0
    chosen = leave_one_out(kernel, y)
    target = Target.of(y, log=False)
    assert chosen.target == target
    z = target.standardised(y)
    errors, spreads = [], []
    for left_out in range(12):
        kept = np.delete(np.arange(12), left_out)
        weights = np.linalg.solve(kernel[np.ix_(kept, kept)] + chosen.noise * np.eye(11), kernel[kept, left_out])
        errors.append(z[left_out] - weights @ z[kept])
        spreads.append(kernel[left_out, left_out] + chosen.noise - weights @ kernel[kept, left_out])
    variance = np.mean(np.square(errors) / spreads)
    assert chosen.variance == pytest.approx(variance * 12 / 9)  # three settings were chosen
    density = -0.5 * np.log(2 * np.pi * variance * np.array(spreads)) - 0.5 * np.square(errors) / (
        variance * np.array(spreads)
    )
    assert chosen.density == pytest.approx(density.mean() - np.log(target.scale))


def test_a_logarithm_is_taken_where_effects_multiply() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(80, 4))
    added = rows @ [1.0, -0.5, 0.3, 0.2]
    assert leave_one_out(rows @ rows.T + 1.0, np.exp(added)).target.log
    assert not leave_one_out(rows @ rows.T + 1.0, added + 10).target.log


def test_rows_and_their_kernel_leave_one_out_alike() -> None:
    rng = np.random.default_rng(0)
    for n, p in ((12, 30), (30, 4)):
        rows, y = rng.normal(size=(n, p)), rng.uniform(1, 2, size=n)
        by_kernel, by_rows = leave_one_out(rows @ rows.T, y), leave_one_out_rows(rows, y)
        assert by_kernel.density == pytest.approx(by_rows.density, rel=1e-6)
        for a, b in zip(by_kernel.held_out(y), by_rows.held_out(y), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)


def test_bounded_least_squares_equal_an_independent_solver() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        rows, y = rng.normal(size=(15, 8)), rng.normal(size=15)
        nonnegative = rng.random(8) < 0.6
        found = bounded(rows.T @ rows, rows.T @ y, nonnegative)
        lower = np.where(nonnegative, 0.0, -np.inf)
        np.testing.assert_allclose(found, lsq_linear(rows, y, (lower, np.inf), tol=1e-12).x, atol=1e-5)


def test_stacking_takes_the_best_and_mixes_what_errs_differently() -> None:
    rng = np.random.default_rng(0)
    small, large = rng.normal(0, 0.1, 500), rng.normal(0, 1.0, 500)
    np.testing.assert_allclose(_weights(np.stack([small, large], axis=1)), [1, 0], atol=0.03)
    one, other = rng.normal(0, 1.0, 5000), rng.normal(0, 1.0, 5000)
    np.testing.assert_allclose(_weights(np.stack([one, other], axis=1)), [0.5, 0.5], atol=0.03)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_models_learn_rows_that_are_of_no_space(name: str) -> None:
    model = MODELS[name]()
    model.fit(*curved(100, seed=0))
    x, y = curved(200, seed=1)
    mean, std = model.predict(x)
    assert np.median(np.abs(mean / y - 1)) < 0.08  # values spread over a factor of 7
    assert (std > 0).all()
    held_out, _ = model.held_out
    assert held_out.shape == (100,)
    assert np.median(np.abs(held_out / curved(100, seed=0)[1] - 1)) < 0.1


def test_an_ensemble_is_about_as_good_as_its_best_part() -> None:
    x, y = curved(200, seed=0)
    errors = {}
    for name in MODELS:
        model = MODELS[name]()
        model.fit(x[:100], y[:100])
        errors[name] = float(np.sqrt(np.mean((model.predict(x[100:])[0] - y[100:]) ** 2)))
    assert errors.pop("ensemble") < 1.1 * min(errors.values())


def test_few_measurements_are_for_few_parts() -> None:
    model = EnsembleModel({"ridge": RidgeModel, "late": RidgeModel}, fewest={"late": 20})
    x, y = curved(20, seed=0)
    model.fit(x[:19], y[:19])
    assert set(model.weights) == {"ridge"}
    model.fit(x, y)
    assert set(model.weights) == {"ridge", "late"}
