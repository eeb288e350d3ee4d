"""A mixture of hypotheses about a new target, weighted by their likelihoods."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nas.predictors._kinship import NOISES, STRUCTURES, Hypothesis, Kinship, View, hypotheses
from nas.predictors.models.model import TINY, FloatArray

_WITHIN = 10.0  # experts whose log density is further below the best are dropped
_LEAST = 0.003  # weights below this share of the largest are set to 0
_REHEARSED = 30  # artificial measurements when a known target is treated as new
_DOUBT = 0.3  # weight of a uniform prior over settings, relative to one known target

Moments = tuple[FloatArray, FloatArray]
"""Mean and standard deviation, each (n,)."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """Hypotheses with (h, noises) weights that sum to 1."""

    parts: tuple[Hypothesis, ...]
    weights: FloatArray

    @classmethod
    def of(cls, view: View, values: FloatArray, log_prior: FloatArray) -> "Mixture":
        """Fit to (n,) values minus their mean, with a log prior (structures, noises)."""
        parts = hypotheses(view, values, _WITHIN)
        weights = _normalised(np.stack([part.density + log_prior[part.structure] for part in parts]))
        kept = np.flatnonzero(weights.any(axis=1))
        return cls(tuple(parts[index] for index in kept), weights[kept])

    def predict(self, view: View) -> Moments:
        """Predict new measurements, with means relative to the mean of the old; one quadratic form for any mixture."""
        coefficients, covariance, noises = self._together
        variance = np.sum((view.base @ covariance) * view.base, axis=1) + view.levels @ noises
        return view.base @ coefficients, np.sqrt(np.maximum(variance, TINY))

    @cached_property
    def _together(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Mean (b,) and covariance (b, b) of the base's coefficients, and (1 + d,) noise variances by level."""
        each = np.stack([part.coefficients(noise) for part, noise, _ in self._pairs])
        weights = np.array([weight for _, _, weight in self._pairs])
        mean: FloatArray = weights @ each
        apart = (each - mean) * np.sqrt(weights)[:, None]
        covariance = apart.T @ apart
        noises = np.zeros(self.parts[0].view.levels.shape[1])
        for part, own in zip(self.parts, self.weights, strict=True):
            covariance += part.covariance(own)
            noises[part.expert] += own @ (part.variance * NOISES)
        return mean, covariance, noises

    @cached_property
    def _pairs(self) -> list[tuple[Hypothesis, int, float]]:
        """Hypothesis, noise index and weight of all with a positive weight."""
        rows = zip(self.parts, self.weights, strict=True)
        return [(part, int(noise), float(own[noise])) for part, own in rows for noise in np.flatnonzero(own)]

    def left_out(self) -> Moments:
        """Return leave-one-out predictions of the measurements."""
        found = [part.left_out(noise) for part, noise, _ in self._pairs]
        weights = np.array([weight for _, _, weight in self._pairs])
        means = np.stack([self.parts[0].values - errors for errors, _ in found], axis=1)
        mean: FloatArray = means @ weights
        variances = np.stack([variance for _, variance in found], axis=1) + (means - mean[:, None]) ** 2
        std: FloatArray = np.sqrt(variances @ weights)
        return mean, std


def learnt(known: FloatArray, spread: FloatArray, columns: FloatArray) -> FloatArray:
    """Return a log prior (structures, noises) by treating each known target as new, with a few artificial measurements.

    Settings are weighted by the likelihood of these (empirical Bayes over targets).

    Args:
        known: (m, d) predictions for a sample of the space.
        spread: (m, d) their standard deviations.
        columns: (m, p).
    """
    count = np.full((len(STRUCTURES), len(NOISES)), _DOUBT / len(STRUCTURES) / len(NOISES))
    rng = np.random.default_rng(0)
    for target in range(known.shape[1] if known.shape[1] > 1 else 0):
        rows = rng.permutation(len(known))[:_REHEARSED]
        values = known[rows, target] + spread[rows, target] * rng.normal(size=len(rows))
        others = np.delete(known, target, axis=1)
        view = Kinship(others).view(others[rows], columns[rows])
        parts = hypotheses(view, values - values.mean(), _WITHIN)
        weights = _normalised(np.stack([part.density for part in parts]))
        np.add.at(count, [part.structure for part in parts], weights)
    log_prior: FloatArray = np.log(count / count.sum())
    return log_prior


def _normalised(logs: FloatArray) -> FloatArray:
    weights = np.exp(logs - logs.max())
    weights = np.where(weights < _LEAST * weights.max(), 0.0, weights)
    shares: FloatArray = weights / weights.sum()
    return shares
