"""A Gaussian process, for metrics in which the parts of a network interact."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.linalg.lapack import dpotri

from nas.predictors.models._selection import Choice, leave_one_out, scored
from nas.predictors.models.model import FloatArray, Prediction, Scaling, in_portions, shuffled

_SHARES = (0.0, 1.0, 10.0, 50.0)
_MOST_FOR_CHOICE = 250  # most measurements for choosing the kernel: one eigendecomposition per candidate


@dataclass(frozen=True)
class Kernel:
    """1 + x·x' + bend exp(-|x - x'|² / 2 length²): a linear function, plus smooth residuals if `bend` > 0."""

    bend: float
    length: float

    def __call__(self, a: FloatArray, b: FloatArray) -> FloatArray:
        """Return (n, m) prior covariances."""
        linear = a @ b.T
        squared = np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1)[None] - 2 * linear
        covariance: FloatArray = 1.0 + linear + self.bend * np.exp(-np.maximum(squared, 0.0) / (2 * self.length**2))
        return covariance

    def diagonal(self, a: FloatArray) -> FloatArray:
        variance: FloatArray = 1.0 + np.sum(a**2, axis=1) + self.bend
        return variance


_KERNELS = [Kernel(0.0, 1.0), *(Kernel(bend, length) for bend in (0.1, 0.3, 1.0, 3.0) for length in (0.7, 1.0, 2.0))]


class GaussianProcessModel:
    """Leave-one-out density selects kernel, noise and whether to use logarithms; for up to a few thousand measurements.

    `num_encoded`, `num_shared`: as in `Scaling`.
    """

    def __init__(self, num_encoded: int = 0, num_shared: int = 0) -> None:
        self.num_encoded = num_encoded
        self.num_shared = num_shared

    def fit(self, x: npt.NDArray[Any], y: FloatArray) -> None:
        some = shuffled(x, y)[:_MOST_FOR_CHOICE]
        self._scaling, self._kernel, settings = self._chosen(x[some], y[some])
        self._rows = self._scaling(x)
        covariance = self._kernel(self._rows, self._rows)
        covariance[np.diag_indices_from(covariance)] += settings.noise
        self._factor = cho_factor(covariance, lower=True)
        self._weights = cho_solve(self._factor, settings.target.standardised(y))
        diagonal = np.diag(dpotri(self._factor[0], lower=True)[0])
        self._choice = scored(y, settings.target, settings.noise, self._weights / diagonal, diagonal)
        self.held_out = self._choice.held_out(y)

    def _chosen(self, x: npt.NDArray[Any], y: FloatArray) -> tuple[Scaling, Kernel, Choice]:
        shares = _SHARES if self.num_shared else (1.0,)
        tried = []
        for scaling in [Scaling(x, self.num_encoded, self.num_shared, share) for share in shares]:
            rows = scaling(x)
            tried += [(scaling, kernel, leave_one_out(kernel(rows, rows), y)) for kernel in _KERNELS]
        return max(tried, key=lambda settings: settings[2].density)

    def predict(self, x: npt.NDArray[Any]) -> Prediction:
        return in_portions(lambda part: self._some(x[part]), len(x), 1024)

    def _some(self, x: npt.NDArray[Any]) -> Prediction:
        rows = self._scaling(x)
        across = self._kernel(rows, self._rows)
        whitened = solve_triangular(self._factor[0], across.T, lower=True)
        spread = self._kernel.diagonal(rows) + self._choice.noise - np.sum(whitened**2, axis=0)
        std = np.sqrt(self._choice.variance * np.maximum(spread, self._choice.noise))
        return self._choice.target.restored(across @ self._weights, std)
