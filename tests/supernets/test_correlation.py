"""Rank correlations against scipy and by hand, and the noise that was planted is the noise that is found."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

from supernets import correlation

pairs = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=12)


def of(*values: float) -> Any:
    return np.array(values, dtype=float)


@given(pairs, st.integers(0, 99))
@pytest.mark.filterwarnings("ignore:An input array is constant")
def test_resampled_correlations_are_those_of_scipy(given_pairs: list[tuple[int, int]], seed: int) -> None:
    a, b = np.array(given_pairs, dtype=float).T
    weights = correlation.resamples(len(a), 3, seed)
    drawn = [np.repeat(np.arange(len(a)), row.astype(int)) for row in weights]
    for found, theirs in ((correlation.taus, kendalltau), (correlation.rhos, spearmanr)):
        expected = [theirs(a[draw], b[draw]).statistic for draw in drawn]
        np.testing.assert_allclose(found(a, b, weights), expected, atol=1e-11)


def test_by_hand() -> None:
    """1 2 3 4 against 1 3 2 4: five pairs of six agree; the squared distances of ranks sum to 2."""
    a, b = of(1, 2, 3, 4), of(10, 30, 20, 40)
    assert correlation.taus(a, b, correlation.whole(4)) == pytest.approx([4 / 6])
    assert correlation.rhos(a, b, correlation.whole(4)) == pytest.approx([1 - 6 * 2 / (4 * 15)])


@pytest.mark.parametrize("measure", [correlation.taus, correlation.rhos])
def test_the_same_order_the_reverse_and_none(measure: Any) -> None:
    a, whole = of(3, 1, 2, 5, 5), correlation.whole(5)
    assert measure(a, np.exp(a), whole) == [1.0]
    assert measure(a, -(a**3), whole) == [-1.0]
    assert np.isnan(measure(a, of(7, 7, 7, 7, 7), whole)).all()


def test_an_interval_counts_only_what_is_determined() -> None:
    assert correlation.interval(of(*range(101), math.nan), 0.9) == (5, 95)
    assert correlation.interval(of(math.nan), 0.9) == (-1, 1)
    assert correlation.interval(of(math.nan), 0.9, bound=2) == (-2, 2)


def test_three_different_values_make_an_order() -> None:
    assert correlation.has_order(of(1, 1, 2)) and not correlation.has_order(of(1, 2))
    assert not correlation.has_order(of(1, 1, 1)) and not correlation.has_order(of(1, 2, 3), of(1, 1, 1))


# --- noise ---


def test_the_deviation_within_groups_by_hand() -> None:
    """Squares within: 2 * 1 and 2 * 4 and 0 + 0; degrees of freedom 1 + 1 + 2."""
    found = correlation.pooled_deviation([of(1, 3), of(10, 14), of(5, 5, 5), of(99)])
    assert found == (pytest.approx(math.sqrt(10 / 4)), 4)
    assert correlation.pooled_deviation([of(1), of(2)]) is None


def test_planted_noise_is_found_within_its_interval() -> None:
    rng, held = np.random.default_rng(0), 0
    for _ in range(200):
        found = correlation.pooled_deviation([rng.normal(level, 0.3, 2) for level in range(10)])
        assert found is not None
        low, high = correlation.deviation_interval(*found, 0.9)
        assert low < found[0] < high
        held += low < 0.3 < high
    assert 165 <= held <= 195


@pytest.mark.parametrize("noise", [0.1, 0.5, 2.0])
def test_the_tau_of_repetition_is_that_of_two_noisy_measurements(noise: float) -> None:
    """Estimated from one noisy measurement of each thing, and set against what another one really shows."""
    rng = np.random.default_rng(3)
    estimated, seen = [], []
    for _ in range(40):
        truth = rng.normal(size=20)
        one, other = (truth + rng.normal(scale=noise, size=20) for _ in range(2))
        estimated.append(correlation.tau_of_repetition(one, noise, num_draws=50))
        seen.append(kendalltau(one, other).statistic)
    assert np.mean(estimated) == pytest.approx(np.mean(seen), abs=0.06)


def test_without_noise_a_repetition_is_the_same() -> None:
    assert correlation.tau_of_repetition(of(1, 2, 2), 0.0) == 1
    assert correlation.tau_of_repetition(of(1, 1, 1), 1.0) == pytest.approx(0, abs=0.15)
