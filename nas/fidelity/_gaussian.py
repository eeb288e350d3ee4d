"""A Gaussian process over a few numbers: Matérn-3/2 or RBF, plus linear, with log-normal priors on its parameters.

The likelihood and its gradient are (5.8) and (5.9) in Rasmussen and Williams 2006, the kernels (4.17) and (4.9). The
prior mean is 0, so values should be centred. A fit is deterministic and costs O(n^3) per step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

FloatArray = npt.NDArray[np.float64]

_ROOT3 = np.sqrt(3.0)
_JITTER = 1e-9
_ITERATIONS = 50
_BOUND = 4.0  # largest distance of a logarithm from its median, in prior standard deviations

# log-normal priors: median, and standard deviation of the logarithm
_AMPLITUDE = (1.0, 1.0)  # variance of the nonlinear term, in units of the values' variance
_LINEAR = (0.1, 1.5)
_NOISE = (0.03, 1.5)  # variance
_LENGTH = (1.0, 0.8)  # times the root of the number of dimensions


@dataclass(frozen=True)
class Form:
    """The terms of the kernel."""

    smooth: bool = False
    """RBF instead of Matérn-3/2."""
    linear: bool = True


class GaussianProcess:
    """A process fitted to (n, d) points and (n,) centred values, at the posterior mode of its parameters.

    Args:
        logs: logarithms of the parameters; None optimises them.
    """

    def __init__(self, x: FloatArray, y: FloatArray, form: Form = Form(), logs: FloatArray | None = None) -> None:
        self._x, self._y, self._form = x, y, form
        self.logs = _learnt(x, y, form) if logs is None else logs
        covariance = _covariance(x, x, self.logs, form)
        self._factor = cho_factor(covariance + (np.exp(self.logs[2]) + _JITTER) * np.eye(len(x)), lower=True)
        self._weights: FloatArray = cho_solve(self._factor, y)

    def predict(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return (m,) means and standard deviations, without noise."""
        across = _covariance(x, self._x, self.logs, self._form)
        explained = solve_triangular(self._factor[0], across.T, lower=True)
        variance = _diagonal(x, self.logs, self._form) - np.square(explained).sum(0)
        return across @ self._weights, np.sqrt(np.maximum(variance, 1e-12))

    def with_draws(self, x: FloatArray, rng: np.random.Generator) -> GaussianProcess:
        """Return this process conditioned also on a joint sample from itself at (m, d) points (Thompson sampling)."""
        across = _covariance(x, self._x, self.logs, self._form)
        explained = solve_triangular(self._factor[0], across.T, lower=True)
        covariance = _covariance(x, x, self.logs, self._form) - explained.T @ explained
        values, vectors = np.linalg.eigh(covariance)
        drawn = across @ self._weights + vectors @ (np.sqrt(np.maximum(values, 0)) * rng.standard_normal(len(x)))
        return GaussianProcess(np.vstack([self._x, x]), np.append(self._y, drawn), self._form, self.logs)


# --- kernels: the logs are those of amplitude, linear, noise and a length for each dimension -----------------------


def _apart(some: FloatArray, others: FloatArray, logs: FloatArray) -> FloatArray:
    """Return (d, n, m) squared distances in units of the lengths."""
    scaled, against = some / np.exp(logs[3:]), others / np.exp(logs[3:])
    squares: FloatArray = np.square(scaled.T[:, :, None] - against.T[:, None, :])
    return squares


def _covariance(some: FloatArray, others: FloatArray, logs: FloatArray, form: Form) -> FloatArray:
    stationary: FloatArray = np.exp(logs[0]) * _shape(_apart(some, others, logs).sum(0), form)
    return stationary + np.exp(logs[1]) * (1 + some @ others.T) if form.linear else stationary


def _diagonal(x: FloatArray, logs: FloatArray, form: Form) -> FloatArray:
    linear = np.exp(logs[1]) * (1 + np.square(x).sum(1)) if form.linear else 0.0
    diagonal: FloatArray = np.full(len(x), np.exp(logs[0])) + linear
    return diagonal


def _shape(squares: FloatArray, form: Form) -> FloatArray:
    if form.smooth:
        return np.asarray(np.exp(-squares / 2))
    distance = _ROOT3 * np.sqrt(squares)
    return np.asarray((1 + distance) * np.exp(-distance))


def _slopes(x: FloatArray, logs: FloatArray, form: Form) -> FloatArray:
    """Return (p, n, n) derivatives of the covariance with noise by each log."""
    apart = _apart(x, x, logs)
    squares = apart.sum(0)
    amplitude, noise = np.exp(logs[0]), np.exp(logs[2]) * np.eye(len(x))
    steep = _shape(squares, form) if form.smooth else 3 * np.exp(-_ROOT3 * np.sqrt(squares))
    linear = np.exp(logs[1]) * (1 + x @ x.T) if form.linear else np.zeros_like(squares)
    return np.concatenate([np.stack([amplitude * _shape(squares, form), linear, noise]), amplitude * steep * apart])


# --- learning -----------------------------------------------------------------------------------------------------


def _priors(dimensions: int) -> tuple[FloatArray, FloatArray]:
    """Return (p,) prior means and standard deviations of the logs."""
    length = _LENGTH[0] * np.sqrt(dimensions), _LENGTH[1]
    pairs: Sequence[tuple[float, float]] = [_AMPLITUDE, _LINEAR, _NOISE, *[length] * dimensions]
    return np.log([median for median, _ in pairs]), np.array([spread for _, spread in pairs])


def _learnt(x: FloatArray, y: FloatArray, form: Form) -> FloatArray:
    mean, spread = _priors(x.shape[1])
    found = minimize(
        negative_log_posterior,
        mean,
        args=(x, y, form),
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(mean - _BOUND * spread, mean + _BOUND * spread, strict=True)),
        options={"maxiter": _ITERATIONS},
    )
    return np.asarray(found.x)


def negative_log_posterior(logs: FloatArray, x: FloatArray, y: FloatArray, form: Form) -> tuple[float, FloatArray]:
    """Return the negative log posterior, up to a constant, and its gradient."""
    mean, spread = _priors(x.shape[1])
    n = len(x)
    covariance = _covariance(x, x, logs, form) + (np.exp(logs[2]) + _JITTER) * np.eye(n)
    factor = cho_factor(covariance, lower=True)
    weights = cho_solve(factor, y)
    inverse = cho_solve(factor, np.eye(n))
    apart = (logs - mean) / spread
    value = (y @ weights) / 2 + np.log(np.diag(factor[0])).sum() + apart @ apart / 2
    slope = np.einsum("ij,pij->p", inverse - np.outer(weights, weights), _slopes(x, logs, form)) / 2
    return float(value), slope + apart / spread
