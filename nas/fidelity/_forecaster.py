"""Forecasts a training's metric: a Gaussian process over settings, curve and learned features of the weights.

The kernel is a sum. One term is an RBF of the settings and the last values of the curve, each with its own scale; the
other, which starts small, is an RBF of learned features (deep kernel learning, Wilson et al. 2016, arXiv:1511.02222) of
these, the whole curve and the weights. All parameters maximise the marginal likelihood (Rasmussen and Williams 2006,
5.8) times priors; without priors, the features would memorise each training and leave no noise. The mean is a learned
linear function of the last values, so that the process models deviations from it. Values are normal scores: see
`_normal_scores`.

The inputs never look ahead: at an epoch, the model sees only the curve up to it and the weights at it, and no weights
of a training that has not started.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.fidelity._normal_scores import NormalScores
from nas.fidelity._weights import Layer, Reader

FloatArray = npt.NDArray[np.float64]

_SETTINGS, _CURVE, _WEIGHTS, _FEATURES = 16, 4, 8, 3  # widths
_TOLD = 6  # numbers of a question: now, then, whether it has started, the last value and the last two changes
_MOST_PAIRS = 160  # most points that the process is fitted to
_RATE = 3e-2
_JITTER = 1e-6
_LEAST_NOISE = 1e-4
_NOISE, _VARIANCE, _DEEP = 0.1, 1.0, 0.05  # initial variances: of the noise, and of both kernels
_SETTING, _TIME, _LAST, _CHANGE = -2.5, -1.0, 0.0, -1.0  # logarithms of initial scales


@dataclass(frozen=True, eq=False)
class Logged:
    """A training so far.

    Args:
        settings: (d,) numbers, roughly from 0 to 1.
        curve: the metric after each epoch.
        states: the network's layers after each epoch; not needed by a model that does not read weights.
    """

    settings: FloatArray
    curve: tuple[float, ...]
    states: tuple[Sequence[Layer], ...] = ()


@dataclass(frozen=True, eq=False)
class Question:
    """Asks for a training's metric at epoch `then`, as seen from epoch `now`; 0 is before it starts."""

    training: Logged
    now: int
    then: int


class Forecaster:
    """Forecasts metrics of trainings, from a model fitted to trainings.

    Args:
        horizon: the latest epoch of any question.
        seen: epoch from which to learn the end of each training, one pair per training: several pairs would share an
            end, which the model could memorise. None learns, from every epoch, the metric one epoch later.
        weights: whether to read weights; otherwise only settings and curves.
        steps: optimisation steps, from the same initial values in every fit, so that forecasts depend only on the
            trainings.
    """

    def __init__(
        self,
        trainings: Sequence[Logged],
        horizon: int,
        *,
        seen: int | None = None,
        weights: bool = True,
        steps: int = 80,
        seed: int = 0,
    ) -> None:
        self._horizon, self._reads = horizon, weights
        points = _pairs(trainings, seen)
        self._scores = NormalScores(np.concatenate([one.curve for one in trainings]))
        self._y = torch.from_numpy(self._scores(np.array([one.training.curve[one.then - 1] for one in points])))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self._model = _Model(len(trainings[0].settings), weights)
        self._given = self._inputs(points)
        self._learn(steps)
        with torch.no_grad():
            self._x, self._mean = self._model(self._given)
            self._factor = self._model.factor(self._x)
            self._weighted = torch.cholesky_solve((self._y - self._mean)[:, None], self._factor)

    def forecast(self, questions: Sequence[Question], *, noise: bool = False) -> tuple[FloatArray, FloatArray]:
        """Return (n,) expected values and standard deviations.

        Args:
            noise: whether the standard deviations include the noise of single trainings.
        """
        with torch.no_grad():
            x, mean = self._model(self._inputs(questions))
            across = self._model.covariance(x, self._x)
            expected = (mean + (across @ self._weighted)[:, 0]).numpy()
            explained = torch.linalg.solve_triangular(self._factor, across.T, upper=False).square().sum(0)
            whole = self._model.variance + (self._model.noise if noise else 0)
            spread = (whole - explained).clamp(min=1e-10).sqrt().numpy()
        ends = self._scores.inverse(expected + spread), self._scores.inverse(expected - spread)
        return self._scores.inverse(expected), (ends[0] - ends[1]) / 2

    def _learn(self, steps: int) -> None:
        optimizer = torch.optim.Adam(self._model.parameters(), lr=_RATE)
        for _ in range(steps):
            optimizer.zero_grad()
            loss = self._model.surprise(self._given, self._y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    def _inputs(self, questions: Sequence[Question]) -> _Inputs:
        settings = np.stack([one.training.settings for one in questions])
        curves = np.zeros((len(questions), 2, max(3, self._horizon)))
        told = np.zeros((len(questions), _TOLD))
        for row, numbers, one in zip(curves, told, questions, strict=True):
            seen = self._scores(np.array(one.training.curve[: one.now], dtype=float))
            row[0, : len(seen)], row[1, : len(seen)] = seen, 1
            numbers[:3] = one.now / self._horizon, one.then / self._horizon, one.now > 0
            last = [*seen[:-1:-1], *np.diff(seen)[:-3:-1]]
            numbers[3 : 3 + len(last)] = last
        states = [one.training.states[one.now - 1] if self._reads and one.now else () for one in questions]
        return _Inputs(torch.from_numpy(np.column_stack([settings, told])), torch.from_numpy(curves), states)


def _pairs(trainings: Sequence[Logged], seen: int | None) -> list[Question]:
    """Return the questions to learn from; of too many, an evenly spaced part."""
    if seen is not None:
        return [Question(one, seen, len(one.curve)) for one in trainings if len(one.curve) > seen]
    found = [Question(one, now, now + 1) for one in trainings for now in range(len(one.curve))]
    if len(found) <= _MOST_PAIRS:
        return found
    return [found[index] for index in np.linspace(0, len(found) - 1, _MOST_PAIRS).astype(int)]


@dataclass(frozen=True, eq=False)
class _Inputs:
    plain: Tensor
    """(n, d + 6) settings; now and then as shares of the horizon, whether it has started, last value and changes."""
    curves: Tensor
    """(n, 2, horizon) values, and a mask of known ones."""
    states: Sequence[Sequence[Layer]]


class _Model(nn.Module):
    """Features and mean of points, and the kernel of features."""

    def __init__(self, num_settings: int, weights: bool) -> None:
        super().__init__()
        told = num_settings + _TOLD
        begin = [*[_SETTING] * num_settings, _TIME, _TIME, _LAST, _LAST, _CHANGE, _CHANGE]
        self.scales = nn.Parameter(torch.tensor(begin))
        self.line = nn.Parameter(
            torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0])
        )  # constants before and after the start, slopes of the last values
        self.logs = nn.Parameter(torch.tensor([_VARIANCE, _DEEP, _NOISE]).log())
        self.settings = nn.Linear(told, _SETTINGS)
        self.curve = nn.Conv1d(2, _CURVE, 3, padding=1)
        self.out = nn.Linear(_SETTINGS + _CURVE + (_WEIGHTS if weights else 0), _FEATURES)
        self.double()
        self.reader = (
            Reader(_WEIGHTS) if weights else None
        )  # last, so that the other initial values do not depend on it
        self._begun = [one.detach().clone() for one in self._plain()]

    def _plain(self) -> list[Tensor]:
        """Return the parameters that have a normal prior around their initial values."""
        return [self.scales, self.line, self.logs]

    def forward(self, inputs: _Inputs) -> tuple[Tensor, Tensor]:
        """Return (n, features), of which the last `_FEATURES` are learned, and (n,) means."""
        parts = [torch.tanh(self.settings(inputs.plain)), F.relu(self.curve(inputs.curves)).amax(2)]
        parts += [self.reader(inputs.states)] if self.reader is not None else []
        begun = inputs.plain[:, -4]
        mean = torch.column_stack([1 - begun, begun, inputs.plain[:, -3:]]) @ self.line
        return torch.cat([inputs.plain * self.scales.exp(), self.out(torch.cat(parts, 1))], 1), mean

    @property
    def variance(self) -> Tensor:
        return self.logs[:2].exp().sum()

    @property
    def noise(self) -> Tensor:
        return self.logs[2].exp() + _LEAST_NOISE

    def covariance(self, some: Tensor, others: Tensor) -> Tensor:
        squares = (some[:, None] - others[None]).square()  # differentiable where points coincide, unlike a distance
        told, learnt = squares[..., :-_FEATURES].sum(-1), squares[..., -_FEATURES:].sum(-1)
        found: Tensor = self.logs[0].exp() * torch.exp(-told / 2) + self.logs[1].exp() * torch.exp(-learnt / 2)
        return found

    def factor(self, x: Tensor) -> Tensor:
        found: Tensor = torch.linalg.cholesky(self.covariance(x, x) + (self.noise + _JITTER) * torch.eye(len(x)))
        return found

    def surprise(self, inputs: _Inputs, y: Tensor) -> Tensor:
        """Return the negative logarithm of likelihood times priors per point, up to a constant."""
        x, mean = self(inputs)
        factor = self.factor(x)
        apart = (y - mean)[:, None]
        fit = (apart * torch.cholesky_solve(apart, factor)).sum() / 2 + factor.diagonal().log().sum()
        moved = [(now - then).square().sum() for now, then in zip(self._plain(), self._begun, strict=True)]
        priors = torch.stack(moved).sum() + self.out.weight.square().sum() / 2
        found: Tensor = (fit + priors) / len(y)
        return found
