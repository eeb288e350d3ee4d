"""A Gaussian process over the choices of a space: networks are alike where few choices, that matter little, differ.

The covariance of two networks falls exponentially with each choice in which they differ, at a rate that is learnt for
each choice (a product of kernels: Rasmussen and Williams 2006, section 4.2.4; the rates are inverse lengthscales). Low
rates make it almost a sum over the choices, high ones tell every combination apart. A choice that is not active has a
level of its own. Options are declared from small to large, so neighbours differ less than the ends. How often an option
occurs among the positions of a choice counts too: so one position tells of the others.
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
from search_spaces.traits import GraphTraits, graph_traits

FloatArray = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int16]

_STEPS = {True: 0.3, False: 0.5}  # share of the difference of two numbers, or names, that depends on no distance
_MOST_RATES = 64  # choices with a rate each; in a space of more, all positions of a choice share one
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
    """How far apart networks are in each column, and which columns share a rate.

    Columns are the slots that vary, and for each choice with several positions how often each of its options occurs.

    Args:
        read: codes of which columns are made, from the codes of networks: those, or `Space.effective_codes`.
        traits: columns in place of the slots of graphs.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        domains: Sequence[Sequence[int]],
        read: Callable[[Codes], Codes] = _as_declared,
        traits: GraphTraits | None = None,
    ) -> None:
        told = traits.slots if traits else frozenset()
        varying = [i for i, one in enumerate(domains) if i not in told and (len(one) > 1 or slots[i].conditions)]
        most = traits.most if traits else ()
        families: dict[str, list[int]] = {}
        for i in varying:
            families.setdefault(re.sub(r"\.\d+(?=\.|$)", "", slots[i].path), []).append(i)
        several = {name: members for name, members in families.items() if len(members) > 1}
        own = len(varying) <= _MOST_RATES
        self._read, self._traits = read, traits
        self._slots = varying
        self._counts = [(ms, code) for ms in several.values() for code in range(len(slots[ms[0]].options))]
        names = [str(i) if own else name for name, members in families.items() for i in members]
        order = [i for members in families.values() for i in members]
        rate = dict(zip(order, names, strict=True))
        groups = [rate[i] for i in varying] + [f"{ms[0]} {code}" for ms, code in self._counts]
        groups += [f"trait {place}" for place in range(len(most))]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(groups))}
        self._groups = np.array([numbers[name] for name in groups], dtype=int)
        self._tables = [_table(slots[i], domains[i]) for i in varying] + [_spaced(len(ms)) for ms, _ in self._counts]
        self._tables += [_spaced(one) for one in most]
        self.num_rates = len(numbers)

    def stacked(self, codes: Codes) -> FloatArray:
        """(num_rates, n * n) differences of networks to one another."""
        n = len(codes)
        stack = np.zeros((self.num_rates, n, n))
        for column, group, table in zip(self._columns(codes), self._groups, self._tables, strict=True):
            stack[group] += table[column[:, None], column[None]]
        return stack.reshape(self.num_rates, n * n)

    def between(self, some: Codes, others: Codes, rates: FloatArray) -> FloatArray:
        """(n, m) sums of differences, each times its rate: a product of one-hot rows, which is what is fast."""
        summed: FloatArray = self.one_hot(some) @ self.weighted(others, rates)
        return summed

    def weighted(self, codes: Codes, rates: FloatArray) -> FloatArray:
        """(p, n) the differences of every option of every column to each network, times their rates."""
        weighted = [rates[group] * table for group, table in zip(self._groups, self._tables, strict=True)]
        rows = [table[column] for column, table in zip(self._columns(codes), weighted, strict=True)]
        return np.ascontiguousarray(np.concatenate([np.zeros((len(codes), 0)), *rows], axis=1).T)

    def one_hot(self, codes: Codes) -> FloatArray:
        """(n, p)."""
        ends = np.cumsum([0, *map(len, self._tables)])
        found = np.zeros((len(codes), ends[-1]))
        for start, column in zip(ends, self._columns(codes), strict=False):
            found[np.arange(len(codes)), start + column] = 1.0
        return found

    def _columns(self, codes: Codes) -> list[npt.NDArray[np.int64]]:
        """(n,) rows of each table."""
        codes = self._read(codes)
        traits = list(self._traits(codes).T) if self._traits else []
        counts = [(codes[:, members] == code).sum(axis=1) for members, code in self._counts]
        return [codes[:, i].astype(np.int64) + 1 for i in self._slots] + counts + traits


def _spaced(most: int) -> FloatArray:
    """(most + 1, most + 1) differences of two counts, from 0 to 1."""
    counts = np.arange(most + 1) / most
    return np.abs(counts[:, None] - counts)


def _table(slot: Slot, domain: Sequence[int]) -> FloatArray:
    """(options + 1, options + 1) differences from 0 to 1, by code + 1."""
    size = len(slot.options) + 1
    differ = 1.0 - np.eye(size)
    if len(domain) > 2:
        rank = np.searchsorted(np.asarray(domain), np.arange(size - 1)) / (len(domain) - 1)
        apart = _STEPS[slot.numeric] + (1 - _STEPS[slot.numeric]) * np.abs(rank[:, None] - rank)
        differ[1:, 1:] *= np.minimum(apart, 1.0)
    return differ


def readings(space: Space) -> list[Differences]:
    """The ways to tell networks apart: by the choices as declared, where a space knows by those with an effect, and
    where it has graphs by their traits."""
    found = [Differences(space.slots, space.domains)]
    if type(space).effective_codes is not Space.effective_codes:
        found.append(Differences(space.slots, space.domains, space.effective_codes))
    if (traits := graph_traits(space)) is not None:
        found.append(Differences(space.slots, space.domains, traits=traits))
    return found


@dataclass(frozen=True, eq=False)
class Kernel:
    """What is learnt of a metric: a rate for each group of slots, and noise as a share of the variance."""

    rates: FloatArray
    noise: float


def prior_kernel(num_rates: int) -> Kernel:
    """What is expected before anything is seen."""
    return Kernel(np.full(num_rates, _RATE / max(num_rates, 1)), _NOISE)


def learnt(stack: FloatArray, values: FloatArray) -> Kernel:
    """The likeliest kernel for n values under the prior; `stack` as `Differences.stacked` gives it."""
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
    """n values under a correlation: generalised least squares for the mean, one pseudo-observation of variance 1.

    `values` are standardised, so the pseudo-observation only keeps few or equal values from claiming no variance.
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
    """Of standardised values, but for a constant: how well each is predicted from those before it, summed."""
    n = len(values)
    fit = _Fit(np.exp(-(kernel.rates @ stack)).reshape(n, n), kernel.noise, values)
    return float(fit.log_likelihood)


class Process:
    """The Gaussian process of n standardised values."""

    def __init__(self, differences: Differences, codes: Codes, values: FloatArray, kernel: Kernel) -> None:
        self._differences = differences
        self._weighted = differences.weighted(codes, kernel.rates)
        self._fit = _Fit(self._correlation(codes), kernel.noise, values)

    def mean(self, codes: Codes) -> FloatArray:
        """(n,) expected values."""
        found: FloatArray = self._fit.mean + self._correlation(codes) @ self._fit.weights
        return found

    def predict(self, codes: Codes) -> tuple[FloatArray, FloatArray]:
        """(n,) expected values and standard deviations, those of the noise left out."""
        across = self._correlation(codes)
        explained = np.einsum("ij,ij->i", across @ self._fit.inverse, across)
        spread = np.sqrt(self._fit.variance * np.maximum(1 - explained, _TINY))
        return self._fit.mean + across @ self._fit.weights, spread

    def _correlation(self, codes: Codes) -> FloatArray:
        apart = self._differences.one_hot(codes) @ self._weighted
        correlation: FloatArray = np.exp(-apart, out=apart)
        return correlation
