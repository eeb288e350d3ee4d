"""Inputs with targets, one row an example: what classification and regression do alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from supernets.tasks.batches import EVALUATION_BATCH, batch_indices, cycled, generator
from supernets.tasks.data import Batch, at_least_one, check_shape, split_named

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""From a batch of inputs and a generator to inputs of the same shape; all its randomness comes from the generator."""


class Examples:
    """The batches of a task whose splits are pairs of inputs (n x ...) and targets (n x ...).

    Raises:
        TaskError: the inputs of two splits differ in shape.
    """

    def __init__(self, splits: Mapping[str, Batch], batch_size: int, augment: Augment | None, name: str) -> None:
        self.name = name
        self.batch_size = at_least_one("batch_size", batch_size)
        self.augment = augment
        self.splits = dict(splits)
        for split, examples in self.splits.items():
            check_shape(f"the {split} inputs", examples.inputs, self.splits["train"].inputs)

    @property
    def num_train(self) -> int:
        return len(self.splits["train"].targets)

    def example(self, batch: int = 1) -> Tensor:
        return cycled(self.splits["train"].inputs, batch)

    def batch(self, step: int, seed: int) -> Batch:
        return self.select(batch_indices(self.num_train, self.batch_size, step, seed), step, seed)

    def select(self, indices: Sequence[int] | Tensor, step: int, seed: int) -> Batch:
        """The batch of these training examples, augmented as that of a step is."""
        train, chosen = self.splits["train"], torch.as_tensor(indices)
        inputs = train.inputs[chosen]
        if self.augment is not None:
            inputs = self.augment(inputs, generator(step, seed))
        return Batch(inputs, train.targets[chosen])

    def held_out(self, step: int, seed: int) -> Batch:
        """The validation batch of a step, without augmentation."""
        valid = self.splits["valid"]
        indices = batch_indices(len(valid.targets), self.batch_size, step, seed)
        return Batch(valid.inputs[indices], valid.targets[indices])

    def batches(self, split: str) -> Iterator[Batch]:
        """All examples of a split, in the batches that evaluation reads."""
        examples = split_named(self.splits, split)
        return map(Batch, *(torch.split(tensor, EVALUATION_BATCH) for tensor in examples))

    def calibration(self, n: int) -> Iterator[Tensor]:
        inputs = self.splits["train"].inputs
        return (inputs[batch_indices(self.num_train, self.batch_size, step, seed=0)] for step in range(n))
