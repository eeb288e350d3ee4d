"""Architectures as rows of numbers, and the checks on what is handed to a predictor."""

from collections.abc import Callable, Sequence

import numpy as np

from nas.errors import NasError
from search_spaces import Architecture, Space

Features = Callable[[Sequence[Architecture]], np.ndarray]
"""(n, k) numbers that say more than the encoding does, for instance the multiply-adds of each network."""

_FEWEST = 3  # measurements below which a spread says nothing


class FeatureTable:
    """Rows for a linear model: the encoding, centred, beside the user's columns, standardised.

    The whole table is scaled to rows of mean square 1, so that settings of a model mean the same in every space.
    """

    def __init__(self, space: Space, features: Features | None, archs: Sequence[Architecture]) -> None:
        self.space = space
        self.features = features
        raw, num_encoded = self._raw(archs)
        self._centre = raw.mean(axis=0)
        self._scale = np.ones(raw.shape[1])
        self._scale[num_encoded:] = np.maximum(raw[:, num_encoded:].std(axis=0), np.finfo(float).tiny)
        size = np.sqrt(np.mean(np.sum(((raw - self._centre) / self._scale) ** 2, axis=1)))
        self._scale *= size if size > 0 else 1.0

    def rows(self, archs: Sequence[Architecture]) -> np.ndarray:
        """(n, p)."""
        rows: np.ndarray = (self._raw(archs)[0] - self._centre) / self._scale
        return rows

    def _raw(self, archs: Sequence[Architecture]) -> tuple[np.ndarray, int]:
        encoded = np.asarray(self.space.encode(archs), dtype=float)
        if self.features is None:
            return encoded, encoded.shape[1]
        extra = np.asarray(self.features(archs), dtype=float)
        if extra.ndim != 2 or len(extra) != len(archs) or not np.isfinite(extra).all():
            raise NasError(
                f"features gave an array of shape {extra.shape}; return finite numbers of shape ({len(archs)}, k)"
            )
        return np.hstack([encoded, extra]), encoded.shape[1]


def checked(archs: Sequence[Architecture], y: Sequence[float] | np.ndarray) -> np.ndarray:
    """`y` as (n,) floats; NasError unless there is one finite value for each of enough architectures."""
    values = np.asarray(y, dtype=float)
    if values.shape != (len(archs),):
        raise NasError(
            f"{len(archs)} architectures with values of shape {values.shape}; give one value an architecture"
        )
    if len(values) < _FEWEST:
        raise NasError(f"{len(values)} measurements are too few to fit a predictor; measure at least {_FEWEST}")
    if not np.isfinite(values).all():
        bad = archs[int(np.flatnonzero(~np.isfinite(values))[0])].digest
        raise NasError(f"the value of architecture {bad} is not finite; leave failed measurements out")
    return values
