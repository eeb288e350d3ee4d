"""Values as normal scores: equally many lie between any two quantiles, whatever their unit and however skewed they are.

Where a training ends differs by much among the bad and by little among the good ones. A Gaussian process of one noise
for all would not tell the good ones apart (Salinas, Shen and Perrone 2020, arXiv:1909.13595, section 4.1).
"""

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

FloatArray = npt.NDArray[np.float64]


class NormalScores:
    """An increasing map, from quantiles of the given values to those of a standard normal distribution.

    Between values it is linear, and beyond them it goes on as steeply as over the outer tenth.
    """

    def __init__(self, values: FloatArray) -> None:
        self._values, counts = np.unique(values, return_counts=True)
        below = np.cumsum(counts) - counts
        self._scores = ndtri((below + counts / 2) / len(values))
        if len(self._values) == 1:  # nothing to tell apart: differences keep their size
            self._values, self._scores = self._values[0] + np.array([-1.0, 1.0]), np.array([-1.0, 1.0])
        tenth = max(1, len(self._values) // 10)
        rise, run = ((ends[tenth] - ends[0], ends[-1] - ends[-1 - tenth]) for ends in (self._scores, self._values))
        self._slopes = rise[0] / run[0], rise[1] / run[1]

    def __call__(self, values: FloatArray) -> FloatArray:
        """Scores of values."""
        below, above = np.minimum(values - self._values[0], 0), np.maximum(values - self._values[-1], 0)
        found = np.interp(values, self._values, self._scores)
        return np.asarray(found + below * self._slopes[0] + above * self._slopes[1])

    def inverse(self, scores: FloatArray) -> FloatArray:
        """Values of scores."""
        below, above = np.minimum(scores - self._scores[0], 0), np.maximum(scores - self._scores[-1], 0)
        found = np.interp(scores, self._scores, self._values)
        return np.asarray(found + below / self._slopes[0] + above / self._slopes[1])
