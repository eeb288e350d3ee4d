"""Hyperband that evaluates one budget at a time, and whose largest budget can be raised later.

All brackets' rungs with the same budget form one batch: its trainings are equally long, so that no worker waits for a
longer one, and it contains no configuration twice. Promotions in a bracket depend only on its own scores, so batching
does not change them. A run depends on the seed and the scores, not on workers or interruptions.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nas.errors import NasError
from nas.execution.executors import Deferred, Evaluate, Executor, InProcess
from nas.fidelity.deepening import REUSES, check_reuse
from nas.fidelity.ledger import Ledger, Trial, of_evaluation
from nas.fidelity.rungs import num_rungs_after_first, table
from search_spaces import Architecture

_logger = logging.getLogger(__name__)

Draw = Callable[[np.random.Generator], Architecture]
"""Returns a random configuration: `space.sample`, or any frozen values as an `Architecture`."""
EvaluateAt = Callable[[Architecture, int], Mapping[str, float]]
"""Returns metrics of a configuration at a budget; an exception is a failure. `config.digest` may name checkpoints."""

_TRIES = 1000


@dataclass(frozen=True, slots=True)
class Rung:
    """Configurations compared at one budget, in the order in which they were drawn."""

    budget: int
    members: tuple[Architecture, ...]


@dataclass(frozen=True, slots=True)
class Bracket:
    """The rungs of one bracket, by increasing budget."""

    rungs: tuple[Rung, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished run."""

    largest: int
    brackets: tuple[Bracket, ...]
    """By increasing smallest budget."""
    paid: tuple[Trial, ...]
    """The trials of this run, without those reused from earlier runs."""
    best: Trial | None
    """The trial with the lowest objective at the largest budget; None if all failed."""


class Hyperband:
    """Hyperband; a further call of `run` raises the largest budget.

    Args:
        draw: draws a random configuration. Each bracket draws distinct ones from its own stream of random numbers,
            seeded with its smallest budget.
        evaluate: evaluates a configuration at a budget; or a `Deferred` that builds such a function.
        objective: name of the metric; lower is better.
        eta: one in eta configurations is promoted, to eta times the budget.
        reuse: how a run reuses earlier ones, one of `deepening.REUSES`.
        executor: runs the trials; each batch has one budget.
        path: a file of JSON lines from which a stopped run resumes; None keeps everything in memory.
        identity: further JSON values that must be equal to resume, such as the digest of the data.
        on_trial: called after each trial.

    Raises:
        NasError: a setting is invalid, or the file belongs to another search.
    """

    def __init__(
        self,
        draw: Draw,
        evaluate: EvaluateAt | Deferred,
        objective: str,
        *,
        eta: int = 3,
        reuse: str = "efficient",
        seed: int = 0,
        executor: Executor | None = None,
        path: Path | str | None = None,
        identity: Mapping[str, Any] | None = None,
        on_trial: Callable[[Trial], None] | None = None,
    ) -> None:
        num_rungs_after_first(eta, 1)
        check_reuse(reuse)
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise NasError(f"seed is {seed!r}: it must be a whole number, 0 or more")
        self.objective, self.eta, self.reuse, self.seed = objective, eta, reuse, seed
        self.executor = executor or InProcess()
        self._draw = draw
        self._on_trial = on_trial
        self._evaluate = at_budget(evaluate)
        settings = {"objective": objective, "eta": eta, "reuse": reuse, "seed": seed}
        self.ledger = Ledger(path, settings | dict(identity or {}))
        self._streams: dict[int, _Stream] = {}
        self._seen: dict[int, list[list[Architecture]]] = {}
        self._outcomes: dict[int, Outcome] = {}

    def run(self, largest: int) -> Outcome:
        """Run all brackets up to the budget `largest`, a power of eta, with the results of earlier runs.

        This first replays the runs in the file, at no cost.

        Raises:
            NasError: `largest` is no power of eta or below that of an earlier run, or the evaluator does not return
                the objective.
        """
        num_rungs_after_first(self.eta, largest)
        runs = self.ledger.runs
        if largest not in runs:
            if runs and largest < runs[-1]:
                remedy = f"take {runs[-1] * self.eta}, or another file for a search of its own"
                raise NasError(f"the largest budget is {largest}, and was {runs[-1]} before: it only rises; {remedy}")
            self.ledger.begin(largest)
        for one in runs[: runs.index(largest) + 1]:
            if one not in self._outcomes:
                self._outcomes[one] = self._run(one)
        return self._outcomes[largest]

    # -- one run

    def _run(self, largest: int) -> Outcome:
        sizes = table(self.eta, largest)
        rungs: list[list[list[Architecture]]] = [[] for _ in sizes]
        for level in range(len(sizes)):
            for first in range(level + 1):
                size = sizes[first][level - first]
                rungs[first].append(self._entering(first, rungs[first], size, largest))
            members = [config for first in range(level + 1) for config in rungs[first][-1]]
            self._evaluate_all(list(dict.fromkeys(members)), self.eta**level, largest)
        self._remember(rungs)
        return self._outcome(largest, rungs)

    def _entering(self, first: int, below: Sequence[list[Architecture]], size: int, largest: int) -> list[Architecture]:
        """Return the next rung of the bracket that starts at level `first`, in the order of drawing."""
        stream = self._streams.setdefault(first, _Stream(self._draw, [self.seed, self.eta**first]))
        if not below:
            return stream.first(size)
        rung, budget = len(below) - 1, self.eta ** (first + len(below) - 1)
        seen = self._seen.get(first, [])
        before, above = [seen[i] if i < len(seen) else [] for i in (rung, rung + 1)]
        keep = min(size, max(1, len(below[-1]) // self.eta))  # a small space may fill the rung only in part
        rank = partial(self._ranked, budget, stream.order)
        return sorted(REUSES[self.reuse](rank, below[-1], before, above, keep), key=stream.order.__getitem__)

    def _ranked(
        self, budget: int, order: Mapping[Architecture, int], configs: Collection[Architecture]
    ) -> list[Architecture]:
        """Return the configurations that did not fail, best first; ties in the order of drawing."""
        scores = {config: self._score(config, budget) for config in configs}
        passed = [config for config in configs if scores[config] < math.inf]
        return sorted(passed, key=lambda config: (scores[config], order[config]))

    def _score(self, config: Architecture, budget: int) -> float:
        trial = self.ledger.get(config, budget)
        assert trial is not None
        return math.inf if trial.error is not None else trial.metrics[self.objective]

    def _evaluate_all(self, configs: Sequence[Architecture], budget: int, largest: int) -> None:
        missing = [config for config in configs if self.ledger.get(config, budget) is None]
        asked = [Architecture("Trial", {"config": config, "budget": budget}) for config in missing]
        for config, evaluation in zip(missing, self.executor.run(self._evaluate, asked), strict=True):
            trial = of_evaluation(evaluation, config, budget, largest)
            if trial.error is None and self.objective not in trial.metrics:
                given = ", ".join(trial.metrics) or "nothing"
                raise NasError(f"the evaluator returned {given} but not {self.objective!r}, the objective")
            self.ledger.add(trial)
            _tell(trial)
            if self._on_trial is not None:
                self._on_trial(trial)

    # -- results of a run

    def _remember(self, rungs: Sequence[Sequence[Sequence[Architecture]]]) -> None:
        for first, bracket in enumerate(rungs):
            seen = self._seen.setdefault(first, [])
            seen.extend([] for _ in range(len(bracket) - len(seen)))
            for rung, members in enumerate(bracket):
                seen[rung] = list(dict.fromkeys([*seen[rung], *members]))

    def _outcome(self, largest: int, rungs: Sequence[Sequence[Sequence[Architecture]]]) -> Outcome:
        brackets = tuple(
            Bracket(tuple(Rung(self.eta ** (first + i), tuple(members)) for i, members in enumerate(bracket)))
            for first, bracket in enumerate(rungs)
        )
        finalists = dict.fromkeys(config for bracket in brackets for config in bracket.rungs[-1].members)
        found = [trial for config in finalists if (trial := self.ledger.get(config, largest)) and trial.error is None]
        best = min(found, key=lambda trial: trial.metrics[self.objective], default=None)
        return Outcome(largest, brackets, tuple(trial for trial in self.ledger.trials if trial.run == largest), best)


def _tell(trial: Trial) -> None:
    """Log a trial; a failure is a warning, since it is kept and not retried."""
    if trial.error is not None:
        _logger.warning("budget %d %s failed: %s", trial.budget, trial.config.digest, trial.error)
    else:
        _logger.info("budget %d %s %s", trial.budget, trial.config.digest, trial.metrics)


class _Stream:
    """Distinct configurations of one bracket; the first n do not depend on n."""

    def __init__(self, draw: Draw, key: Sequence[int]) -> None:
        self._draw = draw
        self._rng = np.random.default_rng(key)
        self._tries = 0  # since the last new one; the stream ends after `_TRIES`
        self.order: dict[Architecture, int] = {}

    def first(self, n: int) -> list[Architecture]:
        """Return the first `n` configurations; fewer if no more are found."""
        while len(self.order) < n and self._tries < _TRIES:
            config = self._draw(self._rng)
            self._tries = self._tries + 1 if config in self.order else 0
            self.order.setdefault(config, len(self.order))
        return list(self.order)[:n]


# --- evaluators for workers ---------------------------------------------------------------------------------------


def at_budget(evaluate: EvaluateAt | Deferred) -> Evaluate:
    """Return the executors' evaluator, whose architectures contain a configuration and its budget.

    Use one object for all batches, so that workers receive it once.
    """
    if isinstance(evaluate, Deferred):
        return Deferred(partial(_made, evaluate))
    return partial(_at_budget, evaluate)


def _made(evaluate: Deferred) -> Evaluate:
    return partial(_at_budget, evaluate.build())  # type: ignore[arg-type]


def _at_budget(evaluate: EvaluateAt, trial: Architecture) -> Mapping[str, float]:
    return evaluate(trial.config, trial.budget)
