"""Counts the cost of a training at the task, where no pass can be missed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from supernets.tasks import Task


class Counted:
    """A task that counts how often a network's outputs are computed with gradients."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.passes = 0

    def outputs(self, module: nn.Module, batch: Any) -> Tensor:
        self.passes += torch.is_grad_enabled()
        return self._task.outputs(module, batch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)
