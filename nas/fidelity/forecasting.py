"""Forecasting Model Search: selects the training to continue by forecasts from settings, curve and weights.

It samples a pool of networks once and trains some of them for one epoch. Then a model of all trainings (`_forecaster`)
forecasts the effect of one more epoch on every network, and the search trains the one with the largest expected
improvement over the best value seen at that epoch or before. Several networks may train in parallel; the next ones are
selected when all of them have finished, so that the selection depends on their number but not on which finishes first.
No epoch is trained twice: the cost is the sum of the added epochs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nas.errors import NasError
from nas.execution.executors import Deferred, Evaluate, Executor, InProcess
from nas.fidelity._forecaster import Forecaster, Logged, Question
from nas.fidelity._weights import Layer, layers
from nas.fidelity.acquisition import log_expected_improvement
from nas.fidelity.architectures import StandAlone, identity
from nas.fidelity.hyperband import at_budget
from nas.fidelity.ledger import Ledger, Trial, of_evaluation
from search_spaces import Architecture, Space, SpaceError
from supernets import checkpoints

_logger = logging.getLogger(__name__)


class Watched:
    """A `StandAlone` that stores the weights after every epoch for the model.

    Raises:
        NasError: trainings cannot continue from shorter ones.
    """

    def __init__(self, alone: StandAlone, directory: Path | str) -> None:
        if not alone.goes_on:
            given = f"schedule = {alone.training.schedule!r} and average = {alone.training.average}"
            raise NasError(
                f"{given}: a training goes on where it was only with schedule='constant' and average=0; set both "
                "(nas tune --schedule constant)"
            )
        self.alone = alone
        self.directory = Path(directory)

    def __call__(self, arch: Architecture, epoch: int) -> Mapping[str, float]:
        module = self.alone.trained(arch, epoch)
        metrics = self.alone.task.evaluate(module, "valid")
        kept = {name: tensor for name, tensor in module.state_dict().items() if tensor.is_floating_point()}
        checkpoints.write(self.directory / arch.digest, epoch, kept, {"names": list(kept)}, keep=epoch)
        return metrics


@dataclass(frozen=True)
class _Chosen:
    """A training to continue, its next epoch, and the mean and standard deviation of the forecast."""

    arch: Architecture
    epoch: int
    forecast: tuple[float, float] | None = None


class Forecasting:
    """The search; `.run(60)` trains until it has spent sixty epochs, and a call with more continues.

    Args:
        evaluate: a `Watched`, or a `Deferred` that builds one.
        weights: the folder with its weights; None uses only settings and curves.
        largest: epochs of the longest training.
        pool: number of networks to choose from; fewer if the space has fewer.
        start: number of networks that train for one epoch before the model is used.
        at_once: number of trainings that are selected together and run in parallel.
        path, identity, executor, on_trial: as in `Hyperband`.

    Raises:
        NasError: a setting is invalid, or the file belongs to another search.
    """

    def __init__(
        self,
        space: Space,
        evaluate: Callable[[Architecture, int], Mapping[str, float]] | Deferred,
        objective: str,
        *,
        weights: Path | None = None,
        largest: int = 10,
        pool: int = 40,
        start: int = 20,
        at_once: int = 1,
        seed: int = 0,
        executor: Executor | None = None,
        path: Path | str | None = None,
        identity: Mapping[str, Any] | None = None,
        on_trial: Callable[[Trial], None] | None = None,
    ) -> None:
        for name, value, least in (("largest", largest, 2), ("pool", pool, 2), ("start", start, 2)):
            if value < least:
                raise NasError(f"{name} is {value}: a model needs {least} or more")
        if at_once < 1:
            raise NasError(f"at_once is {at_once}: ask for 1 training or more at a time")
        self.space, self.objective, self.largest, self.seed = space, objective, largest, seed
        self.at_once = at_once
        self._weights, self._on_trial = weights, on_trial
        self._executor = executor or InProcess()
        self._evaluate: Evaluate = at_budget(evaluate)
        own = {
            "objective": objective,
            "largest": largest,
            "pool": pool,
            "start": start,
            "at_once": at_once,
            "seed": seed,
        }
        self.ledger = Ledger(path, {**own, "reads": weights is not None, **dict(identity or {})})
        self.pool = _drawn(space, pool, np.random.default_rng(seed))
        self.start = min(start, len(self.pool))
        self._settings = dict(zip((a.digest for a in self.pool), space.encode(self.pool).astype(float), strict=True))
        self._read: dict[tuple[str, int], list[Layer]] = {}

    def run(self, epochs: int) -> Trial | None:
        """Train until `epochs` are spent; return the training with the best last epoch, None if all failed.

        Raises:
            NasError: `epochs` is below `start`, or the evaluator does not return the objective.
        """
        if epochs < self.start:
            raise NasError(f"epochs = {epochs}: the start alone takes {self.start}; give more, or a smaller start")
        while self.paid < epochs and (chosen := self._next()):
            self._train(chosen[: epochs - self.paid])
        ends = {trial.config: trial for trial in self.ledger.trials}  # the last trial of each configuration
        found = [trial for trial in ends.values() if trial.error is None]
        return min(found, key=lambda trial: trial.metrics[self.objective], default=None)

    @property
    def paid(self) -> int:
        """Number of epochs so far; each trial adds one."""
        return len(self.ledger.trials)

    def logged(self, arch: Architecture, trials: Sequence[Trial] | None = None) -> Logged:
        """Return a training as input of the model, from all trials or from `trials` only."""
        trials = self.ledger.trials if trials is None else trials
        own = [trial for trial in trials if trial.config == arch and trial.error is None]
        curve = tuple(trial.metrics[self.objective] for trial in own)
        states = () if self._weights is None else tuple(self._state(arch, epoch + 1) for epoch in range(len(curve)))
        return Logged(self._settings[arch.digest], curve, states)

    def _state(self, arch: Architecture, epoch: int) -> list[Layer]:
        assert self._weights is not None
        key = (arch.digest, epoch)
        if key not in self._read:
            found = checkpoints.at(self._weights / arch.digest, epoch)
            self._read[key] = layers({name: found.tensors[name] for name in found.meta["names"]})
        return self._read[key]

    def _next(self) -> list[_Chosen]:
        """Return the unfinished trainings of this round; empty if no network can continue."""
        if self.paid < self.start:
            return [_Chosen(arch, 1) for arch in self.pool[self.paid : self.start]]
        before = self._before_round()
        found = self._promising(self.ledger.trials[:before])[: self.at_once]
        return found[self.paid - before :]

    def _before_round(self) -> int:
        """Return the number of trials before the current round, of which a stopped search may have finished some."""
        before = self.start
        while 0 < (size := min(self.at_once, self._num_open(before))) <= self.paid - before:
            before += size
        return before

    def _num_open(self, before: int) -> int:
        ended = [trial for trial in self.ledger.trials[:before] if trial.error or trial.budget == self.largest]
        return len(self.pool) - len(ended)

    def _promising(self, trials: Sequence[Trial]) -> list[_Chosen]:
        """Return one more epoch of every training that can continue, by decreasing expected improvement."""
        broken = {trial.config.digest for trial in trials if trial.error is not None}
        trainings = {arch: self.logged(arch, trials) for arch in self.pool if arch.digest not in broken}
        begun = [one for one in trainings.values() if one.curve]
        open_ = [(arch, len(one.curve)) for arch, one in trainings.items() if len(one.curve) < self.largest]
        if not open_ or not begun:
            return []
        model = Forecaster(begun, self.largest, weights=self._weights is not None, seed=self.seed)
        questions = [Question(trainings[arch], now, now + 1) for arch, now in open_]
        mean, spread = model.forecast(questions)
        best = np.array([_best(begun, now + 1) for _, now in open_])
        order = np.argsort(-log_expected_improvement(-mean, spread, -best), kind="stable")
        _, whole = model.forecast(questions, noise=True)  # trials report noisy forecasts; the acquisition ignores noise
        return [
            _Chosen(arch, now + 1, (float(mean[place]), float(whole[place])))
            for place in order.tolist()
            for arch, now in [open_[place]]
        ]

    def _train(self, chosen: Sequence[_Chosen]) -> None:
        asked = [Architecture("Trial", {"config": one.arch, "budget": one.epoch}) for one in chosen]
        for one, evaluation in zip(chosen, self._executor.run(self._evaluate, asked), strict=True):
            trial = of_evaluation(evaluation, one.arch, one.epoch, self.largest, one.forecast)
            if trial.error is None and self.objective not in trial.metrics:
                raise NasError(f"the evaluator returned {', '.join(trial.metrics)} but not {self.objective!r}")
            self.ledger.add(trial)
            if trial.error is not None:
                _logger.warning("epoch %d of %s failed: %s", one.epoch, one.arch.digest, trial.error)
            if self._on_trial is not None:
                self._on_trial(trial)


def forecasting(
    space: Space, alone: StandAlone, directory: Path, *, evaluate: Deferred | None = None, **settings: Any
) -> Forecasting:
    """Return the search over a space's stand-alone trainings; an epoch has the steps of `alone`'s budget 1.

    Args:
        directory: for `forecast.jsonl` and, in `forecast`, weights; `alone` has its own directory for trainings.
        evaluate: builds the `Watched` in a worker.
    """
    weights = directory / "forecast"
    same = {"space": space.digest, "task": alone.task.digest, "training": identity(alone.training)}
    return Forecasting(
        space,
        evaluate or Watched(alone, weights),
        alone.task.metric,
        weights=weights,
        path=directory / "forecast.jsonl",
        identity=same,
        **settings,
    )


def _drawn(space: Space, pool: int, rng: np.random.Generator) -> list[Architecture]:
    try:
        return space.sample_many(pool, rng, distinct=True)
    except SpaceError:  # it has fewer
        return list(space.enumerate())


def _best(begun: list[Logged], epoch: int) -> float:
    """Return the smallest value at an epoch or before."""
    return min(min(one.curve[:epoch]) for one in begun)
