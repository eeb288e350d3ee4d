"""Conformal bounds: what they promise of a network like those measured, and of one that is chosen by them."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from nas.errors import NasError
from nas.predictors import Archs, Ridge
from nas.predictors.conformal import MANY, Bounded, chosen, needed, quantile
from search_spaces import NASBench201Space

SPACE = NASBench201Space()
COSTS = np.random.default_rng(5).uniform(0.2, 2.0, (6, 5))


def latency(codes: Archs, seed: int = 0, noise: float = 0.1) -> NDArray[np.float64]:
    """Costs of the edges with a factor of noise; an architecture has one latency, whoever asks."""
    table = np.asarray(codes)
    number = table @ 5 ** np.arange(6)
    factor = np.exp(noise * np.random.default_rng(seed).standard_normal(5**6))
    return np.asarray((1 + COSTS[np.arange(6), table].sum(axis=1)) * factor[number])


class Line:
    """A predictor of the sum alone, without `held_out`."""

    def fit(self, archs: Archs, y: Sequence[float] | NDArray[np.float64]) -> None:
        self._mean, self._std = float(np.mean(y)), float(np.std(y)) + 1e-9

    def predict(self, archs: Archs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.full(len(archs), self._mean), np.full(len(archs), self._std)


def ways() -> dict[str, tuple[Callable[[], Bounded], int]]:
    return {
        "held out": (lambda: Bounded(Ridge(SPACE)), 60),
        "plus": (lambda: Bounded(Ridge(SPACE), plus=True), 60),
        "split": (lambda: Bounded(Ridge(SPACE)), MANY),
        "no held_out": (lambda: Bounded(Line()), 40),
    }


@pytest.mark.parametrize("way", ways())
def test_bounds_of_random_networks_hold_as_often_as_asked(way: str) -> None:
    make, num = ways()[way]
    kept = []
    for seed in range(8 if way == "plus" else 20):
        rng = np.random.default_rng(seed)
        codes = SPACE.sample_codes(num + 500, rng)
        bounded = make()
        bounded.fit(codes[:num], latency(codes[:num], seed))
        kept.append(np.mean(latency(codes[num:], seed) <= bounded.upper(codes[num:], 0.8)))
    assert 0.77 <= np.mean(kept) <= 0.86


def test_bounds_of_chosen_networks_hold_once_corrected_and_not_before() -> None:
    codes = np.unique(SPACE.sample_codes(6000, np.random.default_rng(0)), axis=0)
    before: list[bool] = []
    after: list[bool] = []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        truth = latency(codes, seed, noise=0.2)
        errors = -latency(codes, noise=0.0) + 0.3 * rng.standard_normal(len(codes))  # slower networks err less
        low, high = np.quantile(truth, [0.3, 0.9])
        few = rng.choice(len(codes), 40, replace=False)
        bounded = Bounded(Ridge(SPACE))
        bounded.fit(codes[few], truth[few])

        def choices(
            limits: NDArray[np.float64], bounded: Bounded = bounded, errors: NDArray[np.float64] = errors
        ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
            picked = chosen(errors, bounded.upper(codes, 0.8), limits)
            return picked[picked >= 0], limits[picked >= 0]

        limits = rng.uniform(low, high, 100)
        picked, kept = choices(limits)
        before.extend(truth[picked] <= kept)
        picked, kept = choices(rng.uniform(low, high, 60))
        bounded.correct(kept[:19], truth[picked[:19]], 0.8)
        picked, kept = choices(limits)
        after.extend(truth[picked] <= kept)
    assert np.mean(before) < 0.72
    assert 0.76 <= np.mean(after) <= 0.84


def test_a_correction_is_forgotten_by_a_fit_and_moves_every_bound_by_one_factor() -> None:
    codes = SPACE.sample_codes(50, np.random.default_rng(0))
    bounded = Bounded(Ridge(SPACE))
    bounded.fit(codes, latency(codes))
    plain = bounded.upper(codes, 0.8)
    bounded.correct([1.0] * 4, [1.0, 1.1, 1.2, 1.5], 0.8)
    np.testing.assert_allclose(bounded.upper(codes, 0.8), 1.5 * plain)
    np.testing.assert_allclose(bounded.upper(codes, 0.6), 1.2 * plain)
    bounded.correct([1.0] * 4, [0.7, 0.8, 0.9, 0.95], 0.8)  # of choices made with the corrected bounds
    np.testing.assert_allclose(bounded.upper(codes, 0.8), 0.95 * 1.5 * plain)
    bounded.correct([1.0] * 4, [0.7, 0.8, 0.9, 1.1], 0.8)
    np.testing.assert_allclose(bounded.upper(codes, 0.8), 1.1 * 0.95 * 1.5 * plain)
    bounded.fit(codes, latency(codes))
    np.testing.assert_array_equal(bounded.upper(codes, 0.8), plain)


def test_bounds_grow_with_the_coverage_and_predictions_are_those_of_the_predictor() -> None:
    codes = SPACE.sample_codes(50, np.random.default_rng(0))
    bounded, alone = Bounded(Ridge(SPACE)), Ridge(SPACE)
    bounded.fit(codes, latency(codes))
    alone.fit(codes, latency(codes))
    np.testing.assert_array_equal(bounded.predict(codes), alone.predict(codes))
    assert (bounded.upper(codes, 0.5) < bounded.upper(codes, 0.9)).all()


def test_values_that_are_not_positive_are_bounded_as_they_are() -> None:
    codes = SPACE.sample_codes(80, np.random.default_rng(0))
    values = latency(codes) - 6
    bounded = Bounded(Ridge(SPACE))
    bounded.fit(codes, values)
    assert np.mean(values <= bounded.upper(codes, 0.8)) >= 0.8
    bounded.correct([-1.0, -1.0], [0.0, 1.0], 0.6)
    np.testing.assert_allclose(bounded.upper(codes, 0.6), plain_bounds(codes, values, 0.6) + 2.0)


def plain_bounds(codes: Archs, values: NDArray[np.float64], coverage: float) -> NDArray[np.float64]:
    bounded = Bounded(Ridge(SPACE))
    bounded.fit(codes, values)
    return bounded.upper(codes, coverage)


def test_architectures_and_their_codes_have_the_same_bounds() -> None:
    codes = SPACE.sample_codes(30, np.random.default_rng(0))
    archs = SPACE.decode(codes)
    for plus in (False, True):
        by_codes, by_archs = Bounded(Ridge(SPACE), plus), Bounded(Ridge(SPACE), plus)
        by_codes.fit(codes, latency(codes))
        by_archs.fit(archs, latency(codes))
        np.testing.assert_allclose(by_codes.upper(codes, 0.8), by_archs.upper(archs, 0.8))


def test_quantile_is_the_finite_sample_one() -> None:
    assert quantile(np.arange(1.0, 10.0), 0.9) == 9.0  # ceil(10 * .9) of 9
    assert quantile(np.arange(1.0, 20.0), 0.9) == 18.0
    assert [needed(c) for c in (0.5, 0.8, 0.9, 0.95)] == [1, 4, 9, 19]


def test_chosen_is_the_best_whose_bound_keeps_the_limit() -> None:
    errors, upper = [3.0, 1.0, 2.0, 2.0], np.array([1.0, 9.0, 5.0, 5.0])
    assert chosen(errors, upper, [0.5, 1.0, 4.9, 5.0, 9.0, 99.0]).tolist() == [-1, 0, 0, 2, 1, 1]


def test_chosen_agrees_with_looking_at_every_network() -> None:
    rng = np.random.default_rng(0)
    errors, upper, limits = rng.integers(0, 20, 60), rng.random(60), rng.random(40)
    for limit, got in zip(limits, chosen(errors, upper, limits).tolist(), strict=True):
        kept = [(errors[i], i) for i in range(60) if upper[i] <= limit]
        assert got == (min(kept)[1] if kept else -1)


def test_what_cannot_be_bounded_is_said() -> None:
    codes = SPACE.sample_codes(10, np.random.default_rng(0))
    bounded = Bounded(Ridge(SPACE))
    with pytest.raises(NasError, match="call fit before upper"):
        bounded.upper(codes, 0.9)
    with pytest.raises(NasError, match="call fit before correct"):
        bounded.correct([1.0], [1.0], 0.9)
    bounded.fit(codes, latency(codes))
    with pytest.raises(
        NasError, match=r"10 measurements are too few for a bound of coverage 0\.95: measure 19 or more, or"
    ):
        bounded.upper(codes, 0.95)
    with pytest.raises(NasError, match=r"coverage=90; it must be a share between 0 and 1"):
        bounded.upper(codes, 90)
    with pytest.raises(NasError, match="2 limits with 1 values"):
        bounded.correct([1.0, 2.0], [1.0], 0.9)
    with pytest.raises(NasError, match="must be finite, and positive"):
        bounded.correct([0.0], [1.0], 0.5)
    with pytest.raises(NasError, match=r"0 measurements are too few for a bound of coverage 0\.9: measure 9 or"):
        bounded.correct([], [], 0.9)
