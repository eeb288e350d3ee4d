"""Folds of the measurements: each of several fits leaves one out."""

import numpy as np
import numpy.typing as npt

from nas.predictors.models.model import FloatArray, shuffled


def folds(x: npt.NDArray[np.float64], y: FloatArray, num_folds: int) -> npt.NDArray[np.intp]:
    """The fold (n,) of each measurement: random, as equal in size as can be, and the same whatever their order."""
    fold = np.empty(len(y), dtype=np.intp)
    fold[shuffled(x, y)] = np.arange(len(y)) % min(num_folds, len(y))
    return fold
