"""Networks timed in interleaved rounds, and what the times say: over any passes, by any clock.

A round is one pass of every network, in shuffled order. Of some rounds that follow one another the fastest pass of each
network counts: one that nothing interrupted. How fast the machine is meanwhile is a factor common to all networks;
dividing by the median over networks leaves ratios, which a machine that others disturb changes far less than times in
a row (`benchmarks/measuring.py`).

A ratio is known to half the notch of a box plot, 1.57 IQR / sqrt(rounds) (McGill, Tukey and Larsen, 1978, "Variations
of box plots"), which a few interrupted passes do not move; so rounds go on until that is a small share of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from nas.targets.target import TargetError

FloatArray = npt.NDArray[np.float64]

NOTCH = 1.57
FAR = 3.0
"""Interquartile ranges beyond the third quartile from which a pass is an outlier (Tukey's outer fence)."""
CHANGED = 0.05
"""Share of a latency below which a change is not worth a word, however certain."""
TOGETHER, FEWEST_PARTS = 4, 10
"""Rounds of which the fastest pass counts; fewer where there would be fewer such parts than this."""
COMMON = 3
"""Networks from which the machine's speed in a round can be told from what one network does."""
_MANY_OUTLIERS = 0.05
_MOST_WARM_UP = 100
_LOOK_EVERY = 0.1
"""Share of the rounds so far after which the next look is taken whether ratios are known well enough."""

Pass = Callable[[], float]
"""Runs once and returns how long that took, in seconds."""
Clock = Callable[[], float]
"""Seconds, of any origin."""


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """When a set of networks is measured well enough, or has taken long enough.

    Raises:
        TargetError: settings out of range.
    """

    uncertainty: float = 0.01
    """Stop once every network's ratio to the others is known to this share of it."""
    budget_s: float = 1.0
    """Stop after this time for each network of a set, though never before `min_repeats`."""
    min_repeats: int = 10
    """Rounds at least: every network is timed once in each."""
    max_repeats: int = 1000
    warmup: int = 3
    """Rounds at least before the first that counts; a tenth of `budget_s` goes into them where they are short."""

    def __post_init__(self) -> None:
        if self.warmup < 0 or not 2 <= self.min_repeats <= self.max_repeats:
            raise TargetError(
                f"warmup={self.warmup} and repeats from {self.min_repeats} to {self.max_repeats}: give no negative "
                "warm-up, and 2 or more repeats in ascending order"
            )
        if not 0 <= self.uncertainty < math.inf or not 0 <= self.budget_s < math.inf:
            raise TargetError(
                f"uncertainty={self.uncertainty} and budget_s={self.budget_s}: give numbers, 0 or more (0.01 for 1 %, "
                "1 for a second)"
            )


@dataclass(frozen=True, eq=False)
class Rounds:
    """What each network took in each round that counted, and what these times say."""

    seconds: FloatArray
    """(rounds, networks)."""
    warmup: int
    """Rounds before the first that counted."""
    asked: float
    """The uncertainty that was asked for, as a share of each ratio."""

    @cached_property
    def parts(self) -> FloatArray:
        """(parts, networks) the fastest pass of each in rounds that follow one another."""
        num_rounds = len(self.seconds)
        together = max(1, min(TOGETHER, num_rounds // FEWEST_PARTS))
        return np.minimum.reduceat(self.seconds, np.arange(0, num_rounds - together + 1, together), axis=0)

    @cached_property
    def pace(self) -> FloatArray:
        """(parts,) how long the median network took; of fewer than `COMMON` networks 1 throughout.

        One network alone cannot tell whether it or the machine was slow.
        """
        return _pace(self.parts)

    @cached_property
    def _quartiles(self) -> FloatArray:
        """(3, networks) of seconds, in parts of equal pace."""
        found: FloatArray = np.quantile(_evened(self.parts), (0.25, 0.5, 0.75), axis=0)
        return found

    @property
    def median(self) -> FloatArray:
        """(networks,) seconds of an uninterrupted pass, at the machine's median pace."""
        middle: FloatArray = self._quartiles[1]
        return middle

    @property
    def iqr(self) -> FloatArray:
        """(networks,) interquartile range over parts, in seconds."""
        width: FloatArray = self._quartiles[2] - self._quartiles[0]
        return width

    @property
    def uncertainty(self) -> FloatArray:
        """(networks,) of the medians, as a share of them."""
        return _shares(NOTCH * self.iqr / math.sqrt(len(self.parts)), self.median)

    @property
    def settled(self) -> npt.NDArray[np.bool_]:
        """(networks,) whether a ratio is known as well as was asked."""
        return self.uncertainty <= self.asked

    @property
    def outliers(self) -> FloatArray:
        """(networks,) share of passes that took far longer than the others of the same network: something else ran."""
        even = _evened(self.seconds)
        low, high = np.quantile(even, (0.25, 0.75), axis=0)
        found: FloatArray = (even > high + FAR * (high - low) + 1e-9 * self.median).mean(axis=0)
        return found

    @property
    def drift(self) -> float:
        """By which share the machine was slower in the second half than in the first (faster: negative).

        It is 0 where that may be noise: a difference that both medians' notches leave room for, or below `CHANGED`.
        Ratios do not feel it.
        """
        pace = np.median(self.seconds, axis=1)
        half = len(pace) // 2
        before, after = pace[:half], pace[-half:] if half else pace[:0]
        if half < 2 or np.median(before) <= 0:
            return 0.0
        apart = float(np.median(after) / np.median(before) - 1)
        room = float((_notch(before) + _notch(after)) / np.median(before))
        return apart if abs(apart) > max(room, CHANGED) else 0.0

    def notes(self, network: int) -> tuple[str, ...]:
        """What is odd about the times of one network."""
        found = []
        if not self.settled[network]:
            known = "ratio to the others" if self.seconds.shape[1] >= COMMON else "median"
            found.append(
                f"{known} known to {self.uncertainty[network]:.1%} only when time was up, asked were {self.asked:.1%}"
            )
        if self.outliers[network] >= _MANY_OUTLIERS:
            found.append(
                f"{self.outliers[network]:.0%} of the passes took far longer than the others: something else ran"
            )
        return tuple(found)


def in_rounds(passes: Sequence[Pass], repeats: Repeats, clock: Clock) -> Rounds:
    """Runs every pass once a round, in another order each time, until ratios are known well enough or time is up."""
    rng, start = np.random.default_rng(len(passes)), clock()
    warmup = 0
    while warmup < repeats.warmup or (warmup < _MOST_WARM_UP and clock() - start < repeats.budget_s / 10):
        _round(passes, rng)
        warmup += 1
    rows: list[FloatArray] = []
    look, most = repeats.min_repeats, repeats.budget_s * len(passes)
    while len(rows) < repeats.max_repeats:
        rows.append(_round(passes, rng))
        if len(rows) < repeats.min_repeats:
            continue
        if clock() - start >= most:
            break
        if len(rows) >= look:
            if Rounds(np.array(rows), warmup, repeats.uncertainty).settled.all():
                break
            look = math.ceil(len(rows) * (1 + _LOOK_EVERY))
    return Rounds(np.array(rows), warmup, repeats.uncertainty)


def clocked(run: Callable[[], object], clock: Clock) -> Pass:
    """A pass timed by a clock."""

    def once() -> float:
        before = clock()
        run()
        return clock() - before

    return once


def _round(passes: Sequence[Pass], rng: np.random.Generator) -> FloatArray:
    """(networks,) seconds of one pass of each."""
    seconds = np.empty(len(passes))
    for network in rng.permutation(len(passes)):
        seconds[network] = passes[network]()
    return seconds


def _pace(seconds: FloatArray) -> FloatArray:
    """(rounds,) the median over networks, 1 where they are too few to tell."""
    num_rounds, num_networks = seconds.shape
    return np.median(seconds, axis=1) if num_networks >= COMMON else np.ones(num_rounds)


def _evened(seconds: FloatArray) -> FloatArray:
    """(rounds, networks) seconds as they would be at the median pace; rounds that took no time are left out."""
    pace = _pace(seconds)
    even = pace > 0
    found: FloatArray = seconds[even] / pace[even, None] * np.median(pace) if even.any() else np.ones_like(seconds)
    return found


def _notch(seconds: FloatArray) -> float:
    """Half the notch of a box plot, in seconds."""
    low, high = np.quantile(seconds, (0.25, 0.75))
    return float(NOTCH * (high - low) / math.sqrt(len(seconds)))


def _shares(parts: FloatArray, wholes: FloatArray) -> FloatArray:
    """Elementwise; nothing of nothing is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(parts == 0, 0.0, parts / wholes)
