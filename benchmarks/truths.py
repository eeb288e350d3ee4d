"""The tasks and what is known of their architectures."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from search_spaces import Architecture, Space
from supernets.skeleton import Build
from supernets.tasks import Task
from supernets.training import TrainingConfig

Vector = npt.NDArray[np.float64]
TOY = "toy"


@dataclass(frozen=True, eq=False)  # equal only to itself: arrays have no hash
class Truth:
    """A task, and the metric of each architecture trained alone: lower is better."""

    name: str
    space: Space
    build: Build
    task: Task
    training: TrainingConfig
    """Of one architecture alone."""
    metric: str
    archs: tuple[Architecture, ...]
    values: Vector
    """(n x seeds)"""
    params: Vector
    """(n,)"""
    macs: Vector
    """(n,)"""

    @cached_property
    def mean(self) -> Vector:
        """(n,) over the trainings of each: what inherited metrics are held against."""
        means: Vector = self.values.mean(1)
        return means

    @cached_property
    def digest(self) -> str:
        """Of what runs depend on: task, training and architectures; not of the values, which only the report reads."""
        training = replace(self.training, strategy="uniform")  # runs have their own
        said = repr(training).replace(", average=0.0", "").replace(", scaling='none'", "")  # settings that came later
        known = [self.task.digest, self.metric, said, [arch.digest for arch in self.archs]]
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:12]


def names() -> tuple[str, ...]:
    from benchmarks.truth import TASKS

    return tuple(TASKS)


@lru_cache(maxsize=2)
def find(name: str) -> Truth:
    """The truth of a task; TruthError or DataError where it is not there."""
    if name == TOY:
        from benchmarks.toy import toy

        return toy()
    from benchmarks.truth import TruthError, load
    from benchmarks.truth.table import truth

    made, table = load(name), truth(name)
    if table.settings != made.settings:
        raise TruthError(
            f"the table of {name} is of settings {table.settings}, the task of {made.settings}: make it anew"
        )
    return Truth(
        name,
        made.space,
        made.build,
        made.task,
        made.training,
        made.metric,
        table.archs,
        table.values,
        table.params.astype(np.float64),
        table.macs.astype(np.float64),
    )
