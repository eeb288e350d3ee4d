"""Bayesian ridge regression, for costs that nearly add up over the parts of a network."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from nas.predictors.models._selection import leave_one_out_rows
from nas.predictors.models.model import FloatArray, Prediction, Scaling


class RidgeModel:
    """Linear in the columns; leave-one-out density selects the regularisation and whether to use logarithms.

    `num_encoded`: number of leading columns that are an encoding between 0 and 1; the others are standardised.
    """

    def __init__(self, num_encoded: int = 0) -> None:
        self.num_encoded = num_encoded

    def fit(self, x: npt.NDArray[Any], y: FloatArray) -> None:
        self._scaling = Scaling(x, self.num_encoded)
        rows = _with_constant(self._scaling(x))
        self._choice = leave_one_out_rows(rows, y)
        self.held_out = self._choice.held_out(y)
        precision = rows.T @ rows + self._choice.noise * np.eye(rows.shape[1])
        self._factor = cho_factor(precision, lower=True)
        self._weights = cho_solve(self._factor, rows.T @ self._choice.target.standardised(y))

    def predict(self, x: npt.NDArray[Any]) -> Prediction:
        rows = _with_constant(self._scaling(x))
        whitened = solve_triangular(self._factor[0], rows.T, lower=True)
        spread = 1.0 + np.sum(whitened**2, axis=0)
        std = np.sqrt(self._choice.variance * self._choice.noise * spread)
        return self._choice.target.restored(rows @ self._weights, std)


def _with_constant(rows: FloatArray) -> FloatArray:
    return np.hstack([np.ones((len(rows), 1)), rows])
