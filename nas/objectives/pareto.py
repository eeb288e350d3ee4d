"""Comparison by several objectives; all are minimised, and one objective is the special case m = 1.

Values are (n, m): n points, m objectives. The algorithms are moocore's, except the crowding distance, which it lacks.
"""

from __future__ import annotations

from collections.abc import Iterator

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.errors import NasError


def non_dominated(values: ArrayLike) -> NDArray[np.bool_]:
    """Return (n,) bool: which points no other point dominates. Equal points are kept or dropped together.

    Raises:
        NasError: the values are not (n, m) with m >= 1, or one is NaN.
    """
    points = _points(values)
    return np.asarray(moocore.is_nondominated(points, keep_weakly=True), dtype=bool)


def ranks(values: ArrayLike) -> NDArray[np.int64]:
    """Return (n,) the front of each point: 0 is non-dominated, 1 is non-dominated without front 0, and so on.

    Raises:
        NasError: as in `non_dominated`.
    """
    points = _points(values)
    if not len(points):
        return np.zeros(0, dtype=np.int64)
    return np.asarray(moocore.pareto_rank(points), dtype=np.int64).reshape(-1)


def levels(values: ArrayLike, count: int) -> Iterator[NDArray[np.int64]]:
    """Yield the points of front 0, then those of front 1, and so on, ascending, until there are `count` of them.

    If few of many points are requested, each front takes one pass over the remaining points, which is cheap.

    Raises:
        NasError: as in `non_dominated`.
    """
    points = _points(values)
    if 4 * count >= len(points):
        level = ranks(points)
        order, ends = np.argsort(level, kind="stable"), np.cumsum(np.bincount(level))
        for start, end in zip([0, *ends], ends, strict=False):
            if start < count:
                yield order[start:end]
        return
    left = np.arange(len(points))
    while count > 0 and len(left):
        first = non_dominated(points[left])
        yield left[first]
        count -= int(first.sum())
        left = left[~first]


def crowding(values: ArrayLike) -> NDArray[np.float64]:
    """Return (n,) crowding distances of these points: large if neighbours are far (Deb et al. 2002, III-B).

    A distance is the sum over objectives of the distance between a point's two neighbours, as a share of the range. The
    first and the last point of an objective get infinity; of several equal ones the first (or last) in the given order.
    An objective in which all points are equal contributes nothing. One or two points get infinity.

    Raises:
        NasError: as in `non_dominated`, or a value is infinite.
    """
    points = _points(values, finite=True)
    if len(points) <= 2:
        return np.full(len(points), np.inf)
    distance = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        column = column[order] / 2  # halved, so that no range overflows
        span = column[-1] - column[0]
        if span > 0:
            distance[order[[0, -1]]] = np.inf
            distance[order[1:-1]] += (column[2:] - column[:-2]) / span
    return distance


def hypervolume(values: ArrayLike, reference: ArrayLike) -> float:
    """Return the volume between the front and `reference` (m,); only points better than it count. 0 for no points.

    Raises:
        NasError: as in `crowding`, or the reference has another number of objectives or is not finite.
    """
    points, corner = _points(values, finite=True), np.asarray(reference, dtype=float)
    if corner.shape != points.shape[1:] or not np.isfinite(corner).all():
        raise NasError(
            f"the reference point is {corner.tolist()}; give one finite number for each of {points.shape[1]} objectives"
        )
    return float(moocore.hypervolume(points, corner)) if len(points) else 0.0


def reference_point(values: ArrayLike) -> NDArray[np.float64]:
    """Return a point (m,) a tenth of the range worse than the worst of each objective, so that extreme points count.

    Hypervolumes are comparable only with the same reference: compute it once, from all points of the comparison.

    Raises:
        NasError: as in `crowding`, or there are no points.
    """
    points = _points(values, finite=True)
    if not len(points):
        raise NasError("there are no points to compute a reference from; evaluate at least one architecture")
    worst, span = points.max(axis=0), np.ptp(points, axis=0)
    span[span == 0] = np.maximum(np.abs(worst[span == 0]), 1.0)
    return np.asarray(worst + 0.1 * span)


def _points(values: ArrayLike, *, finite: bool = False) -> NDArray[np.float64]:
    points = np.asarray(values, dtype=float)
    if points.ndim != 2 or not points.shape[1]:
        raise NasError(f"objective values have shape {points.shape}; give (points, objectives), one row per point")
    if np.isnan(points).any() or (finite and np.isinf(points).any()):
        row = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise NasError(f"point {row} has the objectives {points[row].tolist()}; leave failed evaluations out")
    return points
