"""The search loop: start reading here.

A study asks a searcher for a batch of architectures, evaluates those nobody has evaluated before, writes each to the
database as it comes, and tells the searcher when the batch is whole. The database is the only truth: resuming reads the
study's evaluations back and tells them again. Each has its position, which is the order of asking; a batch depends on
the positions before it and the seed alone, so neither a kill nor the number of workers changes a study.
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
        name: its name in the repository. Where it exists, it is resumed; it must then be the same search.
        evaluate: metrics of one architecture by name; what raises is a failed evaluation.
        objectives: names of the metrics to minimise together.
        targets: hardware targets by name, each with limits of its own. Each has a front of its own, of the objectives
            and its latency; what is evaluated serves all of them.
        limits: such as "params <= 2e6"; what breaks one is kept and marked, and never on the front.
        searcher: the class that proposes architectures; `settings` are its keyword arguments. They are stored with the
            study, of distributions their digests.
        executor: where evaluations run.
        predict: metrics that cost next to nothing. Limits on them are checked before anything is evaluated, and every
            evaluation is completed with them: quality is evaluated once, cost is told for each study's targets.
        costs: metrics of which tens of thousands can be told in a second, by which searchers rank what they ask for.
        bound: upper bounds of the same metrics, on which upper limits are checked in place of what is predicted.
        weights: digest of the supernet, which the repository must know; None where there is none.
        data: digest of the data and settings of the evaluation. With it, what any study has found for the same
            weights and data is taken over; without it, nothing is.
        batch: architectures asked for at once, whatever the number of workers.
        first: architectures to begin with, those of a person, a table or another study, before any searcher is asked.
        conditions: what else the metrics hold for, as {"latency_batch": 8}; stored with the study's settings, so that
            it is not resumed under others.
        on_batch: called with the study and the new evaluations after each batch is whole.
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
        """All metrics that are minimised, those of every target."""
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
        self._origins: dict[str, Origin] = {}  # of the batch that was asked for last
        self._told: set[str] = set()  # digests of what the searcher was told

    @property
    def evaluations(self) -> list[Evaluation]:
        """Those that are stored, in order of position; those under way leave gaps."""
        return [self._placed[position] for position in sorted(self._placed)]

    def run(self, num_evaluations: int) -> list[Evaluation]:
        """Searches until the study holds `num_evaluations`, or the space is exhausted; returns the front.

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
        """The evaluations that no other dominates, of those that succeeded and keep the limits; of a target or of any.

        Raises:
            NasError: the study has no such target.
        """
        return [found for found, _ in aims.fronts(aims.of_study(self.record, target), self.evaluations).values()]

    def values(self, archs: Sequence[Architecture]) -> np.ndarray:
        """(n, m) objectives of architectures, evaluated as the study evaluates its own; nothing is stored.

        Raises:
            NasError: one of them fails.
        """
        rows = []
        for evaluation in map(self._with_costs, self.executor.run(self.evaluate, archs)):
            if evaluation.error is not None:
                raise NasError(f"architecture {evaluation.arch.digest} failed: {evaluation.error}")
            rows.append([evaluation.metrics[name] for name in self.objectives])
        return np.array(rows)

    # -- one batch

    def _ask(self, end: int) -> dict[int, Architecture]:
        """What is to be evaluated next, by position below `end`: what the first batch that is not whole lacks.

        Batches begin at multiples of their size. One that an earlier run did not finish is asked for again, from what
        was known when it began, and completed.
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
        """Tells the searcher all that stands before a batch."""
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
        """Stores what is known of a batch at once, and the rest as it comes from the executor."""
        known = self._known(list(todo.values()))
        self._store({position: known[arch.digest] for position, arch in todo.items() if arch.digest in known})
        fresh = [position for position, arch in todo.items() if arch.digest not in known]
        with closing(self.executor.completed(self.evaluate, [todo[position] for position in fresh])) as arriving:
            for place, evaluation in arriving:
                self._store({fresh[place]: self._with_costs(evaluation)})
        if self.on_batch:
            self.on_batch(self, [self._placed[position] for position in todo])

    def _known(self, archs: Sequence[Architecture]) -> dict[str, Evaluation]:
        """What the repository holds under the same weights and data, with all metrics this study needs."""
        if self.data is None:
            return {}
        found = self.repository.known_evaluations(self.weights or "", self.data, [arch.digest for arch in archs])
        priced = {digest: self._with_costs(evaluation) for digest, evaluation in found.items()}
        return {digest: evaluation for digest, evaluation in priced.items() if not self._missing(evaluation)}

    def _with_costs(self, evaluation: Evaluation) -> Evaluation:
        """The evaluation with what is predicted of its architecture here, whatever another study was told."""
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
        """Reads what another driver has stored since."""
        if self.repository.num_evaluations().get(self.name) != len(self._placed):
            self._placed = self.repository.placed_evaluations(self.name)

    def _end_with(self, status: str) -> None:
        """Says what became of the study, unless it is another driver's to say."""
        try:
            self.repository.set_status(self.name, status)
        except NasError as error:
            _logger.debug("status %s of study %s is not stored: %s", status, self.name, error)


def _parsed(limits: Sequence[str | Limit]) -> tuple[Limit, ...]:
    return tuple(limits_module.parse(limit) if isinstance(limit, str) else limit for limit in limits)


def _storable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON has them: of distributions, which lie in a table of their own, the digests."""
    return {
        name: [found.digest for found in value] if _are_distributions(value) else value
        for name, value in settings.items()
    }


def _are_distributions(value: Any) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(item, Distribution) for item in value)


def _name_of(searcher: Callable[..., Searcher]) -> str:
    """What the database calls a searcher: its name in the table, `module:Class` for one of the user's."""
    named = [name for name, known in SEARCHERS.items() if known is searcher]
    return named[0] if named else f"{searcher.__module__}:{searcher.__qualname__}"


def _described(evaluation: Evaluation) -> str:
    """One evaluation on the rest of a log line."""
    if evaluation.error is not None:
        return f"failed: {evaluation.error}"
    return " ".join(f"{name}={value:.6g}" for name, value in evaluation.metrics.items())
