"""What a run of this benchmark is and gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks import rows

JOINT, QUERIED = "joint", "queried"


@dataclass(frozen=True)
class Job:
    """What a run is; it is done once."""

    task: str
    method: str
    lr_arch: float
    mode: str
    """JOINT or QUERIED."""
    seed: int
    budget: int
    """Forward and backward passes."""
    truth: str
    """Digest of what it is compared with."""


@dataclass(frozen=True)
class Outcome:
    """What a run gave; architectures are positions in the truth."""

    error: str = ""
    """Why it gave nothing; the other fields mean nothing then."""
    steps: int = 0
    """Of the search."""
    passes: int = 0
    """Of the search, forward and backward, as they were counted; what trained the supernet it asks is beside."""
    search_s: float = 0.0
    """Processor time of the search."""
    supernet_s: float = 0.0
    """Processor time of the training of the supernet it asks; 0 where another run had trained it."""
    evaluate_s: float = 0.0
    """Processor time of evaluating what was drawn."""
    derived: int = 0
    """The architecture derived from the distribution."""
    drawn: tuple[int, ...] = ()
    """Different architectures drawn from it."""
    inherited: tuple[float, ...] = ()
    """Their metric on the validation split, with inherited, calibrated weights."""
    chances: tuple[float, ...] = ()
    """How likely each architecture of the truth is."""
    free: float = 0.0
    """Share of the choices among operations whose likeliest option has no parameters."""
    entropy: float = 0.0
    """Mean over choices, as a share of that of equal probabilities."""
    warnings: tuple[str, ...] = ()


Rows = dict[Job, Outcome]


def read(path: Path) -> Rows:
    """What was done: see `benchmarks.rows`."""
    return rows.read(path, Job, Outcome)


def died(reason: str) -> Outcome:
    """Of a run that came to no end."""
    return Outcome(error=reason)
