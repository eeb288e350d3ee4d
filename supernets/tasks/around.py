"""A task made of another one: what it does not change is the other's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from supernets.tasks.contract import Task


class Around:
    """The data of a task, and what else it has: splits, selected and held-out batches, scores."""

    def __init__(self, task: Task) -> None:
        self.task = task

    @property
    def metric(self) -> str:
        return self.task.metric

    @property
    def logits(self) -> bool:
        """Whether outputs are logits of classes; so it is where the task says nothing."""
        return getattr(self.task, "logits", True)

    @property
    def batch_size(self) -> int:
        return self.task.batch_size

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        self.task.batch_size = size

    @property
    def num_train(self) -> int:
        return self.task.num_train

    def example(self, batch: int = 1) -> Tensor:
        return self.task.example(batch)

    def batch(self, step: int, seed: int) -> Any:
        return self.task.batch(step, seed)

    def calibration(self, n: int) -> Iterator[Tensor]:
        return self.task.calibration(n)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "task":
            raise AttributeError(name)
        return getattr(self.task, name)
