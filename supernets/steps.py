"""The language of training strategies: steps, plans, and the feedback that some plans learn from.

A strategy is a declaration, a value that can be written down. For one training it makes a `Plan`, a function from the
number of a step to the step: which architectures run, on which samples, with which losses and weights. The training
loop runs the step and reports the outcome to the plan. The random numbers of step k come from `Course.rng(k)`, and
whatever else a plan remembers is in its `state`, so a training stopped anywhere resumes as if it had not been.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from search_spaces import Architecture, Space
from search_spaces.narrowing import Closed
from supernets.errors import SupernetError
from supernets.losses import DistillationLoss, soft_cross_entropy

if TYPE_CHECKING:
    from supernets.survey import Coverage
    from supernets.tasks import Task

Watched = Literal["gradients", "outputs", "valid"]


class StrategyError(SupernetError):
    """A strategy's setting that cannot be, or that this space or task cannot follow."""


# --- what happens in a step -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Distil:
    """Imitating a teacher on the same samples."""

    loss: DistillationLoss = soft_cross_entropy
    weight: float = 1.0
    teacher: Literal["first", "frozen"] = "first"
    """The step's first pass, or the network frozen by an earlier step; it gets no gradient."""
    what: Literal["outputs", "features"] = "outputs"
    """What is imitated: the outputs that the loss reads, or the inputs of the last layer with parameters."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward and backward pass: an architecture and its loss."""

    arch: Architecture
    weight: float = 1.0
    """Factor of this pass's whole loss in the sum of the step."""
    task: float = 1.0
    """Factor of the task's own loss; at 0 it is not computed."""
    distil: Distil | None = None
    route: int | None = None
    """Index of one of several whole models; None is the one that the architecture belongs to."""


@dataclass(frozen=True, slots=True)
class Step:
    """Passes in the order they run, whose gradients are summed for one step of the optimiser."""

    passes: tuple[Pass, ...]
    batches: Literal["shared", "own"] = "shared"
    """All passes see the same batch, or pass i of step k the batch k * len(passes) + i."""
    examples: tuple[int, ...] | None = None
    """Indices of the training examples in the batch, in place of the loop's own order."""
    example_weights: tuple[float, ...] | None = None
    """Factors of the examples' losses."""
    lr: float | None = None
    """Factor of the configured learning rate in place of the schedule's."""
    freeze: Architecture | None = None
    """Before this step, a copy of this network becomes the frozen teacher."""
    inherit: tuple[tuple[str, str | None], ...] = ()
    """Before this step, the optimiser's state of the first stored parameter becomes that of the second; None: anew."""
    watch: frozenset[Watched] = frozenset()
    """The parts of the feedback that must be measured."""


Numbers = tuple[npt.NDArray[np.float64], ...]


@dataclass(frozen=True)
class Feedback:
    """The outcome of a step; parts that were not watched are empty."""

    index: int
    step: Step
    losses: tuple[float, ...]
    """The loss of each pass."""
    finite: bool
    """Whether the optimiser stepped."""
    gradients: Mapping[str, float] = field(default_factory=dict)
    """"gradients": norm before clipping of the gradient of each stored parameter that was touched."""
    outputs: Numbers = ()
    """"outputs": for each pass (batch,) norms of the gradient of each example's own loss by its outputs."""
    valid: tuple[float, ...] = ()
    """"valid": for each pass a score in (0, 1] on a batch of the validation split, after the step; 1 is best."""


# --- plans ----------------------------------------------------------------------------------------------------------


class Trained(Protocol):
    """What a plan may read of the supernet in training."""

    @property
    def device(self) -> torch.device: ...

    def subnet(self, arch: Architecture, route: int | None = None) -> nn.Module: ...

    def count_parameters(self, arch: Architecture) -> int: ...

    def coverage(self) -> Coverage: ...


@dataclass(frozen=True)
class Course:
    """The training that a plan is made for; `supernet` and `task` are read-only."""

    space: Space
    seed: int
    steps: int
    rate: Callable[[int], float]
    """From a step to the schedule's factor of the configured learning rate."""
    supernet: Trained
    task: Task
    taught: bool = False
    """Whether the caller gave a frozen teacher, so that a step's `freeze` is ignored."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", lru_cache(maxsize=4096)(self.supernet.count_parameters))

    size: Callable[[Architecture], int] = field(init=False)
    """Parameters of a network, counted once."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches that hold every training example once."""
        return max(1, math.ceil(self.task.num_train / self.task.batch_size))

    def rng(self, index: int) -> np.random.Generator:
        """The random numbers of a step."""
        return np.random.default_rng([self.seed, index])


class Plan:
    """The steps of one training. `state` must hold all that `observe` learns, or a resumed training would differ."""

    def step(self, index: int) -> Step:
        raise NotImplementedError

    def observe(self, feedback: Feedback) -> None:
        """Learn from the outcome of a step; called once after each."""

    def state(self) -> dict[str, Tensor]:
        """Return what was learned so far, for checkpoints."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""

    @property
    def closed(self) -> tuple[Closed, ...]:
        """The options that are no longer trained, with reasons; the rest is a space."""
        return ()


@dataclass(frozen=True)
class Strategy:
    """A way to train a supernet. Override `step`, or `plan` if the strategy learns from feedback."""

    name: ClassVar[str]
    narrows: ClassVar[bool] = False
    """Whether its plans close options."""

    @property
    def compares_logits(self) -> bool:
        """Whether networks imitate outputs as distributions over classes; the task's outputs must then be logits."""
        return False

    def check(self, task: Task) -> None:
        """Check that this task can be trained by the strategy.

        Raises:
            StrategyError: outputs that are numbers, as of a regression, would be imitated as logits.
        """
        if self.compares_logits and not getattr(task, "logits", True):
            raise StrategyError(
                f"strategy {self.name} distils distributions over classes, and the outputs of the task {task.name!r} "
                "are plain numbers: choose one that distils none, 'sandwich(distil=none)' say"
            )

    def plan(self, course: Course) -> Plan:
        return _Stateless(self, course)

    def step(self, course: Course, index: int) -> Step:
        """Return a step; it depends on the course and the step's number alone."""
        raise NotImplementedError


class _Stateless(Plan):
    def __init__(self, strategy: Strategy, course: Course) -> None:
        self._strategy = strategy
        self._course = course

    def step(self, index: int) -> Step:
        return self._strategy.step(self._course, index)
