"""Hyperband over the architectures of a space, each trained alone, for as many steps as its budget says.

A training with a constant learning rate is the beginning of every longer one, so it goes on from the checkpoint of the
lower budget: bit for bit what training anew for all the steps would give, at the cost of the added ones. A schedule
that falls to its end (cosine, linear) or an average over the last steps is not: with these, each budget is trained
anew, which costs the most 1 / (1 - 1 / eta) times as much for a configuration that reaches the largest budget.
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
    """Hyperband over a space: `.run(27)` trains networks for up to 27 times the steps of `training`, `.run(81)` more.

    What was found lies in `hyperband.jsonl` of the directory, checkpoints lie in `networks`; a stopped search, called
    again, goes on and ends as one never stopped. Checkpoints may be deleted when no larger budget will be asked for.

    Args:
        training: of the smallest budget; its `steps` are the unit of all budgets. With schedule="constant" and
            average=0 higher budgets go on from lower ones, else they are trained anew.
        eta, reuse, seed, executor: as of `Hyperband`. The seed is of the architectures; `training.seed` is of the
            weights.
        evaluate: makes the `StandAlone` of these trainings where it runs, for workers that `build` cannot travel to.
        on_trial: called after each training.

    Raises:
        NasError: a setting that cannot be, or the directory holds another search.
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
    """The task's metrics of an architecture, trained alone for `budget` times the steps of `training`.

    Args:
        directory: for checkpoints; a training that was stopped goes on.
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
        """Whether a training is the beginning of every longer one."""
        return self.training.schedule == "constant" and self.training.average == 0

    def __call__(self, arch: Architecture, budget: int) -> Mapping[str, float]:
        return self.task.evaluate(self.trained(arch, budget), "valid")

    def trained(self, arch: Architecture, budget: int) -> nn.Module:
        """The network, its batch norm calibrated."""
        config = self.config(budget)
        module = initialised(self.build, arch, config, self.task.example(2))
        place = self._place(arch, config)
        return train_alone(module, self.task, config, self.space, self.build, device=self.device, directory=place)

    def config(self, budget: int) -> TrainingConfig:
        """How a budget is trained: where trainings go on, the warm-up has as many steps whatever the budget."""
        steps = budget * self.training.steps
        return replace(self.training, steps=steps, warmup=self._warm / steps if self.goes_on else self.training.warmup)

    def _place(self, arch: Architecture, config: TrainingConfig) -> Path:
        """The folder of this training, in which it goes on from a shorter one where it can."""
        if self.goes_on and _lengthened(self.directory / arch.digest, config):
            return self.directory / arch.digest
        return self.directory / f"{arch.digest}-{config.steps}"


def _lengthened(place: Path, config: TrainingConfig) -> bool:
    """Makes the newest checkpoint of a shorter training one of this; False where the training there is a longer one.

    Only what the checkpoint says of the length is written anew, in the way all checkpoints are: whole or not at all.
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
    """The settings that decide what a training gives; JSON has no infinity."""
    settings = asdict(training)
    del settings["checkpoint_every"], settings["evaluate_every"], settings["strategy"]
    return settings | {"clip": str(training.clip)}
