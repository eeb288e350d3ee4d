"""What a run of this benchmark is and gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks import rows

METHODS, LIMITS, FRONT, EVOLUTION = "methods", "limits", "front", "evolution"
"""Parts."""


@dataclass(frozen=True)
class Job:
    """What a run is; it is done once."""

    part: str
    method: str
    """Of gradient search; evolution has none."""
    bounds: str
    """How limits are kept, in the part that has some."""
    seed: int
    steps: int
    """Of the search; 0 for evolution."""
    budget: float
    """Of evolution, in forward and backward passes; 0 for searches."""
    setting: str
    """Digest of tables, images and network."""


@dataclass(frozen=True)
class Outcome:
    """What a run gave; cells are rows of the tables."""

    error: str = ""
    """Why it gave nothing; the other fields mean nothing then."""
    passes: float = 0.0
    """Forward and backward; a batch that only runs forward counts a third."""
    evaluated: int = 0
    """Cells evaluated with inherited weights."""
    seconds: float = 0.0
    """Of processor time."""
    cells: tuple[int, ...] = ()
    """What is proposed."""
    labels: tuple[str, ...] = ()
    """The target and, of a front, the preference of each."""
    entropy: float = 0.0
    """Of what was learnt, mean over edges, as a share of that of equal probabilities."""
    limits: tuple[float, ...] = ()
    """In milliseconds, in the order of the limited targets."""
    r2: tuple[float, ...] = ()
    """Of the costs fitted, in the order of the targets that have one."""
    warnings: tuple[str, ...] = ()


Rows = dict[Job, Outcome]


def read(path: Path) -> Rows:
    """What was done: see `benchmarks.rows`."""
    return rows.read(path, Job, Outcome)


def died(reason: str) -> Outcome:
    """Of a run that came to no end."""
    return Outcome(error=reason)
