"""The command line."""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")  # before torch is imported

import argparse
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.cells import __doc__ as about
from benchmarks.cells import setting as settings
from benchmarks.cells.report import write
from benchmarks.cells.rows import EVOLUTION, FRONT, LIMITS, METHODS, Job, Outcome, Rows, died, read
from benchmarks.cells.run import run
from benchmarks.cells.setting import Setting
from benchmarks.cells.tables import load
from benchmarks.gradient import methods
from benchmarks.rows import append, missing
from benchmarks.work import done, exit_status, reporting
from nas.searchers.gradient.config import BOUNDS

RESULTS = Path("benchmarks/results/cells.jsonl")
COMPARED = ("snas", "drnas", "gdas", "darts")
METHOD = "snas"
"""Of the parts that compare something else."""
STEPS = 1000
SHARES = {LIMITS: 0.6}
"""Of these steps, of parts that take fewer."""


def main(words: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(words)
    return exit_status(partial(_main, arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.cells", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", type=Path, metavar="DATA_FOLDER", help="where the published tables lie")
    parser.add_argument("--steps", type=int, default=STEPS, help="of a search; with limits fewer")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=list(COMPARED), help="of the first part")
    parser.add_argument("--rows", type=Path, help=f"the file of results; default {RESULTS}")
    parser.add_argument("--again", action="store_true", help="do runs that failed again")
    parser.add_argument("--report", action="store_true", help="only write the report")
    parser.add_argument("--quick", action="store_true", help="stripes in place of clothes, one method, one seed")
    return parser


def _main(arguments: argparse.Namespace) -> None:
    rows_at = arguments.rows or RESULTS
    if arguments.quick:
        rows_at = arguments.rows or Path(tempfile.gettempdir()) / "cells-quick.jsonl"
        arguments.seeds, arguments.steps, arguments.methods = 1, 4, [METHOD]
    compared = list(methods.spelled(arguments.methods))  # what is misspelt is said before anything is trained
    setting = settings.SETTINGS["toy" if arguments.quick else "real"](load(arguments.tables))
    if not arguments.report:
        for seed in range(arguments.seeds):  # all parts with one seed before the next: what is stopped is balanced
            searches = _searches(compared, seed, arguments.steps, setting)
            _do(f"seed {seed}", searches, arguments, setting, rows_at)
            _do(f"seed {seed}, evolution", evolutions(searches, read(rows_at)), arguments, setting, rows_at)
    rows = {job: outcome for job, outcome in read(rows_at).items() if job.setting == setting.digest}
    write(setting, rows, rows_at)
    print(f"{rows_at.with_suffix('.md')} is written", file=sys.stderr)


def _searches(compared: Sequence[str], seed: int, steps: int, setting: Setting) -> list[Job]:
    (chosen,) = methods.spelled([METHOD])
    parts = [(METHODS, text, "") for text in compared]
    parts += [(LIMITS, chosen, bounds) for bounds in BOUNDS]
    parts.append((FRONT, chosen, ""))
    return [
        Job(part, text, bounds, seed, round(steps * SHARES.get(part, 1)), 0.0, setting.digest)
        for part, text, bounds in parts
    ]


def evolutions(searches: Sequence[Job], rows: Rows) -> list[Job]:
    """Return one job of evolution per learned front, with the same number of passes."""
    fronts = [(job, rows[job]) for job in searches if job.part == FRONT and job in rows and not rows[job].error]
    return [Job(EVOLUTION, "", "", job.seed, 0, found.passes, job.setting) for job, found in fronts]


def _do(title: str, jobs: Sequence[Job], arguments: argparse.Namespace, setting: Setting, rows_at: Path) -> None:
    """Run the missing jobs, and write each outcome when it ends."""
    todo = missing(jobs, read(rows_at), again=arguments.again)
    with reporting(title, len(todo)) as say:
        for job, outcome in done(todo, 1, partial(run, setting=setting), died):
            append(rows_at, job, outcome)
            say(_line(job, outcome, setting))


def _line(job: Job, outcome: Outcome, setting: Setting) -> str:
    what = " ".join(filter(None, (job.part, job.method, job.bounds)))
    if outcome.error:
        return f"{what} failed: {outcome.error}"
    regrets = ", ".join(f"{setting.tables.regret[cell]:.2f}" for cell in outcome.cells)
    return f"{what}: regret {regrets}; {outcome.passes:.0f} passes in {outcome.seconds:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
