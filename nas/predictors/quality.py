"""How far a predictor may be trusted: one line from measurements that were held back."""

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
_PREDICTED = 100  # measurements are held back again and again until so many predictions are compared
_REPEATS = 5
_USELESS = 300  # measurements after which more of the same kind do not help


@dataclass(frozen=True)
class Wanted:
    """What is asked of a predictor."""

    spearman: float = 0.8
    """At least."""
    mape: float = 0.2
    """Mean absolute error at most, as a share of the value; compared where all values are positive."""
    missed: float = 2.0
    """How many standard errors of a share the kept bounds may lie below what is asked."""


LIMITS = Wanted()
"""Of a predictor that decides on a hard limit. One that ranks worse or errs by more refuses most of what would keep the
limit; one whose bounds are not kept promises what does not hold."""


@dataclass(frozen=True)
class Quality:
    """On held-back measurements."""

    spearman: float
    """Rank correlation of predicted and measured; 0 where one of them is constant."""
    mape: float | None
    """Mean absolute error as a share of the value; None unless all values are positive."""
    coverage: float | None
    """The share of measurements that kept their upper bound; None where they were too few for a bound."""
    coverage_asked: float
    measurements: int
    """Different measurements there were."""
    held_back: int
    """Of these in turn, predictions that were compared; more than `measurements` where that was repeated."""
    pairs: tuple[tuple[float, float, float], ...] = field(default=(), repr=False)
    """Of each measurement, held back once: what was measured, what was predicted, and the upper bound."""

    @property
    def verdict(self) -> str:
        """One line for people."""
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
        """Whether it may decide on a hard limit: `LIMITS` is met."""
        return not self.shortfalls(LIMITS)

    def shortfalls(self, wanted: Wanted) -> list[str]:
        """What falls short of `wanted`, each in a few words; empty where nothing does."""
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
        """One line: why the predictor of this target may not decide on a limit, and what to measure next.

        Empty where it may.
        """
        found = self.shortfalls(LIMITS)
        if not found:
            return ""
        return f"{target}: its predictor may not decide on a limit: {', '.join(found)}; {self._remedy(target)}"

    @property
    def _standard_error(self) -> float:
        """Of the share of kept bounds; measurements count once, however often they were held back."""
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
        """Errors fall as 1 / sqrt(n) at best; to the next ten, at most thrice what there is."""
        excess = [1.0, (1 - self.spearman) / (1 - LIMITS.spearman), ((self.mape or 0) / LIMITS.mape) ** 2]
        total = max(self.measurements * max(excess), needed(self.coverage_asked) + 2, self.measurements + 10)
        return 10 * ceil((min(total, 4 * self.measurements + 10) - self.measurements) / 10)


def judged(
    make: Callable[[], Predictor], archs: Archs, y: Sequence[float] | FloatArray, coverage: float = 0.9
) -> Quality:
    """Cross-validation on held-back measurements, repeated where there are few; always the same for the same input.

    Each fold is predicted, and bounded with `coverage`, by a predictor fitted to the others; ranks are compared over
    all folds together. Folds are smaller where a bound needs all but a few of the measurements.

    Args:
        make: the predictor, not yet fitted.
        archs: n of them, measured, each once.
        y: (n,) values.

    Raises:
        NasError: too few for a predictor to be fitted without some of them, or what the predictor itself objects to.
    """
    values = np.asarray(y, dtype=float)
    n = len(values)
    if n < FEWEST + 1:
        raise NasError(f"{n} measurements are too few to hold any back; measure at least {FEWEST + 1}")
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
    """Each measurement held back once: (n,) what was predicted, and the bound on it, NaN without `coverage`."""
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
