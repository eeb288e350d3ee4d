"""An additive table of costs, one number per option of each choice, like a look-up table of latencies."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve, cholesky

from nas.predictors.models._lookup import Lookup
from nas.predictors.models._nonnegative import bounded
from nas.predictors.models._selection import Choice, for_settings, leave_one_out_rows
from nas.predictors.models._steps import Steps
from nas.predictors.models.model import FloatArray, Prediction, Scaling
from search_spaces.layout import Slot

_SHARES = (0.0, 1.0, 10.0)  # prior variance common to all positions of a choice, relative to that of each position


class AdditiveModel:
    """Least squares on integer codes; a prediction is a look-up, of logarithms if these predict better.

    The unknowns are steps: for numeric choices the additional cost of an option over the previous one, for others its
    cost. Positions of one choice (`kernel.0`, `kernel.1`) have similar costs a priori, as far as the measurements
    confirm it. With `monotone`, no step of a numeric choice that only enlarges the network is below 0, and neither is
    the cost of a choice that depends on a condition. The spread is the same everywhere, that of leave-one-out errors.

    Rows are the codes of `slots`, -1 if inactive, and any further columns of numbers, which enter linearly. After a
    fit, `errors` (n,) are the leave-one-out errors in the units of `target`.
    """

    def __init__(self, slots: Sequence[Slot], monotone: bool = True) -> None:
        self.slots = tuple(slots)
        self.steps = Steps.of(self.slots)
        self.monotone = monotone

    def fit(self, x: npt.NDArray[Any], y: FloatArray) -> None:
        num_slots = len(self.slots)
        steps = self.steps.rows(x[:, :num_slots].astype(np.int16))
        self._centre = steps.mean(axis=0)
        self._scaling = Scaling(x[:, num_slots:], 0) if x.shape[1] > num_slots else None
        extra = self._scaling(x[:, num_slots:]) if self._scaling else np.empty((len(x), 0))
        rows = np.hstack([np.ones((len(x), 1)), steps - self._centre, extra])
        choice, precision = max((self._prior(rows, y, share) for share in _SHARES), key=lambda tried: tried[0].density)
        self._solve(rows, y, choice, choice.noise * precision)

    def predict(self, x: npt.NDArray[Any]) -> Prediction:
        return self.target.restored(self.standardised(x), np.full(len(x), self._spread))

    def standardised(self, x: npt.NDArray[Any]) -> FloatArray:
        """Return (n,) means in the units of `target`."""
        num_slots = len(self.slots)
        mean = self._lookup(x[:, :num_slots]) + self._constant
        return mean if self._scaling is None else mean + self._scaling(x[:, num_slots:]) @ self._extra

    def _prior(self, rows: FloatArray, y: FloatArray, share: float) -> tuple[Choice, FloatArray]:
        """Return the best noise under one prior, and the precision (p, p) of that prior."""
        covariance = np.eye(rows.shape[1])
        inner = slice(1, 1 + len(self.steps.families))
        covariance[inner, inner] += share * (self.steps.families[:, None] == self.steps.families[None])
        spread = float(np.mean(np.einsum("ni,ij,nj->n", rows[:, inner], covariance[inner, inner], rows[:, inner])))
        covariance[inner, inner] /= spread or 1.0
        choice = leave_one_out_rows(rows @ cholesky(covariance, lower=True), y)
        return choice, np.linalg.inv(covariance).astype(float)

    def _solve(self, rows: FloatArray, y: FloatArray, choice: Choice, precision: FloatArray) -> None:
        z = choice.target.standardised(y)
        nonnegative = np.zeros(rows.shape[1], dtype=bool)
        nonnegative[1 : 1 + len(self.steps.enlarging)] = self.steps.enlarging & self.monotone
        hessian = rows.T @ rows + precision
        weights = bounded(hessian, rows.T @ z, nonnegative)
        free = ~nonnegative | (weights > 0)
        factor = cho_factor(hessian[np.ix_(free, free)], lower=True)
        leverage = np.sum(rows[:, free].T * cho_solve(factor, rows[:, free].T), axis=0)
        self.errors = (z - rows @ weights) / np.maximum(1.0 - leverage, 1e-6)
        self.target = choice.target
        self._spread = max(float(np.sqrt(np.mean(self.errors**2) * for_settings(len(y)))), 1e-9)
        self.held_out = self.target.restored(z - self.errors, np.full(len(y), self._spread))
        inner = 1 + len(self._centre)
        self._extra = weights[inner:]
        self._lookup = Lookup(self.steps.tables(weights[1:inner]))
        self._constant = float(weights[0] - self._centre @ weights[1:inner])
