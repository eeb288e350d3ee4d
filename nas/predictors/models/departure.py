"""What departs from a table of costs: interactions, learnt from the errors of the table."""

from typing import Any

import numpy.typing as npt

from nas.predictors.models.additive import AdditiveModel
from nas.predictors.models.ensemble import Columns
from nas.predictors.models.model import FloatArray, Model, Prediction


class DepartureModel:
    """A table, and another model fitted to its held-out errors, in the logarithm where the table takes it.

    A model that knows nothing of sums spends most measurements on finding one; this leaves them to the rest.

    Args:
        table: what most of the metric is.
        seen: the columns the table sees: codes, and what enters linearly.
        rest: the model of its errors; it sees all columns, unless it is `Columns`.
    """

    def __init__(self, table: AdditiveModel, seen: tuple[slice, ...], rest: Model) -> None:
        self.table = table
        self.seen = Columns(table, *seen)
        self.rest = rest

    def fit(self, x: npt.NDArray[Any], y: FloatArray) -> None:
        self.seen.fit(x, y)
        self.rest.fit(x, self.table.errors - self.table.errors.mean())  # a constant is the table's to find
        mean, std = self.rest.held_out
        self.held_out = self.table.target.restored(self.table.target.standardised(y) - self.table.errors + mean, std)

    def predict(self, x: npt.NDArray[Any]) -> Prediction:
        mean, std = self.rest.predict(x)
        return self.table.target.restored(self.table.standardised(self.seen.of(x)) + mean, std)
