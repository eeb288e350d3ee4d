"""One run: a gradient search, or evolution, and the cells it proposes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from statistics import fmean
from typing import Any, cast

import numpy as np
import torch

from benchmarks.cells.passes import Counted
from benchmarks.cells.rows import EVOLUTION, FRONT, LIMITS, METHODS, Job, Outcome
from benchmarks.cells.setting import NUM_CALIBRATION, Setting
from benchmarks.cells.tables import TARGETS, metric
from benchmarks.gradient import methods
from nas.objectives.limits import Limit
from nas.records import Distribution
from nas.searchers import EvolutionarySearch
from nas.searchers.gradient.collapse import relative_entropy
from nas.searchers.gradient.config import BOUNDS, GradientConfig
from nas.searchers.gradient.front import FrontConfig, front
from nas.searchers.gradient.loop import search
from nas.storage import Repository
from nas.study import Study
from search_spaces import Architecture
from supernets import Supernet, calibrate
from supernets.errors import SupernetError
from supernets.relaxation import Cost, fitted
from supernets.tasks import SamplingTask, Task
from supernets.training import train

QUANTILE = 0.4
"""Share of all cells that keep one limit."""
DIVISIONS = 3
"""Of preferences: four cells for each target."""
POPULATION, BATCH = 10, 5
"""Of evolution, which has few evaluations."""


class RunError(SupernetError):
    """A run has no result."""


def run(job: Job, setting: Setting) -> Outcome:
    """Run a job and return its outcome, which may be an error."""
    torch.set_num_threads(1)
    parts = {METHODS: _methods, LIMITS: _limits, FRONT: _front, EVOLUTION: _evolution}
    began = time.process_time()  # other processes may work beside this one, which has one thread
    try:
        if job.setting != setting.digest:
            raise RunError(f"tables or images were {job.setting} and are {setting.digest} now: start again")
        found = parts[job.part](job, setting)
    except Exception as error:
        return Outcome(error=f"{type(error).__name__}: {error}".splitlines()[0])
    return replace(found, seconds=round(time.process_time() - began, 1))


# --- gradient search ----------------------------------------------------------------------------------------------


def _methods(job: Job, setting: Setting) -> Outcome:
    task = Counted(setting.task)
    found = search(setting.supernet(job.seed), cast(SamplingTask, task), _config(job, setting), progress=False)
    return _told(found, task, setting)


def _limits(job: Job, setting: Setting) -> Outcome:
    task, costs = Counted(setting.task), fitted_costs(setting, TARGETS, job.seed)
    limits = limits_of(setting)
    found = search(
        setting.supernet(job.seed),
        cast(SamplingTask, task),
        _config(job, setting),
        costs=costs,
        limits=limits,
        measured=setting.tables.latencies,
        progress=False,
    )
    return replace(_told(found, task, setting, costs), limits=tuple(limit.value for limit in limits))


def _front(job: Job, setting: Setting) -> Outcome:
    task, costs = Counted(setting.task), fitted_costs(setting, TARGETS, job.seed)
    config = FrontConfig(search=replace(_config(job, setting), lr_arch=FrontConfig().search.lr_arch))
    found = front(
        setting.supernet(job.seed),
        cast(SamplingTask, task),
        replace(config, divisions=DIVISIONS),
        costs=costs,
        objectives=(setting.task.metric, *costs),
        progress=False,
    )
    return _told(found, task, setting, costs)


def limits_of(setting: Setting) -> list[Limit]:
    """Return limits that the same share of all cells keeps on each target."""
    rows, latency = setting.tables.within(setting.space), setting.tables.latency
    return [Limit(metric(name), "<=", float(np.quantile(latency[name][rows], QUANTILE))) for name in TARGETS]


def fitted_costs(setting: Setting, targets: Sequence[str], seed: int) -> dict[str, Cost]:
    """Return expected costs fitted to the published latencies of some cells."""
    space, tables = setting.space, setting.tables
    rows = tables.within(space)
    rows = np.random.default_rng([seed, 1]).choice(rows, setting.num_fitted, replace=False)
    archs = tables.archs(rows)
    return {metric(name): fitted(space, archs, tables.latency[name][rows].tolist()) for name in targets}


def _config(job: Job, setting: Setting) -> GradientConfig:
    training = setting.training
    (rate,) = methods.spelled([job.method]).values()
    return GradientConfig(
        method=job.method,
        steps=job.steps,
        lr_arch=rate,
        optimizer=training.optimizer,
        lr=training.lr,
        weight_decay=training.weight_decay,
        clip=training.clip,
        precision=training.precision,
        seed=job.seed,
        checkpoint_every=0,
        bounds=job.bounds or BOUNDS[0],
    )


def _told(found: list[Distribution], task: Counted, setting: Setting, costs: dict[str, Cost] | None = None) -> Outcome:
    entropies = [relative_entropy(vector) for one in found for vector in one.final.values()]
    return Outcome(
        passes=round(task.passes, 1),
        cells=tuple(setting.tables.row(one.arch) for one in found),
        labels=tuple(one.label for one in found),
        entropy=round(fmean(entropies), 4),
        r2=tuple(round(cost.r2, 4) for cost in (costs or {}).values()),
        warnings=tuple(f"{one.label}: {line}" if one.label else line for one in found for line in one.warnings),
    )


# --- evolution ----------------------------------------------------------------------------------------------------


def _evolution(job: Job, setting: Setting) -> Outcome:
    """Train a supernet on random paths with half of the passes; evaluate with the rest, in turn for each target."""
    task, supernet = Counted(setting.task), setting.supernet(job.seed)
    training = replace(setting.training, steps=max(1, int(job.budget / 2)), strategy="uniform", seed=job.seed)
    train(supernet, setting.task, training, progress=False)
    task.passes += training.steps  # a path each; that the training looks at itself in the end is of no use here
    evaluate = Inherited(supernet, task)
    with ExitStack() as stack:
        studies = {name: _study(name, job.seed, evaluate, setting, stack) for name in TARGETS}
        while any([_grown(study, evaluate, job.budget) for study in studies.values()]):  # a batch for each in turn
            pass
    proposed = [(name, setting.tables.row(one.arch)) for name, study in studies.items() for one in study.front()]
    return Outcome(
        passes=round(task.passes, 1),
        evaluated=len(evaluate.known),
        cells=tuple(row for _, row in proposed),
        labels=tuple(name for name, _ in proposed),
    )


def _grown(study: Study, evaluate: Inherited, budget: float) -> bool:
    """Evaluate one more batch; return False if the budget or the space is exhausted."""
    before = len(study.evaluations)
    if budget - evaluate.task.passes >= evaluate.price * BATCH:
        study.run(before + BATCH)
    return len(study.evaluations) > before


def _study(target: str, seed: int, evaluate: Inherited, setting: Setting, stack: ExitStack) -> Study:
    name = metric(target)
    repository = Repository("sqlite://")
    stack.callback(repository.close)

    def predict(archs: Sequence[Architecture]) -> dict[str, Any]:
        return {name: np.array([setting.tables.latencies(arch)[name] for arch in archs])}

    return Study(
        f"evolution {target}",
        setting.space,
        evaluate,
        [setting.task.metric, name],
        repository,
        searcher=EvolutionarySearch,
        settings={"population": POPULATION},
        predict=predict,
        seed=seed,
        batch=BATCH,
    )


class Inherited:
    """Returns the error of a cell with inherited weights; targets share evaluations."""

    def __init__(self, supernet: Supernet, task: Counted) -> None:
        self.task = task
        self.known: dict[str, dict[str, float]] = {}
        self._supernet = supernet
        before = task.passes
        self(supernet.space.largest())
        self.price = task.passes - before
        """Passes of one."""

    def __call__(self, arch: Architecture) -> dict[str, float]:
        if arch.digest not in self.known:
            found = calibrate.evaluate(self._supernet, arch, cast(Task, self.task), num_batches=NUM_CALIBRATION)
            self.known[arch.digest] = found
        return self.known[arch.digest]
