"""Runs CARBS over the settings of trainings: the tunable settings, and a search that resumes after a kill."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.errors import NasError
from nas.execution.executors import Evaluate, Executor, InProcess
from nas.fidelity.carbs import Carbs
from nas.fidelity.ledger import Ledger, Trial, of_evaluation
from nas.fidelity.variables import Log, Logit, Variable
from search_spaces import Architecture

_logger = logging.getLogger(__name__)

TUNABLE = ("lr", "weight_decay", "warmup", "clip", "steps", "batch_size")
"""Settings of a training that can be tuned; `batch_size` belongs to the task."""
_NO_DECAY, _NO_WARMUP = 0.01, 0.05  # centres if the training has none
_SCALE = 1.01  # powers of ten; with 1, an integer could not move away from 1


def variables(names: Sequence[str], centres: Mapping[str, float], num_train: int) -> list[Variable]:
    """Return the variables for CARBS, centred on the settings of a training.

    Args:
        names: settings from `TUNABLE`.
        centres: initial values by name.
        num_train: number of training examples, the largest batch size.

    Raises:
        NasError: a name is not in `TUNABLE`, or an initial value is invalid.
    """
    unknown = [name for name in names if name not in TUNABLE]
    if unknown or not names:
        raise NasError(f"setting {(unknown or [''])[0]!r} cannot be tuned: name some of {', '.join(TUNABLE)}")
    return [_variable(name, centres[name], num_train) for name in names]


def _variable(name: str, centre: float, num_train: int) -> Variable:
    if name == "warmup":
        return Logit(name, centre or _NO_WARMUP)
    if name in ("steps", "batch_size"):
        most = num_train if name == "batch_size" else math.inf
        return Log(name, min(centre, most), scale=_SCALE, least=1, most=most, integer=True)
    if not math.isfinite(centre):
        raise NasError(f"{name} is {centre} in the run file: give it a number there to begin with, or do not tune it")
    return Log(name, centre or _NO_DECAY)


class SettingsSearch:
    """Trains with settings that CARBS suggests; a stopped search resumes with the result of an uninterrupted one.

    Args:
        evaluate: trains with the settings of an architecture, which also has the number of the training as `number`;
            returns `metric`, lower is better, and `cost`, above 0.
        at_once: number of trainings that are suggested together and run in parallel.
        path: a file of JSON lines; None keeps everything in memory.
        identity: further JSON values that must be equal to resume from a file.
        on_trial: called after each training.

    Raises:
        NasError: a setting is invalid, or the file belongs to another search.
    """

    def __init__(
        self,
        tuned: Sequence[Variable],
        evaluate: Evaluate,
        metric: str,
        *,
        seed: int = 0,
        at_once: int = 1,
        executor: Executor | None = None,
        path: Path | str | None = None,
        identity: Mapping[str, Any] | None = None,
        on_trial: Callable[[Trial], None] | None = None,
    ) -> None:
        if at_once < 1:
            raise NasError(f"at_once is {at_once}: ask for 1 training or more at a time")
        self.carbs = Carbs(tuned, seed=seed)
        self.metric = metric
        self.at_once = at_once
        self._evaluate = evaluate
        self._executor = executor or InProcess()
        self._on_trial = on_trial
        own = {"tuned": self.carbs.axes.names, "metric": metric, "seed": seed, "at_once": at_once}
        self.ledger = Ledger(path, own | dict(identity or {}))

    def run(self, trials: int) -> list[Trial]:
        """Return the first `trials` trainings, after running the missing ones; a call with more continues.

        Raises:
            NasError: the evaluator does not return the metric or the cost.
        """
        while (number := len(self.carbs.told)) < trials:
            self._batch(number, min(self.at_once, trials - number))
        return self.ledger.trials[:trials]

    def _batch(self, first: int, size: int) -> None:
        asked = [self.carbs.ask() for _ in range(size)]
        configs = [Architecture("Settings", {**one, "number": first + i}) for i, one in enumerate(asked)]
        missing = [config for config in configs if self.ledger.get(config, 1) is None]
        for config, evaluation in zip(missing, self._executor.run(self._evaluate, missing), strict=True):
            trial = of_evaluation(evaluation, config, 1, 1)
            absent = {self.metric, "cost"} - set(trial.metrics)
            if trial.error is None and absent:
                raise NasError(f"the evaluator returned {', '.join(trial.metrics)} but not {min(absent)!r}")
            self.ledger.add(trial)
            if trial.error is not None:
                _logger.warning("%s failed: %s", dict(config), trial.error)
            if self._on_trial is not None:
                self._on_trial(trial)
        for settings, config in zip(asked, configs, strict=True):
            done = self.ledger.get(config, 1)
            assert done is not None
            self.carbs.tell(settings, done.metrics.get(self.metric), done.metrics.get("cost"))
