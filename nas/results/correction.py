"""Corrects inherited metrics towards stand-alone ones with a Gaussian process over a few labels.

A label is the metric of a network that was trained alone. The model predicts labels:

    alone = b inherited + offset + line in the inherited metric + line in sizes + lines in choices + bends + noise

with b = 1, where unexplained differences keep the inherited ranks, and with b = 0, where the supernet is ignored. The
prior variance of each part, in units of the noise, is averaged over a few values, weighted by the evidence of the
labels (Rasmussen and Williams 2006, sections 2.3 and 5.4.1): eight labels are too few to choose one. The offset has a
flat prior, the noise variance Jeffreys' prior.

Leave-one-out predictions, in closed form and with the weights computed without the label too (ibid., section 5.4.2),
judge the correction; it is refused if they show no gain over the inherited metrics. The result depends only on the
given labels and networks; nothing is drawn at random or stored. Figures on two tasks with complete stand-alone
trainings: benchmarks/results/correction.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces import Architecture

Vector = npt.NDArray[np.float64]

FEWEST = 6
"""Fewest labels: fewer cannot be cross-validated, since the remaining ones determine nothing."""
_FLAT = 1e4  # prior variance of the offset, in units of the noise
_WEIGHTS = (0.0, 3.0, 30.0)  # prior variances of a part, in the same units
_BELIEFS = (1.0, 0.0)  # b
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Network:
    """A network as input of a correction."""

    arch: Architecture
    inherited: float
    """The metric with shared weights; lower is better."""
    sizes: tuple[float, ...] = ()
    """Positive measures of size, such as parameters; ignored if one network lacks them."""


@dataclass(frozen=True, slots=True)
class Label:
    """A network and its metric in each stand-alone training; trainings without a finite metric do not count."""

    network: Network
    trainings: tuple[float, ...]

    @property
    def finite(self) -> tuple[float, ...]:
        return tuple(filter(math.isfinite, self.trainings))


@dataclass(frozen=True, slots=True)
class Check:
    """Accuracy of inherited metrics and of leave-one-out corrections, compared with the labels."""

    labels: int
    gap_before: float
    """Mean absolute error of inherited metrics."""
    gap: float
    """Mean absolute error of corrected metrics."""
    tau_before: float
    """Kendall's tau-b of inherited metrics with the labels; NaN if one side is constant."""
    tau: float
    """Kendall's tau-b of corrected metrics with the labels."""


@dataclass(frozen=True, eq=False)
class Correction:
    """Corrected metrics of networks, in the given order, or why there are none."""

    values: Vector
    """(n,) expected stand-alone metrics; the inherited ones if `refused`."""
    spreads: Vector
    """(n,) standard deviations of one stand-alone training, including its noise; NaN if `refused`."""
    check: Check | None
    """None if there are too few labels."""
    refused: str = ""
    """Why the metrics are not corrected, in one sentence with the remedy; empty if they are."""


def correct(labels: Sequence[Label], networks: Sequence[Network], *, inherited: bool = True) -> Correction:
    """Estimate the stand-alone metrics of networks from labels.

    Args:
        labels: labels of equal architectures count as trainings of one network.
        inherited: False ignores the supernet and predicts from sizes and choices alone, as a baseline.
    """
    known = [label for label in _merged(labels) if label.finite and math.isfinite(label.network.inherited)]
    raw = np.array([network.inherited for network in networks], dtype=float)
    alone = np.array([np.mean(label.finite) for label in known])
    if why := _not_told(known, len(labels), alone):
        return Correction(raw, np.full(len(raw), np.nan), None, why)
    before = np.array([label.network.inherited for label in known])
    found = _fitted(known, alone, networks, inherited)
    check = Check(
        labels=len(known),
        gap_before=float(np.abs(before - alone).mean()),
        gap=float(np.abs(found.held_out - alone).mean()),
        tau_before=tau(before, alone),
        tau=tau(found.held_out, alone),
    )
    if inherited and np.square(found.held_out - alone).mean() >= np.square(before - alone).mean():
        return Correction(raw, np.full(len(raw), np.nan), check, _no_gain(check))
    return Correction(_positive(found.mean, np.concatenate([before, alone])), found.std, check)


def _positive(values: Vector, seen: Vector) -> Vector:
    """Keep values of a metric above 0 if all seen values are, as for an error.

    Below half the smallest seen value they approach 0 without changing their order. Other metrics stay unchanged.
    """
    least = float(seen.min()) / 2
    if least <= 0:
        return values
    return np.where(values < least, least * np.exp(np.minimum(values / least - 1, 0)), values)


def _no_gain(check: Check) -> str:
    seen = f"{check.labels} networks trained alone, each predicted from the others, show no gain over inherited metrics"
    return f"not corrected: {seen}; train more of them alone, with a larger trust"


def _not_told(known: Sequence[Label], given: int, alone: Vector) -> str:
    """Return why the labels are not usable; empty if they may be."""
    if len(known) < FEWEST:
        failed = f" ({given - len(known)} of {given} have no finite metric)" if len(known) < given else ""
        few = f"{len(known)} networks trained alone{failed} are too few to check a correction"
        return f"not corrected: {few}; train at least {FEWEST}, better 16, with a larger trust"
    if np.ptp(alone) == 0:
        return "not corrected: all stand-alone metrics are equal; train longer or evaluate on more data"
    repeated = [np.var(label.finite, ddof=1) for label in known if len(label.finite) > 1]
    if repeated and np.mean(repeated) >= np.var(alone, ddof=1):
        noise, spread = math.sqrt(np.mean(repeated)), np.std(alone, ddof=1)
        differ = f"two trainings of one network differ by ±{noise:.3g}, as much as networks do (±{spread:.3g})"
        return f"not corrected: {differ}; train them longer"
    return ""


def _merged(labels: Sequence[Label]) -> list[Label]:
    """Merge labels of equal architectures."""
    merged: dict[Architecture, Label] = {}
    for label in labels:
        before = merged.get(label.network.arch)
        trainings = (*(before.trainings if before else ()), *label.trainings)
        merged[label.network.arch] = Label(label.network, trainings)
    return list(merged.values())


def tau(a: Vector, b: Vector) -> float:
    """Return Kendall's tau-b; NaN if one side is constant."""
    first, second = np.sign(a[:, None] - a), np.sign(b[:, None] - b)
    scale = math.sqrt(float((first**2).sum() * (second**2).sum()))
    return round(float((first * second).sum()) / scale, 12) if scale else math.nan


# --- the Gaussian process -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Fit:
    mean: Vector
    std: Vector
    held_out: Vector
    """(n,) leave-one-out predictions of the labels."""


def _fitted(known: Sequence[Label], alone: Vector, networks: Sequence[Network], inherited: bool) -> _Fit:
    parts = _Parts.of([label.network for label in known], networks, inherited)
    noises = np.array([1 / len(label.finite) for label in known])
    return _averaged(_settings(parts, alone, noises, _BELIEFS if inherited else (0.0,)))


@dataclass(frozen=True, eq=False)
class _Parts:
    """Prior covariances of networks with n labelled ones, by part of the model."""

    believed: Vector
    """(m,) inherited metrics, of the labelled networks first."""
    shared: tuple[Vector, ...]
    """(m, n) prior covariances; the line in inherited metrics comes first."""
    own: tuple[Vector, ...]
    """(m,) prior variances."""

    @classmethod
    def of(cls, seen: Sequence[Network], networks: Sequence[Network], inherited: bool) -> _Parts:
        every, n = [*seen, *networks], len(seen)
        values = np.array([network.inherited for network in every])
        finite = np.where(np.isfinite(values), values, np.median(values[:n]))
        choices = _scaled(encoded([network.arch for network in every]))
        lines = [_standard(finite[:, None]) if inherited else np.zeros((len(every), 1)), _sizes(every), choices]
        distance = np.square(choices[:, None] - choices[None, :n]).sum(2)
        shared = (*(rows @ rows[:n].T for rows in lines), np.exp(-distance / 2))
        return cls(finite, shared, (*(np.square(rows).sum(1) for rows in lines), np.ones(len(every))))

    def kernel(self, weights: Sequence[float]) -> tuple[Vector, Vector]:
        """Return (m, n) covariances with the labelled networks, and (m,) variances."""
        shared = sum((w * part for w, part in zip(weights, self.shared, strict=True) if w), np.float64(_FLAT))
        own = sum((w * part for w, part in zip(weights, self.own, strict=True) if w), np.float64(_FLAT))
        return np.broadcast_to(shared, self.shared[0].shape), np.broadcast_to(own, self.own[0].shape)


@dataclass(frozen=True, eq=False)
class _Setting:
    """Predictions and evidence of one setting."""

    mean: Vector
    variance: Vector
    evidence: float
    """Log evidence of the labels."""
    held_out: Vector
    left: Vector
    """(n,) log evidence without each label."""


def _settings(parts: _Parts, alone: Vector, noises: Vector, beliefs: Sequence[float]) -> list[_Setting]:
    n, found = len(alone), []
    grids = [_WEIGHTS if part.any() else _WEIGHTS[:1] for part in parts.shared]
    for weights in product(*grids):
        shared, own = parts.kernel(weights)
        inverse = np.linalg.inv(shared[:n] + np.diag(noises))
        diagonal, logdet = np.diag(inverse), -float(np.linalg.slogdet(inverse)[1])
        explained = np.einsum("ij,jk,ik->i", shared[n:], inverse, shared[n:])
        for belief in beliefs:
            prior = belief * parts.believed
            rest = alone - prior[:n]
            pull = inverse @ rest
            square = max(float(rest @ pull), _TINY)
            squares = np.maximum(square - pull**2 / diagonal, _TINY)
            found.append(
                _Setting(
                    prior[n:] + shared[n:] @ pull,
                    (1.0 + np.maximum(own[n:] - explained, 0.0)) * square / (n - 1),
                    -0.5 * logdet - (n - 1) / 2 * math.log(square),
                    alone - pull / diagonal,
                    -0.5 * (logdet + np.log(diagonal)) - (n - 2) / 2 * np.log(squares),
                )
            )
    return found


def _averaged(settings: Sequence[_Setting]) -> _Fit:
    """Average all settings by their evidence; leave-one-out predictions by the evidence without the label."""
    weights = _softmax(np.array([one.evidence for one in settings]))
    means = np.array([one.mean for one in settings])
    mean = weights @ means
    variance = weights @ (np.array([one.variance for one in settings]) + np.square(means - mean))
    without = _softmax(np.array([one.left for one in settings]))
    return _Fit(mean, np.sqrt(variance), (without * np.array([one.held_out for one in settings])).sum(0))


def _softmax(logs: Vector) -> Vector:
    """Return weights that sum to 1 along the first axis."""
    weights = np.exp(logs - logs.max(0))
    shares: Vector = weights / weights.sum(0)
    return shares


# --- networks as rows ---------------------------------------------------------------------------------------------


def encoded(archs: Sequence[Architecture]) -> Vector:
    """Return (n, c) columns of the choices in which these networks differ.

    A numeric choice is one column, the rank among the occurring values scaled to -1 .. 1; any other choice has a column
    per value. An inactive choice is 0.
    """
    found = [{path: value for path, value in arch.leaves() if value != ()} for arch in archs]
    paths = dict.fromkeys(path for one in found for path in one)
    columns = [column for path in paths for column in _columns([one.get(path) for one in found])]
    return np.array(columns, dtype=float).T.reshape(len(archs), -1)


def _columns(values: Sequence[Any]) -> Iterator[list[float]]:
    options = list({_key(value): value for value in values if value is not None}.values())
    numbers = sorted(value for value in options if _is_number(value))
    if len(numbers) > 1:
        place = {value: 2 * i / (len(numbers) - 1) - 1 for i, value in enumerate(numbers)}
        yield [place[value] if _is_number(value) else 0.0 for value in values]
    if len(numbers) < len(options) and len(options) > 1:
        yield from ([float(not _is_number(value) and value == option) for value in values] for option in options)


def _key(value: Any) -> tuple[str, str]:
    """A key that distinguishes True from 1."""
    return type(value).__name__, str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sizes(networks: Sequence[Network]) -> Vector:
    """Return (n, k) standardised log sizes with a total mean square of 1; zeros if a size is missing."""
    rows = [network.sizes for network in networks]
    if len(set(map(len, rows))) != 1 or not rows[0] or not all(0 < size < math.inf for row in rows for size in row):
        return np.zeros((len(rows), 1))
    return _standard(np.log(np.array(rows, dtype=float))) / math.sqrt(len(rows[0]))


def _standard(rows: Vector) -> Vector:
    """Standardise columns to mean 0 and variance 1; a constant column becomes 0."""
    centred = rows - rows.mean(0)
    spread = centred.std(0)
    standard: Vector = centred / np.where(spread > _TINY, spread, np.inf)
    return standard


def _scaled(rows: Vector) -> Vector:
    """Centre rows and scale them to a mean square norm of 1."""
    centred = rows - rows.mean(0)
    size = math.sqrt(float(np.square(centred).sum(1).mean())) if rows.size else 0.0
    scaled: Vector = centred / size if size else np.zeros((len(rows), 1))
    return scaled
