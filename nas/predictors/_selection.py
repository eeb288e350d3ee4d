"""Settings of a regression, chosen by leaving each measurement out once, in closed form.

A regression with prior covariance K and noise a on standardised targets z predicts z_i from all the others with error
`(C z)_i / C_ii` and variance proportional to `1 / C_ii`, where C = (K + a I)^-1 (Rasmussen and Williams 2006, section
5.4.2). One eigendecomposition of K serves every a. Targets are tried as they are and, where all are positive, as
logarithms: costs add up over the blocks of one network but scale with its resolution.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_NOISES = np.logspace(-3, 4, 22)  # in units of the mean eigenvalue of K
_TINY = 1e-12


@dataclass(frozen=True)
class Target:
    """How a model sees measured values: z = (y - mean) / scale, of log y where `log`."""

    log: bool
    mean: float
    scale: float

    @classmethod
    def of(cls, y: np.ndarray, log: bool) -> "Target":
        values = np.log(y) if log else y
        return cls(log, float(values.mean()), float(values.std()) or 1.0)

    def standardised(self, y: np.ndarray) -> np.ndarray:
        return ((np.log(y) if self.log else y) - self.mean) / self.scale

    def log_slope(self, y: np.ndarray) -> float:
        """Mean of log |dz/dy|, which makes densities of y comparable between targets."""
        return -float(np.log(self.scale)) - (float(np.log(y).mean()) if self.log else 0.0)

    def restored(self, mean: np.ndarray, std: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation in the unit of y; of logarithms, the median and a spread to first order."""
        mean, std = mean * self.scale + self.mean, std * self.scale
        return (np.exp(mean), np.exp(mean) * std) if self.log else (mean, std)


@dataclass(frozen=True)
class Choice:
    """The best settings for one K: `density` is the mean log density of what was left out, higher is better."""

    density: float
    target: Target
    noise: float
    variance: float


def leave_one_out(kernel: np.ndarray, y: np.ndarray) -> Choice:
    """The best target and noise for prior covariance `kernel` (n, n) and values `y` (n,)."""
    eigenvalues, vectors = np.linalg.eigh(kernel)
    eigenvalues = np.maximum(eigenvalues, 0.0)
    noises = _NOISES * max(float(eigenvalues.mean()), _TINY)
    targets = [Target.of(y, log) for log in ((False, True) if y.min() > 0 else (False,))]
    return max((_tried(eigenvalues, vectors, y, t, a) for t in targets for a in noises), key=lambda c: c.density)


def _tried(eigenvalues: np.ndarray, vectors: np.ndarray, y: np.ndarray, target: Target, noise: float) -> Choice:
    inverse = 1.0 / (eigenvalues + noise)
    z = target.standardised(y)
    diagonal = np.square(vectors) @ inverse
    error = (vectors @ (inverse * (vectors.T @ z))) / diagonal
    variance = max(float(np.mean(error**2 * diagonal)), _TINY)
    density = -0.5 * float(np.mean(np.log(2 * np.pi * variance / diagonal))) - 0.5
    return Choice(density + target.log_slope(y), target, float(noise), variance)


def in_portions(archs: Sequence[object], size: int = 10_000) -> list[slice]:
    """Slices that bound the memory of one prediction."""
    return [slice(first, first + size) for first in range(0, len(archs), size)]
