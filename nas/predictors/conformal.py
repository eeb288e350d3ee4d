"""Upper bounds on a metric that hold with a stated coverage, and still hold for networks that are chosen by them.

Conformal bounds hold for an architecture like those measured. The most accurate network whose bound keeps a limit is
not like them: among many it is one whose latency was predicted too low, or it lies in a corner where the predictor errs
to one side. On NAS-Bench-201 bounds asked to hold for 90 %, which held for 89 to 91 % of all networks, held for 76 to
97 % of those chosen by them (docs/decisions/latency-bounds.md). So:

    bounded = Bounded(Ensemble(space))
    bounded.fit(archs, latencies)                                     # bounds for an architecture like these
    picked = chosen(errors, bounded.upper(codes, 0.9), limits)        # for limits drawn over the range of interest
    bounded.correct(limits, measured, 0.9)                            # what the networks picked really take
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
"""Measurements from which on a quarter is held back for the bounds alone."""
FOLDS = 10
_STEEPEST = 50.0  # of an exponent: what is beyond is no bound

Positions: TypeAlias = npt.NDArray[np.int64]
Prediction: TypeAlias = tuple[FloatArray, FloatArray]


class Bounded:
    """A predictor with one-sided conformal bounds (Vovk et al. 2005; Lei et al. 2018, section 2).

    The score of a measurement is how far it lies above its prediction, divided by the predicted spread plus the median
    of these (Papadopoulos et al. 2008), in the logarithm where all values are positive. A bound adds the quantile of
    the scores, ranked `ceil((n + 1) * coverage)` of n, in the same unit. What that promises of a further architecture,
    exchangeable with those measured, depends on where the scores come from:

    - from `MANY` measurements on, from a quarter held back: coverage at least as asked, whatever the predictor;
    - of fewer, with `plus`, or where a predictor has no `held_out`: CV+ of ten folds, each bound taken around the fit
      that has not seen the measurement. At least `1 - 2 (1 - coverage) - min(2 (1 - 1/K) / (n/K + 1), (1 - K/n) /
      (K + 1))` for K folds of n, and jackknife+ of at least `1 - 2 (1 - coverage)` where n <= 10; mostly about what is
      asked (Barber et al. 2021, theorems 1 and 4). Ten fits, ten predictions;
    - else from the predictor's `held_out`, around the fit to all: one fit. Nothing is promised in the worst case; with
      a predictor that one measurement hardly moves it tends to what is asked (same, section 1.2 and theorem 5).
      Measured on NAS-Bench-201: 89 to 91 % at 90 % of 30, 50 and 100 measurements.

    Args:
        predictor: not fitted yet; it is fitted by `fit`.
        plus: take CV+ where there are few, for what it promises.
    """

    def __init__(self, predictor: Predictor, plus: bool = False) -> None:
        self.predictor = predictor
        self.plus = plus
        self._parts: list[_Part] = []
        self._correction: tuple[float, float, FloatArray] | None = None

    def fit(self, archs: Archs, y: Sequence[float] | FloatArray) -> None:
        """Learns from measured values, one an architecture; forgets corrections. Errors are those of the predictor."""
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
        """Mean and standard deviation, each (n,), as the predictor fitted to all measurements has them."""
        return self.predictor.predict(archs)

    def upper(self, archs: Archs, coverage: float) -> FloatArray:
        """(n,) values that a measurement exceeds with probability `1 - coverage`, in the unit of `y`.

        After `correct` they hold for what is chosen by them instead.

        Raises:
            NasError: there was no `fit`, `coverage` is not between 0 and 1, or measurements are too few for it.
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
        """Moves the bounds by what networks chosen with them turned out to be.

        For limits drawn as those to come will be, a network was chosen by its accuracy and `upper(archs, coverage)`,
        and then measured: `values`, one a limit; a network that several limits chose counts for each. The scores are
        those of the decisions, how far a value lies above its limit, so the gap between bound and limit counts too. To
        a limit drawn like these the next score is exchangeable with them, as far as the correction is small against
        the range of the limits: this is split conformal prediction of the decision, the choice and what it does to
        errors being part of what is repeated. `upper` of other coverages moves the same bounds by another quantile.
        Correcting again goes on from the bounds as they are, with which these choices were made.

        Raises:
            NasError: no `fit`, limits or values that are not finite (positive where those measured are), not one value
                a limit, or too few for `coverage`.
        """
        if not self._parts:
            raise NasError("these bounds have seen no measurements; call fit before correct")
        wanted, got = np.asarray(limits, dtype=float), np.asarray(values, dtype=float)
        if wanted.shape != got.shape or wanted.ndim != 1:
            raise NasError(f"{wanted.size} limits with {got.size} values; give the value of what each limit chose")
        if not np.isfinite([wanted, got]).all() or (self._log and not (np.r_[wanted, got] > 0).all()):
            raise NasError("limits and values of what they chose must be finite, and positive as those measured are")
        _rank(len(got), coverage)  # too few is said here, before anything relies on it
        base, shift = coverage, 0.0
        if self._correction is not None:
            base, before, scores = self._correction
            shift = before + quantile(scores, coverage)
        self._correction = base, shift, (np.log(got / wanted) if self._log else got - wanted)

    def _plain(self, archs: Archs, coverage: float) -> FloatArray:
        """One part: the quantile of its scores. Several: CV+, the quantile of the bounds around each measurement."""
        scores = np.concatenate([part.scores for part in self._parts])
        rank = _rank(len(scores), coverage)
        if len(self._parts) == 1:
            part = self._parts[0]
            return self._bounds(part, archs, np.sort(scores)[rank - 1 : rank])[:, 0]
        bounds = np.hstack([self._bounds(part, archs, part.scores) for part in self._parts])
        return np.asarray(np.partition(bounds, rank - 1, axis=1)[:, rank - 1], dtype=float)

    def _bounds(self, part: "_Part", archs: Archs, scores: FloatArray) -> FloatArray:
        """(n, m): of n architectures, around the part's fit, at m scores."""
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
        """Mean and spread; the spread of the logarithm where that is taken, of means that are positive."""
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
    """For each of m limits the network of n with the smallest error whose bound keeps it: (m,) positions, -1 if none.

    Of equal errors the first counts.
    """
    order = np.argsort(np.asarray(errors, dtype=float), kind="stable")
    least = np.minimum.accumulate(upper[order])  # of the best 1, 2, 3, ... networks
    place = np.searchsorted(-least, -np.asarray(limits, dtype=float), side="left")
    return np.where(place < len(order), order[np.minimum(place, len(order) - 1)], -1)


def needed(coverage: float) -> int:
    """How many scores a bound of this coverage takes: n >= coverage / (1 - coverage). NasError outside (0, 1)."""
    if not 0 < coverage < 1:
        raise NasError(f"coverage={coverage}; it is a share between 0 and 1, such as 0.9")
    return ceil(coverage / (1 - coverage) - 1e-9)


def quantile(scores: FloatArray, coverage: float) -> float:
    """The score that a further, exchangeable one exceeds with probability at most `1 - coverage`.

    Raises:
        NasError: there are fewer scores than `needed`.
    """
    return float(np.sort(scores)[_rank(len(scores), coverage) - 1])


def _rank(n: int, coverage: float) -> int:
    if n < needed(coverage):
        raise NasError(
            f"{n} measurements give no bound of coverage {coverage:g}: measure {needed(coverage)} or more, or ask for "
            f"{n / (n + 1):.2f} or less"
        )
    return ceil((n + 1) * coverage - 1e-9)


def taken(archs: Archs, positions: Positions) -> Archs:
    """Those at these positions, as codes or architectures."""
    return archs[positions] if isinstance(archs, np.ndarray) else [archs[i] for i in positions.tolist()]
