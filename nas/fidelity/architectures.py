"""Runs Hyperband over the architectures of a space, each trained alone for a number of steps set by its budget.

A training with a constant learning rate is the start of every longer one, so a larger budget continues from the
checkpoint of the smaller one: bit for bit the result of training from the start, at the cost of the added steps. With a
schedule that depends on the last step (cosine, linear) or an average over the last steps, each budget trains from the
start, which costs at most 1 / (1 - 1 / eta) times as much for a configuration that reaches the largest budget.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import nn

from nas.errors import NasError
from nas.execution.executors import Deferred, Executor
from nas.fidelity.hyperband import Hyperband
from nas.fidelity.ledger import Trial
from search_spaces import Architecture, Space
from supernets import checkpoints
from supernets.scaled import initialised, train_alone
from supernets.skeleton import Build
from supernets.tasks import Task
from supernets.training import TrainingConfig

_logger = logging.getLogger(__name__)


def architecture_search(
    space: Space,
    build: Build,
    task: Task,
    training: TrainingConfig,
    directory: Path | str,
    *,
    eta: int = 3,
    reuse: str = "efficient",
    seed: int = 0,
    executor: Executor | None = None,
    device: str = "cpu",
    evaluate: Deferred | None = None,
    on_trial: Callable[[Trial], None] | None = None,
) -> Hyperband:
    """Return a Hyperband over a space: `.run(27)` trains networks for up to 27 times the steps of `training`.

    The directory holds results in `hyperband.jsonl` and checkpoints in `networks`. A stopped search resumes and gives
    the same result as an uninterrupted one. Checkpoints may be deleted if no larger budget will follow.

    Args:
        training: training of the smallest budget; its `steps` are the unit of all budgets. With schedule="constant" and
            average=0, larger budgets continue from smaller ones; otherwise they train from the start.
        eta, reuse, seed, executor: as in `Hyperband`. `seed` selects architectures; `training.seed` initialises
            weights.
        evaluate: builds the `StandAlone` of these trainings in a worker, if `build` cannot be sent to workers.
        on_trial: called after each training.

    Raises:
        NasError: a setting is invalid, or the directory holds another search.
    """
    directory = Path(directory)
    here = StandAlone(space, build, task, training, directory / "networks", device)
    return Hyperband(
        space.sample,
        evaluate or here,
        task.metric,
        eta=eta,
        reuse=reuse,
        seed=seed,
        executor=executor,
        path=directory / "hyperband.jsonl",
        identity={"space": space.digest, "task": task.digest, "training": identity(training)},
        on_trial=on_trial,
    )


class StandAlone:
    """Returns the task's metrics of an architecture, trained alone for `budget` times the steps of `training`.

    Args:
        directory: for checkpoints; a stopped training resumes.

    Raises:
        NasError: the warm-up takes the whole smallest budget.
    """

    def __init__(
        self,
        space: Space,
        build: Build,
        task: Task,
        training: TrainingConfig,
        directory: Path | str,
        device: str = "cpu",
    ) -> None:
        self.space = space
        self.build = build
        self.task = task
        self.training = training
        self.directory = Path(directory)
        self.device = device
        self._warm = round(training.warmup * training.steps)
        if self.goes_on and self._warm >= training.steps:
            rule = f"the smallest budget is {training.steps} steps, and so many warm up"
            raise NasError(f"warmup = {training.warmup} is {self._warm} steps: {rule}; lower it or raise steps")

    @property
    def goes_on(self) -> bool:
        """Whether a training is the start of every longer one."""
        return self.training.schedule == "constant" and self.training.average == 0

    def __call__(self, arch: Architecture, budget: int) -> Mapping[str, float]:
        return self.task.evaluate(self.trained(arch, budget), "valid")

    def trained(self, arch: Architecture, budget: int) -> nn.Module:
        """Return the trained network, with calibrated batch norm."""
        config = self.config(budget)
        module = initialised(self.build, arch, config, self.task.example(2))
        place = self._place(arch, config)
        return train_alone(module, self.task, config, self.space, self.build, device=self.device, directory=place)

    def config(self, budget: int) -> TrainingConfig:
        """Return the training of a budget; if trainings continue, all budgets have the same number of warm-up steps."""
        steps = budget * self.training.steps
        return replace(self.training, steps=steps, warmup=self._warm / steps if self.goes_on else self.training.warmup)

    def _place(self, arch: Architecture, config: TrainingConfig) -> Path:
        """Return the folder of this training, prepared to continue from a shorter one if possible."""
        if self.goes_on and _lengthened(self.directory / arch.digest, config):
            return self.directory / arch.digest
        return self.directory / f"{arch.digest}-{config.steps}"


def _lengthened(place: Path, config: TrainingConfig) -> bool:
    """Make the newest checkpoint of a shorter training one of this training; return False if that one is longer.

    This atomically rewrites the checkpoint with the new number of steps and warm-up.
    """
    found = checkpoints.newest(place)
    if found.step == 0:
        return True
    with checkpoints.restoring(place, found):
        there = found.meta["settings"]["config"]
        if there["steps"] > config.steps:
            return False
        longer = there | {"steps": config.steps, "warmup": config.warmup}
        meta = found.meta | {"settings": found.meta["settings"] | {"config": longer}}
    if there["steps"] < config.steps:
        checkpoints.write(place, found.step, found.tensors, meta)
    return True


def identity(training: TrainingConfig) -> dict[str, Any]:
    """Return the settings that determine a training's result, as JSON values, which have no infinity."""
    settings = asdict(training)
    del settings["checkpoint_every"], settings["evaluate_every"], settings["strategy"]
    return settings | {"clip": str(training.clip)}
