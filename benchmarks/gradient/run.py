"""One run: a distribution learnt with a budget of passes, and what it proposes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar, cast

import numpy as np
import torch

from benchmarks.counted import Counted
from benchmarks.finding import find
from benchmarks.gradient.methods import STRATEGIES, STRATEGY
from benchmarks.gradient.rows import JOINT, Job, Outcome
from benchmarks.ranking.budget import steps_within
from benchmarks.ranking.run import inherited, num_steps
from benchmarks.truths import Truth
from nas.records import Distribution
from nas.searchers.gradient.collapse import relative_entropy
from nas.searchers.gradient.config import GradientConfig
from nas.searchers.gradient.loop import search
from nas.searchers.gradient.methods import method
from nas.searchers.gradient.operations import parameter_free
from supernets.errors import SupernetError
from supernets.supernet import Supernet
from supernets.tasks import SamplingTask
from supernets.training import train

NUM_DRAWN = 10
MANY_DRAWS = 1000
TO_UNROLL = 4
"""Passes of an architecture's step through one of the weights: that step, its loss, two for finite differences."""
SUPERNETS = Path(tempfile.gettempdir()) / "benchmark-supernets"
"""Those that are asked: one serves all methods of a seed."""

Value = TypeVar("Value")


class RunError(SupernetError):
    """A run has no result."""


def run(job: Job) -> Outcome:
    """Run a job and return its outcome, which may be an error."""
    torch.set_num_threads(1)
    try:
        return _run(job, find(job.task))
    except Exception as error:
        return Outcome(error=f"{type(error).__name__}: {error}".splitlines()[0])


def _run(job: Job, truth: Truth) -> Outcome:
    if job.truth != truth.digest:
        raise RunError(f"the truth of {job.task} is {truth.digest} now and was {job.truth}: start again")
    config, planned = settings(job, truth)
    supernet, supernet_s = _timed(lambda: _supernet(job, truth))
    task = Counted(truth.task)
    (found,), search_s = _timed(lambda: search(supernet, cast(SamplingTask, task), config, progress=False))
    if task.passes != planned:
        raise RunError(f"{task.passes} passes ran where {planned} were planned: the count of a step is wrong")
    drawn = draw(truth, found, job.seed)
    values, evaluate_s = _timed(lambda: inherited(supernet, replace(truth, archs=tuple(truth.archs[i] for i in drawn))))
    return Outcome(
        steps=config.steps,
        passes=planned,
        search_s=round(search_s, 2),
        supernet_s=round(supernet_s, 2) if job.mode != JOINT else 0.0,
        evaluate_s=round(evaluate_s, 2),
        derived=truth.archs.index(found.arch),
        drawn=tuple(drawn),
        inherited=tuple(_short(value) for value in values),
        chances=tuple(_short(chance) for chance in chances(truth, found)),
        free=_free(found.final, parameter_free(supernet)),
        entropy=_short(fmean(relative_entropy(vector) for vector in found.final.values() if len(vector) > 1)),
        warnings=found.warnings,
    )


def settings(job: Job, truth: Truth) -> tuple[GradientConfig, int]:
    """Return the settings of a job's search, and its passes; weights train as in the stand-alone trainings."""
    training, joint = truth.training, job.mode == JOINT

    def config(steps: int) -> GradientConfig:
        return GradientConfig(
            method=job.method,
            steps=steps,
            train_weights=joint,
            lr_arch=job.lr_arch,
            optimizer=training.optimizer,
            lr=training.lr,
            weight_decay=training.weight_decay,
            clip=training.clip,
            precision=training.precision,
            seed=job.seed,
            checkpoint_every=0,
        )

    def passes(steps: int) -> int:
        made = config(steps)
        return steps * joint + (steps - made.first) * (TO_UNROLL if method(job.method).order == 2 else 1)

    steps, planned = steps_within(passes, job.budget if joint else job.budget - job.budget // 2)
    return config(steps), planned


def _supernet(job: Job, truth: Truth) -> Supernet:
    """Return a new supernet, or one trained with half of the budget."""
    from benchmarks.ranking.rows import Job as Training

    supernet = Supernet(truth.space, truth.build, seed=job.seed)
    if job.mode == JOINT:
        return supernet
    strategy = STRATEGIES.get(job.task, STRATEGY)
    steps, _ = num_steps(Training(job.task, strategy, "entangled", job.seed, job.budget // 2, job.truth), truth)
    config = replace(
        truth.training, steps=steps, strategy=strategy, seed=job.seed, checkpoint_every=0, evaluate_every=0
    )
    where = SUPERNETS / f"{job.task}-{job.truth}-{strategy}-{steps}-{job.seed}"
    train(supernet, truth.task, config, directory=where, progress=False)
    return supernet


def draw(truth: Truth, found: Distribution, seed: int) -> list[int]:
    """Return NUM_DRAWN different architectures, or as many as MANY_DRAWS draws contain."""
    archs = truth.space.sample_many(MANY_DRAWS, np.random.default_rng([seed, 17]), weights=found.weights())
    return [truth.archs.index(arch) for arch in list(dict.fromkeys(archs))[:NUM_DRAWN]]


def chances(truth: Truth, found: Distribution) -> list[float]:
    """Return the probability of drawing each architecture."""
    weights = found.weights()
    return [truth.space.probability(arch, weights=weights) for arch in truth.archs]


def _free(final: Mapping[str, Sequence[float]], operations: Mapping[str, Sequence[bool]]) -> float:
    likeliest = [free[int(np.argmax(final[path]))] for path, free in operations.items()]
    return fmean(likeliest) if likeliest else 0.0


def _short(value: Any) -> float:
    return float(f"{value:.5g}")


def _timed(make: Callable[[], Value]) -> tuple[Value, float]:
    """Return a result and its processor time, which other processes do not affect; this process has one thread."""
    began = time.process_time()
    return make(), time.process_time() - began
