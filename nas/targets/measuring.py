"""Times networks in interleaved rounds and evaluates the times; works with any passes and any clock.

A round is one pass of every network, in shuffled order. Of several consecutive rounds, the fastest pass of each network
counts, since it was probably not interrupted. The speed of the machine is a factor common to all networks; dividing by
the median over networks leaves ratios, which other load changes far less than times of consecutive passes
(`benchmarks/measuring.py`).

The uncertainty of a ratio is half the notch of a box plot, 1.57 IQR / sqrt(rounds) (McGill, Tukey and Larsen, 1978,
"Variations of box plots"), which a few interrupted passes do not change. Rounds continue until it is a small share of
the ratio.
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
"""Share of a latency below which a change is not reported, however certain."""
TOGETHER, FEWEST_PARTS = 4, 10
"""Consecutive rounds of which the fastest pass counts (fewer if there would be too few parts), and the fewest parts."""
COMMON = 3
"""Fewest networks with which the machine's speed in a round can be separated from that of one network."""
_MANY_OUTLIERS = 0.05
_MOST_WARM_UP = 100
_LOOK_EVERY = 0.1
"""Share of the rounds so far after which to check again whether ratios are precise enough."""

Pass = Callable[[], float]
"""Runs once and returns the duration in seconds."""
Clock = Callable[[], float]
"""Seconds, of any origin."""


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """When to stop measuring a set of networks.

    Raises:
        TargetError: a setting is out of range.
    """

    uncertainty: float = 0.01
    """Stop once the relative uncertainty of every network's ratio to the others is at most this."""
    budget_s: float = 1.0
    """Stop after this time per network of a set, but not before `min_repeats`."""
    min_repeats: int = 10
    """Fewest rounds; every network is timed once in each."""
    max_repeats: int = 1000
    warmup: int = 3
    """Fewest rounds before the first that counts; short rounds are repeated for a tenth of `budget_s`."""

    def __post_init__(self) -> None:
        if self.warmup < 0 or not 2 <= self.min_repeats <= self.max_repeats:
            raise TargetError(
                f"warmup={self.warmup}, min_repeats={self.min_repeats} and max_repeats={self.max_repeats}: give a "
                "warm-up of 0 or more, and 2 <= min_repeats <= max_repeats"
            )
        if not 0 <= self.uncertainty < math.inf or not 0 <= self.budget_s < math.inf:
            raise TargetError(
                f"uncertainty={self.uncertainty} and budget_s={self.budget_s}: give numbers, 0 or more (0.01 for 1 %, "
                "1 for a second)"
            )


@dataclass(frozen=True, eq=False)
class Rounds:
    """The time of each network in each round that counts, and statistics of these times."""

    seconds: FloatArray
    """(rounds, networks)."""
    warmup: int
    """Rounds before the first that counts."""
    asked: float
    """The requested relative uncertainty of each ratio."""

    @cached_property
    def parts(self) -> FloatArray:
        """(parts, networks) the fastest pass of each network in consecutive rounds."""
        num_rounds = len(self.seconds)
        together = max(1, min(TOGETHER, num_rounds // FEWEST_PARTS))
        return np.minimum.reduceat(self.seconds, np.arange(0, num_rounds - together + 1, together), axis=0)

    @cached_property
    def pace(self) -> FloatArray:
        """(parts,) the time of the median network; 1 throughout with fewer than `COMMON` networks.

        With one network alone, a slow network cannot be distinguished from a slow machine.
        """
        return _pace(self.parts)

    @cached_property
    def _quartiles(self) -> FloatArray:
        """(3, networks) quartiles of seconds, in parts scaled to equal pace."""
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
        """(networks,) relative uncertainty of the medians."""
        return _shares(NOTCH * self.iqr / math.sqrt(len(self.parts)), self.median)

    @property
    def settled(self) -> npt.NDArray[np.bool_]:
        """(networks,) whether a ratio is as precise as requested."""
        return self.uncertainty <= self.asked

    @property
    def outliers(self) -> FloatArray:
        """(networks,) share of passes that took far longer than others of the same network, because of other load."""
        even = _evened(self.seconds)
        low, high = np.quantile(even, (0.25, 0.75), axis=0)
        found: FloatArray = (even > high + FAR * (high - low) + 1e-9 * self.median).mean(axis=0)
        return found

    @property
    def drift(self) -> float:
        """Relative slowdown of the machine in the second half compared with the first (negative if faster).

        It is 0 if it may be noise: a difference within both medians' notches, or below `CHANGED`. Ratios are not
        affected.
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
        """Warnings about the times of one network."""
        found = []
        if not self.settled[network]:
            known = "ratio to the others" if self.seconds.shape[1] >= COMMON else "median"
            found.append(
                f"{known} known to {self.uncertainty[network]:.1%} when time was up, {self.asked:.1%} was requested"
            )
        if self.outliers[network] >= _MANY_OUTLIERS:
            found.append(
                f"{self.outliers[network]:.0%} of the passes took far longer than the others: something else ran"
            )
        return tuple(found)


def in_rounds(passes: Sequence[Pass], repeats: Repeats, clock: Clock) -> Rounds:
    """Run every pass once per round, in random order, until ratios are precise enough or time is up."""
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
    """Return a pass that times `run` with a clock."""

    def once() -> float:
        before = clock()
        run()
        return clock() - before

    return once


def _round(passes: Sequence[Pass], rng: np.random.Generator) -> FloatArray:
    """Return (networks,) seconds of one pass of each."""
    seconds = np.empty(len(passes))
    for network in rng.permutation(len(passes)):
        seconds[network] = passes[network]()
    return seconds


def _pace(seconds: FloatArray) -> FloatArray:
    """Return (rounds,) medians over networks; 1 with fewer than `COMMON` networks."""
    num_rounds, num_networks = seconds.shape
    return np.median(seconds, axis=1) if num_networks >= COMMON else np.ones(num_rounds)


def _evened(seconds: FloatArray) -> FloatArray:
    """Return (rounds, networks) seconds scaled to the median pace; rounds that took no time are omitted."""
    pace = _pace(seconds)
    even = pace > 0
    found: FloatArray = seconds[even] / pace[even, None] * np.median(pace) if even.any() else np.ones_like(seconds)
    return found


def _notch(seconds: FloatArray) -> float:
    """Return half the notch of a box plot, in seconds."""
    low, high = np.quantile(seconds, (0.25, 0.75))
    return float(NOTCH * (high - low) / math.sqrt(len(seconds)))


def _shares(parts: FloatArray, wholes: FloatArray) -> FloatArray:
    """Divide elementwise; 0 / 0 is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(parts == 0, 0.0, parts / wholes)
