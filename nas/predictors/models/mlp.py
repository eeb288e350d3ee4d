"""The mean of small neural networks, for hundreds of measurements and more."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from nas.predictors.models._selection import Target
from nas.predictors.models.model import FloatArray, Prediction, Scaling, in_portions, put_back, shuffled

_NUM_MEMBERS = 5
_WIDTH = 64
_BATCH = 64
_EPOCHS = 60
_STEPS = (500, 2000)  # fewest and most steps
_RATE = 3e-3
_DECAY = 1e-2

Array: TypeAlias = npt.NDArray[np.float32]
Weights: TypeAlias = list[Array]
"""A matrix (members, inputs, outputs) and a vector (members, 1, outputs) for each layer, in turn."""


class MLPModel:
    """The mean of networks with two hidden layers, each trained without one fold; they train in batched products.

    Training uses Adam with decoupled weight decay (arXiv:1711.05101) and cosine decay of the learning rate to 0. The
    spread combines the errors on the held-out folds and the variance of the networks about their mean.
    """

    def fit(self, x: npt.NDArray[Any], y: FloatArray) -> None:
        order = shuffled(x, y)
        x, y = x[order], y[order]
        self._target = Target.kinds(y)[-1]
        self._scaling = Scaling(x, 0)
        rows, z = self._rows(x), self._target.standardised(y).astype(np.float32)
        fold = np.arange(len(y)) % min(_NUM_MEMBERS, len(y))
        self._weights = _trained(rows, z, fold)
        held_out = _outputs(self._weights, rows)[fold, np.arange(len(y))].astype(float)
        self._spread = max(float(np.mean((z - held_out) ** 2)), 1e-18)
        self.held_out = put_back(self._target.restored(held_out, np.full(len(y), np.sqrt(self._spread))), order)

    def predict(self, x: npt.NDArray[Any]) -> Prediction:
        return in_portions(lambda part: self._some(x[part]), len(x), 2048)

    def _some(self, x: npt.NDArray[Any]) -> Prediction:
        outputs = _outputs(self._weights, self._rows(x)).astype(float)
        std = np.sqrt(self._spread + outputs.var(axis=0))
        return self._target.restored(outputs.mean(axis=0), std)

    def _rows(self, x: npt.NDArray[Any]) -> Array:
        """Scale columns to a variance of about 1, which the initialisation assumes."""
        rows = self._scaling(x)
        scaled: Array = (rows * np.sqrt(max(rows.shape[1], 1))).astype(np.float32)
        return scaled


def _trained(rows: Array, z: Array, fold: npt.NDArray[np.intp]) -> Weights:
    """Train one network per fold, on the other folds."""
    rng = np.random.default_rng(0)
    seen = [np.flatnonzero(fold != left_out) for left_out in range(fold.max() + 1)]
    weights = _start(rng, len(seen), rows.shape[1])
    first, second = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]
    size = min(_BATCH, *(len(some) for some in seen))
    steps = int(np.clip(_EPOCHS * len(z) / _BATCH, *_STEPS))
    for step in range(1, steps + 1):
        batch = np.stack([rng.choice(some, size, replace=False) for some in seen])
        rate = _RATE * 0.5 * (1 + np.cos(np.pi * (step - 1) / steps))
        for w, g, m, v in zip(weights, _slopes(weights, rows[batch], z[batch]), first, second, strict=True):
            m += 0.1 * (g - m)
            v += 0.01 * (g * g - v)
            w -= rate * (m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.99**step)) + 1e-8) + _DECAY * w)
    return weights


def _start(rng: np.random.Generator, members: int, inputs: int) -> Weights:
    """He's initialisation; the last layer starts at 0, so that training starts from the mean."""
    weights: Weights = []
    for a, b in ((inputs, _WIDTH), (_WIDTH, _WIDTH), (_WIDTH, 1)):
        scale = np.sqrt(2 / max(a, 1)) if b > 1 else 0.0
        matrix = (rng.normal(0, 1, (members, a, b)) * scale).astype(np.float32)
        weights += [matrix, np.zeros((members, 1, b), dtype=np.float32)]
    return weights


def _layers(weights: Weights, rows: Array) -> list[Array]:
    """Return the outputs of the layers: two hidden ones (members, n, width) and the last (members, n, 1)."""
    w1, b1, w2, b2, w3, b3 = weights
    one = np.maximum(rows @ w1 + b1, 0)
    two = np.maximum(one @ w2 + b2, 0)
    return [one, two, two @ w3 + b3]


def _outputs(weights: Weights, rows: Array) -> Array:
    """Return (members, n) outputs."""
    return _layers(weights, rows)[-1][:, :, 0]


def _slopes(weights: Weights, rows: Array, z: Array) -> Weights:
    """Gradients of half the mean squared error by `weights`, for rows (members, n, p) and targets (members, n)."""
    one, two, output = _layers(weights, rows)
    d3: Array = (output - z[:, :, None]) / np.float32(z.shape[1])
    d2: Array = (d3 @ weights[4].swapaxes(1, 2)) * (two > 0)
    d1: Array = (d2 @ weights[2].swapaxes(1, 2)) * (one > 0)
    slopes: Weights = []
    for inputs, d in ((rows, d1), (one, d2), (two, d3)):
        slopes += [inputs.swapaxes(1, 2) @ d, d.sum(axis=1, keepdims=True)]
    return slopes
