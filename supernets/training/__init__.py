"""Training: supernets by any strategy, and single networks, which are supernets of one architecture.

`train` and `train_network` set up a `Loop`, which `supernets.resumable` runs. What happens in step k depends on the
weights, the optimiser and (seed, k) alone. Several processes may train together: see `supernets.teams`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from torch import nn

from search_spaces import Architecture, Space
from search_spaces.narrowing import Closed, narrowed
from supernets import calibrate
from supernets.spelling import spell
from supernets.steps import Course, Pass, Plan, Step
from supernets.strategies import Strategy, strategy
from supernets.supernet import Supernet
from supernets.tasks import Task, teaches
from supernets.teams import ALONE, Team
from supernets.trainable import Alone
from supernets.training.config import (
    PRECISIONS,
    SCHEDULES,
    TrainingConfig,
    TrainingError,
    learning_rate,
    resolve_precision,
)
from supernets.training.loop import Loop
from supernets.training.result import CurvePoint, OnCurve, TrainingResult
from supernets.views import digest

__all__ = [
    "PRECISIONS",
    "SCHEDULES",
    "WATCHED",
    "CurvePoint",
    "Loop",
    "OnCurve",
    "TrainingConfig",
    "TrainingError",
    "TrainingResult",
    "learning_rate",
    "resolve_precision",
    "train",
    "train_network",
]

NUM_RANDOM_WATCHED = 3


def _watched_sample(space: Space, seed: int) -> list[Architecture]:
    # three numbers: no step of a strategy draws from this stream
    rng = np.random.default_rng([seed, 0, 1])
    return [space.sample(rng) for _ in range(NUM_RANDOM_WATCHED)]


WATCHED: Mapping[str, Callable[[Space, int], list[Architecture]]] = {
    "smallest": lambda space, seed: [space.smallest()],
    "random": _watched_sample,
    "largest": lambda space, seed: [space.largest()],
}
"""Curves of a supernet: from the space that is trained, and a seed, to the networks whose mean is drawn."""


def train(
    supernet: Supernet,
    task: Task,
    config: TrainingConfig | None = None,
    *,
    space: Space | None = None,
    directory: Path | str | None = None,
    on_curve: OnCurve | None = None,
    progress: bool = True,
    method: Strategy | None = None,
    teacher: nn.Module | None = None,
    origin: str = "",
    team: Team = ALONE,
) -> TrainingResult:
    """Train the shared weights, in place.

    Args:
        space: train only this narrower space; None is the supernet's.
        directory: for checkpoints; a training begun there with the same settings is resumed. None writes none.
        on_curve: called with each new point of a curve; after a kill, those since the last checkpoint come again.
        progress: a bar on a terminal, log lines elsewhere.
        method: a strategy of one's own in place of the one that `config.strategy` names.
        teacher: a network to distil from, for strategies with a frozen teacher; they freeze none of their own then.
        origin: names the initial weights; a training that began with others is not resumed.
        team: who trains together. The first has the directory, curve and progress, the others need none of these: they
            begin with its weights, and end with the same.

    Raises:
        TrainingError: too many steps in a row had no finite loss or gradient, or the task lacks what a strategy needs.
        CheckpointError: the directory holds the checkpoints of another training.
        TeamError: the task cannot be shared; LostError, which is one: another of the team is gone.
    """
    config = config or TrainingConfig()
    space = space or supernet.space
    chosen = method or strategy(config.strategy)
    chosen.check(task)

    def look(which: str, closed: Sequence[Closed] = ()) -> float:
        archs = WATCHED[which](narrowed(space, closed), config.seed)
        return fmean(calibrate.evaluate(supernet, arch, task)[task.metric] for arch in archs)

    if config.steps == 0:
        return _untrained(config, task, look, on_curve)

    def rate(step: int) -> float:
        return learning_rate(config, step) / config.lr

    largest = supernet.subnet(space.largest())
    if teaches(task):
        task.check(largest)
    course = Course(space, config.seed, config.steps, rate, supernet, task, teacher is not None)
    plan = supernet.weights.accompany(chosen.plan(course), course)
    loop = Loop(
        trained=supernet,
        task=task,
        config=config,
        precision=resolve_precision(config.precision, supernet.device, largest),
        plan=plan,
        largest=space.largest(),
        watched=tuple(WATCHED),
        score=lambda which: look(which, plan.closed),
        identity={
            "space": space.digest,
            "sharing": spell(supernet.sharing),
            "method": "" if method is None else spell(method),
            "teacher": "" if teacher is None else digest(teacher.state_dict().items()),
            "origin": origin,
        },
        on_curve=on_curve,
        teacher=None if teacher is None else teacher.to(supernet.device).eval().requires_grad_(False),
        team=team,
    )
    return loop.run(directory, "supernet", progress)


def _untrained(
    config: TrainingConfig,
    task: Task,
    look: Callable[[str], float],
    on_curve: OnCurve | None,
) -> TrainingResult:
    """Return the result of a training of no steps: the curves have one point, and no checkpoint is written."""
    curve = tuple(CurvePoint(0, which, task.metric, look(which)) for which in WATCHED)
    if on_curve is not None:
        for point in curve:
            on_curve(point)
    return TrainingResult(0, (), curve, 0, config.precision, 0, (), 0.0)


def train_network(
    module: nn.Module,
    task: Task,
    config: TrainingConfig | None = None,
    *,
    directory: Path | str | None = None,
    on_curve: OnCurve | None = None,
    progress: bool = True,
) -> TrainingResult:
    """Train or fine-tune one ordinary module, in place and by the same loop; it is left in eval mode.

    Arguments and errors are those of `train`.
    """
    config = config or TrainingConfig()
    alone = Alone(module)
    loop = Loop(
        trained=alone,
        task=task,
        config=config,
        precision=resolve_precision(config.precision, alone.device, module),
        plan=_Itself(),
        watched=("network",),
        score=lambda which: task.evaluate(module.eval())[task.metric],
        identity={},
        on_curve=on_curve,
        settle=lambda: calibrate.recalibrate(module, task.calibration(calibrate.NUM_BATCHES)),
    )
    result = loop.run(directory, "network", progress)
    module.eval()
    return result


class _Itself(Plan):
    """The same network in every step."""

    def step(self, index: int) -> Step:
        return Step((Pass(Alone.arch),))
