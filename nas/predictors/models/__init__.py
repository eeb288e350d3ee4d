"""Models over plain rows of numbers, which is what every predictor is inside; for data that are no `Space` too.

    model = EnsembleModel()          # or MODELS["ridge"]()
    model.fit(x, y)                  # x (n, p), y (n,)
    mean, std = model.predict(x)     # each (n,), in the unit of y
    mean, std = model.held_out       # of the measurements themselves, each by a fit that has not seen it

A fit is a function of the measurements: no seed, and their order does not matter but to rounding.
"""

from collections.abc import Callable

from nas.predictors.models._steps import Steps, family
from nas.predictors.models.additive import AdditiveModel
from nas.predictors.models.boosting import BoostingModel
from nas.predictors.models.departure import DepartureModel
from nas.predictors.models.ensemble import Columns, EnsembleModel
from nas.predictors.models.gaussian_process import GaussianProcessModel
from nas.predictors.models.mlp import MLPModel
from nas.predictors.models.model import FloatArray, Model, in_portions
from nas.predictors.models.ridge import RidgeModel

MODELS: dict[str, Callable[[], Model]] = {
    "ridge": RidgeModel,
    "boosting": BoostingModel,
    "gaussian_process": GaussianProcessModel,
    "mlp": MLPModel,
    "ensemble": EnsembleModel,
}
"""Those that take any rows; `AdditiveModel` takes the codes of slots."""

__all__ = [
    "MODELS",
    "AdditiveModel",
    "BoostingModel",
    "Columns",
    "DepartureModel",
    "EnsembleModel",
    "FloatArray",
    "GaussianProcessModel",
    "MLPModel",
    "Model",
    "RidgeModel",
    "Steps",
    "family",
    "in_portions",
]
