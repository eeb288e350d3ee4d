"""A model of one metric over the space: a Gaussian process of warped values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from nas.searchers._process import Codes, Differences, Kernel, Process, learnt, log_likelihood
from nas.searchers._warp import BENDS, Warp

FloatArray = npt.NDArray[np.float64]

OPTIMISM = (0.5, 1.0, 2.0)
"""Standard deviations by which optimistic predictions are better than the mean, from cautious to bold."""


@dataclass(frozen=True, eq=False)
class Manner:
    """How to model a metric: the distance between networks, the bend of the warp, and the kernel."""

    differences: Differences
    bend: float
    kernel: Kernel


def manner(readings: Sequence[Differences], codes: Codes, values: FloatArray) -> Manner:
    """Return the likeliest manner for n values to minimise: one reading, one bend, and the kernel fitted to these."""
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
    """Predicts a metric to minimise anywhere in the space, in its own unit."""

    def __init__(self, codes: Codes, values: FloatArray, manner: Manner) -> None:
        self._warp = Warp.of(values, manner.bend)
        self._process = Process(manner.differences, codes, self._warp(values), manner.kernel)

    def expected(self, codes: Codes) -> tuple[FloatArray, FloatArray]:
        """Return (n,) expected values and (levels, n) optimistic values."""
        mean, spread = self._process.predict(codes)
        return self._warp.back(mean), np.stack([self._warp.back(mean - level * spread) for level in OPTIMISM])

    def chance_below(self, codes: Codes, bound: float) -> FloatArray:
        """Return (n,) probabilities that values are at most `bound`."""
        mean, spread = self._process.predict(codes)
        chance: FloatArray = ndtr((self._warp(bound) - mean) / spread)
        return chance


class Told:
    """A metric to minimise that is computed exactly at little cost; same methods as `Metric`."""

    def __init__(self, values: Callable[[Codes], FloatArray]) -> None:
        self._values = values

    def expected(self, codes: Codes) -> tuple[FloatArray, FloatArray]:
        """Return (n,) values, and the same values as (levels, n)."""
        values = self._values(codes)
        return values, np.tile(values, (len(OPTIMISM), 1))

    def chance_below(self, codes: Codes, bound: float) -> FloatArray:
        """Return (n,) values 1 or 0."""
        return (self._values(codes) <= bound).astype(float)
