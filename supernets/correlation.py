"""Rank correlations, with their uncertainty from sampling and from noise.

Both correlations use the signs of differences, A_ij = sign(a_i - a_j). A bootstrap resample that draws pair i w_i times
then costs one matrix product, whereas scipy calls for a thousand resamples take seconds.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

Vector = npt.NDArray[np.float64]


def signs(values: Vector) -> Vector:
    """Return the signs of values_i - values_j, (n x n)."""
    return np.sign(values[:, None] - values)


def has_order(*columns: Vector) -> bool:
    """Return whether each column has at least three values, not all equal; otherwise it has no order to compare."""
    return all(len(values) > 2 and np.ptp(values) > 0 for values in columns)


def taus(a: Vector, b: Vector, weights: Vector) -> Vector:
    """Return Kendall's tau-b, (r,), for each row of weights (r x n), the counts of pairs; NaN if a side is constant.

    tau-b = w'(A*B)w / sqrt(w'(A*A)w w'(B*B)w).
    """
    signs_a, signs_b = signs(a), signs(b)
    both, only_a, only_b = (
        ((weights @ product) * weights).sum(1) for product in (signs_a * signs_b, signs_a**2, signs_b**2)
    )
    return _ratio(both, only_a, only_b)


def rhos(a: Vector, b: Vector, weights: Vector) -> Vector:
    """Return Spearman's rho, (r,), with mean ranks for ties, for each row of weights; NaN if a side is constant.

    A w is twice the rank minus the mean rank, so rho is the weighted cosine of A w and B w.
    """
    ranks_a, ranks_b = weights @ signs(a).T, weights @ signs(b).T
    both, only_a, only_b = ((product * weights).sum(1) for product in (ranks_a * ranks_b, ranks_a**2, ranks_b**2))
    return _ratio(both, only_a, only_b)


def _ratio(both: Vector, only_a: Vector, only_b: Vector) -> Vector:
    with np.errstate(invalid="ignore"):  # rounded, so that equal orders give exactly 1
        return np.round(both / np.sqrt(only_a * only_b), 12)


def whole(n: int) -> Vector:
    """Return the weights of the sample itself, (1 x n)."""
    return np.ones((1, n))


def resamples(n: int, num_resamples: int, seed: int) -> Vector:
    """Return how often each of n pairs occurs in each bootstrap resample, (r x n) (Efron 1979)."""
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=num_resamples)
    return draws.astype(np.float64)


def interval(figures: Vector, confidence: float, bound: float = 1.0) -> tuple[float, float]:
    """Return the percentile interval of a figure over resamples, without those that are NaN for lack of an order.

    If all are NaN, return (-bound, bound).
    """
    known = figures[np.isfinite(figures)]
    if not len(known):
        return -bound, bound
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return round(float(low), 12), round(float(high), 12)


# --- noise --------------------------------------------------------------------------------------------------------


def pooled_deviation(groups: list[Vector]) -> tuple[float, int] | None:
    """Return the standard deviation within groups and its degrees of freedom; None if no group has two values."""
    freedom = sum(len(group) - 1 for group in groups if len(group) > 1)
    if not freedom:
        return None
    squares = sum(float(np.square(group - group.mean()).sum()) for group in groups if len(group) > 1)
    return math.sqrt(squares / freedom), freedom


def deviation_interval(deviation: float, freedom: int, confidence: float) -> tuple[float, float]:
    """Return the confidence interval of a standard deviation, from the chi-squared distribution."""
    low, high = chi2.ppf([(1 + confidence) / 2, (1 - confidence) / 2], freedom)
    return deviation * math.sqrt(freedom / low), deviation * math.sqrt(freedom / high)


def tau_of_repetition(values: Vector, noise: float, num_draws: int = 200, seed: int = 0) -> float:
    """Return the expected tau between two measurements of the same quantities, each with this noise.

    The values already contain the noise once. The function shrinks them towards their mean until their spread plus the
    noise equals the observed spread, adds independent normal noise twice, and averages the tau over many draws.
    """
    if noise == 0:
        return 1.0
    spread = float(values.var(ddof=1))
    truth = (values - values.mean()) * math.sqrt(max(0.0, 1 - noise**2 / spread)) if spread else 0 * values
    rng, pairs = np.random.default_rng(seed), len(values) * (len(values) - 1)
    draws = rng.normal(size=(num_draws, 2, len(values))) * noise + truth
    return float(np.mean([(signs(one) * signs(other)).sum() / pairs for one, other in draws]))
