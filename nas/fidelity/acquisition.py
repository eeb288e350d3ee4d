"""Factors of an acquisition function: expected improvement, nearness to the front, and probability of success.

All are logarithms, since products of small numbers underflow.
"""

import numpy as np
import numpy.typing as npt
from scipy.special import erfcx, log_ndtr

FloatArray = npt.NDArray[np.float64]

_LOG_ROOT_2PI = 0.5 * np.log(2 * np.pi)


def log_expected_improvement(mean: FloatArray, spread: FloatArray, best: FloatArray | float) -> FloatArray:
    """Return (n,) log E[max(0, f - best)] for normal f.

    With z = (mean - best) / spread, this is log(spread (phi(z) + z Phi(z))). For negative z the two terms cancel, so
    the function uses phi(z) (1 - |z| Mills(|z|)) instead, and the first terms of its series for very negative z.
    Section 4.1 of Ament et al. 2023 (arXiv:2310.20708) explains why to use logarithms.
    """
    z = (mean - best) / np.maximum(spread, 1e-300)
    near = np.clip(z, -1.0, 1e150)
    plain = np.log(np.exp(-np.square(near) / 2 - _LOG_ROOT_2PI) + near * np.exp(log_ndtr(near)))
    below = np.clip(-z, 1.0, 1e150)
    tail = np.sqrt(np.pi / 2) * erfcx(np.minimum(below, 1e3) / np.sqrt(2)) * np.minimum(below, 1e3)
    remainder = np.where(below < 1e3, np.log(np.maximum(1 - tail, 1e-12)), -2 * np.log(below))
    far = -np.square(below) / 2 - _LOG_ROOT_2PI + remainder
    found: FloatArray = np.log(np.maximum(spread, 1e-300)) + np.where(z > -1, plain, far)
    return found


def log_nearness(points: FloatArray, origins: FloatArray, radius: float) -> FloatArray:
    """Return (n,) log densities, up to a constant, of a normal distribution around the nearest of (m, d) origins."""
    squares = np.square(points[:, None] - origins[None]).sum(-1).min(1)
    found: FloatArray = -squares / (2 * radius**2)
    return found


def log_probability_above_zero(mean: FloatArray, spread: FloatArray) -> FloatArray:
    """Return (n,) log Phi(mean / spread), for a model of success as +1 and failure as -1.

    `spread` must be the standard deviation: with the variance, a certain model would seem uncertain.
    """
    found: FloatArray = log_ndtr(mean / spread)
    return found
