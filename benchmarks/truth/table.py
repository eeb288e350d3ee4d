"""Tables of stand-alone trainings: how they lie in a file, how they grow, and what they say.

A file begins with a line that names the space and the settings, `# space <digest> settings <digest> metric <name>`;
below it is CSV with one line a training: the codes of the architecture (`Space.codes`), its digest, the seed, error and
loss on the validation split, parameters, multiply-accumulates of an example, and seconds of processor time.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TextIO

import numpy as np
import numpy.typing as npt

from benchmarks.truth import SPACES
from benchmarks.truth.task import TruthError, TruthTask
from search_spaces import Architecture, Space

FOLDER = Path(__file__).parent
HEADER = re.compile(r"# space (?P<space>\w+) settings (?P<settings>\w+) metric (?P<metric>\w+)")

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """One stand-alone training."""

    codes: str
    digest: str
    seed: int
    error: float
    loss: float
    params: int
    macs: int
    seconds: float

    def line(self) -> list[str]:
        """As it stands in the file; six digits are more than a training determines."""
        return [f"{value:.6g}" if isinstance(value, float) else str(value) for value in asdict(self).values()]

    @classmethod
    def of(cls, record: Mapping[str, str]) -> Row:
        """The inverse of `line`. Raises ValueError or KeyError for what is no row."""
        return cls(
            codes=record["codes"],
            digest=record["digest"],
            seed=int(record["seed"]),
            error=float(record["error"]),
            loss=float(record["loss"]),
            params=int(record["params"]),
            macs=int(record["macs"]),
            seconds=float(record["seconds"]),
        )


COLUMNS = [field.name for field in fields(Row)]


def spelled(codes: Iterable[int]) -> str:
    """Codes as text without commas: "0 2 1"."""
    return " ".join(str(code) for code in codes)


# --- the file -----------------------------------------------------------------------------------------------------


def header(task: TruthTask) -> str:
    """The first line of the task's table."""
    return f"# space {task.space.digest} settings {task.settings} metric {task.metric}"


def read(path: Path) -> tuple[str, list[Row]]:
    """The first line of a table, and its rows; what a stop in the middle of a line left is not a row.

    Raises:
        TruthError: it is not a table, or a line of it is not a row.
    """
    first, _, rest = path.read_text(encoding="utf-8").partition("\n")
    if HEADER.fullmatch(first) is None:
        raise TruthError(f"{path} begins with {first[:60]!r}: it is no truth table; give another folder")
    whole = rest[: rest.rfind("\n") + 1]
    rows = []
    for number, record in enumerate(csv.DictReader(whole.splitlines()), 3):
        try:
            rows.append(Row.of(record))
        except (KeyError, TypeError, ValueError) as error:
            raise TruthError(f"{path}, line {number} is no row ({error}): delete the line") from error
    return first, rows


def begun(path: Path, task: TruthTask) -> list[Row]:
    """The rows of a table that is to grow; the file is made where there is none, and cut after its last whole line.

    Raises:
        TruthError: the table is of other settings.
    """
    if path.exists():
        first, rows = read(path)
        if first != header(task):
            raise TruthError(f"{path} holds rows of other settings ({first[2:]}): give another folder, or delete it")
    else:
        rows = []
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(header(task) + "\n")
        _write(file, [COLUMNS, *(row.line() for row in rows)])
    return rows


@contextmanager
def growing(path: Path) -> Iterator[TextIO]:
    """The file, opened to `append` to."""
    with path.open("a", encoding="utf-8", newline="") as file:
        yield file


def append(file: TextIO, row: Row) -> None:
    """Add a row, and see that it is in the file."""
    _write(file, [row.line()])
    file.flush()


def _write(file: TextIO, lines: Iterable[list[str]]) -> None:
    csv.writer(file, lineterminator="\n").writerows(lines)


# --- what it says -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Truth:
    """The quality of every architecture of a space, trained alone; lower is better."""

    name: str
    archs: tuple[Architecture, ...]
    """All n of the space, in the order it enumerates them."""
    seeds: tuple[int, ...]
    metric: str
    values: Vector
    """(n, seeds) of the metric."""
    metrics: Mapping[str, Vector]
    """(n, seeds) of each metric there is: "error" and "loss"."""
    params: npt.NDArray[np.int64]
    """(n,)"""
    macs: npt.NDArray[np.int64]
    """(n,) of one example."""
    seconds: Vector
    """(n, seeds) of processor time."""
    settings: str
    """Digest of what the values depend on: that of `TruthTask.settings`."""

    @property
    def mean(self) -> Vector:
        """(n,) the metric's mean over the seeds."""
        return np.asarray(self.values.mean(1))


def truth(name: str, path: Path | None = None) -> Truth:
    """The committed truth of that name; `path` is another table's file.

    Raises:
        TruthError: there is none, or it is of another space, or does not hold every architecture for every seed.
    """
    if name not in SPACES:
        raise TruthError(f"no truth is called {name!r}: choose one of {', '.join(SPACES)}")
    path = path or FOLDER / f"{name}.csv"
    if not path.exists():
        raise TruthError(f"{path} is not there: make it with python -m benchmarks.truth {name} --out {path.parent}")
    return _complete(name, SPACES[name], path)


def _complete(name: str, space: Space, path: Path) -> Truth:
    first, rows = read(path)
    said = HEADER.fullmatch(first)
    assert said is not None
    if said["space"] != space.digest:
        raise TruthError(f"{path} is of space {said['space']}, not of {space.digest}: make it anew")
    archs = tuple(space.enumerate())
    seeds = tuple(sorted({row.seed for row in rows}))
    known = {(row.digest, row.seed): row for row in rows}
    missing = [(arch, seed) for arch in archs for seed in seeds if (arch.digest, seed) not in known]
    if missing or not seeds or len(rows) != len(archs) * len(seeds):
        raise TruthError(
            f"{path} has {len(rows)} rows, not one for each of {len(archs)} architectures and {len(seeds)} seeds: "
            f"finish it with python -m benchmarks.truth {name} --out {path.parent}"
        )
    table = [[known[arch.digest, seed] for seed in seeds] for arch in archs]

    def column(field: str) -> Vector:
        return np.array([[getattr(row, field) for row in line] for line in table], dtype=np.float64)

    metrics = {"error": column("error"), "loss": column("loss")}
    return Truth(
        name=name,
        archs=archs,
        seeds=seeds,
        metric=said["metric"],
        values=metrics[said["metric"]],
        metrics=metrics,
        params=column("params")[:, 0].astype(np.int64),
        macs=column("macs")[:, 0].astype(np.int64),
        seconds=column("seconds"),
        settings=said["settings"],
    )
