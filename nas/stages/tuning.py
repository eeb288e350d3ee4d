"""Trains under a budget: a run's networks alone, with Hyperband or forecasts, or settings of a training, with CARBS.

Results are stored beside the run's other files, so a repeated call resumes a stopped one. On a cluster, each training
is one evaluation of a `RayExecutor`: see docs/decisions/tuning-on-a-cluster.md.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nas.errors import NasError
from nas.execution.executors import Deferred, Evaluate, Executor
from nas.fidelity.architectures import StandAlone, architecture_search, identity
from nas.fidelity.forecasting import Forecasting, Watched, forecasting
from nas.fidelity.hyperband import Hyperband
from nas.fidelity.ledger import Trial
from nas.fidelity.settings import TUNABLE, SettingsSearch, variables
from nas.run import Run
from nas.run_file import load
from nas.stages import evaluators
from search_spaces import Architecture
from supernets import calibrate, training
from supernets.scaled import initialised
from supernets.training import TrainingConfig, train_network

OF = ("supernet", "network")
"""Trainings whose settings can be tuned."""
_JUDGED = 4  # random networks that judge a supernet, beside the largest and the smallest

OnTrial = Callable[[Trial], None]


def hyperband(
    run: Run,
    directory: Path,
    budget: TrainingConfig,
    *,
    eta: int = 3,
    reuse: str = "efficient",
    executor: Executor | None = None,
    run_file: Path | None = None,
    on_trial: OnTrial | None = None,
) -> Hyperband:
    """Return a Hyperband over the networks of a run, trained alone; `.run(27)` trains up to 27 times `budget`'s steps.

    Args:
        directory: for `hyperband.jsonl` and checkpoints; workers must share it to resume trainings.
        budget: the training of the smallest budget.
        run_file: file from which workers load the run; None trains in this process.

    Raises:
        NasError: a setting is invalid, or the directory holds another search.
    """
    networks = str((directory / "networks").absolute())
    recipe = Deferred(partial(_stand_alone, str(run_file), budget, networks)) if run_file else None  # type: ignore[arg-type]
    return architecture_search(
        run.space,
        run.build,
        run.task,
        budget,
        directory,
        eta=eta,
        reuse=reuse,
        seed=run.seed,
        executor=executor,
        evaluate=recipe,
        on_trial=on_trial,
    )


def _stand_alone(run_file: str, budget: TrainingConfig, networks: str) -> StandAlone:
    run = load(Path(run_file))
    return StandAlone(run.space, run.build, run.task, budget, networks)


def forecast(
    run: Run,
    directory: Path,
    epoch: TrainingConfig,
    *,
    largest: int = 10,
    pool: int = 40,
    start: int = 20,
    at_once: int = 1,
    executor: Executor | None = None,
    run_file: Path | None = None,
    on_trial: OnTrial | None = None,
) -> Forecasting:
    """Return a Forecasting Model Search over a run's networks, trained alone; `.run(60)` spends sixty epochs.

    Args:
        directory, run_file: as in `hyperband`.
        epoch: the training of one epoch, with a constant learning rate.
        largest, pool, start, at_once, executor, on_trial: as in `Forecasting`.

    Raises:
        NasError: a setting is invalid, or the directory holds another search.
    """
    networks, weights = str((directory / "networks").absolute()), str((directory / "forecast").absolute())
    recipe = Deferred(partial(_watched, str(run_file), epoch, networks, weights)) if run_file else None  # type: ignore[arg-type]
    alone = StandAlone(run.space, run.build, run.task, epoch, networks)
    return forecasting(
        run.space,
        alone,
        directory.absolute(),
        evaluate=recipe,
        largest=largest,
        pool=pool,
        start=start,
        at_once=at_once,
        seed=run.seed,
        executor=executor,
        on_trial=on_trial,
    )


def _watched(run_file: str, epoch: TrainingConfig, networks: str, weights: str) -> Watched:
    return Watched(_stand_alone(run_file, epoch, networks), weights)


def carbs(
    run: Run,
    directory: Path,
    names: Sequence[str],
    *,
    of: str = "supernet",
    at_once: int = 1,
    executor: Executor | None = None,
    run_file: Path | None = None,
    on_trial: OnTrial | None = None,
) -> SettingsSearch:
    """Return a CARBS search over settings of the run's training; `.run(20)` trains twenty times.

    Args:
        directory: for `carbs-OF.jsonl` and checkpoints.
        names: settings from `nas.fidelity.settings.TUNABLE`.
        of: "supernet", judged by a few networks with inherited weights, or "network", the largest one trained alone.
        at_once, executor, on_trial: as in `SettingsSearch`.
        run_file: as in `hyperband`.

    Raises:
        NasError: a setting is invalid, or the directory holds another search.
    """
    if of not in OF:
        raise NasError(f"settings are tuned of {of!r}: choose one of {', '.join(OF)}")
    centres = {field.name: getattr(run.training, field.name) for field in fields(run.training)}
    tuned = variables(names, centres | {"batch_size": run.task.batch_size}, run.task.num_train)
    place = str((directory / "settings").absolute())
    evaluate: Evaluate = SettingsTraining(run, of, place)
    if run_file:
        evaluate = Deferred(partial(_settings_training, str(run_file), run.training, of, place))
    begun = {name: value for name, value in identity(run.training).items() if name not in names}
    return SettingsSearch(
        tuned,
        evaluate,
        run.task.metric,
        seed=run.seed,
        at_once=at_once,
        executor=executor,
        path=directory / f"carbs-{of}.jsonl",
        identity={"space": run.space.digest, "task": run.task.digest, "of": of, "training": begun},
        on_trial=on_trial,
    )


def _settings_training(run_file: str, config: TrainingConfig, of: str, place: str) -> SettingsTraining:
    return SettingsTraining(replace(load(Path(run_file)), training=config), of, place)


@dataclass
class SettingsTraining:
    """Trains with given settings; returns the task's metrics, and the number of training examples used as `cost`.

    Args:
        place: for checkpoints; a stopped training resumes.
    """

    run: Run
    of: str
    place: str

    def __call__(self, settings: Architecture) -> dict[str, float]:
        given: dict[str, Any] = {name: value for name, value in settings.items() if name in TUNABLE}
        task = self.run.task
        if "batch_size" in given:
            task = copy.deepcopy(task)  # deep, since a task may contain another with its own batch size
            task.batch_size = given.pop("batch_size")
        seed = self.run.training.seed + settings["number"]  # repeated settings get another seed
        config = replace(self.run.training, **given, seed=seed, evaluate_every=0)
        run = replace(self.run, task=task, training=config)
        found = (_of_supernet if self.of == "supernet" else _of_network)(run, Path(self.place) / settings.digest)
        return {**found, "cost": float(config.steps * task.batch_size)}


def _of_supernet(run: Run, place: Path) -> dict[str, float]:
    """Return mean metrics of a few networks with inherited weights, the same networks for all settings."""
    supernet = evaluators.untrained(run)
    training.train(supernet, run.task, run.training, directory=place, progress=False)
    judged = [run.space.largest(), run.space.smallest(), *run.space.sample_many(_JUDGED, np.random.default_rng(0))]
    found = [evaluators.SubnetEvaluator(supernet, run.task)(arch) for arch in judged]
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def _of_network(run: Run, place: Path) -> dict[str, float]:
    """Return the metrics of the largest network, trained alone."""
    module = initialised(run.build, run.space.largest(), run.training, run.task.example(2))
    train_network(module, run.task, run.training, directory=place, progress=False)
    calibrate.recalibrate(module, run.task.calibration(calibrate.NUM_BATCHES))
    return run.task.evaluate(module, "valid")
