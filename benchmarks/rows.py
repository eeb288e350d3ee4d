"""A file of results: one line of JSON for each finished run, successful or not.

A line holds the fields of two frozen dataclasses, the job and its outcome; or it is plain JSON.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

from supernets.errors import SupernetError


class Ended(Protocol):
    """The common part of every outcome."""

    @property
    def error(self) -> str:
        """Why the run failed; empty if it succeeded."""
        ...


Job = TypeVar("Job")
Outcome = TypeVar("Outcome")
Failing = TypeVar("Failing", bound=Ended)


class RowsError(SupernetError):
    """The file of results contains something else."""


def read(path: Path, job: type[Job], outcome: type[Outcome]) -> dict[Job, Outcome]:
    """Return the finished jobs; the last line of a job counts. A truncated last line is ignored.

    A field that was added to a job later has a default, which older lines omit.

    Raises:
        RowsError: another line is damaged.
    """
    return dict(_typed(row, place, job, outcome) for place, row in _lines(path))


def append(path: Path, job: Any, outcome: Any) -> None:
    """Write one line, to the disk."""
    append_line(path, {**asdict(job), **asdict(outcome)})


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file whose rows are plain JSON; a truncated last line is ignored.

    Raises:
        RowsError: another line is damaged.
    """
    return [row for _, row in _lines(path)]


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Write one line to the disk; it replaces a truncated last line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(row, allow_nan=False, separators=(",", ":")) + "\n"
    with path.open("ab+") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def missing(jobs: Iterable[Job], rows: Mapping[Job, Failing], *, again: bool = False) -> list[Job]:
    """Jobs without a row, each once; `again` counts failures as not done."""
    return [job for job in dict.fromkeys(jobs) if job not in rows or (again and rows[job].error)]


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the position and the content of each line."""
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n") if path.exists() else ("", "", "")
    for number, line in enumerate(filter(None, whole.split("\n")), 1):
        place = f"{path}, line {number}"
        try:
            yield place, dict(json.loads(line))
        except (ValueError, TypeError) as error:
            raise RowsError(f"{place} is no row of this benchmark ({error}): remove it") from error


def _typed(held: dict[str, Any], place: str, job: type[Job], outcome: type[Outcome]) -> tuple[Job, Outcome]:
    try:
        of_job = {
            field.name: held.pop(field.name)
            for field in fields(job)  # type: ignore[arg-type]
            if field.name in held or field.default is MISSING
        }
        return job(**of_job), outcome(**{name: tuple(v) if isinstance(v, list) else v for name, v in held.items()})
    except (KeyError, TypeError) as error:
        raise RowsError(f"{place} is no row of this benchmark ({error}): remove it") from error
