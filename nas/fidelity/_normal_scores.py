"""Maps values to normal scores, which do not depend on the values' unit and skewness.

Final metrics differ widely among bad trainings and little among good ones. A Gaussian process with one noise for all
would not distinguish the good ones (Salinas, Shen and Perrone 2020, arXiv:1909.13595, section 4.1).
"""

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

FloatArray = npt.NDArray[np.float64]


class NormalScores:
    """An increasing map from quantiles of the given values to those of a standard normal distribution.

    It is linear between values; beyond them, it continues with the slope of the outer tenth.
    """

    def __init__(self, values: FloatArray) -> None:
        self._values, counts = np.unique(values, return_counts=True)
        below = np.cumsum(counts) - counts
        self._scores = ndtri((below + counts / 2) / len(values))
        if len(self._values) == 1:  # one distinct value: differences keep their size
            self._values, self._scores = self._values[0] + np.array([-1.0, 1.0]), np.array([-1.0, 1.0])
        tenth = max(1, len(self._values) // 10)
        rise, run = ((ends[tenth] - ends[0], ends[-1] - ends[-1 - tenth]) for ends in (self._scores, self._values))
        self._slopes = rise[0] / run[0], rise[1] / run[1]

    def __call__(self, values: FloatArray) -> FloatArray:
        """Return the scores of values."""
        below, above = np.minimum(values - self._values[0], 0), np.maximum(values - self._values[-1], 0)
        found = np.interp(values, self._values, self._scores)
        return np.asarray(found + below * self._slopes[0] + above * self._slopes[1])

    def inverse(self, scores: FloatArray) -> FloatArray:
        """Return the values of scores."""
        below, above = np.minimum(scores - self._scores[0], 0), np.maximum(scores - self._scores[-1], 0)
        found = np.interp(scores, self._scores, self._values)
        return np.asarray(found + below / self._slopes[0] + above / self._slopes[1])
