"""Selects the settings of a regression by leave-one-out predictions in closed form.

A regression with prior covariance K and noise a on standardised targets z predicts z_i from all the others with error
`(C z)_i / C_ii` and variance proportional to `1 / C_ii`, where C = (K + a I)^-1 (Rasmussen and Williams 2006, section
5.4.2). One eigendecomposition of K serves every a. Both the values and, if all are positive, their logarithms are
tried: costs add up over the blocks of one network but scale with its resolution.
"""

from dataclasses import dataclass, field

import numpy as np

from nas.predictors.models.model import TINY, FloatArray, Prediction

_NOISES = np.logspace(-3, 4, 22)  # in units of the mean eigenvalue of K
_SETTINGS = 3  # noise, scale and logarithm


@dataclass(frozen=True)
class Target:
    """The transformation of measured values: z = (y - mean) / scale, with log y instead of y if `log`."""

    log: bool
    mean: float
    scale: float

    @classmethod
    def of(cls, y: FloatArray, log: bool) -> "Target":
        values = np.log(y) if log else y
        return cls(log, float(values.mean()), float(values.std()) or 1.0)

    @classmethod
    def kinds(cls, y: FloatArray) -> "list[Target]":
        """Return the transformations to try: plain values, and logarithms if all are positive."""
        return [cls.of(y, log) for log in ((False, True) if y.min() > 0 else (False,))]

    def standardised(self, y: FloatArray) -> FloatArray:
        z: FloatArray = ((np.log(y) if self.log else y) - self.mean) / self.scale
        return z

    def log_slope(self, y: FloatArray) -> float:
        """Return the mean of log |dz/dy|, which makes densities of y comparable between targets."""
        return -float(np.log(self.scale)) - (float(np.log(y).mean()) if self.log else 0.0)

    def restored(self, mean: FloatArray, std: FloatArray) -> Prediction:
        """Return mean and standard deviation in the unit of y; with logarithms, the median and a first-order spread."""
        mean, std = mean * self.scale + self.mean, std * self.scale
        if not self.log:
            return mean, std
        median = np.exp(mean)
        return median, median * std


@dataclass(frozen=True)
class Choice:
    """The best settings for one K: `density` is the mean leave-one-out log density, higher is better.

    `errors` and `spreads` (n,) are the leave-one-out errors and standard deviations of z.
    """

    density: float
    target: Target
    noise: float
    variance: float
    errors: FloatArray = field(repr=False, compare=False)
    spreads: FloatArray = field(repr=False, compare=False)

    def held_out(self, y: FloatArray) -> Prediction:
        """Return leave-one-out predictions of the measured values."""
        return self.target.restored(self.target.standardised(y) - self.errors, self.spreads)


def for_settings(n: int) -> float:
    """Return the factor that corrects a leave-one-out variance for settings chosen by the same n errors."""
    return n / max(n - _SETTINGS, 1.0)


def leave_one_out(kernel: FloatArray, y: FloatArray) -> Choice:
    """Return the best target and noise for prior covariance `kernel` (n, n) and values `y` (n,)."""
    eigenvalues, vectors = np.linalg.eigh(kernel)
    return _best(np.maximum(eigenvalues, 0.0), vectors, y)


def leave_one_out_rows(rows: FloatArray, y: FloatArray) -> Choice:
    """Do the same for K = rows rows' with rows (n, p); the cost depends on the smaller of n and p."""
    vectors, singular, _ = np.linalg.svd(rows, full_matrices=False)
    return _best(singular**2, vectors, y)


def _best(eigenvalues: FloatArray, vectors: FloatArray, y: FloatArray) -> Choice:
    noises = _NOISES * max(float(eigenvalues.sum()) / len(y), TINY)
    return max(
        (_tried(eigenvalues, vectors, y, target, a) for target in Target.kinds(y) for a in noises),
        key=lambda choice: choice.density,
    )


def _tried(eigenvalues: FloatArray, vectors: FloatArray, y: FloatArray, target: Target, noise: float) -> Choice:
    """K = V diag(e) V', with V (n, r) orthonormal: a C = I - V diag(e / (e + a)) V'."""
    kept = eigenvalues / (eigenvalues + noise)
    z = target.standardised(y)
    diagonal = np.maximum(1.0 - np.square(vectors) @ kept, TINY) / noise
    errors = (z - vectors @ (kept * (vectors.T @ z))) / noise / diagonal
    return scored(y, target, noise, errors, diagonal)


def scored(y: FloatArray, target: Target, noise: float, errors: FloatArray, diagonal: FloatArray) -> Choice:
    """Score settings by their leave-one-out errors of z, whose variances are proportional to 1 / `diagonal`."""
    variance = max(float(np.mean(errors**2 * diagonal)), TINY)
    spreads = np.sqrt(variance * for_settings(len(y)) / diagonal)
    density = -0.5 * float(np.mean(np.log(2 * np.pi * variance / diagonal))) - 0.5
    return Choice(density + target.log_slope(y), target, float(noise), variance * for_settings(len(y)), errors, spreads)
