"""Least squares with some unknowns bounded below by 0."""

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve

from nas.predictors.models.model import FloatArray

_PATIENCE = 3  # exchanges of whole blocks without progress, before one at a time


def bounded(hessian: FloatArray, linear: FloatArray, nonnegative: npt.NDArray[np.bool_]) -> FloatArray:
    """w (p,) that minimises w'Hw / 2 - linear'w for positive definite H, with w >= 0 where `nonnegative`.

    Block principal pivoting with Murty's rule for safety (Portugal, Judice and Vicente 1994): a handful of solutions
    of a linear system, for what active-set methods do in one a variable.
    """
    free = np.ones(len(linear), dtype=bool)
    fewest, patience = len(linear) + 1, _PATIENCE
    tolerance = 1e-10 * max(float(np.abs(linear).max(initial=0.0)), 1e-300)
    while True:
        w = np.zeros(len(linear))
        w[free] = cho_solve(cho_factor(hessian[np.ix_(free, free)], lower=True), linear[free])
        slope = hessian @ w - linear
        wrong = np.flatnonzero((free & nonnegative & (w < 0)) | (~free & (slope < -tolerance)))
        if not len(wrong):
            return w
        if len(wrong) < fewest:
            fewest, patience = len(wrong), _PATIENCE
        else:
            patience -= 1
        exchanged = wrong if patience > 0 else wrong[-1:]
        free[exchanged] = ~free[exchanged]
