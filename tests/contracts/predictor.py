"""What every predictor promises. Subclass, and give `make`."""

from collections.abc import Callable

import numpy as np
import pytest

from nas.errors import NasError
from nas.predictors import Predictor
from search_spaces import Architecture, Space, choice


class Stages(Space):
    resolution = choice(128, 160, 192, 224)
    width = choice(16, 24, 32)
    depth = choice(2, 3, 4)
    kernel = choice(3, 5, 7, per="depth")
    op = choice("conv", "separable", "shuffle", per="depth")


def latency_ms(arch: Architecture) -> float:
    """Adds up over the blocks and scales with resolution and width, as real latencies do."""
    cost = {"conv": 1.0, "separable": 0.45, "shuffle": 0.3}
    blocks = sum(cost[op] * (2 + kernel) for kernel, op in zip(arch.kernel, arch.op, strict=True))
    return (1 + blocks) * (arch.resolution / 224) ** 2 * arch.width / 16


def kendall(a: np.ndarray, b: np.ndarray) -> float:
    """Kendall's rank correlation of two vectors without ties, by its definition."""
    above = np.triu_indices(len(a), k=1)
    return float(np.mean(np.sign(a[:, None] - a)[above] * np.sign(b[:, None] - b)[above]))


class PredictorContract:
    tau = 0.75
    """Kendall's rank correlation to reach from 80 measurements with 3 % of noise."""

    misses = 0.06
    """The median relative error to stay under from 40 measurements, where a feature says it all."""

    @pytest.fixture
    def make(self) -> Callable[..., Predictor]:
        raise AssertionError("a subclass gives this fixture")

    @staticmethod
    def measured(n: int, seed: int) -> tuple[list[Architecture], np.ndarray]:
        rng = np.random.default_rng(seed)
        archs = Stages().sample_many(n, rng, distinct=True)
        return archs, np.array([latency_ms(arch) for arch in archs]) * rng.lognormal(0, 0.03, size=n)

    def test_ranks_what_it_has_not_seen(self, make: Callable[..., Predictor]) -> None:
        predictor = make(Stages())
        predictor.fit(*self.measured(80, seed=0))
        archs, truth = self.measured(300, seed=1)
        mean, _ = predictor.predict(archs)
        assert kendall(mean, truth) > self.tau

    def test_its_spread_is_honest(self, make: Callable[..., Predictor]) -> None:
        predictor = make(Stages())
        predictor.fit(*self.measured(80, seed=0))
        archs, truth = self.measured(400, seed=1)
        mean, std = predictor.predict(archs)
        assert mean.shape == std.shape == (400,)
        assert (std > 0).all()
        assert 0.8 < np.mean(np.abs(truth - mean) <= 1.645 * std) <= 0.99

    def test_features_of_the_user_help(self, make: Callable[..., Predictor]) -> None:
        def cost(archs: list[Architecture]) -> np.ndarray:
            return np.array([[1e6 * latency_ms(arch)] for arch in archs])

        predictor = make(Stages(), features=cost)
        predictor.fit(*self.measured(40, seed=0))
        archs, truth = self.measured(200, seed=1)
        mean, _ = predictor.predict(archs)
        assert np.median(np.abs(mean / truth - 1)) < self.misses

    def test_is_a_function_of_the_measurements(self, make: Callable[..., Predictor]) -> None:
        archs, values = self.measured(30, seed=0)
        first, second = make(Stages()), make(Stages())
        first.fit(*self.measured(20, seed=7))  # forgotten
        for predictor in (first, second):
            predictor.fit(archs, values)
        for one, other in zip(first.predict(archs), second.predict(archs), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_order_does_not_matter(self, make: Callable[..., Predictor]) -> None:
        archs, values = self.measured(30, seed=0)
        order = np.random.default_rng(1).permutation(30)
        one, other = make(Stages()), make(Stages())
        one.fit(archs, values)
        other.fit([archs[i] for i in order], values[order])
        asked, _ = self.measured(20, seed=2)
        for a, b in zip(one.predict(asked), other.predict(asked), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3)

    def test_codes_are_architectures(self, make: Callable[..., Predictor]) -> None:
        space = Stages()
        archs, values = self.measured(30, seed=0)
        by_object, by_code = make(space), make(space)
        by_object.fit(archs, values)
        by_code.fit(space.codes(archs), values)
        for a, b in zip(by_object.predict(archs), by_code.predict(space.codes(archs)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)

    def test_one_call_gives_what_many_give(self, make: Callable[..., Predictor]) -> None:
        predictor = make(Stages())
        predictor.fit(*self.measured(30, seed=0))
        archs, _ = self.measured(7, seed=1)
        together, _ = predictor.predict(archs)
        alone = np.array([predictor.predict([arch])[0][0] for arch in archs])
        np.testing.assert_allclose(together, alone, rtol=1e-5)
        assert predictor.predict([])[0].shape == (0,)

    @pytest.mark.parametrize("values", [[5.0] * 6, [0.0, 1.0, -2.0, 3.0, 1.0, 2.0]])
    def test_takes_constant_and_negative_values(self, make: Callable[..., Predictor], values: list[float]) -> None:
        archs, _ = self.measured(6, seed=0)
        predictor = make(Stages())
        predictor.fit(archs, values)
        mean, std = predictor.predict(archs)
        assert np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()

    def test_100_000_in_one_call(self, make: Callable[..., Predictor]) -> None:
        predictor = make(Stages())
        predictor.fit(*self.measured(20, seed=0))
        codes = np.tile(Stages().sample_codes(100, np.random.default_rng(1)), (1000, 1))
        mean, std = predictor.predict(codes)
        assert mean.shape == std.shape == (100_000,)
        assert np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()

    def test_errors_say_what_to_do(self, make: Callable[..., Predictor]) -> None:
        archs, values = self.measured(4, seed=0)
        predictor = make(Stages())
        with pytest.raises(NasError, match="call fit before predict"):
            predictor.predict(archs)
        with pytest.raises(NasError, match="one value per architecture"):
            predictor.fit(archs, values[:3])
        with pytest.raises(NasError, match="measure at least"):
            predictor.fit(archs[:2], values[:2])
        with pytest.raises(NasError, match=f"{archs[1].digest}.*not finite"):
            predictor.fit(archs, [1.0, float("nan"), 2.0, 3.0])
        with pytest.raises(NasError, match=r"shape \(4, k\)"):
            make(Stages(), features=lambda archs: np.ones(4)).fit(archs, values)
