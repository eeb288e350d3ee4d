"""A model of one metric over the space: bent values, and a Gaussian process of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from nas.searchers._process import Codes, Differences, Kernel, Process, learnt, log_likelihood
from nas.searchers._warp import BENDS, Warp

FloatArray = npt.NDArray[np.float64]

OPTIMISM = (0.5, 1.0, 2.0)
"""Standard deviations by which what is hoped for is better than what is expected, from cautious to bold."""


@dataclass(frozen=True, eq=False)
class Manner:
    """What a part of what is known tells of a metric: how networks differ, its values are bent and choices matter."""

    differences: Differences
    bend: float
    kernel: Kernel


def manner(readings: Sequence[Differences], codes: Codes, values: FloatArray) -> Manner:
    """What predicts n values to be minimised best, by likelihood: one reading, one bend, and the kernel with these."""
    scores: dict[Manner, float] = {}
    for differences in readings:
        stack = differences.stacked(codes)
        for bend in BENDS:
            warp = Warp.of(values, bend)
            kernel = learnt(stack, warp(values))
            likelihood = log_likelihood(stack, warp(values), kernel) + warp.log_slope(values)
            scores[Manner(differences, bend, kernel)] = likelihood
    return max(scores, key=scores.__getitem__)


class Metric:
    """What is expected of a metric that is to be small, anywhere in the space, in its own unit."""

    def __init__(self, codes: Codes, values: FloatArray, manner: Manner) -> None:
        self._warp = Warp.of(values, manner.bend)
        self._process = Process(manner.differences, codes, self._warp(values), manner.kernel)

    def expected(self, codes: Codes) -> tuple[FloatArray, FloatArray]:
        """(n,) values expected, and (levels, n) values hoped for."""
        mean, spread = self._process.predict(codes)
        return self._warp.back(mean), np.stack([self._warp.back(mean - level * spread) for level in OPTIMISM])

    def chance_below(self, codes: Codes, bound: float) -> FloatArray:
        """(n,) probabilities of values up to `bound`."""
        mean, spread = self._process.predict(codes)
        chance: FloatArray = ndtr((self._warp(bound) - mean) / spread)
        return chance


class Told:
    """A metric, to be small, that is known of any network for next to nothing; the same questions as of a `Metric`."""

    def __init__(self, values: Callable[[Codes], FloatArray]) -> None:
        self._values = values

    def expected(self, codes: Codes) -> tuple[FloatArray, FloatArray]:
        """(n,), and the same (levels, n)."""
        values = self._values(codes)
        return values, np.tile(values, (len(OPTIMISM), 1))

    def chance_below(self, codes: Codes, bound: float) -> FloatArray:
        """(n,) 1 or 0."""
        return (self._values(codes) <= bound).astype(float)
