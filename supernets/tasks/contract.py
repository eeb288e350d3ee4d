"""What training and searches ask of a task: a protocol, and two that ask for more."""

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
        """The key of `evaluate` that says how good a network is; lower is better."""
        ...

    @property
    def digest(self) -> str:
        """Names the data and the settings: two tasks with equal digests give equal results."""
        ...

    @property
    def num_train(self) -> int:
        """Training examples in an epoch."""
        ...

    def example(self, batch: int = 1) -> Tensor:
        """An input of `batch` examples, to trace or to measure with."""
        ...

    def batch(self, step: int, seed: int) -> Any:
        """The training batch of a step."""
        ...

    def outputs(self, module: nn.Module, batch: Any) -> Tensor:
        """What the loss reads and what distillation imitates: logits, one row an example (n x num_classes)."""
        ...

    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        """The training loss, a scalar."""
        ...

    def evaluate(self, module: nn.Module, split: str = "valid") -> dict[str, float]:
        """The metrics on the split "valid" or "test"; `evaluating` is the context to run the module in."""
        ...

    def calibration(self, n: int) -> Iterator[Tensor]:
        """The inputs of `n` fixed training batches, for batch-norm statistics."""
        ...


class SamplingTask(Task, Protocol):
    """What strategies that choose samples or look at validation need beside; both tasks here have it."""

    def select(self, indices: Sequence[int], step: int, seed: int) -> Any:
        """The batch of these training examples, numbered from 0 to `num_train` - 1."""
        ...

    def losses(self, outputs: Tensor, batch: Any) -> Tensor:
        """The loss of each example (batch_size,); their mean is `loss`."""
        ...

    def score(self, module: nn.Module, step: int, seed: int) -> float:
        """How good a network is on one batch of the validation split: in [0, 1], 1 is best.

        A task may offer that batch too, as ``held_out(step, seed)``: a gradient search of a supernet that is trained
        already then learns the architecture from it, and from training examples otherwise.
        """
        ...


class TeachingTask(Task, Protocol):
    """What the training loop asks of a task whose layers learn from a parent's; see `supernets.distillation`."""

    listens: bool
    """Whether layers learn at all."""

    def taught(
        self, module: nn.Module, batch: Any, project: Callable[[str, Tensor, Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The outputs, and a loss to be added to that of the task; `project` leads layers to the parent's width."""
        ...

    def widths(self, module: nn.Module, batch: Any) -> dict[str, tuple[Tensor, Tensor]]:
        """By the name that `project` is told, what a layer gives and what the parent's does, features last."""
        ...

    def check(self, module: nn.Module) -> None:
        """Raise where the largest network lacks a layer that is to learn."""
        ...


def teaches(task: Task) -> TypeGuard[TeachingTask]:
    """Whether layers learn from a parent's by this task."""
    return bool(getattr(task, "listens", False))
