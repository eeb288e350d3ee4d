"""Chooses architectures to measure: a diverse first design, then those about which the predictor is least certain."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.errors import NasError
from nas.predictors import Archs, Predictor
from nas.predictors.quality import Quality, Wanted
from search_spaces import Space

_POOL = 2000  # candidates of a first design
_NOISE = 1.0  # variance of one measurement; the mean prior variance of a row is 1


def first(space: Space, n: int, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """Return (n, num_slots) codes of distinct architectures: both ends of the space, then the least determined ones.

    Half of the candidates are uniform over networks and half uniform in each choice, so that rare options occur.

    Raises:
        NasError: n < 1.
        SpaceError: the space has fewer than n architectures.
    """
    _check(n)
    ends = space.codes([space.smallest(), space.largest()])
    by_network = space.codes(space.sample_many(min(n, 2), rng, distinct=True)) if n < 3 else _pool(space, n, rng)
    pool = _distinct(np.vstack([ends, by_network]))
    if len(pool) < n:
        pool = _distinct(np.vstack([pool, space.codes(space.sample_many(n, rng, distinct=True))]))
    return pool[diverse(space.encode(pool), n, rng, given=2 if len(pool) > 1 else 1)]


def diverse(rows: npt.NDArray[Any], n: int, rng: np.random.Generator, given: int = 0) -> npt.NDArray[np.int64]:
    """Return (n,) positions of the most informative rows of (m, p), including the first `given` rows.

    Greedy D-optimal design in a Bayesian linear model (Chaloner and Verdinelli 1995, section 2.2): the next row is the
    one whose value is least certain given the rows before. Columns are not rescaled, so pass comparable ones, such as
    an encoding or log latencies. `rng` breaks ties. On published tables this was more informative than the largest
    distance between rows (docs/decisions/latency-bounds.md).

    Raises:
        NasError: n < 1, or there are fewer rows than n.
    """
    _check(n)
    if len(rows) < n:
        raise NasError(f"{n} of {len(rows)} rows cannot be chosen: ask for {len(rows)} or give more rows")
    table = _scaled(np.asarray(rows, dtype=float))
    variance = np.sum(table**2, axis=1) * (1 + 1e-9 * rng.random(len(table)))
    told = np.zeros((len(table), n))  # pivoted Cholesky factor of the prior covariance
    positions: list[int] = []
    for step in range(n):
        left = variance.copy()
        left[positions] = -np.inf
        best = step if step < given else int(np.argmax(left))
        positions.append(best)
        told[:, step] = (table @ table[best] - told @ told[best]) / np.sqrt(max(variance[best], 0.0) + _NOISE)
        variance -= told[:, step] ** 2
    return np.array(positions, dtype=np.int64)


def next_to_measure(
    predictor: Predictor, candidates: Archs, n: int, rng: np.random.Generator, near: Sequence[float] | None = None
) -> Archs:
    """Return the `n` candidates about which the predictor is least certain; pass only unmeasured candidates.

    With `near` (limits, or values at points of a front, in the unit of the metric), these are the candidates whose
    position above or below one of these values is least certain, the values taking turns (the straddle of Bryan et al.
    2005, "Active learning for identifying function threshold boundaries"). Without `near`, it is the least certain one,
    relative to its value, in each of n equally full ranges of predictions. Duplicates count once; `rng` breaks ties.

    Raises:
        NasError: n < 1, there are fewer distinct candidates than n, or a value of `near` is not finite.
    """
    _check(n)
    order = _different(candidates, rng)
    if len(order) < n:
        raise NasError(f"{n} of {len(order)} different candidates cannot be chosen: give more candidates")
    mean, std = predictor.predict(candidates)
    picked = _ranges(mean, std, order, n) if near is None else _straddling(mean, std, order, n, near)
    return candidates[picked] if isinstance(candidates, np.ndarray) else [candidates[i] for i in picked]


def enough(quality: Quality, wanted: Wanted) -> bool:
    """Whether measuring may stop: held-out measurements are predicted and bounded as well as `wanted`."""
    return not quality.shortfalls(wanted)


def _pool(space: Space, n: int, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    half = max(_POOL, 2 * n) // 2
    return np.vstack([space.sample_codes(half, rng), space.sample_codes(half, rng, uniform="choices")])


def _distinct(codes: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Return distinct rows in the order of first occurrence."""
    return codes[np.sort(np.unique(codes, axis=0, return_index=True)[1])]


def _scaled(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return a constant column, and the rows centred and scaled to a mean square norm of 1."""
    centred = rows - rows.mean(axis=0)
    size = float(np.sqrt(np.mean(np.sum(centred**2, axis=1))))
    return np.hstack([np.ones((len(rows), 1)), centred / (size or 1.0)])


def _different(candidates: Archs, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return positions of distinct candidates, in random order."""
    if isinstance(candidates, np.ndarray):
        positions = np.sort(np.unique(candidates, axis=0, return_index=True)[1])
    else:
        positions = np.array(list({arch: i for i, arch in reversed(list(enumerate(candidates)))}.values()))
    return rng.permutation(positions.astype(np.int64))


def _ranges(
    mean: npt.NDArray[np.float64], std: npt.NDArray[np.float64], order: npt.NDArray[np.int64], n: int
) -> npt.NDArray[np.int64]:
    by_value = order[np.argsort(mean[order], kind="stable")]
    unsure = std / np.maximum(np.abs(mean), np.finfo(float).tiny)
    return np.array([part[np.argmax(unsure[part])] for part in np.array_split(by_value, n)])


def _straddling(
    mean: npt.NDArray[np.float64],
    std: npt.NDArray[np.float64],
    order: npt.NDArray[np.int64],
    n: int,
    near: Sequence[float],
) -> npt.NDArray[np.int64]:
    values = np.asarray(near, dtype=float)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise NasError(f"near={near!r}: give one or more finite values in the unit of the metric, or None")
    left = order
    picked: list[int] = []
    for turn in range(n):
        straddle = 1.96 * std[left] - np.abs(mean[left] - values[turn % len(values)])
        best = int(np.argmax(straddle))
        picked.append(int(left[best]))
        left = np.delete(left, best)
    return np.array(picked, dtype=np.int64)


def _check(n: int) -> None:
    if n < 1:
        raise NasError(f"{n} architectures cannot be chosen: ask for 1 or more")
