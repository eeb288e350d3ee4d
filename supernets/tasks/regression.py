"""Numbers to be predicted: one or several for each input."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor, nn

from supernets.tasks.batches import callable_name, digest_of, evaluating, full_precision
from supernets.tasks.data import Array, Batch, TaskError, check_shape, measured
from supernets.tasks.examples import Augment, Examples


class Regression(Examples):
    """One number or several for each input; the metric is the root of the mean squared error, in the targets' units.

    The loss is the mean squared error. Scale targets to about one, by the training split's mean and spread say, for
    usual learning rates to suit them.

    Args:
        train, valid, test: pairs of inputs (n x ...) and targets, (n,) or (n x k), NumPy arrays or tensors; test may be
            left out.
        augment: changes the inputs of each training batch. The digest knows it by its name alone.
        dtype: of the targets, and of the inputs where they are floating point numbers.

    Raises:
        TaskError: a split is empty or its lengths or shapes differ, or a value is not finite.
    """

    metric = "rmse"
    further_metrics = ("mae",)
    logits = False
    """Outputs are no distributions over classes: no strategy can compare them as such."""

    def __init__(
        self,
        train: tuple[Array, Array],
        valid: tuple[Array, Array],
        test: tuple[Array, Array] | None = None,
        *,
        batch_size: int = 64,
        augment: Augment | None = None,
        dtype: torch.dtype = torch.float32,
        name: str = "regression",
    ) -> None:
        given = {"train": train, "valid": valid} | ({} if test is None else {"test": test})
        splits = {split: measured(split, pair, dtype) for split, pair in given.items()}
        for split, examples in splits.items():
            check_shape(f"the {split} targets", examples.targets, splits["train"].targets)
        super().__init__(splits, batch_size, augment, name)

    @cached_property
    def digest(self) -> str:
        tensors = [tensor for examples in self.splits.values() for tensor in examples]
        return digest_of("regression", tensors, self.batch_size, callable_name(self.augment))

    def outputs(self, module: nn.Module, batch: Batch) -> Tensor:
        """Predictions (n x k); a module with one number an example may return (n,).

        Raises:
            TaskError: there are not as many as targets.
        """
        found: Tensor = module(batch.inputs)
        found = found[:, None] if found.dim() == 1 else found
        if found.shape != batch.targets.shape:
            raise TaskError(
                f"the model returns {tuple(found.shape)} for targets {tuple(batch.targets.shape)}: let it end in as "
                "many outputs as an example has targets"
            )
        return found

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self.losses(outputs, batch).mean()

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean squared error of each example (n,)."""
        return (full_precision(outputs) - batch.targets).square().mean(1)

    def score(self, module: nn.Module, step: int, seed: int) -> float:
        """1 / (1 + e), where e is the mean squared error of a validation batch in variances of the validation targets:
        1/2 for whoever always says their mean."""
        targets = self.splits["valid"].targets
        variance = float((targets - targets.mean(0)).square().mean()) or 1.0
        return 1 / (1 + self._judged(module, iter([self.held_out(step, seed)]))["loss"] / variance)

    def evaluate(self, module: nn.Module, split: str = "valid") -> dict[str, float]:
        """`rmse`, the root of the mean squared error, `mae`, the mean absolute error, and `loss`, the mean squared
        error. NaN for a network that has diverged."""
        return self._judged(module, self.batches(split))

    def _judged(self, module: nn.Module, batches: Iterator[Batch]) -> dict[str, float]:
        number, squared, absolute = 0, 0.0, 0.0
        with evaluating(module) as device:
            for batch in batches:
                batch = Batch(batch.inputs.to(device), batch.targets.to(device))
                apart = full_precision(self.outputs(module, batch)) - batch.targets
                number += apart.numel()
                squared += float(apart.double().square().sum())
                absolute += float(apart.double().abs().sum())
        return {"rmse": math.sqrt(squared / number), "mae": absolute / number, "loss": squared / number}
