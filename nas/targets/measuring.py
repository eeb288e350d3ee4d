"""How often a pass is timed, and what the times say: over any callable, by any clock.

A median is known to half the notch of a box plot, 1.57 IQR / sqrt(n) (McGill, Tukey and Larsen, 1978, "Variations of
box plots"), which a few interrupted passes do not move; so passes are repeated until that is a small share of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median, quantiles

from nas.targets.target import TargetError

NOTCH = 1.57
FAR = 3.0
"""Interquartile ranges beyond the third quartile from which a pass is an outlier (Tukey's outer fence)."""
CHANGED = 0.05
"""Share of a latency below which a change is not worth a word, however certain."""
_MANY_OUTLIERS = 0.05
_MOST_WARM_UP = 100

Pass = Callable[[], float]
"""Runs once and returns how long that took, in seconds."""
Clock = Callable[[], float]
"""Seconds, of any origin."""


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """When a measurement is good enough, or has taken long enough.

    Raises:
        TargetError: settings out of range.
    """

    uncertainty: float = 0.02
    """Stop once the median's uncertainty is at most this share of it."""
    budget_s: float = 1.0
    """Stop after this time, warm-up included, though never before `min_repeats`."""
    min_repeats: int = 10
    max_repeats: int = 1000
    warmup: int = 3
    """Passes at least before the first that counts; a tenth of the budget goes into them where they are short."""

    def __post_init__(self) -> None:
        if self.warmup < 0 or not 2 <= self.min_repeats <= self.max_repeats:
            raise TargetError(
                f"warmup={self.warmup} and repeats from {self.min_repeats} to {self.max_repeats}: give no negative "
                "warm-up, and 2 or more repeats in ascending order"
            )
        if not 0 <= self.uncertainty < math.inf or not 0 <= self.budget_s < math.inf:
            raise TargetError(
                f"uncertainty={self.uncertainty} and budget_s={self.budget_s}: give numbers, 0 or more (0.02 for 2 %, "
                "1 for a second)"
            )


@dataclass(frozen=True)
class Times:
    """Seconds of each pass that counted, in order, and what they say."""

    seconds: tuple[float, ...]
    warmup: int
    """Passes before the first that counted."""
    asked: float
    """The uncertainty that was asked for, as a share of the median."""

    @cached_property
    def quartiles(self) -> tuple[float, float, float]:
        low, middle, high = quantiles(self.seconds, n=4, method="inclusive")
        return low, middle, high

    @property
    def median(self) -> float:
        return self.quartiles[1]

    @property
    def iqr(self) -> float:
        return self.quartiles[2] - self.quartiles[0]

    @property
    def uncertainty(self) -> float:
        """Of the median, as a share of it."""
        return _share(NOTCH * self.iqr / math.sqrt(len(self.seconds)), self.median)

    @property
    def settled(self) -> bool:
        """Whether the median is known as well as was asked."""
        return self.uncertainty <= self.asked

    @property
    def outliers(self) -> float:
        """Share of passes that took far longer than the others: something else ran."""
        fence = self.quartiles[2] + FAR * self.iqr
        return sum(time > fence for time in self.seconds) / len(self.seconds)

    @property
    def drift(self) -> float:
        """By which share the second half took longer than the first (less: negative); 0 if that may be noise.

        Noise are differences that both medians' notches leave room for, and those below `CHANGED`.
        """
        half = len(self.seconds) // 2
        first, second = self.seconds[:half], self.seconds[-half:]
        if half < 2:
            return 0.0
        before, after = median(first), median(second)
        apart = _share(after - before, before)
        room = _share(_notch(first) + _notch(second), before)
        return apart if abs(apart) > max(room, CHANGED) else 0.0

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd about these times."""
        found = []
        if not self.settled:
            found.append(f"median known to {self.uncertainty:.1%} only when time was up, asked were {self.asked:.1%}")
        if self.outliers >= _MANY_OUTLIERS:
            found.append(f"{self.outliers:.0%} of the passes took far longer than the others: something else ran")
        if self.drift:
            found.append(f"became {abs(self.drift):.0%} {'slower' if self.drift > 0 else 'faster'} while it was timed")
        return tuple(found)


def timed(run: Pass, repeats: Repeats, clock: Clock) -> Times:
    """Warms up, then repeats a pass until its median is known well enough or time is up."""
    start = clock()
    warmup = _warm_up(run, repeats, clock, start)
    seconds: list[float] = []
    while len(seconds) < repeats.max_repeats:
        seconds.append(run())
        enough = len(seconds) >= repeats.min_repeats
        if enough and (clock() - start >= repeats.budget_s or _settled(seconds, repeats.uncertainty)):
            break
    return Times(tuple(seconds), warmup, repeats.uncertainty)


def clocked(run: Callable[[], object], clock: Clock) -> Pass:
    """A pass timed by a clock."""

    def once() -> float:
        before = clock()
        run()
        return clock() - before

    return once


def _warm_up(run: Pass, repeats: Repeats, clock: Clock, start: float) -> int:
    """Fills caches and lets kernels be chosen; returns the number of passes."""
    passes = 0
    while passes < repeats.warmup or (passes < _MOST_WARM_UP and clock() - start < repeats.budget_s / 10):
        run()
        passes += 1
    return passes


def _settled(seconds: Sequence[float], asked: float) -> bool:
    return _notch(seconds) <= asked * median(seconds)


def _notch(seconds: Sequence[float]) -> float:
    """Half the notch of a box plot, in seconds."""
    low, _, high = quantiles(seconds, n=4, method="inclusive")
    return NOTCH * (high - low) / math.sqrt(len(seconds))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0 if part == 0 else math.copysign(math.inf, part)
