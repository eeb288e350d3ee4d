"""Tests whether a machine or a network differs from earlier measurements by more than noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from scipy.stats import t as student

from nas.targets.measuring import CHANGED

# Of normally distributed values: sd of a median of n / sd of the values * sqrt(n); IQR / sd; MAD / sd.
_MEDIAN_SD = math.sqrt(math.pi / 2)
_IQR_SD = 1.349
_MAD_SD = 0.6745
_Z = 1.96


class Measured(Protocol):
    """A median with its spread: a new result or a stored measurement."""

    @property
    def median_ms(self) -> float: ...

    @property
    def iqr_ms(self) -> float: ...

    @property
    def repeats(self) -> int: ...


@dataclass(frozen=True)
class Ratio:
    """The ratio of later to earlier latencies, with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def changed(self) -> bool:
        """Whether the difference exceeds noise and `CHANGED`."""
        return not self.low <= 1 <= self.high and abs(self.value - 1) > CHANGED

    @property
    def text(self) -> str:
        """The ratio for display: `12 % slower (8 % to 16 %)`."""
        word = "slower" if self.value > 1 else "faster"
        bounds = sorted(abs(bound - 1) for bound in (self.low, self.high))
        return f"{abs(self.value - 1):.0%} {word} ({bounds[0]:.0%} to {bounds[1]:.0%})"


@dataclass(frozen=True)
class Comparison:
    """The change of a machine and of each network on it."""

    machine: Ratio
    """The change common to all networks."""
    networks: tuple[Ratio, ...]
    """The change of each network relative to the machine's."""


def compared(pairs: Sequence[tuple[Measured, Measured]]) -> Comparison:
    """Compare one or more networks measured (earlier, later), each time all in the same rounds."""
    machine = ratio(pairs)
    # Student's t for a spread estimated from few networks, Bonferroni over networks: few checks accuse one wrongly
    z = float(student.ppf(1 - 0.025 / len(pairs), max(1, len(pairs) - 1)))
    room = z * _among([_log(pair) for pair in pairs])
    networks = []
    for before, after in pairs:
        apart = _log((before, after)) - math.log(machine.value)
        own = max(z * math.hypot(_sd(before), _sd(after)), room)
        networks.append(Ratio(*(math.exp(value) for value in (apart, apart - own, apart + own))))
    return Comparison(machine, tuple(networks))


def ratio(pairs: Sequence[tuple[Measured, Measured]]) -> Ratio:
    """Return the median ratio of one or more networks measured (earlier, later).

    The spread of a ratio is that of its two medians, from their interquartile ranges, or the spread among the ratios if
    that is larger: measurements at different times differ by more than consecutive passes.
    """
    logs = [_log(pair) for pair in pairs]
    middle = median(logs)
    within = median(math.hypot(_sd(before), _sd(after)) for before, after in pairs)
    room = _Z * max(within, _among(logs)) * (_MEDIAN_SD if len(logs) > 2 else 1) / math.sqrt(len(logs))
    return Ratio(*(math.exp(value) for value in (middle, middle - room, middle + room)))


def _log(pair: tuple[Measured, Measured]) -> float:
    before, after = pair
    return math.log(after.median_ms / before.median_ms)


def _among(logs: Sequence[float]) -> float:
    """Robust standard deviation of these values, from their median absolute deviation."""
    middle = median(logs)
    return median(abs(value - middle) for value in logs) / _MAD_SD


def _sd(measured: Measured) -> float:
    """Standard deviation of a median, as a share of it."""
    return _MEDIAN_SD * measured.iqr_ms / _IQR_SD / math.sqrt(measured.repeats) / measured.median_ms
