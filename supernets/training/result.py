"""The result of a training: losses and curves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from search_spaces.narrowing import Closed


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The task's metric after `step` steps (or, of "train", the mean training loss since the last point)."""

    step: int
    which: str
    """"smallest", "random" or "largest" of a supernet, "network" of a single module; "train" of both."""
    metric: str
    value: float


@dataclass(frozen=True)
class TrainingResult:
    """A finished training; the weights are in the supernet or the module that was trained."""

    steps: int
    losses: tuple[float, ...]
    """(steps,) loss of each step's first pass; of skipped steps what it was, finite or not."""
    curve: tuple[CurvePoint, ...]
    """Points of the whole training, including those before it was resumed."""
    skipped: int
    """Steps left out because a loss or a gradient was not finite."""
    precision: str
    resumed_from: int
    """The step of the checkpoint this run resumed from; 0 if it began at the beginning."""
    rejected: tuple[str, ...]
    """Damaged checkpoints, and why."""
    seconds: float
    """Seconds that this run took."""
    closed: tuple[Closed, ...] = ()
    """Options that the strategy stopped training, and why: see `Strategy.narrows`."""

    def final(self, which: str) -> float:
        """The last value of one curve."""
        return next(point.value for point in reversed(self.curve) if point.which == which)


OnCurve = Callable[[CurvePoint], None]
