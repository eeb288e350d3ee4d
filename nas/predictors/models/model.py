"""What a model over rows promises, and what several of them need."""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float64]
Prediction: TypeAlias = tuple[FloatArray, FloatArray]
"""Mean and standard deviation, each (n,), in the unit of the measured values."""

TINY = 1e-12


class Model(Protocol):
    """A regression over rows x (n, p), which has been checked: at least three rows, all numbers finite."""

    @property
    def held_out(self) -> Prediction:
        """Of the rows it was fitted to, in their order, each by a fit that has not seen it."""
        ...

    def fit(self, x: npt.NDArray[Any], y: FloatArray) -> None: ...

    def predict(self, x: npt.NDArray[Any]) -> Prediction: ...


def in_portions(predict: Callable[[slice], Prediction], n: int, size: int = 16_384) -> Prediction:
    """What `predict` says of n rows, some at a time, which bounds the memory of one prediction."""
    mean, std = np.empty(n), np.empty(n)
    for first in range(0, n, size):
        part = slice(first, first + size)
        mean[part], std[part] = predict(part)
    return mean, std


def shuffled(x: npt.NDArray[Any], y: FloatArray) -> npt.NDArray[np.intp]:
    """A random order of the measurements that depends on what they are, and not on the order in which they came."""
    order = np.lexsort((y, *x.T[::-1]))
    return order[np.random.default_rng(0).permutation(len(order))]


def put_back(prediction: Prediction, order: npt.NDArray[np.intp]) -> Prediction:
    """What is said of measurements in this order, in the order in which they came."""
    place = np.argsort(order)
    return prediction[0][place], prediction[1][place]


class Scaling:
    """Rows of comparable size: the encoding, centred, what positions share, weighed, and all others standardised.

    The whole is scaled to rows of mean square 1, so that settings of a model mean the same for all data.

    Args:
        num_encoded: columns of the encoding, the first ones.
        num_shared: counts that the positions of a choice share, the next ones.
        share: the prior variance of what these say, by that of what the encoding says.
    """

    def __init__(self, x: npt.NDArray[Any], num_encoded: int, num_shared: int = 0, share: float = 1.0) -> None:
        rows = np.asarray(x, dtype=float)
        last = num_encoded + num_shared
        self._centre = rows.mean(axis=0)
        self._scale = np.ones(rows.shape[1])
        self._scale[num_encoded:last] = share**-0.5 if share > 0 else np.inf
        spread = rows[:, last:].std(axis=0)
        constant = spread <= TINY * np.abs(self._centre[last:])
        self._scale[last:] = np.where(constant, np.inf, spread)  # what is constant says nothing of what is not
        size = np.sqrt(np.mean(np.sum(((rows - self._centre) / self._scale) ** 2, axis=1)))
        self._scale *= size if size > 0 else 1.0

    def __call__(self, x: npt.NDArray[Any]) -> FloatArray:
        """(n, p)."""
        rows: FloatArray = (np.asarray(x, dtype=float) - self._centre) / self._scale
        return rows
