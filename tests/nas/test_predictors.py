"""The predictors: the contract, and what tells the two apart."""

from collections.abc import Callable

import numpy as np
import pytest

from nas.predictors import MLP, Additive, Boosting, Ensemble, GaussianProcess, Predictor, Ridge
from nas.predictors.models._selection import Target, leave_one_out
from tests.contracts.predictor import PredictorContract, Stages


class TestRidge(PredictorContract):
    @pytest.fixture
    def make(self) -> Callable[..., Predictor]:
        return Ridge

    def test_predicts_100_000_in_one_call(self) -> None:
        predictor = Ridge(Stages())
        predictor.fit(*self.measured(50, seed=0))
        some = Stages().sample_many(100, np.random.default_rng(1))
        mean, std = predictor.predict(some * 1000)
        assert mean.shape == std.shape == (100_000,)


class TestGaussianProcess(PredictorContract):
    @pytest.fixture
    def make(self) -> Callable[..., Predictor]:
        return GaussianProcess

    def test_sees_what_no_line_can(self) -> None:
        """A target that is an interaction and nothing else."""
        archs = Stages().sample_many(400, np.random.default_rng(0), distinct=True)
        target = np.array([(arch.width - 24) * (arch.resolution - 176) for arch in archs], dtype=float)
        errors = {}
        for make in (Ridge, GaussianProcess):
            predictor = make(Stages())
            predictor.fit(archs[:200], target[:200])
            errors[make] = np.abs(predictor.predict(archs[200:])[0] - target[200:]).mean()
        assert errors[GaussianProcess] < 0.6 * errors[Ridge]


class TestAdditive(PredictorContract):
    @pytest.fixture
    def make(self) -> Callable[..., Predictor]:
        return Additive


class TestBoosting(PredictorContract):
    tau = 0.6

    @pytest.fixture
    def make(self) -> Callable[..., Predictor]:
        return Boosting


class TestMLP(PredictorContract):
    @pytest.fixture
    def make(self) -> Callable[..., Predictor]:
        return MLP


class TestEnsemble(PredictorContract):
    @pytest.fixture
    def make(self) -> Callable[..., Predictor]:
        return Ensemble


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
    assert chosen.variance == pytest.approx(variance)
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
