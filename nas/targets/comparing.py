"""Whether two measurements of the same networks differ by more than their noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from nas.targets.measuring import CHANGED

# Of normally distributed values: sd of a median of n / sd of the values * sqrt(n); IQR / sd; MAD / sd.
_MEDIAN_SD = math.sqrt(math.pi / 2)
_IQR_SD = 1.349
_MAD_SD = 0.6745
_Z = 1.96


class Measured(Protocol):
    """A median with its spread: a result or a stored measurement."""

    @property
    def median_ms(self) -> float: ...

    @property
    def iqr_ms(self) -> float: ...

    @property
    def repeats(self) -> int: ...


@dataclass(frozen=True)
class Ratio:
    """Later latencies as a multiple of earlier ones, with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def changed(self) -> bool:
        """Whether the difference is more than noise, and more than `CHANGED`."""
        return not self.low <= 1 <= self.high and abs(self.value - 1) > CHANGED

    @property
    def text(self) -> str:
        """For people: `12 % slower (8 % to 16 %)`."""
        word = "slower" if self.value > 1 else "faster"
        bounds = sorted(abs(bound - 1) for bound in (self.low, self.high))
        return f"{abs(self.value - 1):.0%} {word} ({bounds[0]:.0%} to {bounds[1]:.0%})"


def ratio(pairs: Sequence[tuple[Measured, Measured]]) -> Ratio:
    """The median ratio of networks measured (earlier, later), at least one.

    The spread of a ratio is that of its two medians, by their interquartile ranges, or what the ratios differ by among
    one another where that is more: measurements made at different times differ by more than passes made in a row.
    """
    logs = [math.log(after.median_ms / before.median_ms) for before, after in pairs]
    middle = median(logs)
    within = median(math.hypot(_sd(before), _sd(after)) for before, after in pairs)
    among = median(abs(value - middle) for value in logs) / _MAD_SD
    room = _Z * max(within, among) * (_MEDIAN_SD if len(logs) > 2 else 1) / math.sqrt(len(logs))
    return Ratio(*(math.exp(value) for value in (middle, middle - room, middle + room)))


def _sd(measured: Measured) -> float:
    """Standard deviation of a median, as a share of it."""
    return _MEDIAN_SD * measured.iqr_ms / _IQR_SD / math.sqrt(measured.repeats) / measured.median_ms
