"""Architectures as rows of numbers, and checks of a predictor's input."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from nas.errors import NasError
from nas.predictors.models import FloatArray
from search_spaces import Architecture, Space

Archs: TypeAlias = Sequence[Architecture] | npt.NDArray[np.int16]
"""Architectures, or their integer codes (n, num_slots), as `Space.codes` returns and `Space.encode` accepts them."""

Features: TypeAlias = Callable[[Archs], npt.NDArray[Any]]
"""Returns (n, k) numbers beyond the encoding, for instance the multiply-accumulates of each network."""

FEWEST = 3  # fewest measurements with a meaningful spread


def codes_of(space: Space, archs: Archs) -> npt.NDArray[np.int16]:
    """Return (n, num_slots) codes."""
    return archs if isinstance(archs, np.ndarray) else space.codes(archs)


def with_features(rows: npt.NDArray[Any], features: Features | None, archs: Archs) -> npt.NDArray[Any]:
    """Append the user's k columns to `rows` (n, p); raise NasError unless they are (n, k) finite numbers."""
    if features is None:
        return rows
    extra = np.asarray(features(archs), dtype=float)
    if extra.ndim != 2 or len(extra) != len(archs) or not np.isfinite(extra).all():
        raise NasError(
            f"features returned an array of shape {extra.shape}; return finite numbers of shape ({len(archs)}, k)"
        )
    return np.hstack([rows, extra])


def values_of(space: Space, archs: Archs, y: Sequence[float] | FloatArray) -> FloatArray:
    """Return `y` as (n,) floats; raise NasError unless there is one finite value for each of enough architectures."""
    values = np.asarray(y, dtype=float)
    if values.shape != (len(archs),):
        raise NasError(
            f"{len(archs)} architectures with values of shape {values.shape}; give one value per architecture"
        )
    if len(values) < FEWEST:
        raise NasError(f"{len(values)} measurements are too few to fit a predictor; measure at least {FEWEST}")
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values))[0])
        arch = space.decode(archs[bad : bad + 1])[0] if isinstance(archs, np.ndarray) else archs[bad]
        raise NasError(f"the value of architecture {arch.digest} is not finite; leave failed measurements out")
    return values
