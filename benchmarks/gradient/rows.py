"""What a run of this benchmark is and gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks import rows

JOINT, QUERIED = "joint", "queried"


@dataclass(frozen=True)
class Job:
    """Identifies a run, which is done once."""

    task: str
    method: str
    lr_arch: float
    mode: str
    """JOINT or QUERIED."""
    seed: int
    budget: int
    """Number of forward and backward passes."""
    truth: str
    """Digest of the truth that it is compared with."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run; architectures are positions in the truth."""

    error: str = ""
    """Why it failed; the other fields are then meaningless."""
    steps: int = 0
    """Steps of the search."""
    passes: int = 0
    """Counted forward and backward passes of the search, without those that trained the queried supernet."""
    search_s: float = 0.0
    """Processor time of the search."""
    supernet_s: float = 0.0
    """Processor time of training the queried supernet; 0 if another run had trained it."""
    evaluate_s: float = 0.0
    """Processor time of evaluating the drawn architectures."""
    derived: int = 0
    """The architecture derived from the distribution."""
    drawn: tuple[int, ...] = ()
    """Different architectures drawn from the distribution."""
    inherited: tuple[float, ...] = ()
    """Their metric on the validation split, with inherited weights and calibrated batch norm."""
    chances: tuple[float, ...] = ()
    """Probability of each architecture of the truth."""
    free: float = 0.0
    """Share of the choices among operations whose likeliest option has no parameters."""
    entropy: float = 0.0
    """Mean entropy over choices, as a share of that of equal probabilities."""
    warnings: tuple[str, ...] = ()


Rows = dict[Job, Outcome]


def read(path: Path) -> Rows:
    """Return the finished runs: see `benchmarks.rows`."""
    return rows.read(path, Job, Outcome)


def died(reason: str) -> Outcome:
    """Return the outcome of a run that did not finish."""
    return Outcome(error=reason)
