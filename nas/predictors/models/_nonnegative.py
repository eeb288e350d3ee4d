"""Least squares with some unknowns bounded below by 0."""

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve

from nas.predictors.models.model import FloatArray

_PATIENCE = 3  # block exchanges without progress before single exchanges
_MOST = 5  # most exchanges per variable: far more than needed, except where rounding decides


def bounded(hessian: FloatArray, linear: FloatArray, nonnegative: npt.NDArray[np.bool_]) -> FloatArray:
    """Return w (p,) that minimises w'Hw / 2 - linear'w for positive definite H, with w >= 0 where `nonnegative`.

    Block principal pivoting with Murty's rule as a safeguard (Portugal, Judice and Vicente 1994): it solves a few
    linear systems, whereas active-set methods solve one per variable.
    """
    size = len(linear)
    free = np.ones(size, dtype=bool)
    fewest, patience = size + 1, _PATIENCE
    slack = 1e-9 * max(float(np.abs(linear).max(initial=0.0)), 1e-300)
    for _ in range(_MOST * size):
        w = np.zeros(size)
        w[free] = cho_solve(cho_factor(hessian[np.ix_(free, free)], lower=True), linear[free])
        slope = hessian @ w - linear
        wrong = np.flatnonzero((free & nonnegative & (w * np.diag(hessian) < -slack)) | (~free & (slope < -slack)))
        if not len(wrong):
            break
        if len(wrong) < fewest:
            fewest, patience = len(wrong), _PATIENCE
        else:
            patience -= 1
        exchanged = wrong if patience > 0 else wrong[-1:]
        free[exchanged] = ~free[exchanged]
    return np.where(nonnegative, np.maximum(w, 0.0), w)
