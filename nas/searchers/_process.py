"""A Gaussian process over the choices of a space.

The covariance of two networks decreases exponentially with each choice in which they differ, at a learned rate for each
choice (a product of kernels: Rasmussen and Williams 2006, section 4.2.4; the rates are inverse lengthscales). Low rates
make the process almost a sum over the choices, high ones distinguish every combination. An inactive choice is a level
of its own. Options are declared from small to large, so neighbours differ less than the ends. The number of times that
an option occurs among the positions of a choice is a further coordinate, so positions inform about one another.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

from search_spaces import Slot, Space

FloatArray = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int16]

_STEPS = {True: 0.3, False: 0.5}  # by whether options are numbers: the share of a difference independent of distance
_MOST_RATES = 64  # most choices with their own rates; in larger spaces all positions of a choice share one
_RATE = 2.0  # prior median of the sum of all rates
_SPREAD = 0.8  # prior standard deviation of the log of a rate, about the mean of these logs
_NOISE, _NOISE_SPREAD = 0.01, 1.5  # prior median of the noise, as a share of the variance, and deviation of its log
_MOST_NOISE = 1.0
_LEAST_NOISE = 1e-5
_ITERATIONS = 30
_TINY = 1e-12


def _as_declared(codes: Codes) -> Codes:
    return codes


class Differences:
    """Distances between networks in each column, and which columns share a rate.

    Columns are the slots that vary and, for each choice with several positions, the number of times each option occurs.

    Args:
        read: converts the codes of networks to the codes that columns use: identity or `Space.effective_codes`.
    """

    def __init__(
        self, slots: Sequence[Slot], domains: Sequence[Sequence[int]], read: Callable[[Codes], Codes] = _as_declared
    ) -> None:
        varying = [i for i, domain in enumerate(domains) if len(domain) > 1 or slots[i].conditions]
        families: dict[str, list[int]] = {}
        for i in varying:
            families.setdefault(re.sub(r"\.\d+(?=\.|$)", "", slots[i].path), []).append(i)
        several = {name: members for name, members in families.items() if len(members) > 1}
        own = len(varying) <= _MOST_RATES
        self._read = read
        self._slots = varying
        self._counts = [(ms, code) for ms in several.values() for code in range(len(slots[ms[0]].options))]
        names = [str(i) if own else name for name, members in families.items() for i in members]
        order = [i for members in families.values() for i in members]
        rate = dict(zip(order, names, strict=True))
        groups = [rate[i] for i in varying] + [f"{ms[0]} {code}" for ms, code in self._counts]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(groups))}
        self._groups = np.array([numbers[name] for name in groups], dtype=int)
        self._tables = [_table(slots[i], domains[i]) for i in varying] + [_spaced(len(ms)) for ms, _ in self._counts]
        self.num_rates = len(numbers)

    def stacked(self, codes: Codes) -> FloatArray:
        """Return (num_rates, n * n) pairwise differences of networks."""
        n = len(codes)
        stack = np.zeros((self.num_rates, n, n))
        for column, group, table in zip(self._columns(codes), self._groups, self._tables, strict=True):
            stack[group] += table[column[:, None], column[None]]
        return stack.reshape(self.num_rates, n * n)

    def between(self, some: Codes, others: Codes, rates: FloatArray) -> FloatArray:
        """Return (n, m) sums of differences times rates, as a product of one-hot rows, which is fast."""
        summed: FloatArray = self.one_hot(some) @ self.weighted(others, rates)
        return summed

    def weighted(self, codes: Codes, rates: FloatArray) -> FloatArray:
        """Return (p, n) differences of every option of every column to each network, times their rates."""
        weighted = [rates[group] * table for group, table in zip(self._groups, self._tables, strict=True)]
        rows = [table[column] for column, table in zip(self._columns(codes), weighted, strict=True)]
        return np.ascontiguousarray(np.concatenate([np.zeros((len(codes), 0)), *rows], axis=1).T)

    def one_hot(self, codes: Codes) -> FloatArray:
        """Return (n, p) zeros and ones."""
        ends = np.cumsum([0, *map(len, self._tables)])
        found = np.zeros((len(codes), ends[-1]))
        for start, column in zip(ends, self._columns(codes), strict=False):
            found[np.arange(len(codes)), start + column] = 1.0
        return found

    def _columns(self, codes: Codes) -> list[npt.NDArray[np.int64]]:
        """Return the (n,) row indices into each table."""
        codes = self._read(codes)
        counts = [(codes[:, members] == code).sum(axis=1) for members, code in self._counts]
        return [codes[:, i].astype(np.int64) + 1 for i in self._slots] + counts


def _spaced(most: int) -> FloatArray:
    """Return (most + 1, most + 1) differences of two counts, from 0 to 1."""
    counts = np.arange(most + 1) / most
    return np.abs(counts[:, None] - counts)


def _table(slot: Slot, domain: Sequence[int]) -> FloatArray:
    """Return (options + 1, options + 1) differences from 0 to 1, indexed by code + 1."""
    size = len(slot.options) + 1
    differ = 1.0 - np.eye(size)
    if len(domain) > 2:
        rank = np.searchsorted(np.asarray(domain), np.arange(size - 1)) / (len(domain) - 1)
        apart = _STEPS[slot.numeric] + (1 - _STEPS[slot.numeric]) * np.abs(rank[:, None] - rank)
        differ[1:, 1:] *= np.minimum(apart, 1.0)
    return differ


def readings(space: Space) -> list[Differences]:
    """The available distances: by the choices as declared and, if the space defines them, by the effective ones."""
    declared = Differences(space.slots, space.domains)
    if type(space).effective_codes is Space.effective_codes:
        return [declared]
    return [declared, Differences(space.slots, space.domains, space.effective_codes)]


@dataclass(frozen=True, eq=False)
class Kernel:
    """Learned hyperparameters of a metric: a rate for each group of slots, and noise as a share of the variance."""

    rates: FloatArray
    noise: float


def prior_kernel(num_rates: int) -> Kernel:
    """The kernel expected before any data."""
    return Kernel(np.full(num_rates, _RATE / max(num_rates, 1)), _NOISE)


def learnt(stack: FloatArray, values: FloatArray) -> Kernel:
    """Return the maximum a posteriori kernel for n values; `stack` comes from `Differences.stacked`."""
    posterior = _Posterior(stack, values)
    start = prior_kernel(len(stack))
    found = minimize(
        posterior,
        np.log(np.append(start.rates, start.noise)),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-9.0, 3.0)] * len(stack) + [(np.log(_LEAST_NOISE), np.log(_MOST_NOISE))],
        options={"maxiter": _ITERATIONS},
    )
    return Kernel(np.exp(found.x[:-1]), float(np.exp(found.x[-1])))


class _Posterior:
    """Negative log posterior of the logs of rates and noise, with its gradient; mean and variance are profiled out."""

    def __init__(self, stack: FloatArray, values: FloatArray) -> None:
        self._stack = stack
        self._values = values

    def __call__(self, logs: FloatArray) -> tuple[float, FloatArray]:
        rates, noise = np.exp(logs[:-1]), float(np.exp(logs[-1]))
        n = len(self._values)
        correlation = np.exp(-(rates @ self._stack)).reshape(n, n)
        fit = _Fit(correlation, noise, self._values)
        slope = (fit.inverse - np.outer(fit.weights, fit.weights) / fit.variance) / 2
        own = -(self._stack @ (slope * correlation).ravel()) * rates
        gradient = np.append(own, np.trace(slope) * noise)
        value, prior = self._prior(logs)
        return value - fit.log_likelihood, gradient + prior

    def _prior(self, logs: FloatArray) -> tuple[float, FloatArray]:
        rates, noise = logs[:-1], (logs[-1] - np.log(_NOISE)) / _NOISE_SPREAD
        if not len(rates):
            return noise**2 / 2, np.array([noise / _NOISE_SPREAD])
        mean = rates.mean()
        level = mean - np.log(_RATE / len(rates))
        apart = (rates - mean) / _SPREAD
        value = (apart @ apart + level**2 + noise**2) / 2
        return float(value), np.append(apart / _SPREAD + level / len(rates), noise / _NOISE_SPREAD)


class _Fit:
    """Fit of n values with a correlation: generalised least squares for the mean, one pseudo-observation of variance 1.

    `values` are standardised; the pseudo-observation keeps the variance above 0 for few or equal values.
    """

    def __init__(self, correlation: FloatArray, noise: float, values: FloatArray) -> None:
        n = len(values)
        factor = cho_factor(correlation + noise * np.eye(n), lower=True, check_finite=False)
        lower = np.tril(dpotri(factor[0], lower=True)[0])
        self.inverse: FloatArray = lower + np.tril(lower, -1).T
        sums = self.inverse.sum(axis=0)
        self.mean = float(sums @ values / sums.sum())
        self.weights: FloatArray = cho_solve(factor, values - self.mean, check_finite=False)
        self.variance = float((values - self.mean) @ self.weights + 1) / (n + 1)
        self.log_likelihood = -0.5 * (n + 1) * np.log(self.variance) - float(np.log(np.diag(factor[0])).sum())


def log_likelihood(stack: FloatArray, values: FloatArray, kernel: Kernel) -> float:
    """Log likelihood of standardised values up to a constant: the summed log scores of each given those before it."""
    n = len(values)
    fit = _Fit(np.exp(-(kernel.rates @ stack)).reshape(n, n), kernel.noise, values)
    return float(fit.log_likelihood)


class Process:
    """The Gaussian process conditioned on n standardised values."""

    def __init__(self, differences: Differences, codes: Codes, values: FloatArray, kernel: Kernel) -> None:
        self._differences = differences
        self._weighted = differences.weighted(codes, kernel.rates)
        self._fit = _Fit(self._correlation(codes), kernel.noise, values)

    def mean(self, codes: Codes) -> FloatArray:
        """Return (n,) expected values."""
        found: FloatArray = self._fit.mean + self._correlation(codes) @ self._fit.weights
        return found

    def predict(self, codes: Codes) -> tuple[FloatArray, FloatArray]:
        """Return (n,) expected values and (n,) standard deviations without noise."""
        across = self._correlation(codes)
        explained = np.einsum("ij,ij->i", across @ self._fit.inverse, across)
        spread = np.sqrt(self._fit.variance * np.maximum(1 - explained, _TINY))
        return self._fit.mean + across @ self._fit.weights, spread

    def _correlation(self, codes: Codes) -> FloatArray:
        apart = self._differences.one_hot(codes) @ self._weighted
        correlation: FloatArray = np.exp(-apart, out=apart)
        return correlation
