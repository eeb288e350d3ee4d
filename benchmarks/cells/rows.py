"""What a run of this benchmark is and gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks import rows

METHODS, LIMITS, FRONT, EVOLUTION = "methods", "limits", "front", "evolution"
"""Parts."""


@dataclass(frozen=True)
class Job:
    """Identifies a run, which is done once."""

    part: str
    method: str
    """Method of gradient search; empty for evolution."""
    bounds: str
    """How limits are kept, in the part with limits."""
    seed: int
    steps: int
    """Steps of the search; 0 for evolution."""
    budget: float
    """Budget of evolution, in forward and backward passes; 0 for searches."""
    setting: str
    """Digest of tables, images and network."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run; cells are rows of the tables."""

    error: str = ""
    """Why it failed; the other fields are then meaningless."""
    passes: float = 0.0
    """Forward and backward passes; a forward pass alone counts as a third."""
    evaluated: int = 0
    """Cells evaluated with inherited weights."""
    seconds: float = 0.0
    """Processor time."""
    cells: tuple[int, ...] = ()
    """The proposed cells."""
    labels: tuple[str, ...] = ()
    """The target of each cell and, on a front, its preference."""
    entropy: float = 0.0
    """Mean entropy of the learned distribution over edges, as a share of that of equal probabilities."""
    limits: tuple[float, ...] = ()
    """Limits in milliseconds, in the order of the limited targets."""
    r2: tuple[float, ...] = ()
    """R² of the fitted costs, in the order of their targets."""
    warnings: tuple[str, ...] = ()


Rows = dict[Job, Outcome]


def read(path: Path) -> Rows:
    """Return the finished runs: see `benchmarks.rows`."""
    return rows.read(path, Job, Outcome)


def died(reason: str) -> Outcome:
    """Return the outcome of a run that did not finish."""
    return Outcome(error=reason)
