"""Latency prediction on published tables and on this machine: how well, from how few measurements.

    python -m benchmarks.latency_prediction DATA_FOLDER [--parts nasbench201,fbnet,...] [--draws 4] [--report]

Every part appends its rows to benchmarks/results/latency_prediction.jsonl as they are done, and goes on there when it
is started again; the report beside it has a section for each part that has rows.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # before numpy is imported

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

from benchmarks.report import machine
from benchmarks.rows import append_line, lines
from benchmarks.work import exit_status
from supernets.errors import SupernetError

RESULTS = Path("benchmarks/results/latency_prediction.jsonl")
PARTS = ("nasbench201", "fbnet", "hat", "ofa", "guarantee", "throughput", "machine")
"""Modules of this package, in the order of the report."""

Row = dict[str, Any]


class Part(Protocol):
    """The interface of a part's module."""

    NAME: str

    def rows(self, data: Path, draws: int, done: Callable[[Row], Row | None]) -> Iterator[Row]:
        """Yield rows as they finish, each with `part` and its identity; skip those that `done` finds."""
        ...

    def report(self, rows: Sequence[Row]) -> list[str]:
        """Return lines of Markdown: the table, then its conclusions."""
        ...


class PartError(SupernetError):
    """The part does not exist."""


def main(words: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(words)
    return exit_status(partial(_main, arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.latency_prediction",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", type=Path, metavar="DATA_FOLDER", help="where the published tables lie")
    parser.add_argument("--parts", help=f"some of {','.join(PARTS)}; all unless given")
    parser.add_argument("--draws", type=int, default=4, help="random draws of what is measured")
    parser.add_argument("--rows", type=Path, default=RESULTS, help=f"the file of results; default {RESULTS}")
    parser.add_argument("--report", action="store_true", help="only write the report")
    return parser


def _main(arguments: argparse.Namespace) -> None:
    names = arguments.parts.split(",") if arguments.parts else available()
    parts = [part(name) for name in names]
    for chosen in [] if arguments.report else parts:
        for row in chosen.rows(arguments.data, arguments.draws, done(list(lines(arguments.rows)))):
            append_line(arguments.rows, row)
            print(", ".join(f"{key} {value}" for key, value in row.items() if isinstance(value, str | int)), flush=True)
    path = arguments.rows.with_suffix(".md")
    path.write_text(report(list(lines(arguments.rows))), encoding="utf-8")
    print(f"{path} is written", file=sys.stderr)


def available() -> list[str]:
    """Return the parts whose modules exist."""
    folder = Path(__file__).parent
    return [name for name in PARTS if (folder / f"{name}.py").is_file()]


def part(name: str) -> Part:
    """Import the module of a part and return it; raise PartError if there is none."""
    if name not in available():
        raise PartError(f"there is no part {name!r}: the parts are {', '.join(available())}")
    return cast(Part, importlib.import_module(f"benchmarks.latency_prediction.{name}"))


def done(rows: Sequence[Row]) -> Callable[[Row], Row | None]:
    """Return a function that finds the row with all given values, None if there is none."""
    return lambda key: next((row for row in rows if all(row.get(k) == v for k, v in key.items())), None)


def report(rows: Sequence[Row]) -> str:
    """Return the report on all parts that have rows."""
    about = (
        "# Latency prediction\n\nWritten by `python -m benchmarks.latency_prediction`; rows of every part beside it.\n"
    )
    sections = [f"On {machine(threads=1)}.\n"]
    for name in available():
        own = [row for row in rows if row["part"] == name]
        if own:
            sections.append("\n".join(part(name).report(own)) + "\n")
    return "\n".join([about, *sections])


if __name__ == "__main__":
    sys.exit(main())
