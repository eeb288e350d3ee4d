"""The command line."""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")  # before torch is imported, also by the workers

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks import truths
from benchmarks.finding import find
from benchmarks.gradient import __doc__ as about
from benchmarks.gradient import methods
from benchmarks.gradient.figures import best, figures
from benchmarks.gradient.report import write
from benchmarks.gradient.rows import JOINT, QUERIED, Job, Outcome, Rows, died, read
from benchmarks.gradient.run import run
from benchmarks.rows import append, missing
from benchmarks.truths import Truth
from benchmarks.work import done, exit_status, reporting

RESULTS = Path("benchmarks/results/gradient.jsonl")
BUDGET = 6.0
"""In stand-alone trainings; half of what supernets get in benchmarks.ranking, for a mixture runs every option."""
NUM_BEST = 3
"""Methods that go from the first task to the others."""


def main(words: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(words)
    return exit_status(partial(_main, arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.gradient", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=1, help="of one thread each")
    parser.add_argument("--budget", type=float, default=BUDGET, help="of a run, in stand-alone trainings")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--tasks", nargs="+", help="the first with all methods, others with the best; default: all")
    parser.add_argument("--methods", nargs="+", default=list(methods.METHODS))
    parser.add_argument("--best", type=int, default=NUM_BEST, help="methods that go from the first task to the others")
    parser.add_argument("--modes", nargs="+", default=[JOINT, QUERIED], choices=[JOINT, QUERIED])
    parser.add_argument("--rows", type=Path, help=f"the file of results; default {RESULTS}")
    parser.add_argument("--again", action="store_true", help="do runs that failed again")
    parser.add_argument("--pilot", action="store_true", help="only try learning rates, with a seed of their own")
    parser.add_argument("--report", action="store_true", help="only write the report")
    parser.add_argument("--quick", action="store_true", help="a toy task of seconds, two methods, one seed")
    return parser


def _main(arguments: argparse.Namespace) -> None:
    rows_at = arguments.rows or RESULTS
    if arguments.quick:
        rows_at = arguments.rows or Path(tempfile.gettempdir()) / "gradient-quick.jsonl"
        arguments.tasks, arguments.seeds, arguments.methods = [truths.TOY], 1, ["darts", "gdas"]
    plan = _Work({name: find(name) for name in arguments.tasks or truths.names()}, arguments, rows_at)
    rates = methods.spelled(arguments.methods)  # what is misspelt is said before anything is trained
    first, *others = plan.tasks
    if arguments.pilot:
        plan.do("pilot", plan.pilot(first))
        return
    if not arguments.report:
        jobs = plan.jobs([first], rates)
        plan.do("stage 1", jobs)
        if others:
            chosen = best(plan.tasks[first], plan.rows(jobs), arguments.best)
            print(f"stage 2 with {', '.join(chosen)}", file=sys.stderr)
            plan.do("stage 2", plan.jobs(others, {name: rates[name] for name in chosen}))
    write(plan.tasks, plan.rows(), rows_at, budgets=plan.budgets)
    print(f"{rows_at.with_suffix('.md')} and {rows_at.with_suffix('.png').name} are written", file=sys.stderr)


class _Work:
    """The jobs of a command."""

    def __init__(self, tasks: dict[str, Truth], arguments: argparse.Namespace, rows_at: Path) -> None:
        self.tasks = tasks
        self.budgets = {name: round(arguments.budget * truth.training.steps) for name, truth in tasks.items()}
        self._arguments = arguments
        self._rows_at = rows_at

    def jobs(self, tasks: Sequence[str], rates: dict[str, float]) -> list[Job]:
        """Return the jobs, all methods of one seed before the next, so that a stopped benchmark has all methods."""
        return [
            self._job(task, method, rate, mode, seed)
            for seed in range(self._arguments.seeds)
            for task in tasks
            for method, rate in rates.items()
            for mode in methods.modes(method, self._arguments.modes)
        ]

    def pilot(self, task: str) -> list[Job]:
        """Return the pilot jobs: a separate seed, at half the budget."""
        names = methods.spelled(methods.PILOTED)
        jobs = [self._job(task, name, rate, JOINT, methods.PILOT_SEED) for name in names for rate in methods.PILOT]
        return [replace(job, budget=job.budget // 2) for job in jobs]

    def _job(self, task: str, method: str, rate: float, mode: str, seed: int) -> Job:
        return Job(task, method, rate, mode, seed, self.budgets[task], self.tasks[task].digest)

    def do(self, title: str, jobs: Sequence[Job]) -> None:
        """Run the missing jobs, and write each outcome when it ends."""
        todo = missing(jobs, read(self._rows_at), again=self._arguments.again)
        with reporting(title, len(todo)) as say:
            for job, outcome in done(todo, self._arguments.processes, run, died):
                append(self._rows_at, job, outcome)
                say(_line(job, outcome, self.tasks[job.task]))

    def rows(self, jobs: Sequence[Job] | None = None) -> Rows:
        """Return the rows of these jobs, or all rows of this truth."""
        rows = read(self._rows_at)
        if jobs is not None:
            return {job: rows[job] for job in jobs if job in rows}
        now = {(name, truth.digest) for name, truth in self.tasks.items()}
        return {job: outcome for job, outcome in rows.items() if (job.task, job.truth) in now}


def _line(job: Job, outcome: Outcome, truth: Truth) -> str:
    what = f"{job.task}, {job.method} at {job.lr_arch:g}, {job.mode}, seed {job.seed}"
    if outcome.error:
        return f"{what} failed: {outcome.error}"
    found = figures(truth, outcome)
    return (
        f"{what}: regret {found.regret:.4f}, rank {found.rank}, of drawn {found.of_drawn:.4f}, expected "
        f"{found.expected:.4f}, entropy {found.entropy:.2f}, {len(outcome.warnings)} warnings, {outcome.search_s:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
