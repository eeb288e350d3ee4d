"""A model of the residuals of a table of costs: interactions, learned from the table's errors."""

from typing import Any

import numpy.typing as npt

from nas.predictors.models.additive import AdditiveModel
from nas.predictors.models.ensemble import Columns
from nas.predictors.models.model import FloatArray, Model, Prediction


class DepartureModel:
    """A table plus another model fitted to its held-out errors, of logarithms if the table uses them.

    A model without an additive part spends most measurements on learning the sum; here the table provides it.

    Args:
        table: the main part of the metric.
        seen: the columns that the table uses: codes, and columns that enter linearly.
        rest: the model of its errors; it uses all columns unless it is `Columns`.
    """

    def __init__(self, table: AdditiveModel, seen: tuple[slice, ...], rest: Model) -> None:
        self.table = table
        self.seen = Columns(table, *seen)
        self.rest = rest

    def fit(self, x: npt.NDArray[Any], y: FloatArray) -> None:
        self.seen.fit(x, y)
        self.rest.fit(x, self.table.errors - self.table.errors.mean())  # the table models the constant
        mean, std = self.rest.held_out
        self.held_out = self.table.target.restored(self.table.target.standardised(y) - self.table.errors + mean, std)

    def predict(self, x: npt.NDArray[Any]) -> Prediction:
        mean, std = self.rest.predict(x)
        return self.table.target.restored(self.table.standardised(self.seen.of(x)) + mean, std)
