"""Models over plain rows of numbers, the basis of every predictor; also for data that do not come from a `Space`.

    model = EnsembleModel()          # or MODELS["ridge"]()
    model.fit(x, y)                  # x (n, p), y (n,)
    mean, std = model.predict(x)     # each (n,), in the unit of y
    mean, std = model.held_out       # of the measurements themselves, each from a fit that has not seen it

A fit is a function of the measurements: there is no seed, and their order affects only rounding.
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
"""The models that accept any rows; `AdditiveModel` needs the codes of slots."""

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
