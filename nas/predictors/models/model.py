"""The protocol of models over rows, and shared helpers."""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float64]
Prediction: TypeAlias = tuple[FloatArray, FloatArray]
"""Mean and standard deviation, each (n,), in the unit of the measured values."""

TINY = 1e-12


class Model(Protocol):
    """A regression over checked rows x (n, p): at least three rows, all numbers finite."""

    @property
    def held_out(self) -> Prediction:
        """Predictions of the fitted rows, in their order, each from a fit that has not seen the row."""
        ...

    def fit(self, x: npt.NDArray[Any], y: FloatArray) -> None: ...

    def predict(self, x: npt.NDArray[Any]) -> Prediction: ...


def in_portions(predict: Callable[[slice], Prediction], n: int, size: int = 16_384) -> Prediction:
    """Predict n rows in portions, which bounds the memory."""
    mean, std = np.empty(n), np.empty(n)
    for first in range(0, n, size):
        part = slice(first, first + size)
        mean[part], std[part] = predict(part)
    return mean, std


def shuffled(x: npt.NDArray[Any], y: FloatArray) -> npt.NDArray[np.intp]:
    """Return a random order of the measurements that depends on their values, not on their given order."""
    order = np.lexsort((y, *x.T[::-1]))
    return order[np.random.default_rng(0).permutation(len(order))]


def put_back(prediction: Prediction, order: npt.NDArray[np.intp]) -> Prediction:
    """Return predictions of shuffled measurements in the original order."""
    place = np.argsort(order)
    return prediction[0][place], prediction[1][place]


class Scaling:
    """Scales rows: the encoding is centred, shared counts are weighted, and all other columns are standardised.

    The result is scaled to rows with a mean square norm of 1, so that settings of a model mean the same for all data.

    Args:
        num_encoded: number of encoding columns, which come first.
        num_shared: number of counts shared by the positions of a choice, which come next.
        share: prior variance of the shared counts, relative to the encoding's.
    """

    def __init__(self, x: npt.NDArray[Any], num_encoded: int, num_shared: int = 0, share: float = 1.0) -> None:
        rows = np.asarray(x, dtype=float)
        last = num_encoded + num_shared
        self._centre = rows.mean(axis=0)
        self._scale = np.ones(rows.shape[1])
        self._scale[num_encoded:last] = share**-0.5 if share > 0 else np.inf
        spread = rows[:, last:].std(axis=0)
        constant = spread <= TINY * np.abs(self._centre[last:])
        self._scale[last:] = np.where(constant, np.inf, spread)  # constant columns become 0
        size = np.sqrt(np.mean(np.sum(((rows - self._centre) / self._scale) ** 2, axis=1)))
        self._scale *= size if size > 0 else 1.0

    def __call__(self, x: npt.NDArray[Any]) -> FloatArray:
        """Return scaled rows (n, p)."""
        rows: FloatArray = (np.asarray(x, dtype=float) - self._centre) / self._scale
        return rows
