"""What a run of this benchmark is and gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks import rows
from benchmarks.rows import RowsError, append, missing

__all__ = ["Job", "Outcome", "Rows", "RowsError", "append", "died", "missing", "read"]


@dataclass(frozen=True)
class Job:
    """What a run is; it is done once."""

    task: str
    strategy: str
    sharing: str
    seed: int
    budget: int
    """Forward and backward passes."""
    truth: str
    """Digest of what it is compared with."""
    tuning: str = ""
    """How the training differs from that of the truth, as `Tuned` is spelled; empty where nothing was tried."""


@dataclass(frozen=True)
class Outcome:
    """What a run gave."""

    error: str = ""
    """Why it gave nothing; the other fields mean nothing then."""
    steps: int = 0
    passes: int = 0
    """Of all steps."""
    passes_beside: int = 0
    """Forward and backward passes that no step has: a sharing's own."""
    parameters: int = 0
    """Numbers stored by the supernet."""
    ms_per_pass: float = 0.0
    """Median over steps of processor time, whatever the step needs beside its passes included."""
    train_s: float = 0.0
    evaluate_s: float = 0.0
    inherited: tuple[float, ...] = ()
    """The metric of each architecture, in the order of the truth."""


Rows = dict[Job, Outcome]


def read(path: Path) -> Rows:
    """What was done: see `benchmarks.rows`."""
    return rows.read(path, Job, Outcome)


def died(reason: str) -> Outcome:
    """Of a run that came to no end."""
    return Outcome(error=reason)
