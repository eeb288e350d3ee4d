"""A warp that spreads good values apart, so that a model fits these best and outliers matter little."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

BENDS = (0.1, 0.3, 1.0)
"""Smaller values bend more; infinity is linear."""
_OUTLIERS = 6.0  # values are clipped at so many times the median's distance from the best
_LEAST = 1e-300


@dataclass(frozen=True)
class Warp:
    """log((y - best) / unit + bend), standardised; y is minimised."""

    bend: float
    best: float
    unit: float
    center: float
    scale: float

    @classmethod
    def of(cls, values: FloatArray, bend: float) -> "Warp":
        best = float(values.min())
        unit = max(float(np.median(values)) - best or float(values.mean()) - best, _LEAST)
        plain = cls(bend, best, unit, 0.0, 1.0)
        bent = plain(values)
        return cls(bend, best, unit, float(bent.mean()), float(bent.std()) or 1.0)

    def __call__(self, values: npt.ArrayLike) -> FloatArray:
        """Return warped, standardised values."""
        relative = self._relative(values)
        bent = relative if self.bend == np.inf else np.log(np.maximum(relative, -0.9 * self.bend) + self.bend)
        found: FloatArray = (bent - self.center) / self.scale
        return found

    def back(self, bent: FloatArray) -> FloatArray:
        """Return the inverse, for values that are not clipped."""
        plain = np.minimum(bent * self.scale + self.center, np.log(1e3))
        relative = plain if self.bend == np.inf else np.exp(plain) - self.bend
        found: FloatArray = relative * self.unit + self.best
        return found

    def log_slope(self, values: FloatArray) -> float:
        """Sum of the log slopes, which makes likelihoods of different warps comparable; without the common unit."""
        bent = 0.0 if self.bend == np.inf else -np.log(self._relative(values) + self.bend).sum()
        return float(bent - len(values) * np.log(self.scale))

    def _relative(self, values: npt.ArrayLike) -> FloatArray:
        return np.minimum((np.asarray(values, dtype=float) - self.best) / self.unit, _OUTLIERS)
