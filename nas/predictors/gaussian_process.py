"""A Gaussian process on the encoding: for quality, where the parts of a network act on one another."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from nas.errors import NasError
from nas.predictors._features import Features, FeatureTable, checked
from nas.predictors._selection import Choice, in_portions, leave_one_out
from search_spaces import Architecture, Space

_MOST_FOR_CHOICE = 400  # measurements that decide the kernel: one eigendecomposition for each candidate


@dataclass(frozen=True)
class Kernel:
    """1 + x·x' + bend exp(-|x - x'|² / 2 length²): a line, and where `bend` > 0 what departs from it."""

    bend: float
    length: float

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """(n, m) prior covariance."""
        linear = a @ b.T
        squared = np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1)[None] - 2 * linear
        covariance: np.ndarray = 1.0 + linear + self.bend * np.exp(-np.maximum(squared, 0.0) / (2 * self.length**2))
        return covariance

    def diagonal(self, a: np.ndarray) -> np.ndarray:
        variance: np.ndarray = 1.0 + np.sum(a**2, axis=1) + self.bend
        return variance


_KERNELS = [Kernel(0.0, 1.0), *(Kernel(bend, length) for bend in (0.1, 0.3, 1.0, 3.0) for length in (0.7, 1.0, 2.0))]


class GaussianProcess:
    """Kernel, noise and a logarithmic target are chosen by leave-one-out density; meant for up to a few thousand."""

    def __init__(self, space: Space, features: Features | None = None) -> None:
        self.space = space
        self.features = features
        self._table: FeatureTable | None = None

    def fit(self, archs: Sequence[Architecture], y: Sequence[float] | np.ndarray) -> None:
        values = checked(archs, y)
        self._table = FeatureTable(self.space, self.features, archs)
        self._rows = self._table.rows(archs)
        step = -(-len(values) // _MOST_FOR_CHOICE)
        some, some_values = self._rows[::step], values[::step]
        self._kernel = max(_KERNELS, key=lambda kernel: leave_one_out(kernel(some, some), some_values).density)
        covariance = self._kernel(self._rows, self._rows)
        self._choice: Choice = leave_one_out(covariance, values)
        covariance[np.diag_indices_from(covariance)] += self._choice.noise
        self._factor = cho_factor(covariance, lower=True)
        self._weights = cho_solve(self._factor, self._choice.target.standardised(values))

    def predict(self, archs: Sequence[Architecture]) -> tuple[np.ndarray, np.ndarray]:
        if self._table is None:
            raise NasError("this predictor has seen no measurements; call fit before predict")
        mean, spread = np.empty(len(archs)), np.empty(len(archs))
        for part in in_portions(archs):
            rows = self._table.rows(archs[part])
            across = self._kernel(rows, self._rows)
            mean[part] = across @ self._weights
            whitened = solve_triangular(self._factor[0], across.T, lower=True)
            spread[part] = self._kernel.diagonal(rows) + self._choice.noise - np.sum(whitened**2, axis=0)
        std = np.sqrt(self._choice.variance * np.maximum(spread, self._choice.noise))
        return self._choice.target.restored(mean, std)
