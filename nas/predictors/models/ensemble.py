"""Stacking: several models, weighted by their predictions of held-out measurements."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.predictors.models._nonnegative import bounded
from nas.predictors.models._selection import Target, for_settings
from nas.predictors.models.boosting import BoostingModel
from nas.predictors.models.gaussian_process import GaussianProcessModel
from nas.predictors.models.mlp import MLPModel
from nas.predictors.models.model import TINY, FloatArray, Model, Prediction, put_back, shuffled
from nas.predictors.models.ridge import RidgeModel

_FEWEST = {"boosting": 80, "mlp": 80}  # fewest measurements with which a kind takes part
_CAUTION = 5.0  # strength of the prior for equal weights, in measurements
_LEAST = 0.02  # smaller weights are set to 0, and their models are not evaluated

Makes = Mapping[str, Callable[[], Model]]


class Columns:
    """A model that uses some columns only."""

    def __init__(self, model: Model, *columns: slice) -> None:
        self.model = model
        self.columns = columns

    @property
    def held_out(self) -> Prediction:
        return self.model.held_out

    def fit(self, x: npt.NDArray[Any], y: FloatArray) -> None:
        self.model.fit(self.of(x), y)

    def predict(self, x: npt.NDArray[Any]) -> Prediction:
        return self.model.predict(self.of(x))

    def of(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the columns that the model uses."""
        parts = [part for part in (x[:, columns] for columns in self.columns) if part.shape[1]]
        return parts[0] if len(parts) == 1 else np.hstack(parts)


class EnsembleModel:
    """A weighted mean of models; least squares on held-out predictions gives the weights (at least 0, sum 1).

    Stacked regressions (Wolpert 1992; Breiman 1996, "Stacked regressions"), of logarithms if these predict better, with
    shrinkage towards equal weights for few measurements. Each model holds measurements out in its own way: one by one
    in closed form, or by folds. The spread is that of the mixture, scaled to the held-out errors.

    Args:
        parts: constructors by name; by default all models that accept any rows.
        fewest: by name, the fewest measurements with which a model takes part.
    """

    def __init__(self, parts: Makes | None = None, fewest: Mapping[str, int] = _FEWEST) -> None:
        self.parts: Makes = _ROWS if parts is None else parts
        self.fewest = fewest
        self.weights: dict[str, float] = {}

    def fit(self, x: npt.NDArray[Any], y: FloatArray) -> None:
        order = shuffled(x, y)
        x, y = x[order], y[order]
        taking_part = {name: make() for name, make in self.parts.items() if len(y) >= self.fewest.get(name, 0)}
        for model in taking_part.values():
            model.fit(x, y)
        held_out = [model.held_out for model in taking_part.values()]
        tried = [_Stack.of(target, held_out, y) for target in Target.kinds(y)]
        self._stack = max(tried, key=lambda stack: stack.density)
        self.weights = dict(zip(taking_part, self._stack.weights.tolist(), strict=True))
        self._models = list(taking_part.values())
        self.held_out = put_back(self._stack.mixed(held_out), order)

    def predict(self, x: npt.NDArray[Any]) -> Prediction:
        """Predict with the models that have a positive weight."""
        pairs = zip(self._models, self._stack.weights, strict=True)
        return self._stack.mixed([model.predict(x) if weight > 0 else None for model, weight in pairs])


_ROWS: Makes = {
    "ridge": RidgeModel,
    "gaussian_process": GaussianProcessModel,
    "boosting": BoostingModel,
    "mlp": MLPModel,
}


@dataclass(frozen=True)
class _Stack:
    """Combines predictions in units of z = (y - mean) / scale, with log y instead of y if `target.log`."""

    target: Target
    least: float  # smallest value before a logarithm: a linear model may predict less
    weights: FloatArray
    widening: float = 1.0
    density: float = 0.0

    @classmethod
    def of(cls, target: Target, held_out: Sequence[Prediction], y: FloatArray) -> "_Stack":
        least = float(y.min()) / 10
        z = target.standardised(y)
        errors = z[:, None] - np.stack([_standardised(target, least, part)[0] for part in held_out], axis=1)
        stack = cls(target, least, _weights(errors))
        mean, std = stack._mixed(held_out)
        widening = max(float(np.sqrt(np.mean(((z - mean) / std) ** 2) * for_settings(len(y)))), TINY)
        density = target.log_slope(y) - float(np.mean(np.log(widening * std)))
        return replace(stack, widening=widening, density=density)

    def mixed(self, predictions: Sequence[Prediction | None]) -> Prediction:
        """Return the combined prediction in the unit of y."""
        mean, std = self._mixed(predictions)
        return self.target.restored(mean, std * self.widening)

    def _mixed(self, predictions: Sequence[Prediction | None]) -> Prediction:
        """Return mean and standard deviation of the mixture, in units of z."""
        pairs = zip(self.weights, predictions, strict=True)
        parts = [(w, *_standardised(self.target, self.least, part)) for w, part in pairs if part is not None]
        mean: FloatArray = np.sum([w * m for w, m, _ in parts], axis=0)
        variance: FloatArray = np.sum([w * (s**2 + (m - mean) ** 2) for w, m, s in parts], axis=0)
        return mean, np.maximum(np.sqrt(variance), TINY)


def _standardised(target: Target, least: float, prediction: Prediction) -> Prediction:
    mean, std = prediction
    if not target.log:
        return target.standardised(mean), std / target.scale
    mean = np.maximum(mean, least)
    return target.standardised(mean), std / mean / target.scale


def _weights(errors: FloatArray) -> FloatArray:
    """Return (m,) weights, at least 0 with sum 1, that minimise the weighted errors (n, m).

    With sum 1 the combined errors are `errors @ w`; the minimum of w'Qw over the simplex is, up to scale, that of
    w'Qw / 2 - 1'w over w >= 0.
    """
    products = errors.T @ errors
    caution = _CAUTION * float(np.diag(products).min()) / len(errors) + TINY
    weights = bounded(products + caution * np.eye(len(products)), np.ones(len(products)), np.full(len(products), True))
    weights = np.where(weights < _LEAST * weights.sum(), 0.0, weights)
    scaled: FloatArray = weights / weights.sum()
    return scaled
