"""What a run is, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks import rows

BUDGETS = (50, 100, 200, 500)
"""Evaluations after which the share is taken."""


@dataclass(frozen=True)
class Job:
    """One search."""

    problem: str
    method: str
    batch: int
    seed: int
    evaluations: int


@dataclass(frozen=True)
class Outcome:
    error: str
    shares: tuple[float, ...] = ()
    """Shares of the best hypervolume, at each of `BUDGETS` that was reached."""
    seconds: float = 0.0
    """Time in ask and tell."""


Rows = dict[Job, Outcome]


def read(path: Path) -> Rows:
    return rows.read(path, Job, Outcome)
