"""Labelled inputs: one of K classes for each."""

from __future__ import annotations

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernets.tasks.batches import callable_name, digest_of, full_precision
from supernets.tasks.counting import error_and_loss
from supernets.tasks.data import Array, Batch, check_range, labelled
from supernets.tasks.examples import Augment, Examples


class Classification(Examples):
    """One of K classes for each input; the metric is the share of errors.

    Args:
        train, valid, test: pairs of inputs (n x ...) and integer labels (n,), NumPy arrays or tensors; test may be left
            out. Inputs are tensors of any shape a model takes: images, tables, token numbers.
        augment: changes the inputs of each training batch. The digest knows it by its name alone.
        num_classes: of the labels 0 ... num_classes - 1; None reads it off the training labels.
        dtype: of the inputs, where they are floating point numbers.

    Raises:
        TaskError: a split is empty or its lengths or shapes differ, inputs are not finite, labels are not integers or
            out of range.
    """

    metric = "error"

    def __init__(
        self,
        train: tuple[Array, Array],
        valid: tuple[Array, Array],
        test: tuple[Array, Array] | None = None,
        *,
        batch_size: int = 64,
        augment: Augment | None = None,
        num_classes: int | None = None,
        dtype: torch.dtype = torch.float32,
        name: str = "classification",
    ) -> None:
        given = {"train": train, "valid": valid} | ({} if test is None else {"test": test})
        splits = {split: labelled(split, pair, dtype) for split, pair in given.items()}
        self.num_classes = num_classes or int(splits["train"].targets.max()) + 1
        for split, examples in splits.items():
            check_range(f"the {split} labels", examples.targets, self.num_classes, "num_classes")
        super().__init__(splits, batch_size, augment, name)

    @cached_property
    def digest(self) -> str:
        tensors = [tensor for examples in self.splits.values() for tensor in examples]
        return digest_of("classification", tensors, self.num_classes, self.batch_size, callable_name(self.augment))

    def outputs(self, module: nn.Module, batch: Batch) -> Tensor:
        """Logits (n x num_classes)."""
        logits: Tensor = module(batch.inputs)
        return logits

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(full_precision(outputs), batch.targets)

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of each example (n,)."""
        return F.cross_entropy(full_precision(outputs), batch.targets, reduction="none")

    def score(self, module: nn.Module, step: int, seed: int) -> float:
        """The share of a validation batch that is put into the right class."""
        return 1 - error_and_loss(self, module, iter([self.held_out(step, seed)]))["error"]

    def evaluate(self, module: nn.Module, split: str = "valid") -> dict[str, float]:
        """`error`, the share of examples put into a wrong class, and `loss`, the mean cross-entropy in nats."""
        return error_and_loss(self, module, self.batches(split))
