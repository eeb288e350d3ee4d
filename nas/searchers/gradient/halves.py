"""Halves of the training examples: one for the weights, one for the architecture (arXiv:1806.09055, section 3.1).

A trained supernet has seen all training examples and may have memorised them: every architecture then scores well on
them, so they say little about which is better. Its architecture therefore learns from validation examples, if the task
draws batches of them. Validation is then used twice, because a study ranks the learned architectures on the same
examples; report figures of the test split.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from nas.searchers.gradient.config import GradientSearchError
from supernets.tasks import SamplingTask, batch_indices, to_device


class Halves:
    """Batches of either half; the batch of a step is a function of (seed, step).

    Args:
        split: False for a trained supernet: the architecture learns from the task's ``held_out`` batches, or from all
            training examples if the task has none.

    Raises:
        GradientSearchError: the task cannot select examples, or has fewer than two.
    """

    def __init__(self, task: SamplingTask, seed: int, device: torch.device, *, split: bool = True) -> None:
        if not hasattr(task, "select"):
            raise GradientSearchError(
                f"the task {task.name!r} has no select(), which gradient search needs to halve its examples: add it "
                "(see supernets.tasks.SamplingTask), or choose another searcher"
            )
        if task.num_train < 2:
            raise GradientSearchError(
                f"the task {task.name!r} has {task.num_train} training examples, which cannot be halved: give 2 or more"
            )
        self._task, self._seed, self._device = task, seed, device
        # three numbers: no step's batches use this stream
        order = torch.from_numpy(np.random.default_rng([seed, 0, 5]).permutation(task.num_train))
        self._held_out = None if split else getattr(task, "held_out", None)
        middle = task.num_train // 2 if split else 0
        self._weights, self._architecture = order[:middle], order[middle:]

    def weights(self, step: int) -> Any:
        """Return the batch that trains the weights."""
        return self._batch(self._weights, step, 2 * step)

    def architecture(self, step: int) -> Any:
        """Return the batch that the architecture learns from."""
        if self._held_out is not None:
            return to_device(self._held_out(step, self._seed), self._device)
        return self._batch(self._architecture, step, 2 * step + 1)

    def _batch(self, half: Tensor, step: int, number: int) -> Any:
        """`number` separates the augmentations of the two batches of a step."""
        chosen = half[batch_indices(len(half), self._task.batch_size, step, self._seed)]
        return to_device(self._task.select(chosen.tolist(), number, self._seed), self._device)
