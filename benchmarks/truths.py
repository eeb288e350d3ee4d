"""Truths: tasks with the metrics of all their architectures trained alone."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property

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
        """(n,) means over the trainings of each network: the reference for inherited metrics."""
        means: Vector = self.values.mean(1)
        return means

    @cached_property
    def digest(self) -> str:
        """Digest of what runs depend on: task, training and architectures, but not values, which only reports use."""
        training = replace(self.training, strategy="uniform")  # runs have their own
        said = repr(training).replace(", average=0.0", "").replace(", scaling='none'", "")  # settings that came later
        known = [self.task.digest, self.metric, said, [arch.digest for arch in self.archs]]
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:12]
