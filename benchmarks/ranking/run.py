"""One run: train a supernet by a method within a budget, then evaluate every architecture of the truth with it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from statistics import median
from typing import ClassVar, cast

import torch
from torch import Tensor

from benchmarks.counted import Counted
from benchmarks.finding import find
from benchmarks.ranking.budget import count_passes, steps_within
from benchmarks.ranking.rows import Job, Outcome
from benchmarks.ranking.tries import tuning
from benchmarks.truths import Truth
from supernets import calibrate
from supernets.errors import SupernetError
from supernets.sharing import sharing
from supernets.strategies import Course, Feedback, Plan, Step, Strategy, strategy
from supernets.supernet import Supernet
from supernets.tasks import Task
from supernets.training import learning_rate, train


class RunError(SupernetError):
    """A run that has no ranks to show."""


def run(job: Job) -> Outcome:
    """Do a job; an error is an outcome too."""
    torch.set_num_threads(1)
    try:
        return _run(job, find(job.task))
    except Exception as error:
        return Outcome(error=f"{type(error).__name__}: {error}".splitlines()[0])


def _run(job: Job, truth: Truth) -> Outcome:
    if job.truth != truth.digest:
        raise RunError(f"the truth of {job.task} is {truth.digest} now and was {job.truth}: start again")
    steps, passes = num_steps(job, truth)
    config = replace(
        truth.training, steps=steps, strategy=job.strategy, seed=job.seed, checkpoint_every=0, evaluate_every=0
    )
    tuned = tuning(job.tuning)
    config = tuned.of(config)
    supernet = _supernet(job, truth)
    method = _Timed(strategy(job.strategy))
    task = Counted(truth.task)
    trained = train(supernet, cast(Task, task), config, method=method, progress=False)
    began = time.monotonic()
    values = inherited(supernet, truth, tuned.calibration)
    if not all(map(math.isfinite, values)):
        raise RunError(f"{sum(not math.isfinite(v) for v in values)} of {len(values)} architectures have no metric")
    return Outcome(
        steps=steps,
        passes=passes,
        passes_beside=task.passes - passes,
        parameters=supernet.num_parameters,
        ms_per_pass=round(median(method.ms), 4),
        train_s=round(trained.seconds, 2),
        evaluate_s=round(time.monotonic() - began, 2),
        inherited=tuple(float(f"{value:.5g}") for value in values),
    )


def num_steps(job: Job, truth: Truth) -> tuple[int, int]:
    """Steps of the job's training and all their passes: by its strategy, whatever the seed and the sharing."""
    return _num_steps(job.strategy, job.budget, truth)


@lru_cache(maxsize=64)
def _num_steps(text: str, budget: int, truth: Truth) -> tuple[int, int]:
    method, supernet = strategy(text), Supernet(truth.space, truth.build)

    def passes(steps: int) -> int:
        config = replace(truth.training, steps=steps)
        course = Course(truth.space, 0, steps, lambda k: learning_rate(config, k) / config.lr, supernet, truth.task)
        return count_passes(method.plan(course), steps)

    return steps_within(passes, budget)


def inherited(supernet: Supernet, truth: Truth, num_batches: int = calibrate.NUM_BATCHES) -> list[float]:
    """The metric of each architecture, with batch-norm statistics from one large batch, made of so many, for all."""
    batch = torch.cat(list(truth.task.calibration(num_batches)))
    return [truth.task.evaluate(calibrate.calibrated(supernet, arch, [batch]))[truth.metric] for arch in truth.archs]


def _supernet(job: Job, truth: Truth) -> Supernet:
    return Supernet(truth.space, truth.build, sharing=sharing(job.sharing), seed=job.seed)


# --- what a training costs ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Timed(Strategy):
    """A strategy, and the milliseconds of processor time of a pass in each of its steps.

    Processor time, because other processes may work beside this one, which has one thread.
    """

    name: ClassVar[str] = "timed"

    inner: Strategy
    ms: list[float] = field(default_factory=list)

    def plan(self, course: Course) -> Plan:
        return _TimedPlan(self.inner.plan(course), self.ms)


class _TimedPlan(Plan):
    def __init__(self, inner: Plan, ms: list[float]) -> None:
        self._inner = inner
        self._ms = ms
        self._began = 0.0
        self._passes = 0

    def step(self, index: int) -> Step:
        now = time.process_time()
        if self._passes:
            self._ms.append((now - self._began) / self._passes * 1e3)
        step = self._inner.step(index)
        self._began, self._passes = now, len(step.passes)
        return step

    def observe(self, feedback: Feedback) -> None:
        self._inner.observe(feedback)

    def state(self) -> dict[str, Tensor]:
        return self._inner.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._inner.restore(state)
