"""Upper bounds on a metric with a stated coverage, which can be corrected to hold for networks selected with them.

Conformal bounds hold for an architecture drawn like the measured ones. The most accurate network whose bound keeps a
limit is not drawn like them: it tends to be one whose latency was underestimated, or lies where the predictor has a
systematic error. On NAS-Bench-201, bounds of 90 % held for 89 to 91 % of all networks, but for 76 to 97 % of those
selected with them (docs/decisions/latency-bounds.md). So:

    bounded = Bounded(Ensemble(space))
    bounded.fit(archs, latencies)                                     # bounds for an architecture like these
    picked = chosen(errors, bounded.upper(codes, 0.9), limits)        # for limits drawn over the range of interest
    bounded.correct(limits, measured, 0.9)                            # measured latencies of the picked networks
    chosen(errors, bounded.upper(codes, 0.9), [limit])                # keeps 90 % of such limits
"""

from collections.abc import Sequence
from copy import deepcopy
from math import ceil
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from nas.errors import NasError
from nas.predictors import Archs, Predictor
from nas.predictors.models import FloatArray

MANY = 400
"""Number of measurements from which a quarter is held out for the bounds alone."""
FOLDS = 10
_STEEPEST = 50.0  # largest exponent: beyond it there is no useful bound

Positions: TypeAlias = npt.NDArray[np.int64]
Prediction: TypeAlias = tuple[FloatArray, FloatArray]


class Bounded:
    """A predictor with one-sided conformal bounds (Vovk et al. 2005; Lei et al. 2018, section 2).

    The score of a measurement is its excess over the prediction, divided by the predicted spread plus the median spread
    (Papadopoulos et al. 2008), in logarithms if all values are positive. A bound adds the quantile of the scores,
    ranked `ceil((n + 1) * coverage)` of n, in the same unit. The guarantee for a further architecture, exchangeable
    with the measured ones, depends on the origin of the scores:

    - From `MANY` measurements on, a quarter is held out: at least the requested coverage, for any predictor.
    - With fewer, and with `plus` or a predictor without `held_out`: CV+ of ten folds, each bound around the fit that
      has not seen the measurement. Coverage is at least `1 - 2 (1 - coverage) - min(2 (1 - 1/K) / (n/K + 1), (1 - K/n)
      / (K + 1))` for K folds of n, and for jackknife+ (n <= 10) at least `1 - 2 (1 - coverage)`; usually about the
      requested one (Barber et al. 2021, theorems 1 and 4). Ten fits, ten predictions.
    - Otherwise the predictor's `held_out`, around the fit to all: one fit. There is no worst-case guarantee; with a
      predictor that one measurement hardly changes, coverage approaches the requested one (same, section 1.2 and
      theorem 5). Measured on NAS-Bench-201: 89 to 91 % at 90 %, with 30, 50 and 100 measurements.

    Args:
        predictor: unfitted; `fit` fits it.
        plus: use CV+ for few measurements, for its guarantee.
    """

    def __init__(self, predictor: Predictor, plus: bool = False) -> None:
        self.predictor = predictor
        self.plus = plus
        self._parts: list[_Part] = []
        self._correction: tuple[float, float, FloatArray] | None = None

    def fit(self, archs: Archs, y: Sequence[float] | FloatArray) -> None:
        """Fit to measured values, one per architecture, and discard corrections. Raises the predictor's errors."""
        self._correction = None
        values = np.asarray(y, dtype=float)
        fresh = deepcopy(self.predictor)
        self.predictor.fit(archs, values)
        self._log = bool(values.min() > 0)
        self._least = float(values.min()) / 10
        order = np.random.default_rng(len(values)).permutation(len(values))
        held_out = getattr(self.predictor, "held_out", None)
        if len(values) >= MANY:
            back = order[: len(order) // 4]
            self._parts = [self._part(self._refitted(fresh, archs, values, back), archs, values, back)]
        elif self.plus or held_out is None:
            folds = np.array_split(order, min(FOLDS, len(order)))
            self._parts = [self._part(self._refitted(fresh, archs, values, f), archs, values, f) for f in folds]
        else:
            self._parts = [_Part(self.predictor, *self._scores(held_out, values))]

    def predict(self, archs: Archs) -> Prediction:
        """Return mean and standard deviation, each (n,), of the predictor fitted to all measurements."""
        return self.predictor.predict(archs)

    def upper(self, archs: Archs, coverage: float) -> FloatArray:
        """Return (n,) bounds that a measurement exceeds with probability `1 - coverage`, in the unit of `y`.

        After `correct` they hold for networks selected with them instead.

        Raises:
            NasError: `fit` was not called, `coverage` is not between 0 and 1, or there are too few measurements for it.
        """
        if not self._parts:
            raise NasError("these bounds have seen no measurements; call fit before upper")
        if self._correction is None:
            return self._plain(archs, coverage)
        base, shift, scores = self._correction
        return self._raised(self._plain(archs, base), shift + quantile(scores, coverage))

    def correct(
        self, limits: Sequence[float] | FloatArray, values: Sequence[float] | FloatArray, coverage: float
    ) -> None:
        """Correct the bounds with measurements of networks that were selected with them.

        For each limit, drawn like future limits, a network was selected by its accuracy and `upper(archs, coverage)`
        and then measured: `values`, one per limit; a network selected for several limits counts for each. The scores
        belong to the decisions: a score is the excess of a value over its limit, so the gap between bound and limit
        counts too. The score of a further limit drawn like these is exchangeable with them, as long as the correction
        is small compared with the range of limits. This is split conformal prediction of the decision, which includes
        the selection and its effect on errors. `upper` with other coverages moves the same bounds by another quantile.
        A second correction starts from the current bounds, with which its networks were selected.

        Raises:
            NasError: `fit` was not called; limits or values are not finite, or not positive although the measured ones
                are; there is not one value per limit; or there are too few for `coverage`.
        """
        if not self._parts:
            raise NasError("these bounds have seen no measurements; call fit before correct")
        wanted, got = np.asarray(limits, dtype=float), np.asarray(values, dtype=float)
        if wanted.shape != got.shape or wanted.ndim != 1:
            raise NasError(
                f"{wanted.size} limits with {got.size} values; give one value per limit, of the network it selected"
            )
        if not np.isfinite([wanted, got]).all() or (self._log and not (np.r_[wanted, got] > 0).all()):
            raise NasError("limits and values must be finite, and positive like the measured ones; leave others out")
        _rank(len(got), coverage)  # raises NasError for too few, before any change
        base, shift = coverage, 0.0
        if self._correction is not None:
            base, before, scores = self._correction
            shift = before + quantile(scores, coverage)
        self._correction = base, shift, (np.log(got / wanted) if self._log else got - wanted)

    def _plain(self, archs: Archs, coverage: float) -> FloatArray:
        """With one part, use the quantile of its scores; with several, CV+: the quantile of bounds by measurement."""
        scores = np.concatenate([part.scores for part in self._parts])
        rank = _rank(len(scores), coverage)
        if len(self._parts) == 1:
            part = self._parts[0]
            return self._bounds(part, archs, np.sort(scores)[rank - 1 : rank])[:, 0]
        bounds = np.hstack([self._bounds(part, archs, part.scores) for part in self._parts])
        return np.asarray(np.partition(bounds, rank - 1, axis=1)[:, rank - 1], dtype=float)

    def _bounds(self, part: "_Part", archs: Archs, scores: FloatArray) -> FloatArray:
        """Return (n, m) bounds of n architectures around the part's fit, at m scores."""
        centre, spread = self._centred(part.predictor.predict(archs))
        return self._raised(centre[:, None], scores[None] * (spread + part.typical)[:, None])

    def _raised(self, values: FloatArray, by: FloatArray | float) -> FloatArray:
        raised: FloatArray = values * np.exp(np.clip(by, -_STEEPEST, _STEEPEST)) if self._log else values + by
        return raised

    def _refitted(self, fresh: Predictor, archs: Archs, y: FloatArray, without: Positions) -> Predictor:
        predictor = deepcopy(fresh)
        kept = np.setdiff1d(np.arange(len(y)), without)
        predictor.fit(taken(archs, kept), y[kept])
        return predictor

    def _part(self, predictor: Predictor, archs: Archs, y: FloatArray, of: Positions) -> "_Part":
        return _Part(predictor, *self._scores(predictor.predict(taken(archs, of)), y[of]))

    def _scores(self, prediction: Prediction, y: FloatArray) -> tuple[FloatArray, float]:
        centre, spread = self._centred(prediction)
        typical = max(float(np.median(spread)), np.finfo(float).eps)
        above = np.log(y / centre) if self._log else y - centre
        return above / (spread + typical), typical

    def _centred(self, prediction: Prediction) -> Prediction:
        """Return mean and spread; with logarithms, a positive mean and the spread of its logarithm."""
        mean, std = prediction
        if not self._log:
            return mean, std
        mean = np.maximum(mean, self._least)
        return mean, std / mean


class _Part:
    """Scores (n,) of measurements that `predictor` has not seen, in units of its spread plus `typical`."""

    def __init__(self, predictor: Predictor, scores: FloatArray, typical: float) -> None:
        self.predictor = predictor
        self.scores = scores
        self.typical = typical


def chosen(errors: Sequence[float] | FloatArray, upper: FloatArray, limits: Sequence[float] | FloatArray) -> Positions:
    """Select for each of m limits the network with the smallest error whose bound keeps it.

    Returns (m,) positions among the n networks, -1 if no bound keeps the limit; of equal errors the first counts.
    """
    order = np.argsort(np.asarray(errors, dtype=float), kind="stable")
    least = np.minimum.accumulate(upper[order])  # of the best 1, 2, 3, ... networks
    place = np.searchsorted(-least, -np.asarray(limits, dtype=float), side="left")
    return np.where(place < len(order), order[np.minimum(place, len(order) - 1)], -1)


def needed(coverage: float) -> int:
    """Return how many scores a bound of this coverage needs: n >= coverage / (1 - coverage).

    Raises:
        NasError: `coverage` is not between 0 and 1.
    """
    if not 0 < coverage < 1:
        raise NasError(f"coverage={coverage}; it must be a share between 0 and 1, such as 0.9")
    return ceil(coverage / (1 - coverage) - 1e-9)


def quantile(scores: FloatArray, coverage: float) -> float:
    """Return the score that a further, exchangeable one exceeds with probability at most `1 - coverage`.

    Raises:
        NasError: there are fewer scores than `needed`.
    """
    return float(np.sort(scores)[_rank(len(scores), coverage) - 1])


def _rank(n: int, coverage: float) -> int:
    if n < needed(coverage):
        raise NasError(
            f"{n} measurements are too few for a bound of coverage {coverage:g}: measure {needed(coverage)} or more, "
            f"or lower the coverage to {n / (n + 1):.2f}"
        )
    return ceil((n + 1) * coverage - 1e-9)


def taken(archs: Archs, positions: Positions) -> Archs:
    """Return the codes or architectures at these positions."""
    return archs[positions] if isinstance(archs, np.ndarray) else [archs[i] for i in positions.tolist()]
