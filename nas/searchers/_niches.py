"""NSGA-III's selection within a front: networks in the least crowded directions (doi:10.1109/TEVC.2013.2281535).

Objectives are normalised so that the ideal point is 0 and the plane through the extreme points intersects each axis at
1; each point belongs to its nearest reference direction.
"""

from itertools import combinations, pairwise

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_AXIS = 1e-6  # weight of the other objectives in the search for an extreme point, section IV-C
_TINY = 1e-12


def directions(num_objectives: int, least: int) -> FloatArray:
    """Return (k, m) evenly spaced points of the simplex, k >= `least` (Das and Dennis 1998; section IV-B)."""
    divisions = 1
    while len(found := _simplex(num_objectives, divisions)) < least and num_objectives > 1:
        divisions += 1
    return found


def _simplex(num_objectives: int, divisions: int) -> FloatArray:
    places = range(divisions + num_objectives - 1)
    rows = []
    for bars in combinations(places, num_objectives - 1):
        cuts = (-1, *bars, divisions + num_objectives - 1)
        rows.append([(b - a - 1) / divisions for a, b in pairwise(cuts)])
    return np.array(rows, dtype=float)


def normalised(values: FloatArray) -> FloatArray:
    """Return (n, m) objectives with the ideal point at 0 and the extremes' plane at 1 on every axis (section IV-C)."""
    moved = values - values.min(axis=0)
    weights = np.where(np.eye(moved.shape[1]) > 0, 1.0, _AXIS)
    extremes = moved[[int(np.argmin((moved / weight).max(axis=1))) for weight in weights]]
    worst = moved.max(axis=0)
    try:
        intercepts = 1 / np.linalg.solve(extremes, np.ones(len(extremes)))
    except np.linalg.LinAlgError:  # fewer extreme points than objectives
        intercepts = worst
    usable = np.isfinite(intercepts) & (intercepts > _TINY) & (intercepts <= worst + _TINY)
    scale = np.where(usable, intercepts, worst)
    found: FloatArray = moved / np.where(scale > _TINY, scale, 1.0)
    return found


def niched(values: FloatArray, levels: list[npt.NDArray[np.int64]], towards: FloatArray) -> list[int]:
    """Order the points of successive fronts; within a front, the least crowded direction comes next (section IV-E).

    Args:
        values: (n, m).
        levels: positions of the points of each front, the first front first.
        towards: (k, m) directions.
    """
    if not levels:
        return []
    every = np.concatenate(levels)
    place, distance = _nearest(normalised(values[every]), towards)
    niche = dict(zip(every.tolist(), place.tolist(), strict=True))
    off = dict(zip(every.tolist(), distance.tolist(), strict=True))
    crowd = np.zeros(len(towards), dtype=int)
    order: list[int] = []
    for level in levels:
        left = sorted(level.tolist(), key=lambda point: (off[point], point))
        while left:
            point = min(left, key=lambda one: crowd[niche[one]])  # the first is the nearest of its direction
            left.remove(point)
            crowd[niche[point]] += 1
            order.append(point)
    return order


def _nearest(points: FloatArray, towards: FloatArray) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Return (n,) the nearest direction of each point, and (n,) the distances."""
    units = towards / np.linalg.norm(towards, axis=1, keepdims=True)
    along = points @ units.T
    squared = np.maximum((points**2).sum(axis=1)[:, None] - along**2, 0)
    place = squared.argmin(axis=1)
    return place, np.sqrt(squared[np.arange(len(points)), place])
