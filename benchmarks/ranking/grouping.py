"""The runs of a task, grouped by method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.ranking.figures import Figures, figures
from benchmarks.ranking.methods import ENTANGLED
from benchmarks.ranking.rows import Job, Outcome
from benchmarks.truths import Truth


@dataclass(frozen=True)
class Method:
    strategy: str
    sharing: str

    def __str__(self) -> str:
        return self.strategy if self.sharing == ENTANGLED else f"{self.strategy} · {self.sharing}"


@dataclass(frozen=True)
class Run:
    """A row that has ranks, and what they are worth."""

    job: Job
    outcome: Outcome
    figures: Figures


Runs = dict[Method, list[Run]]


def _method(job: Job) -> Method:
    return Method(job.strategy, job.sharing)


def of_task(truth: Truth, rows: Mapping[Job, Outcome], name: Callable[[Job], Method] = _method) -> Runs:
    """The runs of one task by method, as `name` says it, failures left out; the best median tau first."""
    runs: Runs = {}
    for job, outcome in rows.items():
        if job.task == truth.name and not outcome.error:
            run = Run(job, outcome, figures(truth, outcome.inherited))
            runs.setdefault(name(job), []).append(run)
    return dict(sorted(runs.items(), key=lambda item: -float(np.median([run.figures.tau for run in item[1]]))))
