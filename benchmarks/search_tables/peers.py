"""Optuna's samplers as references: each choice a parameter, repetitions and networks that do not exist not counted."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.search_tables.problems import Problem, Values
from benchmarks.search_tables.rows import Job

_MOST_ASKED = 20  # trials for each evaluation, most of them repetitions


def search(job: Job, problem: Problem) -> Iterator[tuple[Values, float]]:
    """Yield values one by one; all slots of these problems are always active."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    study = optuna.create_study(sampler=_sampler(job), directions=["minimize", "minimize"])
    seen: dict[tuple[int, ...], list[float]] = {}
    for _ in range(_MOST_ASKED * job.evaluations):
        if len(seen) == job.evaluations:
            return
        began = time.perf_counter()
        trial = study.ask()
        codes = tuple(trial.suggest_categorical(slot.path, range(len(slot.options))) for slot in problem.space.slots)
        if codes in seen:
            study.tell(trial, seen[codes])
            continue
        values = problem.of(np.array([codes], dtype=np.int16))
        if np.isnan(values).any():
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        seen[codes] = values[0].tolist()
        study.tell(trial, seen[codes])
        yield values, time.perf_counter() - began


def _sampler(job: Job) -> Any:
    from optuna.samplers import NSGAIISampler, TPESampler

    return TPESampler(seed=job.seed, multivariate=True) if job.method == "optuna-tpe" else NSGAIISampler(seed=job.seed)
