"""What a training will come to: a Gaussian process over what a network makes of settings, curve and weights.

The kernel is an RBF of learnt features (deep kernel learning, Wilson et al. 2016, arXiv:1511.02222), learnt with its
scales by the marginal likelihood (Rasmussen and Williams 2006, 5.8). The mean is a learnt line through the last value
of the curve, so that what is learnt is how trainings differ from standing still.

Nothing is read that was not there: of a training at an epoch only the curve up to it and the weights at it, and of one
that has not begun no weights at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.fidelity._weights import Layer, Reader

FloatArray = npt.NDArray[np.float64]

_SETTINGS, _CURVE, _WEIGHTS, _FEATURES = 16, 4, 8, 8  # widths
_MOST_PAIRS = 160  # points that a process is fitted to
_RATE = 2e-2
_JITTER = 1e-6
_LEAST_NOISE = 1e-4


@dataclass(frozen=True, eq=False)
class Logged:
    """A training as far as it has come.

    Args:
        settings: (d,) numbers about 0 to 1.
        curve: the metric after each epoch, the first epoch first.
        states: the layers of the network after each; may be left out where weights are not read.
    """

    settings: FloatArray
    curve: tuple[float, ...]
    states: tuple[Sequence[Layer], ...] = ()


@dataclass(frozen=True, eq=False)
class Question:
    """What will a training be worth at the epoch `then`, as seen from the epoch `now`; 0 is before it begins."""

    training: Logged
    now: int
    then: int


class Forecaster:
    """Fitted to trainings; forecasts their metric.

    Args:
        horizon: the latest epoch that is asked about.
        ahead: epochs between what is seen and what is asked about, which it learns; None for the end of each training.
        weights: whether weights are read; without them it is a model of settings and curves.
        steps: of learning, from the same beginning in every fit: what is forecast depends on the trainings alone.
    """

    def __init__(
        self,
        trainings: Sequence[Logged],
        horizon: int,
        *,
        ahead: int | None = 1,
        weights: bool = True,
        steps: int = 60,
        seed: int = 0,
    ) -> None:
        self._horizon, self._reads = horizon, weights
        points = _pairs(trainings, ahead)
        values = np.array([point.training.curve[point.then - 1] for point in points])
        self._center, self._scale = float(values.mean()), float(values.std()) or 1.0
        self._y = torch.from_numpy((values - self._center) / self._scale)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self._model = _Model(len(trainings[0].settings), weights)
        self._given = self._inputs(points)
        self._learn(steps)
        with torch.no_grad():
            self._x, self._mean = self._model(self._given)
            self._factor = self._model.factor(self._x)
            self._weighted = torch.cholesky_solve((self._y - self._mean)[:, None], self._factor)

    def forecast(self, questions: Sequence[Question]) -> tuple[FloatArray, FloatArray]:
        """(n,) expected values and standard deviations, to which the `noise` of a single training comes."""
        with torch.no_grad():
            x, mean = self._model(self._inputs(questions))
            across = self._model.covariance(x, self._x)
            expected = mean + (across @ self._weighted)[:, 0]
            explained = torch.linalg.solve_triangular(self._factor, across.T, upper=False).square().sum(0)
            spread = (self._model.variance - explained).clamp(min=1e-10).sqrt()
        return expected.numpy() * self._scale + self._center, spread.numpy() * self._scale

    @property
    def noise(self) -> float:
        """The standard deviation of what two trainings differ in that the model takes for equal."""
        return float(self._model.noise.detach().sqrt()) * self._scale

    def _learn(self, steps: int) -> None:
        optimizer = torch.optim.Adam(self._model.parameters(), lr=_RATE)
        for _ in range(steps):
            optimizer.zero_grad()
            loss = self._model.surprise(self._given, self._y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    def _inputs(self, questions: Sequence[Question]) -> _Inputs:
        settings = np.stack([one.training.settings for one in questions])
        times = np.array([[one.now, one.then] for one in questions]) / self._horizon
        curves = np.zeros((len(questions), 2, max(3, self._horizon)))
        for row, one in zip(curves, questions, strict=True):
            seen = np.array(one.training.curve[: one.now])
            row[0, : len(seen)], row[1, : len(seen)] = (seen - self._center) / self._scale, 1
        last = np.array([row[0, one.now - 1] if one.now else 0.0 for row, one in zip(curves, questions, strict=True)])
        begun = np.array([float(one.now > 0) for one in questions])
        states = [one.training.states[one.now - 1] if self._reads and one.now else () for one in questions]
        plain = np.column_stack([settings, times, begun, last])
        return _Inputs(torch.from_numpy(plain), torch.from_numpy(curves), states)


def _pairs(trainings: Sequence[Logged], ahead: int | None) -> list[Question]:
    """What came so many epochs after each epoch, the beginning included; of very many some, evenly."""
    found = [
        Question(training, now, now + ahead if ahead else len(training.curve))
        for training in trainings
        for now in range(len(training.curve) + 1 - (ahead or 1))
    ]
    if len(found) <= _MOST_PAIRS:
        return found
    return [found[index] for index in np.linspace(0, len(found) - 1, _MOST_PAIRS).astype(int)]


@dataclass(frozen=True, eq=False)
class _Inputs:
    plain: Tensor
    """(n, d + 4) settings, now and then as shares of the horizon, whether it has begun, and the last value."""
    curves: Tensor
    """(n, 2, horizon) values, and where there are some."""
    states: Sequence[Sequence[Layer]]


class _Model(nn.Module):
    """Features and mean of points, and the kernel of features."""

    def __init__(self, num_settings: int, weights: bool) -> None:
        super().__init__()
        self.settings = nn.Linear(num_settings + 4, _SETTINGS)
        self.curve = nn.Conv1d(2, _CURVE, 3, padding=1)
        self.out = nn.Linear(_SETTINGS + _CURVE + (_WEIGHTS if weights else 0), _FEATURES)
        self.line = nn.Parameter(
            torch.tensor([0.0, 0.0, 1.0])
        )  # before a training begins, after, and by its last value
        self.logs = nn.Parameter(torch.tensor([0.0, math.log(0.05)]))  # of the variance and of the noise
        self.double()
        self.reader = Reader(_WEIGHTS) if weights else None  # made last: without it all else begins alike

    def forward(self, inputs: _Inputs) -> tuple[Tensor, Tensor]:
        """(n, features) and (n,)."""
        parts = [torch.tanh(self.settings(inputs.plain)), F.relu(self.curve(inputs.curves)).amax(2)]
        parts += [self.reader(inputs.states)] if self.reader is not None else []
        begun, last = inputs.plain[:, -2], inputs.plain[:, -1]
        mean = self.line[0] * (1 - begun) + self.line[1] * begun + self.line[2] * last
        return self.out(torch.cat(parts, 1)), mean

    @property
    def variance(self) -> Tensor:
        return self.logs[0].exp()

    @property
    def noise(self) -> Tensor:
        return self.logs[1].exp() + _LEAST_NOISE

    def covariance(self, some: Tensor, others: Tensor) -> Tensor:
        return self.variance * torch.exp(
            -(torch.cdist(some, others, compute_mode="donot_use_mm_for_euclid_dist") ** 2) / 2
        )

    def factor(self, x: Tensor) -> Tensor:
        squares = (x[:, None] - x[None]).square().sum(-1)  # differentiable where points coincide, unlike a distance
        kernel = self.variance * torch.exp(-squares / 2) + (self.noise + _JITTER) * torch.eye(len(x))
        found: Tensor = torch.linalg.cholesky(kernel)
        return found

    def surprise(self, inputs: _Inputs, y: Tensor) -> Tensor:
        """The negative log marginal likelihood of each point, but for a constant."""
        x, mean = self(inputs)
        factor = self.factor(x)
        apart = (y - mean)[:, None]
        fit = (apart * torch.cholesky_solve(apart, factor)).sum() / 2
        found: Tensor = (fit + factor.diagonal().log().sum()) / len(y)
        return found
