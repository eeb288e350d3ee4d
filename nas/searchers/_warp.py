"""Values bent so that good ones lie further apart: a model then spends itself on them, and outliers matter little."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

BENDS = (0.1, 0.3, 1.0)
"""Small ones bend much; infinity leaves a line."""
_OUTLIERS = 6.0  # distances of the median from the best; what is beyond is taken to be there
_LEAST = 1e-300


@dataclass(frozen=True)
class Warp:
    """log((y - best) / unit + bend), standardised; y to be minimised."""

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
        """Bent values, standardised."""
        relative = self._relative(values)
        bent = relative if self.bend == np.inf else np.log(np.maximum(relative, -0.9 * self.bend) + self.bend)
        found: FloatArray = (bent - self.center) / self.scale
        return found

    def back(self, bent: FloatArray) -> FloatArray:
        """The inverse, of what is no outlier."""
        plain = np.minimum(bent * self.scale + self.center, np.log(1e3))
        relative = plain if self.bend == np.inf else np.exp(plain) - self.bend
        found: FloatArray = relative * self.unit + self.best
        return found

    def log_slope(self, values: FloatArray) -> float:
        """Sum of the logs of the slopes, by which likelihoods of bent values compare; the unit is common to all."""
        bent = 0.0 if self.bend == np.inf else -np.log(self._relative(values) + self.bend).sum()
        return float(bent - len(values) * np.log(self.scale))

    def _relative(self, values: npt.ArrayLike) -> FloatArray:
        return np.minimum((np.asarray(values, dtype=float) - self.best) / self.unit, _OUTLIERS)
