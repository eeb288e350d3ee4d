"""Settings of a regression, chosen by leaving each measurement out once, in closed form.

A regression with prior covariance K and noise a on standardised targets z predicts z_i from all the others with error
`(C z)_i / C_ii` and variance proportional to `1 / C_ii`, where C = (K + a I)^-1 (Rasmussen and Williams 2006, section
5.4.2). One eigendecomposition of K serves every a. Targets are tried as they are and, where all are positive, as
logarithms: costs add up over the blocks of one network but scale with its resolution.
"""

from dataclasses import dataclass, field

import numpy as np

from nas.predictors.models.model import TINY, FloatArray, Prediction

_NOISES = np.logspace(-3, 4, 22)  # in units of the mean eigenvalue of K
_SETTINGS = 3  # noise, scale and logarithm


@dataclass(frozen=True)
class Target:
    """How a model sees measured values: z = (y - mean) / scale, of log y where `log`."""

    log: bool
    mean: float
    scale: float

    @classmethod
    def of(cls, y: FloatArray, log: bool) -> "Target":
        values = np.log(y) if log else y
        return cls(log, float(values.mean()), float(values.std()) or 1.0)

    @classmethod
    def kinds(cls, y: FloatArray) -> "list[Target]":
        """As they are, and as logarithms where all are positive."""
        return [cls.of(y, log) for log in ((False, True) if y.min() > 0 else (False,))]

    def standardised(self, y: FloatArray) -> FloatArray:
        z: FloatArray = ((np.log(y) if self.log else y) - self.mean) / self.scale
        return z

    def log_slope(self, y: FloatArray) -> float:
        """Mean of log |dz/dy|, which makes densities of y comparable between targets."""
        return -float(np.log(self.scale)) - (float(np.log(y).mean()) if self.log else 0.0)

    def restored(self, mean: FloatArray, std: FloatArray) -> Prediction:
        """Mean and standard deviation in the unit of y; of logarithms, the median and a spread to first order."""
        mean, std = mean * self.scale + self.mean, std * self.scale
        if not self.log:
            return mean, std
        median = np.exp(mean)
        return median, median * std


@dataclass(frozen=True)
class Choice:
    """The best settings for one K: `density` is the mean log density of what was left out, higher is better.

    `errors` and `spreads` (n,) are those of each z when it is left out.
    """

    density: float
    target: Target
    noise: float
    variance: float
    errors: FloatArray = field(repr=False, compare=False)
    spreads: FloatArray = field(repr=False, compare=False)

    def held_out(self, y: FloatArray) -> Prediction:
        """Of each measured value by all others."""
        return self.target.restored(self.target.standardised(y) - self.errors, self.spreads)


def for_settings(n: int) -> float:
    """How much larger a variance is than left-out errors say, of which the best settings were chosen by n of them."""
    return n / max(n - _SETTINGS, 1.0)


def leave_one_out(kernel: FloatArray, y: FloatArray) -> Choice:
    """The best target and noise for prior covariance `kernel` (n, n) and values `y` (n,)."""
    eigenvalues, vectors = np.linalg.eigh(kernel)
    return _best(np.maximum(eigenvalues, 0.0), vectors, y)


def leave_one_out_rows(rows: FloatArray, y: FloatArray) -> Choice:
    """The same for K = rows rows' of rows (n, p), at the cost of the smaller of n and p."""
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
    """How well settings do whose left-out errors of z are these, with variances proportional to 1 / `diagonal`."""
    variance = max(float(np.mean(errors**2 * diagonal)), TINY)
    spreads = np.sqrt(variance * for_settings(len(y)) / diagonal)
    density = -0.5 * float(np.mean(np.log(2 * np.pi * variance / diagonal))) - 0.5
    return Choice(density + target.log_slope(y), target, float(noise), variance * for_settings(len(y)), errors, spreads)
