"""The hypervolume that a predicted network would add to the known ones."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nas.objectives import pareto

FloatArray = npt.NDArray[np.float64]

_FENCE = 3.0
_FEW = 5.0  # the fence moves once there are more than this multiple of the first values
_MARGIN = 0.1
_DIRECTIONS = 256


def reference(front: FloatArray, first: FloatArray, growth: float, told: Sequence[bool]) -> FloatArray:
    """Return the reference point (m,): a tenth of the range worse than the front, or the fence.

    The fence initially keeps the search away from the end of a front where networks are cheap and useless. Its distance
    beyond the median of the `first` values (n, m) is a multiple of the distance between the median and the better
    quartile: an outlier bound from the side without outliers. It recedes with the `growth` of the number of
    evaluations, so values that it excludes at first count later. Objectives that are `told` (known for any network)
    have no fence: they count up to the worst of the `first`.
    """
    worst, span = front.max(axis=0), np.ptp(front, axis=0)
    span = np.where(span > 0, span, np.ptp(first, axis=0))
    margin = _MARGIN * np.where(span > 0, span, 1.0)
    fence = _fence(first, growth)
    corner: FloatArray = np.where(fence > front.min(axis=0), np.minimum(worst + margin, fence), worst + margin)
    corner = np.where(told, np.maximum(worst, first.max(axis=0)) + margin, corner)
    return corner


def beyond(corner: FloatArray, first: FloatArray, growth: float) -> FloatArray:
    """Return a reference (m,) that includes the `corner` of the front and the `first` values (n, m) within the fence.

    Otherwise a front that a lucky network ended early would stay short: networks past its end would gain nothing.
    """
    found: FloatArray = np.maximum(corner, np.minimum(_fence(first, growth), first.max(axis=0)))
    return found


def _fence(first: FloatArray, growth: float) -> FloatArray:
    quartile, median = np.quantile(first, [0.25, 0.5], axis=0)
    fence: FloatArray = median + _FENCE * np.sqrt(max(growth / _FEW, 1)) * (median - quartile)
    return fence


class Gains:
    """How much each point adds to the hypervolume of a growing front.

    Exact for one and two objectives. For more it is the mean over random directions of how much further the points
    reach from the reference (Zhang and Golovin 2020, arXiv:2006.04655), times a constant.

    Args:
        known: (n, m) values; n may be 0.
        reference: (m,); only better points count.
        rng: draws the directions.
    """

    def __init__(self, known: FloatArray, reference: FloatArray, rng: np.random.Generator) -> None:
        self._known = known[(known < reference).all(axis=1)]
        self._reference = reference
        num_objectives = len(reference)
        directions = np.abs(rng.normal(size=(1 if num_objectives == 1 else _DIRECTIONS, num_objectives)))
        self._directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        self._unit = np.maximum(reference - known.min(axis=0), 1e-12) if len(known) else np.ones(num_objectives)

    def add(self, point: FloatArray) -> None:
        """Treat one more point as known."""
        if (point < self._reference).all():
            self._known = np.vstack([self._known, point])

    def __call__(self, points: FloatArray) -> FloatArray:
        """Return (n,) gains of (n, m) points."""
        return self._area(points) if len(self._reference) == 2 else self._reached(points)

    def _area(self, points: FloatArray) -> FloatArray:
        """The area that each point adds below the front's staircase, stripe by stripe."""
        known = self._known[pareto.non_dominated(self._known)] if len(self._known) else self._known
        known = known[np.argsort(known[:, 0])]
        lefts, rights = np.r_[-np.inf, known[:, 0]], np.r_[known[:, 0], self._reference[0]]
        ceilings = np.r_[self._reference[1], known[:, 1]]
        heights = np.maximum(ceilings - points[:, 1:], 0)
        widths = np.maximum(rights - np.maximum(points[:, :1], lefts), 0)
        area: FloatArray = (heights * widths).sum(axis=1)
        return area

    def _reached(self, points: FloatArray) -> FloatArray:
        best = self._reach(self._known).max(axis=0, initial=0.0)
        found: FloatArray = np.maximum(self._reach(points) - best, 0).mean(axis=1)
        return found

    def _reach(self, points: FloatArray) -> FloatArray:
        """Return (n, directions): how far each point's box reaches in each direction, to the power m."""
        inside = np.maximum(self._reference - points, 0) / self._unit
        nearest = np.full((len(points), len(self._directions)), np.inf)
        for depth, along in zip(inside.T, self._directions.T, strict=True):
            np.minimum(nearest, depth[:, None] / np.maximum(along, 1e-12), out=nearest)
        powered: FloatArray = nearest ** len(self._reference)
        return powered
