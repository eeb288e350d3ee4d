"""What runs through a supernet, counted where it cannot be missed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from supernets.tasks import Classification

FORWARD = 1 / 3
"""A forward pass alone, in forward and backward passes: the backward pass takes about as long as two of it."""


class Counted:
    """A task that counts the passes of training batches, of calibration and of evaluation."""

    def __init__(self, task: Classification) -> None:
        self._task = task
        self.passes = 0.0
        """Forward and backward, of one training batch each."""

    def outputs(self, module: nn.Module, batch: Any) -> Tensor:
        share = len(batch.targets) / self._task.batch_size
        self.passes += share * (1 if torch.is_grad_enabled() else FORWARD)
        return self._task.outputs(module, batch)

    def evaluate(self, module: nn.Module, split: str = "valid") -> dict[str, float]:
        self.passes += len(self._task.splits[split].targets) / self._task.batch_size * FORWARD
        return self._task.evaluate(module, split)

    def score(self, module: nn.Module, step: int, seed: int) -> float:
        self.passes += FORWARD
        return self._task.score(module, step, seed)

    def calibration(self, n: int) -> Iterator[Tensor]:
        for inputs in self._task.calibration(n):
            self.passes += FORWARD
            yield inputs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)
