"""What CARBS believes of settings not tried yet: score, cost, success, and the score that the front has at a cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

from nas.fidelity._axes import Axes
from nas.fidelity._gaussian import FloatArray, Form, GaussianProcess
from nas.fidelity.acquisition import log_expected_improvement, log_nearness, log_probability_above_zero
from nas.fidelity.pareto_groups import Group, Key
from nas.fidelity.variables import STEP

_TOO_DEAR = -1e300  # a logarithm below all others


@dataclass(frozen=True, slots=True)
class Told:
    """A finished run."""

    key: Key
    """Its settings, in the order of the variables."""
    value: float | None
    """Lower is better; None where it failed."""
    cost: float | None


class Models:
    """Fitted to the runs so far.

    Args:
        pending: settings that run now. They are believed to score as a draw from what is known says, so that what is
            asked for next lies elsewhere.
        chosen: the front.
        bias: by how much the front is to be beaten.
        rng: for these draws.
    """

    def __init__(
        self,
        axes: Axes,
        told: Sequence[Told],
        pending: Sequence[Key],
        chosen: Sequence[Group],
        rng: np.random.Generator,
        *,
        bias: float = 1.0,
        most_cost: float = math.inf,
    ) -> None:
        passed = [run for run in told if run.value is not None and run.cost is not None]
        points = axes.basic([run.key for run in passed])
        scores = np.array([-run.value for run in passed if run.value is not None])
        costs = np.log([run.cost for run in passed if run.cost is not None])
        self.origins = axes.basic([group.key for group in chosen])
        self._bias = bias
        self._normal = NormalScores(scores)
        self._scale = Scale(costs)
        self._cap = self._scale(np.log(most_cost))
        self._score = GaussianProcess(points, self._normal(scores))
        if pending:
            self._score = self._score.with_draws(axes.basic(pending), rng)
        self._cost = GaussianProcess(points, self._scale(costs))
        self._success = _successes(axes, told)
        at = self._scale(np.log([group.cost for group in chosen]))
        levels = self._normal(np.array([group.score for group in chosen]))
        self._front_costs, self._front_level = (float(at.min()), float(at.max())), float(levels.mean())
        self._front = GaussianProcess(at[:, None], levels - self._front_level, Form(smooth=True, linear=False))

    def log_acquisition(self, points: FloatArray, rng: np.random.Generator | None = None) -> FloatArray:
        """(n,) how much points of basic space promise.

        What is predicted to cost too much promises less than all else, the cheapest of it the most.

        Args:
            rng: for a random cost on the front, whose score all have to beat, cheap ones too; None for no such clamp.
        """
        mean, spread = self._score.predict(points)
        cost = self._cost.predict(points)[0]
        baseline = self._baseline(cost, rng)
        found = log_expected_improvement(mean, spread, baseline + self._bias)
        found += log_nearness(points, self.origins, STEP)
        if self._success is not None:
            found += log_probability_above_zero(*self._success.predict(points))
        return np.where(cost < self._cap, found, _TOO_DEAR * (2 + np.tanh(cost)))

    def _baseline(self, cost: FloatArray, rng: np.random.Generator | None) -> FloatArray:
        """(n,) the score that the front has at each cost."""
        level = self._level(cost)
        if rng is None:
            return level
        return np.maximum(level, self._level(np.array([rng.uniform(*self._front_costs)])))

    def _level(self, cost: FloatArray) -> FloatArray:
        return self._front_level + self._front.predict(cost[:, None])[0]

    def predict(self, points: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(n,) mean and standard deviation of the normal score, and the cost."""
        return (*self._score.predict(points), np.exp(self._scale.back(self._cost.predict(points)[0])))


def _successes(axes: Axes, told: Sequence[Told]) -> GaussianProcess | None:
    """None where nothing has failed."""
    labels = np.array([-1.0 if run.value is None else 1.0 for run in told])
    return GaussianProcess(axes.basic([run.key for run in told]), labels) if labels.min() < 0 else None


class NormalScores:
    """From scores to a normal distribution, by about the root of n of their quantiles.

    The ends are at 1 / 2n and 1 - 1 / 2n, where the smallest and largest of n normal numbers are about: with ends at
    0 and 1 the best run would be infinitely better than the second.
    """

    def __init__(self, scores: FloatArray) -> None:
        n = len(scores)
        shares = np.linspace(0, 1, max(2, math.ceil(math.sqrt(n))))
        quantiles = np.quantile(scores, shares)
        self._quantiles, which = np.unique(quantiles, return_inverse=True)
        self._shares = np.bincount(which, shares) / np.bincount(which)  # of equal quantiles the mean share
        self._end = 0.5 / n

    def __call__(self, scores: FloatArray) -> FloatArray:
        shares = np.interp(scores, self._quantiles, self._shares)
        return np.asarray(ndtri(np.clip(shares, self._end, 1 - self._end)))


class Scale:
    """From log costs to [-1, 1]; to 0 where all are equal."""

    def __init__(self, logs: FloatArray) -> None:
        self._middle = (logs.max() + logs.min()) / 2
        self._half = (logs.max() - logs.min()) / 2 or 1.0

    def __call__(self, logs: Any) -> FloatArray:
        return np.asarray((logs - self._middle) / self._half)

    def back(self, scaled: FloatArray) -> FloatArray:
        return np.asarray(scaled * self._half + self._middle)
