"""A task that every path of an ensemble learns for itself, while its networks are judged by their mean."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import fmean
from typing import Any

from torch import Tensor, nn

from supernets.structure import Ensemble
from supernets.tasks.around import Around
from supernets.tasks.contract import Task, teaches
from supernets.tasks.data import TaskError

Hook = Callable[[nn.Module, Any, Tensor], Tensor]


class EachPath(Around):
    """The loss is the sum of the paths' own losses (NEAS), and the trunk gets the mean of their gradients.

        run = Run(..., task=EachPath(Classification(...)))

    `outputs` are those of all paths, (paths, rows, ...). Metrics are the task's, of the mean of the outputs. A network
    without an `ensemble` in it is one path.

    Args:
        task: data, labels and evaluation; one that reads outputs alone.
        alone: adds a metric, "error_alone" of a classification: the mean of the paths' own. It takes one evaluation
            more for each path.

    Raises:
        TaskError: layers learn from a parent in the task.
    """

    def __init__(self, task: Task, *, alone: bool = False) -> None:
        if teaches(task):
            raise TaskError(
                f"the layers of {task.name!r} learn from a parent, which paths cannot each do: give EachPath the task "
                "itself, or losses of outputs alone"
            )
        super().__init__(task)
        self.alone = alone

    @property
    def name(self) -> str:
        return f"{self.task.name}, each path"

    @property
    def digest(self) -> str:
        return hashlib.sha256(f"each path\n{self.alone}\n{self.task.digest}".encode()).hexdigest()[:16]

    @property
    def further_metrics(self) -> tuple[str, ...]:
        """Keys of `evaluate` that may be objectives, beside the metric and the loss."""
        return (*getattr(self.task, "further_metrics", ()), *([self._alone] if self.alone else []))

    @property
    def _alone(self) -> str:
        return f"{self.metric}_alone"

    def outputs(self, module: nn.Module, batch: Any) -> Tensor:
        """Of each path; gradients of the trunk become their mean."""
        found = _ensemble(module)
        if found is None:
            return self.task.outputs(module, batch).unsqueeze(0)
        paths = len(found.paths)

        def averaged(fork: nn.Module, taken: Any, shared: Tensor) -> Tensor:
            shared = shared.view_as(shared)  # what else reads the trunk keeps its gradient
            if shared.requires_grad:
                shared.register_hook(lambda gradient: gradient / paths)  # type: ignore[no-untyped-call]
            return shared

        with _hooked(found.fork, averaged), _hooked(found.mean, lambda mean, taken, _: taken[0].flatten(0, 1)):
            rows = self.task.outputs(module, batch)
        return rows.view(paths, -1, *rows.shape[1:])

    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        return _total([self.task.loss(own, batch) for own in outputs])

    @property
    def losses(self) -> Any:
        """Of each example, where the task tells them."""
        own = self.task.losses  # type: ignore[attr-defined] # a sampling task has them
        return lambda outputs, batch: _total([own(path, batch) for path in outputs])

    def evaluate(self, module: nn.Module, split: str = "valid") -> dict[str, float]:
        found = self.task.evaluate(module, split)
        return found | ({self._alone: fmean(self._each(module, split))} if self.alone else {})

    def _each(self, module: nn.Module, split: str) -> Iterator[float]:
        """The metric of each path alone."""
        found = _ensemble(module)
        if found is None:
            yield self.task.evaluate(module, split)[self.metric]
            return
        for number in range(len(found.paths)):
            with _hooked(found.mean, lambda mean, taken, _, number=number: taken[0][number]):  # type: ignore[misc]
                yield self.task.evaluate(module, split)[self.metric]


def _ensemble(module: nn.Module) -> Ensemble | None:
    """The one in a network.

    Raises:
        TaskError: there are several.
    """
    found = [(path, one) for path, one in module.named_modules() if isinstance(one, Ensemble)]
    if len(found) > 1:
        names = " and ".join(path or "the model" for path, _ in found[:2])
        raise TaskError(f"{names} are ensembles in one network, and paths are those of one: join them into one")
    return found[0][1] if found else None


@contextmanager
def _hooked(module: nn.Module, hook: Hook) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _total(losses: list[Tensor]) -> Tensor:
    return sum(losses[1:], losses[0])
