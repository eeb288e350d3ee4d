"""From what a supernet says of networks to what they are worth alone: a Gaussian process over a few labels.

A label is the metric of a network that was trained alone. What is learnt is where labels are to be expected:

    alone = b inherited + offset + line in the inherited metric + line in sizes + lines in choices + bends + noise

with b = 1, where what is not explained keeps the inherited ranks, and with b = 0, where the supernet is not believed.
How much each part counts, in units of the noise, is not chosen but averaged over a few values each, weighed by the
evidence of the labels (Rasmussen and Williams 2006, sections 2.3 and 5.4.1): eight labels are too few to choose by.
The offset has a flat prior, and the variance of the noise that of Jeffreys.

The correction is judged by leaving each label out once, of the weights too, in closed form (ibid., section 5.4.2), and
refused where that shows no gain over the inherited metrics. Everything is computed from the labels and the networks
given; nothing is drawn and nothing is stored. What it does on two tasks of which all is known:
benchmarks/results/correction.md.
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
"""Labels: fewer cannot be cross-validated, since what is left of them determines nothing."""
_FLAT = 1e4  # prior variance of the offset, in units of the noise
_WEIGHTS = (0.0, 3.0, 30.0)  # prior variances of a part, in the same units
_BELIEFS = (1.0, 0.0)  # b
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Network:
    """One network as a correction sees it."""

    arch: Architecture
    inherited: float
    """The metric with shared weights, lower is better."""
    sizes: tuple[float, ...] = ()
    """Numbers above 0 that go with size, parameters say; none are used where one network lacks them."""


@dataclass(frozen=True, slots=True)
class Label:
    """A network and its metric in each training alone; trainings without a finite metric do not count."""

    network: Network
    trainings: tuple[float, ...]

    @property
    def finite(self) -> tuple[float, ...]:
        return tuple(filter(math.isfinite, self.trainings))


@dataclass(frozen=True, slots=True)
class Check:
    """How far inherited metrics are from labels, and corrections that have not seen the label they are held against."""

    labels: int
    gap_before: float
    """Mean distance of inherited metrics."""
    gap: float
    """Mean distance of the corrected ones."""
    tau_before: float
    """Kendall's tau-b with the labels; NaN where one side is constant."""
    tau: float


@dataclass(frozen=True, eq=False)
class Correction:
    """Of networks, in the order given: their corrected metrics, or why there are none."""

    values: Vector
    """(n,) expected metrics of the networks trained alone; the inherited ones where `refused`."""
    spreads: Vector
    """(n,) standard deviations of one training alone about these, its noise included; NaN where `refused`."""
    check: Check | None
    """None where there are too few labels to have one."""
    refused: str = ""
    """Why the inherited metrics stay as they are, in one sentence with the remedy; empty where they are corrected."""


def correct(labels: Sequence[Label], networks: Sequence[Network], *, inherited: bool = True) -> Correction:
    """What the networks are worth alone, as the labels tell.

    Args:
        labels: those of one architecture count as trainings of one network.
        inherited: False leaves the supernet out of it: what sizes and choices alone tell, to be compared with.
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
    """Values of a metric that is always above 0, as an error is, in the same order and above 0: below half the smallest
    value that was seen they approach 0. Those of other metrics stay."""
    least = float(seen.min()) / 2
    if least <= 0:
        return values
    return np.where(values < least, least * np.exp(np.minimum(values / least - 1, 0)), values)


def _no_gain(check: Check) -> str:
    seen = f"{check.labels} networks trained alone, each predicted from the others, show no gain over inherited metrics"
    return f"not corrected: {seen}; train more of them alone, with a larger trust"


def _not_told(known: Sequence[Label], given: int, alone: Vector) -> str:
    """Why labels tell nothing; empty where they may."""
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
    """One label a network."""
    merged: dict[Architecture, Label] = {}
    for label in labels:
        before = merged.get(label.network.arch)
        trainings = (*(before.trainings if before else ()), *label.trainings)
        merged[label.network.arch] = Label(label.network, trainings)
    return list(merged.values())


def tau(a: Vector, b: Vector) -> float:
    """Kendall's tau-b; NaN where one side is constant."""
    first, second = np.sign(a[:, None] - a), np.sign(b[:, None] - b)
    scale = math.sqrt(float((first**2).sum() * (second**2).sum()))
    return round(float((first * second).sum()) / scale, 12) if scale else math.nan


# --- the Gaussian process -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Fit:
    mean: Vector
    std: Vector
    held_out: Vector
    """(n,) each label as the others predict it."""


def _fitted(known: Sequence[Label], alone: Vector, networks: Sequence[Network], inherited: bool) -> _Fit:
    parts = _Parts.of([label.network for label in known], networks, inherited)
    noises = np.array([1 / len(label.finite) for label in known])
    return _averaged(_settings(parts, alone, noises, _BELIEFS if inherited else (0.0,)))


@dataclass(frozen=True, eq=False)
class _Parts:
    """What networks have in common with n labelled ones, part by part."""

    believed: Vector
    """(m,) inherited metrics of the labelled networks, then of the others."""
    shared: tuple[Vector, ...]
    """(m, n) prior covariances, the line in inherited metrics first."""
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
        """(m, n) covariances with the labelled networks, and (m,) variances."""
        shared = sum((w * part for w, part in zip(weights, self.shared, strict=True) if w), np.float64(_FLAT))
        own = sum((w * part for w, part in zip(weights, self.own, strict=True) if w), np.float64(_FLAT))
        return np.broadcast_to(shared, self.shared[0].shape), np.broadcast_to(own, self.own[0].shape)


@dataclass(frozen=True, eq=False)
class _Setting:
    """What one setting predicts, and how well labels speak for it."""

    mean: Vector
    variance: Vector
    evidence: float
    """Logarithm."""
    held_out: Vector
    left: Vector
    """(n,) evidence of the labels without each of them."""


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
    """The mean of all settings by their evidence, and of what is left out by the evidence without it."""
    weights = _softmax(np.array([one.evidence for one in settings]))
    means = np.array([one.mean for one in settings])
    mean = weights @ means
    variance = weights @ (np.array([one.variance for one in settings]) + np.square(means - mean))
    without = _softmax(np.array([one.left for one in settings]))
    return _Fit(mean, np.sqrt(variance), (without * np.array([one.held_out for one in settings])).sum(0))


def _softmax(logs: Vector) -> Vector:
    """Weights that sum to 1 along the first axis."""
    weights = np.exp(logs - logs.max(0))
    shares: Vector = weights / weights.sum(0)
    return shares


# --- networks as rows ---------------------------------------------------------------------------------------------


def encoded(archs: Sequence[Architecture]) -> Vector:
    """(n, c) columns of the choices in which these networks differ.

    A choice of numbers is its place among the values that occur, from -1 to 1; any other choice a column for each
    value. What a network does not have is 0.
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
    """Tells True from 1."""
    return type(value).__name__, str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sizes(networks: Sequence[Network]) -> Vector:
    """(n, k) standardised logarithms, of mean square 1 in all; zeros where they are not known."""
    rows = [network.sizes for network in networks]
    if len(set(map(len, rows))) != 1 or not rows[0] or not all(0 < size < math.inf for row in rows for size in row):
        return np.zeros((len(rows), 1))
    return _standard(np.log(np.array(rows, dtype=float))) / math.sqrt(len(rows[0]))


def _standard(rows: Vector) -> Vector:
    """Columns of mean 0 and variance 1; a constant one is 0."""
    centred = rows - rows.mean(0)
    spread = centred.std(0)
    standard: Vector = centred / np.where(spread > _TINY, spread, np.inf)
    return standard


def _scaled(rows: Vector) -> Vector:
    """Centred rows of mean square 1."""
    centred = rows - rows.mean(0)
    size = math.sqrt(float(np.square(centred).sum(1).mean())) if rows.size else 0.0
    scaled: Vector = centred / size if size else np.zeros((len(rows), 1))
    return scaled
