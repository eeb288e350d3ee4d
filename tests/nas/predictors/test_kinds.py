"""The predictors: the contract, and what tells them apart."""

from collections.abc import Callable

import numpy as np
import pytest

from nas.predictors import MLP, Additive, Boosting, Ensemble, GaussianProcess, Predictor, Ridge
from tests.contracts.predictor import PredictorContract, Stages


class TestRidge(PredictorContract):
    @pytest.fixture
    def make(self) -> Callable[..., Predictor]:
        return Ridge


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
    misses = 0.12

    @pytest.fixture
    def make(self) -> Callable[..., Predictor]:
        return Boosting


class TestMLP(PredictorContract):
    tau = 0.6
    misses = 0.2

    @pytest.fixture
    def make(self) -> Callable[..., Predictor]:
        return MLP


class TestEnsemble(PredictorContract):
    @pytest.fixture
    def make(self) -> Callable[..., Predictor]:
        return Ensemble
