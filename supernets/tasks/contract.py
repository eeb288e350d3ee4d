"""The task protocol of training and searches, and two extensions of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeGuard

from torch import Tensor, nn


class Task(Protocol):
    """Data, loss and evaluation. A task's own batches may be any tensor, or tuple, list or dict of tensors."""

    batch_size: int

    @property
    def name(self) -> str: ...

    @property
    def metric(self) -> str:
        """The key of `evaluate` by which networks are compared; lower is better."""
        ...

    @property
    def digest(self) -> str:
        """A digest of the data and the settings: two tasks with equal digests give equal results."""
        ...

    @property
    def num_train(self) -> int:
        """Training examples in an epoch."""
        ...

    def example(self, batch: int = 1) -> Tensor:
        """Return an input of `batch` examples, for tracing and measuring."""
        ...

    def batch(self, step: int, seed: int) -> Any:
        """Return the training batch of a step."""
        ...

    def outputs(self, module: nn.Module, batch: Any) -> Tensor:
        """Return what the loss reads and distillation imitates: logits, one row per example (n x num_classes)."""
        ...

    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        """Return the training loss, a scalar."""
        ...

    def evaluate(self, module: nn.Module, split: str = "valid") -> dict[str, float]:
        """Return the metrics on the split "valid" or "test"; run the module in the context `evaluating`."""
        ...

    def calibration(self, n: int) -> Iterator[Tensor]:
        """Yield the inputs of `n` fixed training batches, for batch-norm statistics."""
        ...


class SamplingTask(Task, Protocol):
    """A task for strategies that choose samples or read validation scores; all tasks of this package are one."""

    def select(self, indices: Sequence[int], step: int, seed: int) -> Any:
        """Return the batch of these training examples, numbered from 0 to `num_train` - 1."""
        ...

    def losses(self, outputs: Tensor, batch: Any) -> Tensor:
        """Return the loss of each example (batch_size,); their mean is `loss`."""
        ...

    def score(self, module: nn.Module, step: int, seed: int) -> float:
        """Return a score of a network on one batch of the validation split: in [0, 1], 1 is best.

        A task may offer that batch too, as ``held_out(step, seed)``: a gradient search of a trained supernet then
        learns the architecture from it; without it, from training examples.
        """
        ...


class TeachingTask(Task, Protocol):
    """A task whose layers learn from a parent's; see `supernets.distillation`."""

    listens: bool
    """Whether any layer learns."""

    def taught(
        self, module: nn.Module, batch: Any, project: Callable[[str, Tensor, Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the outputs, and a loss to add to the task's; `project` maps layers to the parent's width."""
        ...

    def widths(self, module: nn.Module, batch: Any) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the outputs of each layer and of the parent's, by the name given to `project`; features last."""
        ...

    def check(self, module: nn.Module) -> None:
        """Raise an error if the largest network lacks a layer that is to learn."""
        ...


def teaches(task: Task) -> TypeGuard[TeachingTask]:
    """Return whether layers learn from a parent's in this task."""
    return bool(getattr(task, "listens", False))
