"""Predictors: a metric of an architecture from a few measured ones, with its uncertainty, for 100,000 in one call.

Every kind is made as ``Kind(space, features=None)``; `Ensemble`, which weighs the others by what they predict of
measurements they have not seen, is the one to take unless there is a reason (docs/decisions/latency-predictor.md).
Rows of numbers that are no `Space` go to the models behind them, in `nas.predictors.models`.

A predictor has no stored state. A fit is a function of the measurements, whatever their order, so it is made again
from those in the database or in a file (`nas.predictors.stored`) and can never be out of step with them.
"""

from collections.abc import Sequence
from typing import Protocol

from nas.predictors.kinds import MLP, Additive, Boosting, Ensemble, GaussianProcess, OverRows, Ridge
from nas.predictors.models import FloatArray
from nas.predictors.rows import Archs, Features
from search_spaces import Space


class Predictor(Protocol):
    """Made as `Kind(space, features=None)`; `features` adds columns, (n, k) of n architectures, to those of the space.

    Architectures come as a sequence of them or as (n, num_slots) integer codes, the fast way for many; `features` is
    called with what it is: a part of either.
    """

    def fit(self, archs: Archs, y: Sequence[float] | FloatArray) -> None:
        """Learns from measured values, one an architecture; forgets what it was fitted to before."""
        ...

    def predict(self, archs: Archs) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation of a new measurement, each (n,), in the unit of `y`."""
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
