"""The quality of a predictor, from held-out measurements, and a verdict in one line."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil, sqrt

import numpy as np
from scipy.stats import spearmanr

from nas.errors import NasError
from nas.predictors import Archs, Predictor
from nas.predictors.conformal import Bounded, needed, taken
from nas.predictors.models import FloatArray
from nas.predictors.rows import FEWEST

_FOLDS = 5
_PREDICTED = 100  # cross-validation is repeated until so many predictions are compared
_REPEATS = 5
_USELESS = 300  # measurements beyond which more of the same kind do not help


@dataclass(frozen=True)
class Wanted:
    """Requirements on a predictor."""

    spearman: float = 0.8
    """Least rank correlation."""
    mape: float = 0.2
    """Largest mean absolute error, as a share of the value; checked if all values are positive."""
    missed: float = 2.0
    """How many standard errors the share of kept bounds may lie below the requested coverage."""


LIMITS = Wanted()
"""Requirements for deciding on hard limits. A predictor with worse ranks or larger errors would reject most networks
that keep the limit; one whose bounds are broken would accept networks that do not."""


@dataclass(frozen=True)
class Quality:
    """Accuracy on held-out measurements."""

    spearman: float
    """Rank correlation of predicted and measured values; 0 if one of them is constant."""
    mape: float | None
    """Mean absolute error as a share of the value; None unless all values are positive."""
    coverage: float | None
    """The share of measurements within their upper bound; None if they were too few for a bound."""
    coverage_asked: float
    measurements: int
    """Number of distinct measurements."""
    held_back: int
    """Number of compared predictions; more than `measurements` if cross-validation was repeated."""
    pairs: tuple[tuple[float, float, float], ...] = field(default=(), repr=False)
    """For each measurement, held out once: measured value, prediction and upper bound."""

    @property
    def verdict(self) -> str:
        """The quality in one line, for display."""
        misses = "" if self.mape is None else f", misses by {100 * self.mape:.1f} %"
        asked = f"{100 * self.coverage_asked:g} % asked"
        bounds = (
            f"too few for bounds ({asked})"
            if self.coverage is None
            else f"{100 * self.coverage:.0f} % of bounds kept ({asked})"
        )
        return f"ranks {self.spearman:.2f}{misses}, {bounds}, from {self.measurements} measurements"

    @property
    def serves_limits(self) -> bool:
        """Whether the predictor may decide on a hard limit: it meets `LIMITS`."""
        return not self.shortfalls(LIMITS)

    def shortfalls(self, wanted: Wanted) -> list[str]:
        """Return the unmet requirements, each in a few words; empty if all are met."""
        found = []
        if not self.spearman >= wanted.spearman:
            found.append(f"it ranks {self.spearman:.2f} ({wanted.spearman:g} wanted)")
        if self.mape is not None and not self.mape <= wanted.mape:
            found.append(f"it misses by {100 * self.mape:.0f} % ({100 * wanted.mape:g} % wanted)")
        asked = f"{100 * self.coverage_asked:g} %"
        if self.coverage is None:
            found.append(f"{self.measurements} measurements are too few for bounds of {asked}")
        elif self.coverage < self.coverage_asked - wanted.missed * self._standard_error:
            found.append(f"{100 * self.coverage:.0f} % of its bounds are kept ({asked} asked)")
        return found

    def refusal(self, target: str) -> str:
        """Return one line: why this target's predictor may not decide on a limit, and what to measure next.

        Empty if it may.
        """
        found = self.shortfalls(LIMITS)
        if not found:
            return ""
        return f"{target}: its predictor may not decide on a limit: {', '.join(found)}; {self._remedy(target)}"

    @property
    def _standard_error(self) -> float:
        """Standard error of the share of kept bounds; each measurement counts once, however often it was held out."""
        return sqrt(self.coverage_asked * (1 - self.coverage_asked) / self.measurements)

    def _remedy(self, target: str) -> str:
        if self.measurements >= _USELESS:
            return (
                f"more will hardly help: measure the same network on {target} several times to see its noise, give "
                "features that say more, or limit what is measured instead of predicted"
            )
        return f"measure {self._more} more architectures on {target}, those it is least sure of near the limit first"

    @property
    def _more(self) -> int:
        """How many more to measure: errors fall as 1 / sqrt(n) at best; rounded up to tens, at most about 3 n."""
        excess = [1.0, (1 - self.spearman) / (1 - LIMITS.spearman), ((self.mape or 0) / LIMITS.mape) ** 2]
        total = max(self.measurements * max(excess), needed(self.coverage_asked) + 2, self.measurements + 10)
        return 10 * ceil((min(total, 4 * self.measurements + 10) - self.measurements) / 10)


def judged(
    make: Callable[[], Predictor], archs: Archs, y: Sequence[float] | FloatArray, coverage: float = 0.9
) -> Quality:
    """Judge a predictor by cross-validation, repeated for few measurements; deterministic for the same input.

    A predictor fitted to the other folds predicts each fold and bounds it with `coverage`; ranks are compared over all
    folds together. Folds are smaller if a bound needs almost all of the measurements.

    Args:
        make: makes an unfitted predictor.
        archs: n distinct measured architectures.
        y: (n,) values.

    Raises:
        NasError: there are too few measurements to hold some out, or the predictor raises it.
    """
    values = np.asarray(y, dtype=float)
    n = len(values)
    if n < FEWEST + 1:
        raise NasError(f"{n} measurements are too few to hold any out; measure at least {FEWEST + 1}")
    bounds = n - needed(coverage) >= 1
    num_folds = min(n, max(_FOLDS, ceil(n / (n - needed(coverage))) if bounds else 0, ceil(n / (n - FEWEST))))
    rounds = [
        _round(make, archs, values, coverage if bounds else None, np.random.default_rng([n, number]), num_folds)
        for number in range(min(_REPEATS, ceil(_PREDICTED / n)) if num_folds < n else 1)
    ]
    predicted = np.concatenate([mean for mean, _ in rounds])
    upper = np.concatenate([bound for _, bound in rounds])
    measured = np.tile(values, len(rounds))
    return Quality(
        spearman=float(np.mean([_rank_correlation(mean, values) for mean, _ in rounds])),
        mape=float(np.mean(np.abs(predicted / measured - 1))) if values.min() > 0 else None,
        coverage=float(np.mean(measured <= upper)) if bounds else None,
        coverage_asked=coverage,
        measurements=n,
        held_back=len(predicted),
        pairs=tuple(zip(*(part[:n].tolist() for part in (measured, predicted, upper)), strict=True)) if bounds else (),
    )


def _round(
    make: Callable[[], Predictor],
    archs: Archs,
    y: FloatArray,
    coverage: float | None,
    rng: np.random.Generator,
    num_folds: int,
) -> tuple[FloatArray, FloatArray]:
    """Hold each measurement out once: return (n,) predictions and (n,) bounds, NaN without `coverage`."""
    mean, upper = np.empty(len(y)), np.full(len(y), np.nan)
    for fold in np.array_split(rng.permutation(len(y)), num_folds):
        others = np.setdiff1d(np.arange(len(y)), fold)
        bounded = Bounded(make())
        bounded.fit(taken(archs, others), y[others])
        held = taken(archs, fold)
        mean[fold] = bounded.predict(held)[0]
        if coverage is not None:
            upper[fold] = bounded.upper(held, coverage)
    return mean, upper


def _rank_correlation(a: FloatArray, b: FloatArray) -> float:
    return 0.0 if np.ptp(a) == 0 or np.ptp(b) == 0 else float(spearmanr(a, b).statistic)
