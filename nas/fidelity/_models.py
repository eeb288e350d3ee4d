"""CARBS's models of untried settings: score, cost, success, and the front's score at a cost."""

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

_TOO_DEAR = -1e300  # below all other logarithms


@dataclass(frozen=True, slots=True)
class Told:
    """A finished run."""

    key: Key
    """Values of its settings, in the order of the variables."""
    value: float | None
    """Lower is better; None if the run failed."""
    cost: float | None


class Models:
    """Models fitted to the runs so far.

    Args:
        pending: settings of unfinished runs. The models assume a sampled score for each, so that the next suggestion
            lies elsewhere.
        chosen: the front.
        rng: for the sampled scores.
        bias: improvement over the front to aim for, in normal scores.
        most_cost: settings with a higher predicted cost are avoided.
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
        """Return the (n,) log acquisition of points in basic space.

        Points with too high a predicted cost rank below all others, and among themselves by that cost.

        Args:
            rng: for a random cost on the front, whose score every point must beat, even a cheap one; None to omit this.
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
        """Return the (n,) score to beat at each cost."""
        level = self._level(cost)
        if rng is None:
            return level
        return np.maximum(level, self._level(np.array([rng.uniform(*self._front_costs)])))

    def _level(self, cost: FloatArray) -> FloatArray:
        return self._front_level + self._front.predict(cost[:, None])[0]

    def predict(self, points: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the (n,) mean and standard deviation of the normal score, and the (n,) cost."""
        return (*self._score.predict(points), np.exp(self._scale.back(self._cost.predict(points)[0])))


def _successes(axes: Axes, told: Sequence[Told]) -> GaussianProcess | None:
    """Return a model of success (1) and failure (-1); None if no run failed."""
    labels = np.array([-1.0 if run.value is None else 1.0 for run in told])
    return GaussianProcess(axes.basic([run.key for run in told]), labels) if labels.min() < 0 else None


class NormalScores:
    """Maps scores to a normal distribution by about sqrt(n) of their quantiles.

    The lowest and highest score get the quantiles 1 / 2n and 1 - 1 / 2n, close to those of the extremes of n normal
    numbers. With 0 and 1, the best run would be infinitely better than the second.
    """

    def __init__(self, scores: FloatArray) -> None:
        n = len(scores)
        shares = np.linspace(0, 1, max(2, math.ceil(math.sqrt(n))))
        quantiles = np.quantile(scores, shares)
        self._quantiles, which = np.unique(quantiles, return_inverse=True)
        self._shares = np.bincount(which, shares) / np.bincount(which)  # equal quantiles get their mean share
        self._end = 0.5 / n

    def __call__(self, scores: FloatArray) -> FloatArray:
        shares = np.interp(scores, self._quantiles, self._shares)
        return np.asarray(ndtri(np.clip(shares, self._end, 1 - self._end)))


class Scale:
    """Maps log costs to [-1, 1]; to 0 if all are equal."""

    def __init__(self, logs: FloatArray) -> None:
        self._middle = (logs.max() + logs.min()) / 2
        self._half = (logs.max() - logs.min()) / 2 or 1.0

    def __call__(self, logs: Any) -> FloatArray:
        return np.asarray((logs - self._middle) / self._half)

    def back(self, scaled: FloatArray) -> FloatArray:
        return np.asarray(scaled * self._half + self._middle)
