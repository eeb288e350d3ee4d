"""The file of results: one line of JSON for each run that ended, well or not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from supernets.errors import SupernetError


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


class RowsError(SupernetError):
    """The file of results holds something else."""


def read(path: Path) -> Rows:
    """What was done; the last line of a job counts. A last line that was cut off is not there.

    Raises:
        RowsError: another line is damaged.
    """
    if not path.exists():
        return {}
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return dict(_row(line, f"{path}, line {number}") for number, line in enumerate(filter(None, whole.split("\n")), 1))


def append(path: Path, job: Job, outcome: Outcome) -> None:
    """Write one line, to the disk; a line that was cut off before makes place for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({**asdict(job), **asdict(outcome)}, allow_nan=False, separators=(",", ":")) + "\n"
    with path.open("ab+") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def missing(jobs: Iterable[Job], rows: Rows, *, again: bool = False) -> list[Job]:
    """Jobs without a row, each once; `again` counts failures as not done."""
    return [job for job in dict.fromkeys(jobs) if job not in rows or (again and rows[job].error)]


def _row(line: str, place: str) -> tuple[Job, Outcome]:
    try:
        held: dict[str, Any] = json.loads(line)
        job = Job(**{field.name: held.pop(field.name) for field in fields(Job)})
        return job, Outcome(**{**held, "inherited": tuple(held["inherited"])})
    except (ValueError, KeyError, TypeError) as error:
        raise RowsError(f"{place} is no row of this benchmark ({error}): remove it") from error
