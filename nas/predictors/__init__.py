"""Predictors estimate a metric of architectures, with its uncertainty, from a few measurements; 100,000 in one call.

Every kind is constructed as ``Kind(space, features=None)``. `Ensemble` is the recommended kind; it weights the others
by their predictions of held-out measurements (docs/decisions/latency-predictor.md). For rows of numbers that do not
come from a `Space`, use the underlying models in `nas.predictors.models`.

A predictor stores no state. A fit is a function of the measurements in any order, so it is recomputed from those in the
database or in a file (`nas.predictors.stored`) and always agrees with them.
"""

from collections.abc import Sequence
from typing import Protocol

from nas.predictors.kinds import MLP, Additive, Boosting, Ensemble, GaussianProcess, OverRows, Ridge
from nas.predictors.models import FloatArray
from nas.predictors.rows import Archs, Features
from search_spaces import Space


class Predictor(Protocol):
    """Constructed as `Kind(space, features=None)`; `features` returns k more columns, (n, k) for n architectures.

    Architectures are a sequence of `Architecture` or (n, num_slots) integer codes, which are fast for many; `features`
    is called with a part of either.
    """

    def fit(self, archs: Archs, y: Sequence[float] | FloatArray) -> None:
        """Fit to measured values, one per architecture, discarding any earlier fit."""
        ...

    def predict(self, archs: Archs) -> tuple[FloatArray, FloatArray]:
        """Return the mean and standard deviation of a new measurement, each (n,), in the unit of `y`."""
        ...


class Kind(Protocol):
    """A class of predictors."""

    def __call__(self, space: Space, features: Features | None = None) -> OverRows: ...


PREDICTORS: dict[str, Kind] = {
    "additive": Additive,
    "ridge": Ridge,
    "boosting": Boosting,
    "gaussian_process": GaussianProcess,
    "mlp": MLP,
    "ensemble": Ensemble,
}

__all__ = [
    "MLP",
    "PREDICTORS",
    "Additive",
    "Archs",
    "Boosting",
    "Ensemble",
    "Features",
    "GaussianProcess",
    "Kind",
    "OverRows",
    "Predictor",
    "Ridge",
]
