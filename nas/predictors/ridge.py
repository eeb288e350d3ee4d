"""Bayesian ridge regression on the encoding: the default for costs, which nearly add up over the parts of a network."""

from collections.abc import Sequence

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from nas.errors import NasError
from nas.predictors._features import Features, FeatureTable, checked
from nas.predictors._selection import Choice, in_portions, leave_one_out
from search_spaces import Architecture, Space


class Ridge:
    """Linear in the encoding; regularisation and a logarithmic target are chosen by leave-one-out density.

    Why this one is the default: docs/decisions/latency-predictor.md.
    """

    def __init__(self, space: Space, features: Features | None = None) -> None:
        self.space = space
        self.features = features
        self._table: FeatureTable | None = None

    def fit(self, archs: Sequence[Architecture], y: Sequence[float] | np.ndarray) -> None:
        values = checked(archs, y)
        self._table = FeatureTable(self.space, self.features, archs)
        rows = _with_constant(self._table.rows(archs))
        self._choice: Choice = leave_one_out(rows @ rows.T, values)
        precision = rows.T @ rows + self._choice.noise * np.eye(rows.shape[1])
        self._factor = cho_factor(precision, lower=True)
        self._weights = cho_solve(self._factor, rows.T @ self._choice.target.standardised(values))

    def predict(self, archs: Sequence[Architecture]) -> tuple[np.ndarray, np.ndarray]:
        if self._table is None:
            raise NasError("this predictor has seen no measurements; call fit before predict")
        mean, spread = np.empty(len(archs)), np.empty(len(archs))
        for part in in_portions(archs):
            rows = _with_constant(self._table.rows(archs[part]))
            mean[part] = rows @ self._weights
            whitened = solve_triangular(self._factor[0], rows.T, lower=True)
            spread[part] = 1.0 + np.sum(whitened**2, axis=0)
        std = np.sqrt(self._choice.variance * self._choice.noise * spread)
        return self._choice.target.restored(mean, std)


def _with_constant(rows: np.ndarray) -> np.ndarray:
    return np.hstack([np.ones((len(rows), 1)), rows])
