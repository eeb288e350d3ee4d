"""Predicts the metrics of all networks from single changes of the largest: the sum of their effects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import kendalltau

from nas.records import Evaluation
from nas.searchers.exact.columns import Columns, FloatArray, Table, least_squares
from search_spaces import Architecture, Space

_FEWEST = 3  # fewest networks other than single changes that correct the sums
_PENALTIES = 10.0 ** np.arange(-2, 4)


def singles(space: Space) -> tuple[Architecture, ...]:
    """Return the largest network and, for each option of each choice, the largest network that has it, each once.

    If constraints make several choices change together, further networks one choice away from these follow: as few as
    separate the effects, as far as these can be separated.
    """
    columns, archs = Columns(space), [arch for _, arch in space.variants()]
    span = _Span(columns(space.codes(archs[:1]))[0])
    for arch in archs:
        span.add(columns(space.codes([arch]))[0])
    drawn = space.sample_codes(4 * len(columns) + 64, np.random.default_rng(0), uniform="choices")
    missing = np.linalg.matrix_rank(columns(drawn) - columns(drawn[:1])) - len(span)
    for arch in archs:  # the loop also visits appended networks
        if missing <= 0:
            break
        for near in space.neighbours(arch):
            if missing > 0 and span.add(columns(space.codes([near]))[0]):
                archs.append(near)
                missing -= 1
    return tuple(archs)


class _Span:
    """The span of the differences of rows from a first one."""

    def __init__(self, origin: FloatArray) -> None:
        self._origin = origin
        self._basis = np.zeros((0, len(origin)))

    def __len__(self) -> int:
        return len(self._basis)

    def add(self, row: FloatArray) -> bool:
        """Add a row; return whether it is linearly independent."""
        left = row - self._origin
        for _ in range(2):  # twice is enough against rounding (Giraud, Langou and Rozloznik 2005)
            left = left - self._basis.T @ (self._basis @ left)
        length = float(np.linalg.norm(left))
        if length > 1e-6:
            self._basis = np.vstack([self._basis, left / length])
        return length > 1e-6


@dataclass(frozen=True)
class Verdict:
    """How well the prediction from single changes ranks other networks.

    Attributes:
        tau: Kendall's rank correlation of the prediction with the evaluations; NaN for fewer than three networks or
            equal values.
        networks: number of other evaluated networks.
    """

    tau: float
    networks: int


def judge(space: Space, metrics: Sequence[str], evaluations: Sequence[Evaluation]) -> dict[str, Verdict]:
    """Return by metric how the sums of single changes rank the other evaluated networks.

    The prediction uses single changes only, so the other networks are test data.
    """
    known = frozenset(arch.digest for arch in singles(space))
    alone = [evaluation for evaluation in evaluations if evaluation.arch.digest in known]
    others = [e for e in evaluations if e.arch.digest not in known and e.error is None]
    return {name: _verdict(space, name, alone, others) for name in metrics}


def _verdict(space: Space, name: str, alone: Sequence[Evaluation], others: Sequence[Evaluation]) -> Verdict:
    if len(others) < _FEWEST or all(evaluation.error is not None for evaluation in alone):
        return Verdict(math.nan, len(others))
    columns = Columns(space)
    guess = least_squares(columns(space.codes(e.arch for e in alone)), values_of(alone, name))
    guessed = guess(columns(space.codes(e.arch for e in others)))
    return Verdict(float(kendalltau(guessed.round(12), values_of(others, name)).statistic), len(others))


def values_of(evaluations: Sequence[Evaluation], name: str) -> FloatArray:
    """Return (n,) values of a metric; a failed evaluation counts as the worst of the others, at least one is needed."""
    values = np.array([evaluation.metrics.get(name, np.nan) for evaluation in evaluations])
    return np.where(np.isnan(values), np.nanmax(values), values)


def fit(rows: FloatArray, values: FloatArray, single: np.ndarray) -> Table:
    """Fit the sums of a metric to single changes, then correct them with the other networks if that predicts better.

    The correction is an offset and a scale, then a ridge regression of the residuals, chosen by leave-one-out error
    over all networks.

    Args:
        rows: (n, columns) rows of networks.
        values: (n,) values of the metric.
        single: (n,) bool, which networks are single changes of the largest.
    """
    others = int((~single).sum())
    if not single.any():
        return _shrunk(rows, values, Table(float(values.mean()), np.zeros(rows.shape[1])))
    alone = least_squares(rows[single], values[single])
    return _shrunk(rows, values, _scaled(rows, values, alone)) if others >= _FEWEST else alone


def _scaled(rows: FloatArray, values: FloatArray, table: Table) -> Table:
    """Apply the best-fitting offset and scale; a negative scale is not applied."""
    told = table(rows)
    slope, offset = np.polyfit(told, values, 1) if np.ptp(told) > 1e-12 * np.abs(told).max() else (1.0, 0.0)
    if slope <= 0:
        return table
    return Table(float(offset + slope * table.constant), slope * table.weights)


def _shrunk(rows: FloatArray, values: FloatArray, prior: Table) -> Table:
    """Add a ridge regression of the prior's residuals; return the prior alone if that predicts better."""
    left, middle = values - prior(rows), rows.mean(axis=0)
    centred = rows - middle
    squares, sides = np.linalg.eigh(centred @ centred.T)
    best = prior, float(np.mean(left**2))
    for penalty in _PENALTIES:
        shares = np.maximum(squares, 0) / (np.maximum(squares, 0) + penalty)
        smooth = (sides * shares) @ sides.T + 1 / len(rows)  # the mean is not shrunk
        error = float(np.mean(((left - smooth @ left) / np.maximum(1 - np.diag(smooth), 1e-6)) ** 2))
        if error < best[1]:
            dual = sides @ ((sides.T @ (left - left.mean())) / (np.maximum(squares, 0) + penalty))
            weights = centred.T @ dual
            constant = float(left.mean() - middle @ weights)
            best = Table(prior.constant + constant, prior.weights + weights), error
    return best[0]
