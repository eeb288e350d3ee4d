"""The command line."""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")  # before numpy is imported

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.rows import append, missing
from benchmarks.search_tables import __doc__ as about
from benchmarks.search_tables.problems import DEVELOPED_ON, HELD_BACK, load
from benchmarks.search_tables.report import write
from benchmarks.search_tables.rows import BUDGETS, Job, Outcome, read
from benchmarks.search_tables.run import PEERS, died, run
from benchmarks.work import done, exit_status, reporting

RESULTS = Path("benchmarks/results/search_tables.jsonl")
PLAIN = "evolution(screening=0, around=0)"
OURS = ("random", PLAIN, "evolution", "bayesian", "surrogate")
SLOW_SEEDS = 5
"""Most seeds of the methods that are slow and only references."""
SLOW = ("bayesian", *PEERS)


def main(words: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(words)
    return exit_status(partial(_main, arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.search_tables", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    problems = [*DEVELOPED_ON, *HELD_BACK]
    parser.add_argument("tables", type=Path, metavar="DATA_FOLDER", help="where the published tables lie")
    parser.add_argument("--problems", nargs="+", default=problems, choices=problems, metavar="PROBLEM")
    parser.add_argument("--methods", nargs="+", default=[*OURS, *PEERS], choices=[*OURS, *PEERS], metavar="METHOD")
    parser.add_argument("--seeds", type=int, default=20, help=f"of slow references at most {SLOW_SEEDS}")
    parser.add_argument("--evaluations", type=int, default=BUDGETS[-1])
    parser.add_argument("--batch", type=int, default=5, help="networks asked for at once")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--rows", type=Path, default=RESULTS, help=f"the file of results; default {RESULTS}")
    parser.add_argument("--again", action="store_true", help="do runs that failed again")
    parser.add_argument("--report", action="store_true", help="only write the report")
    return parser


def _main(arguments: argparse.Namespace) -> None:
    if not arguments.report:
        for problem in arguments.problems:  # what is missing is said before anything is run
            load(problem, arguments.tables)
        todo = missing(_jobs(arguments), read(arguments.rows), again=arguments.again)
        with reporting("searches", len(todo)) as say:
            for job, outcome in done(todo, arguments.processes, partial(run, folder=arguments.tables), died):
                append(arguments.rows, job, outcome)
                say(_line(job, outcome))
    write(read(arguments.rows), arguments.rows)
    print(f"{arguments.rows.with_suffix('.md')} is written", file=sys.stderr)


def _jobs(arguments: argparse.Namespace) -> list[Job]:
    """Return the jobs, all of one seed before the next, so that a stopped benchmark is balanced."""
    return [
        Job(problem, method, 1 if method in PEERS else arguments.batch, seed, arguments.evaluations)
        for seed in range(arguments.seeds)
        for method in arguments.methods
        for problem in arguments.problems
        if seed < SLOW_SEEDS or method not in SLOW
    ]


def _line(job: Job, outcome: Outcome) -> str:
    told = outcome.error or " ".join(f"{share:.3f}" for share in outcome.shares)
    return f"{job.problem}, {job.method}, seed {job.seed}: {told}; {outcome.seconds:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
