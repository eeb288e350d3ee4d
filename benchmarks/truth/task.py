"""What a truth table is the truth of: a space, its networks, real data, and how each network is trained alone."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from search_spaces import Space
from supernets.calibrate import NUM_BATCHES
from supernets.errors import SupernetError
from supernets.skeleton import Build
from supernets.tasks import Task
from supernets.training import TrainingConfig


class TruthError(SupernetError):
    """No truth of that name, or a table that is not what it must be."""


@dataclass(frozen=True)
class TruthTask:
    """A small task of which the quality of every architecture is known; a table's values are of these settings."""

    name: str
    space: Space
    build: Build
    task: Task
    training: TrainingConfig
    """Of each stand-alone training, but for the seed."""
    metric: str
    """The metric that says how good a network is; lower is better."""

    @property
    def settings(self) -> str:
        """16 hexadecimal digits of all that the values depend on: space, data, training. The models are known by name,
        and by the parameters and multiply-accumulates that stand in the table."""
        fields = ("steps", "optimizer", "lr", "weight_decay", "warmup", "schedule", "clip", "precision")
        training = {field: getattr(self.training, field) for field in fields}
        said = [self.space.digest, self.task.digest, training, self.metric, NUM_BATCHES]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
