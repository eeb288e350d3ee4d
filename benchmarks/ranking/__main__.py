"""The command line."""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")  # before torch is imported, also by the workers

import argparse
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks import truths
from benchmarks.finding import find
from benchmarks.ranking import __doc__ as about
from benchmarks.ranking import methods
from benchmarks.ranking.figures import best_two, figures
from benchmarks.ranking.report import write
from benchmarks.ranking.rows import Job, Outcome, Rows, append, died, missing, read
from benchmarks.ranking.run import run
from benchmarks.ranking.tries import TRIES
from benchmarks.truths import Truth
from benchmarks.work import done, exit_status, reporting

RESULTS = Path("benchmarks/results/ranking.jsonl")
BUDGET = 12.0
"""Of a supernet, in stand-alone trainings."""


def main(words: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(words)
    return exit_status(partial(_main, arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.ranking", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=1, help="of one thread each")
    parser.add_argument("--budget", type=float, default=BUDGET, help="of a supernet, in stand-alone trainings")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", help="default: every truth task")
    parser.add_argument("--strategies", nargs="+", default=methods.STRATEGIES, help="of stage 1")
    parser.add_argument("--sharings", nargs="*", default=methods.SHARINGS, help="of stage 2; none: stage 1 alone")
    parser.add_argument("--best", nargs="+", help="strategies of stage 2 in place of the two best; stage 1 is left out")
    parser.add_argument("--only", choices=["tries"], help="what may lift ranks, in place of the two stages")
    parser.add_argument("--rows", type=Path, help=f"the file of results; default {RESULTS}")
    parser.add_argument("--again", action="store_true", help="do runs that failed again")
    parser.add_argument("--report", action="store_true", help="only write the report")
    parser.add_argument("--quick", action="store_true", help="a toy task of seconds, two strategies, one seed")
    return parser


def _main(arguments: argparse.Namespace) -> None:
    rows_at = arguments.rows or RESULTS
    if arguments.quick:
        rows_at = arguments.rows or Path(tempfile.gettempdir()) / "ranking-quick.jsonl"
        arguments.tasks, arguments.seeds = [truths.TOY], 1
        arguments.strategies, arguments.sharings = ["uniform", "sandwich"], [methods.ENTANGLED]
    plan = _Work({name: find(name) for name in arguments.tasks or truths.names()}, arguments, rows_at)
    if arguments.only and not arguments.report:
        plan.do("tries", plan.tries())
    elif not arguments.report:
        _stages(plan, arguments)
    write(plan.tasks, plan.rows(), rows_at)
    print(f"{rows_at.with_suffix('.md')} and {rows_at.with_suffix('.png').name} are written", file=sys.stderr)


def _stages(plan: _Work, arguments: argparse.Namespace) -> None:
    # what is misspelt is said before anything is trained
    strategies, sharings = (
        methods.strategies(arguments.best or arguments.strategies),
        methods.sharings(arguments.sharings),
    )
    first = plan.jobs(strategies, [methods.ENTANGLED])
    if not arguments.best:
        plan.do("stage 1", first)
    if sharings:
        best = strategies if arguments.best else best_two(plan.tasks, plan.rows(first))
        print(f"stage 2 with {' and '.join(best)}", file=sys.stderr)
        plan.do("stage 2", plan.jobs(best, sharings))


class _Work:
    """The jobs of a command."""

    def __init__(self, tasks: dict[str, Truth], arguments: argparse.Namespace, rows_at: Path) -> None:
        self.tasks = tasks
        self._arguments = arguments
        self._rows_at = rows_at

    def jobs(self, strategies: Sequence[str], sharings: Sequence[str]) -> list[Job]:
        """Every method with one seed before the next seed, so that a run stopped early has compared them all."""
        return [
            Job(task, strategy, sharing, seed, self._budget(truth), truth.digest)
            for seed in range(self._arguments.seeds)
            for strategy in strategies
            for sharing in sharings
            for task, truth in self.tasks.items()
        ]

    def tries(self) -> list[Job]:
        """Every setting with one seed before the next seed."""
        return [
            Job(task, strategy, methods.ENTANGLED, seed, self._budget(truth), truth.digest, tuning)
            for seed in range(self._arguments.seeds)
            for strategy, tuning in TRIES
            for task, truth in self.tasks.items()
        ]

    def _budget(self, truth: Truth) -> int:
        times: float = self._arguments.budget
        return round(times * truth.training.steps)

    def do(self, title: str, jobs: Sequence[Job]) -> None:
        """Those that are not done, each written when it ends."""
        todo = missing(jobs, read(self._rows_at), again=self._arguments.again)
        with reporting(title, len(todo)) as say:
            for job, outcome in done(todo, self._arguments.processes, run, died):
                append(self._rows_at, job, outcome)
                say(_line(job, outcome, self.tasks[job.task]))

    def rows(self, jobs: Sequence[Job] | None = None) -> Rows:
        """Of these jobs, or all rows of this budget and this truth."""
        rows = read(self._rows_at)
        if jobs is not None:
            return {job: rows[job] for job in jobs if job in rows}
        now = {(name, truth.digest, self._budget(truth)) for name, truth in self.tasks.items()}
        return {job: outcome for job, outcome in rows.items() if (job.task, job.truth, job.budget) in now}


def _line(job: Job, outcome: Outcome, truth: Truth) -> str:
    what = f"{job.task}, {job.strategy}, {job.sharing}{job.tuning and ', ' + job.tuning}, seed {job.seed}"
    if outcome.error:
        return f"{what} failed: {outcome.error}"
    found = figures(truth, outcome.inherited)
    time = f"{outcome.ms_per_pass:.2f} ms a pass, {outcome.train_s:.0f} s + {outcome.evaluate_s:.0f} s"
    return f"{what}: tau {found.tau:.3f}, {time}"


if __name__ == "__main__":
    sys.exit(main())
