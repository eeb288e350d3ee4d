"""One search on one problem."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.search_tables import peers
from benchmarks.search_tables.problems import Problem, Values, load
from benchmarks.search_tables.rows import BUDGETS, Job, Outcome
from nas.records import Evaluation
from nas.searchers import SEARCHERS, spelled

OBJECTIVES = ("error", "cost")
PEERS = ("optuna-tpe", "optuna-nsga2")


def run(job: Job, folder: Path) -> Outcome:
    """Run a job and return its outcome, which may be an error."""
    try:
        problem = load(job.problem, folder)
        search = peers.search if job.method in PEERS else _search
        return _followed(search, job, problem)
    except Exception as error:  # of one run, while others go on
        return died(f"{type(error).__name__}: {error}")


def died(reason: str) -> Outcome:
    return Outcome(reason)


def _followed(search: Callable[[Job, Problem], Iterator[tuple[Values, float]]], job: Job, problem: Problem) -> Outcome:
    """Shares as values come in, portion by portion with the seconds that each cost."""
    values, seconds = np.zeros((0, 2)), 0.0
    for new, took in search(job, problem):
        values = np.concatenate([values, new])
        seconds += took
    reached = [budget for budget in BUDGETS if budget <= len(values)]
    return Outcome("", tuple(round(problem.share(values[:budget]), 5) for budget in reached), round(seconds, 2))


def _search(job: Job, problem: Problem) -> Iterator[tuple[Values, float]]:
    """One of ours."""
    made, settings = spelled.read(job.method, SEARCHERS)
    searcher = made(problem.space, OBJECTIVES, feasible=problem.feasible, **settings)
    num = 0
    while num < job.evaluations:
        began = time.perf_counter()
        archs = searcher.ask(job.batch, np.random.default_rng([job.seed, num]))
        found = problem(archs)
        rows = [dict(zip(OBJECTIVES, row, strict=True)) for row in found.tolist()]
        searcher.tell([Evaluation(arch, row) for arch, row in zip(archs, rows, strict=True)])
        num += len(archs)
        yield found, time.perf_counter() - began
        if len(archs) < job.batch:
            return
