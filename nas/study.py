"""The search loop: start reading here.

A study asks a searcher for a batch of architectures, evaluates those that are not known yet, stores each result as it
arrives, and passes the complete batch to the searcher. The database is the only state: resuming reads the study's
evaluations and passes them to a new searcher. Each has a position, the order in which it was proposed. A batch depends
only on the positions before it and the seed, so neither a kill nor the number of workers changes a study.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np

from nas.errors import NasError
from nas.execution.executors import Evaluate, Executor, InProcess
from nas.objectives import aims
from nas.objectives import limits as limits_module
from nas.objectives.limits import Limit
from nas.objectives.screening import Predict, Screen
from nas.records import Distribution, Evaluation, Life, Origin, SpaceRecord, StudyRecord
from nas.searchers import SEARCHERS, Searcher, SurrogateSearch
from nas.storage import Repository
from search_spaces import Architecture, Space

_logger = logging.getLogger(__name__)
_GIVEN = Origin("given to begin with")

OnBatch = Callable[["Study", list[Evaluation]], None]


class Study:
    """One search, with its evaluations in a repository.

    Args:
        name: name in the repository. An existing study is resumed; it must then be the same search.
        evaluate: returns the metrics of one architecture by name; an exception makes a failed evaluation.
        objectives: names of the metrics to minimise together.
        targets: hardware targets by name, each with its own limits. Each has its own front over the objectives and its
            latency; evaluations serve all of them.
        limits: such as "params <= 2e6"; a network that breaks one is stored and marked, but never on the front.
        searcher: the class that proposes architectures; `settings` are its keyword arguments. They are stored with the
            study, distributions by their digests.
        executor: where evaluations run.
        predict: returns cheap metrics. Limits on them are checked before evaluation, and they complete every
            evaluation: quality is evaluated once, costs are computed for each study's targets.
        costs: returns very cheap metrics (tens of thousands per second), by which searchers rank candidates.
        bound: returns upper bounds of the predicted metrics, on which upper limits are checked instead of predictions.
        weights: digest of the supernet, which the repository must contain; None if there is none.
        data: digest of the data and settings of the evaluation. With it, the study reuses evaluations of any study with
            the same weights and data; without it, none.
        batch: number of architectures proposed at once, independent of the number of workers.
        first: architectures to evaluate before the searcher proposes any: a user's, a table's or another study's.
        conditions: further conditions of the metrics, such as {"latency_batch": 8}; stored with the study's settings,
            so that it cannot be resumed under others.
        on_batch: called with the study and the new evaluations after each complete batch.
    """

    def __init__(
        self,
        name: str,
        space: Space,
        evaluate: Evaluate,
        objectives: Sequence[str],
        repository: Repository,
        *,
        limits: Sequence[str | Limit] = (),
        targets: Mapping[str, Sequence[str | Limit]] | None = None,
        searcher: Callable[..., Searcher] = SurrogateSearch,
        settings: Mapping[str, Any] | None = None,
        executor: Executor | None = None,
        predict: Predict | None = None,
        costs: Predict | None = None,
        bound: Predict | None = None,
        weights: str | None = None,
        data: str | None = None,
        seed: int = 0,
        batch: int = 16,
        first: Sequence[Architecture] = (),
        conditions: Mapping[str, Any] | None = None,
        on_batch: OnBatch | None = None,
        run_file: str | None = None,
    ) -> None:
        if not objectives or len(set(objectives)) < len(objectives):
            raise NasError(f"objectives are {tuple(objectives)}; name at least one metric, each once")
        if batch < 1:
            raise NasError(f"batch is {batch}; a study asks for at least 1 architecture at once")
        if not isinstance(searcher, type):
            raise NasError(f"searcher is {searcher!r}; give a class, and its keyword arguments as settings")
        self.name = name
        self.space = space
        self.evaluate = evaluate
        self.limits = _parsed(limits)
        self.targets = {target: _parsed(own) for target, own in (targets or {}).items()}
        self.aims = aims.for_targets(objectives, self.limits, self.targets)
        self.objectives = tuple(dict.fromkeys(name for aim in self.aims for name in aim.objectives))
        """All minimised metrics, including those of every target."""
        self.repository = repository
        self.executor = executor or InProcess()
        self.weights = weights
        self.data = data
        self.seed = seed
        self.batch = batch
        self.first = self._begun_with(first)
        self.on_batch = on_batch
        self._predict = predict
        self._costs = costs
        self._screen = Screen([aim.limits for aim in self.aims], predict, bound) if predict else None
        self._searcher = self._make_searcher(searcher, settings or {})
        kept = {"batch": batch, "data": data, **(conditions or {}), **_storable(settings or {})}
        kept |= {"first": [arch.json() for arch in self.first]} if self.first else {}
        kept |= {"targets": {name: [*map(str, own)] for name, own in self.targets.items()}} if self.targets else {}
        self.record = self._recorded(searcher, kept, run_file)
        self._placed = repository.placed_evaluations(name)
        self._origins: dict[str, Origin] = {}  # of the latest batch
        self._told: set[str] = set()  # digests of the evaluations that the searcher received

    @property
    def evaluations(self) -> list[Evaluation]:
        """The stored evaluations in order of position; running ones leave gaps."""
        return [self._placed[position] for position in sorted(self._placed)]

    def run(self, num_evaluations: int) -> list[Evaluation]:
        """Search until the study has `num_evaluations` or the space is exhausted; return the front.

        Raises:
            NasError: another process drives the study.
        """
        with self.repository.driving(self.name):
            self._catch_up()
            self.repository.set_status(self.name, "running", wanted=num_evaluations)
            try:
                while todo := self._ask(num_evaluations):
                    self._complete(todo)
            except BaseException as error:
                self._end_with("failed" if isinstance(error, Exception) else "interrupted")
                raise
            self.repository.set_status(self.name, "finished")
        return self.front()

    def front(self, target: str | None = None) -> list[Evaluation]:
        """Return the non-dominated evaluations that succeeded and keep the limits, of one target or of all.

        Raises:
            NasError: the study has no such target.
        """
        return [found for found, _ in aims.fronts(aims.of_study(self.record, target), self.evaluations).values()]

    def values(self, archs: Sequence[Architecture]) -> np.ndarray:
        """Return (n, m) objectives of architectures, evaluated like the study's own; stores nothing.

        Raises:
            NasError: an evaluation fails.
        """
        rows = []
        for evaluation in map(self._with_costs, self.executor.run(self.evaluate, archs)):
            if evaluation.error is not None:
                raise NasError(f"architecture {evaluation.arch.digest} failed: {evaluation.error}")
            rows.append([evaluation.metrics[name] for name in self.objectives])
        return np.array(rows)

    # -- one batch

    def _ask(self, end: int) -> dict[int, Architecture]:
        """Return the next architectures to evaluate, by position below `end`: the gaps of the first incomplete batch.

        Batches start at multiples of their size. A batch that an earlier run did not finish is proposed again, from the
        evaluations before it, and completed.
        """
        gap = next(position for position in count(len(self._told)) if position not in self._placed)
        if gap >= end:
            return {}
        begin = gap // self.batch * self.batch
        self._tell(begin)
        new = [arch for arch in self._asked(begin) if arch.digest not in self._told]
        if not new and self._screen and not self._placed:
            raise NasError(f"nothing keeps the limits: {self._screen.report()}; loosen a limit or widen the space")
        places = [position for position in range(begin, begin + len(new)) if position not in self._placed]
        there = {self._placed[p].arch.digest for p in range(begin, begin + len(new)) if p in self._placed}
        todo = dict(zip(places, (arch for arch in new if arch.digest not in there), strict=False))
        if not todo:
            _logger.info("%s: no new architecture found after %d", self.name, len(self._placed))
        return {position: arch for position, arch in todo.items() if position < end}

    def _tell(self, begin: int) -> None:
        """Pass all evaluations before a batch to the searcher."""
        new = [self._placed[position] for position in range(len(self._told), begin)]
        self._searcher.tell(new)
        self._told.update(evaluation.arch.digest for evaluation in new)

    def _asked(self, begin: int) -> list[Architecture]:
        given = self.first[begin : begin + self.batch]
        asked, self._origins = [*given], {arch.digest: _GIVEN for arch in given}
        if len(given) < self.batch:
            asked += self._searcher.ask(self.batch, np.random.default_rng([self.seed, begin]))
            self._origins = {**self._searcher.origins, **self._origins}
        return list(dict.fromkeys(asked))[: self.batch]

    def _complete(self, todo: Mapping[int, Architecture]) -> None:
        """Store the known evaluations of a batch at once, and the others as they arrive from the executor."""
        known = self._known(list(todo.values()))
        self._store({position: known[arch.digest] for position, arch in todo.items() if arch.digest in known})
        fresh = [position for position, arch in todo.items() if arch.digest not in known]
        with closing(self.executor.completed(self.evaluate, [todo[position] for position in fresh])) as arriving:
            for place, evaluation in arriving:
                self._store({fresh[place]: self._with_costs(evaluation)})
        if self.on_batch:
            self.on_batch(self, [self._placed[position] for position in todo])

    def _known(self, archs: Sequence[Architecture]) -> dict[str, Evaluation]:
        """Return evaluations with the same weights and data from the repository that have all metrics of this study."""
        if self.data is None:
            return {}
        found = self.repository.known_evaluations(self.weights or "", self.data, [arch.digest for arch in archs])
        priced = {digest: self._with_costs(evaluation) for digest, evaluation in found.items()}
        return {digest: evaluation for digest, evaluation in priced.items() if not self._missing(evaluation)}

    def _with_costs(self, evaluation: Evaluation) -> Evaluation:
        """Return the evaluation with this study's predicted costs, which replace those of another study."""
        if self._predict is None or evaluation.failed:
            return evaluation
        costs = {name: float(values[0]) for name, values in self._predict([evaluation.arch]).items()}
        return replace(evaluation, metrics={**evaluation.metrics, **costs})

    def _store(self, evaluations: Mapping[int, Evaluation]) -> None:
        for evaluation in evaluations.values():
            self._check_metrics(evaluation)
        data = f"study {self.name}" if self.data is None else self.data
        origins = {place: self._origins.get(one.arch.digest) for place, one in evaluations.items()}
        lives = {place: Life(origin=origin) for place, origin in origins.items() if origin}
        self.repository.store_evaluations(self.name, evaluations, self.weights or "", data, lives)
        self._placed.update(evaluations)
        for position, evaluation in evaluations.items():
            _logger.info("%s %d %s %s", self.name, position + 1, evaluation.arch.digest, _described(evaluation))

    # -- checks and records

    def _begun_with(self, first: Sequence[Architecture]) -> tuple[Architecture, ...]:
        outside = [arch for arch in first if arch not in self.space]
        if outside:
            raise NasError(f"first holds {outside[0]!r}, which is not in {self.space!r}: give networks of this space")
        return tuple(dict.fromkeys(first))

    def _missing(self, evaluation: Evaluation) -> list[str]:
        needed = [*self.objectives, *(limit.metric for aim in self.aims for limit in aim.limits)]
        return [] if evaluation.error is not None else [name for name in needed if name not in evaluation.metrics]

    def _check_metrics(self, evaluation: Evaluation) -> None:
        if missing := self._missing(evaluation):
            given = ", ".join(evaluation.metrics) or "nothing"
            raise NasError(f"the evaluator returned {given} but not {missing[0]!r}, an objective or limit of the study")

    def _make_searcher(self, make: Callable[..., Searcher], settings: Mapping[str, Any]) -> Searcher:
        known: dict[str, Any] = {"feasible": self._screen} if self._screen else {}
        known |= {"costs": self._costs} if self._costs else {}
        known |= {"aims": self.aims} if self.targets else {}
        try:
            return make(self.space, self.objectives, self.limits, **known, **settings)
        except TypeError as error:
            raise NasError(f"{make.__name__} cannot be made with settings {dict(settings)}: {error}") from error

    def _recorded(
        self, searcher: Callable[..., Searcher], settings: dict[str, Any], run_file: str | None
    ) -> StudyRecord:
        self.repository.add_space(SpaceRecord(self.space.digest, self.space.name, self.space.declaration()))
        record = StudyRecord(
            name=self.name,
            space_digest=self.space.digest,
            supernet_digest=self.weights,
            objectives=self.objectives,
            limits=tuple(str(limit) for limit in self.limits),
            searcher=_name_of(searcher),
            seed=self.seed,
            settings=settings,
            run_file=run_file,
        )
        return self.repository.create_study(record, load_if_exists=True)

    def _catch_up(self) -> None:
        """Read evaluations that another driver has stored meanwhile."""
        if self.repository.num_evaluations().get(self.name) != len(self._placed):
            self._placed = self.repository.placed_evaluations(self.name)

    def _end_with(self, status: str) -> None:
        """Store the final status of the study, unless another driver has taken over."""
        try:
            self.repository.set_status(self.name, status)
        except NasError as error:
            _logger.debug("status %s of study %s is not stored: %s", status, self.name, error)


def _parsed(limits: Sequence[str | Limit]) -> tuple[Limit, ...]:
    return tuple(limits_module.parse(limit) if isinstance(limit, str) else limit for limit in limits)


def _storable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as JSON; distributions, which have their own table, as digests."""
    return {
        name: [found.digest for found in value] if _are_distributions(value) else value
        for name, value in settings.items()
    }


def _are_distributions(value: Any) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(item, Distribution) for item in value)


def _name_of(searcher: Callable[..., Searcher]) -> str:
    """Return the name of a searcher in the database: its name in the table, or `module:Class` for a user's."""
    named = [name for name, known in SEARCHERS.items() if known is searcher]
    return named[0] if named else f"{searcher.__module__}:{searcher.__qualname__}"


def _described(evaluation: Evaluation) -> str:
    """Format one evaluation for a log line."""
    if evaluation.error is not None:
        return f"failed: {evaluation.error}"
    return " ".join(f"{name}={value:.6g}" for name, value in evaluation.metrics.items())
