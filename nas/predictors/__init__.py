"""Predictors: a metric of an architecture from a few measured ones, with its uncertainty, for 100,000 in one call.

A predictor has no stored state. It is fitted again from the measurements in the database, which takes less than a
second, and so can never be out of step with them.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from nas.predictors._features import Features
from nas.predictors.gaussian_process import GaussianProcess
from nas.predictors.ridge import Ridge
from search_spaces import Architecture


class Predictor(Protocol):
    """Constructed as `Predictor(space, features=None)`; `features` adds columns to the encoding of the space."""

    def fit(self, archs: Sequence[Architecture], y: Sequence[float] | np.ndarray) -> None:
        """Learns from measured values, one an architecture; forgets what it was fitted to before."""
        ...

    def predict(self, archs: Sequence[Architecture]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of a new measurement, each (n,), in the unit of `y`."""
        ...


PREDICTORS: dict[str, type[Ridge] | type[GaussianProcess]] = {"ridge": Ridge, "gaussian_process": GaussianProcess}

__all__ = ["PREDICTORS", "Features", "GaussianProcess", "Predictor", "Ridge"]
