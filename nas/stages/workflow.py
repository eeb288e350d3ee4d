"""The life of a run: train the supernet, measure, learn by gradients, search, verify the front, judge it, export.

Each step finds what an earlier call has done in the database and the run's folder, and does the rest: calling any of
them again after a kill loses nothing and computes nothing twice.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from torch import nn

from nas import records
from nas.errors import NasError
from nas.execution import trainers
from nas.execution.executors import Deferred, Evaluate, Executor
from nas.execution.placement import HERE, Placement
from nas.objectives import aims
from nas.predictors import Predictor
from nas.progress import Tick, silent
from nas.records import (
    Distribution,
    Measurement,
    PredictorRecord,
    SpaceRecord,
    SupernetRecord,
    TargetRecord,
    Trust,
)
from nas.results import front as fronts
from nas.results.corrected import of_study
from nas.results.shrinking import Shrunk, shrink
from nas.run import COSTS, Run
from nas.searchers import BEGINS_WITH, LEARNS_FROM, SEARCHERS
from nas.searchers.spelled import read
from nas.stages import evaluators, learning
from nas.stages.latency import GOOD_ENOUGH, Latency, Learner, measured_for, of_record, refusal, serves
from nas.stages.latency import record as latency_record
from nas.storage import Repository
from nas.study import OnBatch, Study
from nas.targets import Target, target_record
from nas.targets import find as find_target
from nas.targets.sets import Sets, references
from search_spaces import Architecture, Space
from search_spaces.narrowing import Closed, narrowed, together
from supernets import Supernet, ranking, standalone, training
from supernets.checkpoints import CheckpointError, newest
from supernets.compression.learnt_gates import Gates
from supernets.counting import Counts
from supernets.export import Exported, Format, export, rebuilt
from supernets.scaled import scaled_in
from supernets.spelling import spell
from supernets.tasks import Task
from supernets.teams import ALONE, Team

logger = logging.getLogger(__name__)

_FEWEST_VERIFIED = 10  # before the search for networks that keep their limits is given up


@dataclass
class Workflow:
    """One run, its database, and the folder for its files.

    Args:
        run_file: the Python file of the run, which workers load; in process it is only recorded.
        placement: where evaluations run; the run's time limit holds unless it has one of its own.
        progress: bars on a terminal and log lines elsewhere.

    Use it as a context manager or call `close`: that ends the workers and lets go of the database.

    Raises:
        NasError: workers are asked for and have no run file to load; or the run speaks of a target that the database
            does not know.
    """

    run: Run
    repository: Repository
    directory: Path
    run_file: Path | None = None
    placement: Placement = HERE
    progress: bool = True
    targets: dict[str, Target] = field(init=False)
    """Those that objectives and limits speak of, by name."""
    gates: Gates | None = field(default=None, init=False, repr=False)
    """Learnt already, for a run that sorts by them."""
    _taken: dict[Architecture, nn.Module] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.placement = replace(self.placement, timeout_s=self.placement.timeout_s or self.run.timeout_s)
        if not (self.placement.here and self.placement.trainers == 1) and self.run_file is None:
            raise NasError("workers load the run from its file: start the search from a run file")
        self.targets = {name: find_target(self.repository, name) for name in self.run.target_names}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the workers and lets go of the database."""
        self._executor.close()
        self.repository.close()

    # --- the supernet

    @cached_property
    def initial(self) -> Supernet:
        """The supernet, with its initial weights for as long as `supernet` has not been asked for.

        Units are put in order once: a training that goes on from a checkpoint has them from there.
        """
        begun = bool(self.run.sort) and newest(self.checkpoints).step > 0
        return evaluators.untrained(self.run, sort=not begun, gates=self.gates)

    @cached_property
    def supernet(self) -> Supernet:
        """The trained supernet: trained now, gone on with or found finished, as `result` tells.

        A run that needs no trained weights has that with initial ones.
        """
        if self.run.trains:
            self._record(self.initial, self.result)
            self._search_within(self.result.closed)
        return self.initial

    def _search_within(self, closed: Sequence[Closed]) -> None:
        """Has the run search what its training has left open."""
        if closed:
            run = replace(self.run, closed=together(self.run.closed, closed))
            first = tuple(arch for arch in run.begin_with if arch in run.searched)
            if len(first) < len(run.first):
                left = len(run.first) - len(first)
                logger.warning("%d of the networks to begin with have options that the training closed", left)
            self.run = replace(run, first=first)

    @cached_property
    def result(self) -> training.TrainingResult:
        """What training came to; where `resumed_from` is the last step, it had been finished before."""
        if self.run.gradient and not self.checkpoints.exists():
            self.initial.check_relaxation(self.run.task.example(2))  # rather than when all has been trained
        try:
            with self._team() as team:
                found = training.train(
                    self.initial,
                    self.run.task,
                    self.run.training,
                    directory=self.checkpoints,
                    progress=self.progress,
                    origin=self.run.sort,
                    team=team,
                )
            sys.audit("nas.trained", found.steps)
            return found
        except CheckpointError as error:
            remedy = "or give this one a name, and with it a study and a folder, of its own: --name NAME"
            raise CheckpointError(f"{error}; {remedy}") from error

    def _team(self) -> AbstractContextManager[Team]:
        """Who trains; others than this process only where there is something left to train."""
        if self.placement.trainers == 1 or newest(self.checkpoints).step >= self.run.training.steps:
            return nullcontext(ALONE)
        assert self.run_file is not None
        return trainers.gathered(self.run_file, self.run, self.directory, self.placement)

    @cached_property
    def weights(self) -> str:
        """The digest of the trained weights."""
        return self.supernet.digest()

    def require_trained(self, study: str) -> None:
        """Makes sure that the supernet a study was searched with is here, and trains none.

        Raises:
            NasError: its checkpoints are not, or are those of other weights.
        """
        record = self.repository.study(study)
        if not self.run.trains:
            raise NasError(
                f"study {study!r} was searched without trained weights, so its networks have none: search with an "
                f"objective that needs them, {self.run.task.metric!r} say, under another name"
            )
        supernet = evaluators.trained(self.run, self.checkpoints) if self.run.training.steps else self.initial
        if supernet.digest() != record.supernet_digest:
            raise NasError(
                f"study {study!r} was searched with the weights {record.supernet_digest}, and {self.checkpoints} holds "
                f"{supernet.digest()}: bring back the run file and the folder it was searched with, or search anew"
            )

    def _record(self, supernet: Supernet, result: training.TrainingResult) -> None:
        space = self.run.space
        settings = {k: None if v == math.inf else v for k, v in asdict(self.run.training).items()}  # JSON has none
        settings |= {"precision": result.precision, "skipped": result.skipped}
        settings |= {"closed": [asdict(one) for one in result.closed]} if result.closed else {}
        settings |= {"rejected_checkpoints": list(result.rejected)} if result.rejected else {}
        digest = supernet.digest()
        before = {known.digest: known.created for known in self.repository.supernets()}
        self.repository.add_space(SpaceRecord(space.digest, space.name, space.declaration()))
        self.repository.add_supernet(
            SupernetRecord(
                digest=digest,
                space_digest=space.digest,
                name=self.run.name,
                sharing=spell(supernet.sharing),
                weights_path=str(self.checkpoints),
                task_digest=self.run.task.digest,
                steps=result.steps,
                settings=settings,
                created=before.get(digest) or records.now(),
            )
        )
        points = [records.CurvePoint(p.step, p.which, p.metric, p.value) for p in result.curve]  # type: ignore[arg-type]
        self.repository.add_curve(digest, points)

    @property
    def checkpoints(self) -> Path:
        """Where the supernet's are."""
        return self.directory / "supernet"

    # --- the parent

    @cached_property
    def parent(self) -> dict[str, float]:
        """What limits relative to the parent are multiples of: its counted costs, its measured latencies, its metrics.

        The parent is the largest network with the weights that the run starts with.

        Raises:
            NasError: a limit is relative to a metric of weights, and the run starts with no pretrained ones.
        """
        wanted = dict.fromkeys(limit.metric for limit in self.run.all_limits if limit.relative)
        largest = self.run.space.largest()
        found: dict[str, float] = {}
        for metric in wanted:
            if metric in COSTS:
                found[metric] = float(getattr(self._counts.profile(largest), metric))
            elif metric in self.run.extra_costs:
                found[metric] = self.run.extra_cost(metric, largest)
            elif metric.startswith("latency_ms@"):
                target = self.targets[metric.removeprefix("latency_ms@")]
                found[metric] = self.measured(target, [largest])[0].median_ms
            elif self.run.init is None:
                rule = "the weights that the run starts with are not trained: write init=, or give a number"
                raise NasError(f"a limit is relative to the parent's {metric}, and {rule}")
            elif metric not in found:
                network = evaluators.network(evaluators.untrained(self.run, sort=False), self.run.task, largest)
                found |= {name: value for name, value in self.run.task.evaluate(network).items() if name in wanted}
        return found

    def settle_limits(self) -> None:
        """Makes limits that are relative to the parent absolute, once."""
        if parent := self.parent:
            self.run = self.run.under(parent)

    # --- latency

    def measure(self, tick: Tick = silent) -> dict[str, Latency]:
        """What predicts latencies on every target of the run: known, or learnt now from networks measured on it.

        Raises:
            NasError: a limit hangs on a predictor that is not good enough for it; the message says what to do.
        """
        self.settle_limits()
        found = {name: self.latency(target, tick=tick) for name, target in self.targets.items()}
        for limit in self.run.all_limits:
            name = limit.metric.removeprefix("latency_ms@")
            if name in found and not serves(found[name], [limit.value], self.run.coverage):
                raise NasError(f"limit {limit}: {refusal(found[name], name)}")
        return found

    def latency(
        self, target: Target, exactly: int | None = None, tick: Tick = silent, *, again: bool = False
    ) -> Latency:
        """What predicts latencies on a target: as stored where that is good enough, else after measuring more.

        Args:
            exactly: networks to measure in all, in place of as many as it takes up to the run's `measured`.
            again: measure those that are known once more, and replace their figures.
        """
        record = target_record(target)
        stored = self._stored(record)
        begun = measured_for(stored, self.run.space) if stored else ()
        if again and stored:
            self.measured(target, self.run.space.decode(begun), tick, again=True)
        found = self._learner(target, exactly, tick).learn(begun)
        if again or stored is None or len(found.codes) > len(begun):
            self.repository.put_predictor(latency_record(found, record, self._networks, "counts"))
        return found

    def _learner(self, target: Target, exactly: int | None, tick: Tick) -> Learner:
        bounds = [limit for limit in self.run.all_limits if limit.metric == f"latency_ms@{target.name}"]
        allowed, space = target.known(self.run.space), self.run.space.name
        if allowed is not None and not allowed:
            raise NasError(
                f"target {target.name!r} knows no network of {space}: see that its columns are those of {space}"
            )
        return Learner(
            self.run.space,
            lambda archs: [m.median_ms for m in self.measured(target, archs, tick)],
            most=exactly or self.run.measured,
            known=self._known(target),
            before=self._before(target),
            given=references(self.run.space) if allowed is None else (),
            allowed=allowed,
            limits=[limit.value for limit in bounds],
            coverage=self.run.coverage,
            wanted=GOOD_ENOUGH if exactly is None else None,
            features=self._counted,
            seed=self.run.seed,
        )

    def _known(self, target: Target) -> dict[str, Predictor]:
        """Predictors of other targets for the same networks; for a known predictor those it was learnt with."""
        own = self._stored(target_record(target))
        found = {one.target: one for one in self._same_networks() if one.target != target.name}
        names = found if own is None else [name for name in own.quality.get("helped_by", ()) if name in found]
        return {name: of_record(found[name], self.run.space) for name in names}

    def _before(self, target: Target) -> Predictor | None:
        """The newest predictor of an earlier version of a target."""
        version = target_record(target).version
        found = [one for one in self._same_networks() if one.target == target.name and one.version != version]
        return of_record(found[-1], self.run.space) if found else None

    def _same_networks(self) -> list[PredictorRecord]:
        """All predictors for what this run builds, the oldest first."""
        key = self.run.space.digest, self._networks
        return [one for one in self.repository.predictors() if (one.space_digest, one.network) == key]

    def _stored(self, target: TargetRecord) -> PredictorRecord | None:
        key = target.name, target.version
        return next((one for one in self._same_networks() if (one.target, one.version) == key), None)

    @cached_property
    def _networks(self) -> str:
        """A fingerprint of what the run builds from architectures: of the ends of its space."""
        return _digest([self.fingerprint(end) for end in (self.run.space.smallest(), self.run.space.largest())])

    def measured(
        self, target: Target, archs: Sequence[Architecture], tick: Tick = silent, *, again: bool = False
    ) -> list[Measurement]:
        """The latency of extracted networks, in the order of ``archs``; only what is not known yet is measured.

        All are measured in interleaved rounds, with reference networks that tie them to what was measured before. With
        ``again``, all are measured, what is known is replaced, and the scale begins anew.

        A measurement is known where network, input and machine are the same: another run's networks of the same
        choices, or another machine's of the same name, are not. The weights do not matter, so none are trained.
        """
        record = target_record(target)
        self.repository.add_target(record)
        anchors = references(self.run.space)
        networks = {arch.digest: self.fingerprint(arch) for arch in (*archs, *anchors)}
        stored = self.repository.measurements(target.name, list(networks), version=record.version)
        known = {m.arch_digest: m for m in stored if m.network == networks[m.arch_digest] and not again}
        todo = [arch for arch in archs if arch.digest not in known]
        tick(len(archs) - len(todo), len(archs))
        if todo:
            scale = {arch: known[arch.digest].median_ms for arch in anchors if arch.digest in known}
            sets = Sets(target, self.run.space, self.initial.extract, self.run.example, scale)
            for found in sets.measure(todo):
                new = [result.measurement(arch, record, networks[arch.digest]) for arch, result in found]
                self.repository.add_measurements(new)
                sys.audit("nas.measured", target.name)
                known |= {measurement.arch_digest: measurement for measurement in new}
                tick(sum(arch.digest in known for arch in archs), len(archs))
        tick(len(archs), len(archs))
        return [known[arch.digest] for arch in archs]

    def fingerprint(self, arch: Architecture) -> str:
        """Of what a latency depends on and the architecture does not say: the sizes of layers, and of the input."""
        example = self.run.example
        return _digest([asdict(self._counts.profile(arch)), list(example.shape), str(example.dtype)])

    @cached_property
    def _counted(self) -> Counts:
        """What latency predictors are told of networks beside their choices."""
        return Counts(self.run.space, self.run.build, self.run.task.example())

    @cached_property
    def _counts(self) -> evaluators.CostModel:
        return evaluators.CostModel(self.initial, self.run.task, {})

    # --- what gradients tell

    def distributions(self, predictors: Mapping[str, Latency], name: str | None = None) -> list[Distribution]:
        """What the gradient search of the run has learnt for its study: learnt now or found; nothing where it has none.

        Raises:
            NasError: the study is there and began with something else.
        """
        self.settle_limits()
        if not self.run.gradient:
            return []
        study, key = name or self.run.name, learning.key(self.run, self.weights)
        found = self.repository.known_distributions(key)
        if not found or _digests(found) != _digests(self.repository.distributions(study)):
            self._refuse_begun(study)
            self.repository.put_distributions(study, key, found or self._learnt(predictors, key))
        return self.repository.distributions(study)

    def _learnt(self, predictors: Mapping[str, Latency], key: str) -> list[Distribution]:
        predict, place = (
            evaluators.CostModel(self.supernet, self.run.task, predictors),
            self.directory / "gradient" / key,
        )
        return learning.learn(self.run, self.supernet, predict, directory=place, progress=self.progress)

    def _refuse_begun(self, study: str) -> None:
        """What a study began with is never replaced."""
        if study in {record.name for record in self.repository.studies()}:
            raise NasError(
                f"study {study!r} is there and began otherwise than with what {self.run.gradient!r} learns now: "
                "give this one a name of its own (--name NAME), or the settings that one was begun with"
            )

    # --- the search

    def begin_with(self, study: str) -> None:
        """Has the study of the run begin with the front of another, as far as its networks are in this space.

        Raises:
            NasError: no such study, or none of its front is.
        """
        front = [row.arch for row in fronts.front(self.repository, study)]
        ours = tuple(arch for arch in front if arch in self.run.searched)
        if not ours:
            rule = f"of {len(front)} networks on its front none is in {self.run.space.name}"
            raise NasError(f"this search cannot begin with study {study!r}: {rule}; name one of the same space")
        self.run = replace(self.run, first=(*self.run.first, *ours))

    def shrunk(self, study: str, **settings: Any) -> Shrunk:
        """What of the searched space no good network of a study of it needs: see `nas.results.shrinking.shrink`."""
        record, evaluations = self.repository.study(study), self.repository.evaluations(study)
        correction = of_study(self.repository, record, evaluations)
        return shrink(self.run.searched, aims.of_study(record), evaluations, correction, **settings)

    def within(self, found: Shrunk, study: str) -> None:
        """Has the run, under another name, search what was left open, and begin with the front of `study`."""
        self.run = replace(self.run, closed=(*self.run.closed, *found.closed), first=())
        self.begin_with(study)

    def study(
        self, predictors: Mapping[str, Latency], on_batch: OnBatch | None = None, name: str | None = None
    ) -> Study:
        """The study of the run, as far as it has come."""
        self.settle_limits()
        if self.run.trains:
            self.supernet  # noqa: B018 - its training may close options
        run = self.run
        learnt = self.distributions(predictors, name)
        searcher, settings = read(run.searcher, SEARCHERS)
        own = {aim.target: aim.limits[len(run.limits) :] for aim in run.aims if aim.target}
        begin = BEGINS_WITH.get(run.searcher_name)
        costs = evaluators.CostModel(self.supernet, run.task, predictors, run.costs, run.told_costs)
        quick = (run.cost_metrics, run.told_costs) if begin else (run.cost_objectives, {})
        return Study(
            name or run.name,
            run.searched,
            self._evaluate(),
            [name for name in run.all_objectives if name not in map(aims.latency, own)],
            self.repository,
            limits=run.limits,
            targets=own,
            searcher=searcher,
            settings=settings | ({LEARNS_FROM[run.searcher_name]: learnt} if learnt else {}),
            executor=self._executor,
            predict=costs,
            costs=evaluators.FastCosts(self._counted, predictors, *quick),
            bound=partial(costs.bounds, run.coverage),
            weights=self.weights if run.trains else None,
            data=self._data,
            seed=run.seed,
            batch=run.batch,
            first=(*run.begin_with, *(begin(run.searched) if begin else ())),
            conditions=self._conditions,
            on_batch=on_batch,
            run_file=str(self.run_file) if self.run_file else None,
        )

    @property
    def _conditions(self) -> dict[str, Any]:
        """What the study's metrics and limits hold for."""
        batch = {"latency_batch": self.run.latency_batch} if self.run.latency_batch > 1 else {}
        known = [study.settings.get("parent", {}) for study in self.repository.studies() if study.name == self.run.name]
        parent = self.parent or next(iter(known), {})
        ends = (self.run.space.smallest(), self.run.space.largest())
        extra = {name: [tell(arch) for arch in ends] for name, tell in self.run.told_costs.items()}
        closed = [asdict(one) for one in self.run.closed]
        hurdles = [str(hurdle.limit) for hurdle in self.run.hurdles]
        told = {"parent": parent, "extra_costs": extra, "closed": closed, "hurdles": hurdles}
        return batch | {name: value for name, value in told.items() if value}

    def _evaluate(self) -> Evaluate:
        if self.placement.here:
            return evaluators.evaluator(self.run, self.supernet)
        place, run = str(self.checkpoints.absolute()), self.run
        load = partial(evaluators.load_evaluator, str(self.run_file), place, run.sharing, run.training, run.seed)
        return Deferred(load)

    @property
    def _data(self) -> str:
        """A digest of all that evaluations depend on but the trained weights: proxies also hang on the seed."""
        if self.run.measured_metrics:  # functions of the run's own, which nothing can compare
            return _digest([self.run.task.digest, self.run.seed, self.run.name])
        if not self.run.trains:  # nothing else would tell the networks of one run from those of another
            return _digest([self.run.task.digest, self.initial.digest(), self.run.seed])
        return _digest([self.run.task.digest, self.run.seed]) if self.run.proxies else self.run.task.digest

    @cached_property
    def _executor(self) -> Executor:
        return self.placement.executor()

    # --- the front

    def verify(self, study: str, tick: Tick = silent) -> dict[str, dict[str, float]]:
        """Metrics of the networks of the front themselves, by digest: measured latency, the metric on the test split.

        Predictions and inherited validation errors chose these networks, so both are biased towards what they promise.
        Where one breaks a limit as measured, those that come next take its place and are verified too, up to as many
        networks again as the first front had.
        """
        verified = self.repository.verified(study)
        shown = [row.arch for row in fronts.front(self.repository, study)]
        most = max(2 * len(shown), _FEWEST_VERIFIED)
        done, todo = 0, shown
        while todo and done < most:
            total = min(done + len(todo), most)
            todo = todo[: most - done]
            self._measure_all([arch for arch in todo if arch.digest not in verified])
            for arch in todo:
                tick(done, total)
                if arch.digest not in verified:
                    verified[arch.digest] = self._verified(arch)
                    self.repository.add_verified(study, {arch.digest: verified[arch.digest]})
                    sys.audit("nas.verified", arch.digest)
                done += 1
            todo = [row.arch for row in fronts.front(self.repository, study) if row.arch.digest not in verified]
        tick(done, done)
        return verified

    def _measure_all(self, archs: Sequence[Architecture]) -> None:
        """Has every target measure the networks it can, all in the same rounds."""
        for target in self.targets.values():
            self.measured(target, [arch for arch in archs if self._measurable(target, arch)])

    def _measurable(self, target: Target, arch: Architecture) -> bool:
        """Whether a target can tell of a network: a table has not all of them."""
        return (known := target.known(self.run.space)) is None or arch in known

    def _verified(self, arch: Architecture) -> dict[str, float]:
        found = {
            f"latency_ms@{name}": self.measured(target, [arch])[0].median_ms
            for name, target in self.targets.items()
            if self._measurable(target, arch)
        }
        profile = asdict(self._counts.profile(arch))
        found |= {name: float(profile[name]) for name in COSTS if name not in self.run.costs}
        if self.run.trains and has_test(self.run.task):
            tested = self.run.task.evaluate(self.network(arch), "test")
            found[f"test_{self.run.task.metric}"] = tested[self.run.task.metric]
        return found

    def network(self, arch: Architecture) -> nn.Module:
        """The network that the front speaks of, independent of the supernet."""
        return evaluators.network(self.supernet, self.run.task, arch)

    def taken(self, arch: Architecture) -> nn.Module:
        """The network that is taken home: the same, its layers reconstructed where the run says so."""
        if not self.run.reconstruct:
            return self.network(arch)
        if arch not in self._taken:
            self._taken.clear()  # of many networks one at a time is asked for again
            self._taken[arch] = evaluators.reconstructed(self.supernet, self.run.task, arch, self.run.reconstruct)
        return copy.deepcopy(self._taken[arch])

    def scores(self, network: nn.Module) -> dict[str, float]:
        """The task's metric of a network on each split there is: `error`, `test_error`."""
        task = self.run.task
        found = {task.metric: task.evaluate(network)[task.metric]}
        return found | ({f"test_{task.metric}": task.evaluate(network, "test")[task.metric]} if has_test(task) else {})

    def dominated_share(self, study: Study, num_samples: int = 100) -> float:
        """The share of uniformly sampled architectures, evaluated the same way, that the front dominates or equals."""
        if not study.front():
            return 0.0
        archs = self.run.searched.sample_many(num_samples, np.random.default_rng([self.run.seed, 3]))
        front = np.array([[e.metrics[name] for name in study.objectives] for e in study.front()])
        return float(np.mean([np.any(np.all(front <= point, axis=1)) for point in study.values(archs)]))

    # --- trust

    @cached_property
    def trust_plan(self) -> standalone.StandalonePlan:
        """What the trust report trains, some of it from the front found so far; what that costs beside the supernet."""
        return self.foretold(self._inherited_front())

    def foretold(self, front: Sequence[Architecture] = ()) -> standalone.StandalonePlan:
        """The same before there is a front: the steps and the number of networks are these already."""
        run = self.run
        return standalone.plan(
            self._trained_space,
            self._macs,
            standalone.training_cost(self.initial, run.task, run.training, self._macs),
            run.training.steps,
            run.trust,
            np.random.default_rng([run.seed, 2]),
            lru_cache(maxsize=None)(self.initial.count_parameters),  # asked for more than once
            networks=run.trust_networks,
            steps=run.trust_steps,
            front=front,
        )

    @property
    def _trained_space(self) -> Space:
        """Without what the training has closed, once there is a training."""
        known = self.__dict__.get("result")
        return narrowed(self.run.space, known.closed) if known else self.run.space

    @cached_property
    def _macs(self) -> standalone.Cost:
        return standalone.macs(self.initial, self.run.task)

    def _inherited_front(self) -> list[Architecture]:
        """What the study of the run has found, as its search saw it: labels do not change which networks have them."""
        if self.run.name not in {record.name for record in self.repository.studies()}:
            return []
        found = self.repository.evaluations(self.run.name)
        of_aims = aims.fronts(aims.of_study(self.repository.study(self.run.name)), found)
        return [evaluation.arch for evaluation, _ in of_aims.values()]

    def trust_is_known(self) -> bool:
        """Whether nothing of the trust report is left to be trained: labels of an earlier front are as good."""
        known, plan = self._known_rows().values(), self.trust_plan
        again = sum(bool(row.again) for row in known)
        return len(known) >= len(plan.archs) and again >= len(plan.repeated)

    def trust(self, tick: Tick = silent) -> ranking.RankingReport | None:
        """Inherited against stand-alone metrics of some networks; each training is stored at once.

        None where the share that is asked for could decide nothing: `trust_plan.refused` says why.
        """
        plan, rows = self.trust_plan, self._known_rows()
        if plan.refused:
            return None
        planned = {arch.digest for arch in plan.archs}

        def done() -> int:
            return _trainings({digest: row for digest, row in rows.items() if digest in planned})

        def keep(row: ranking.Row) -> None:
            rows[row.arch.digest] = row
            tick(done(), plan.trainings)
            self._put_trust(ranking.report(list(rows.values())))
            sys.audit("nas.judged", row.arch.digest)

        if self.trust_is_known():
            tick(plan.trainings, plan.trainings)
        else:
            tick(done(), plan.trainings)
            standalone.measure(
                self.supernet,
                self.run.task,
                plan.archs,
                replace(self.run.training, steps=plan.steps, evaluate_every=0),
                repeated=plan.repeated,
                done=rows,
                on_row=keep,
                directory=self.directory / "trust",
                progress=False,
                warm=self.run.trust_warm,
            )
        report = ranking.report(sorted(rows.values(), key=lambda row: (row.params, row.arch.digest)))
        self._put_trust(report)
        return report

    def _put_trust(self, report: ranking.RankingReport) -> None:
        plan = self.trust_plan
        figures = asdict(replace(report, rows=())) | {
            "gaps": tuple(map(asdict, report.gaps)),
            "baselines": tuple(map(asdict, report.baselines)),
            "rows": tuple(map(_stored_row, report.rows)),
            "metric": self.run.task.metric,
        }
        share = plan.share * _trainings({row.arch.digest: row for row in report.rows}) / plan.trainings
        seconds = sum(row.seconds for row in report.rows)
        self.repository.put_trust(
            self.weights, Trust(**figures, steps=plan.steps, share=share, seconds=seconds, warm=self.run.trust_warm)
        )

    def _known_rows(self) -> dict[str, ranking.Row]:
        """What an earlier call has stored of this report, by digest."""
        stored = self.repository.trust(self.weights)
        if stored is None or (stored.steps, stored.warm) != (self.trust_plan.steps, self.run.trust_warm):
            return {}
        rows = map(_known_row, stored.rows)
        return {row.arch.digest: row for row in rows}

    # --- what is taken home

    def export(
        self,
        arch: Architecture,
        directory: Path,
        formats: Sequence[Format],
        metadata: dict[str, Any],
        network: nn.Module | None = None,
    ) -> Exported:
        """The network, or a given one in its place, such as a fine-tuned one, as files."""
        return export(
            network if network is not None else self.taken(arch),
            arch=arch,
            build=self.run.build,
            example=self.run.task.example(2),
            directory=directory,
            formats=formats,
            metadata=metadata,
        )

    def exported_scores(self, exported: Exported) -> dict[str, float]:
        """The scores of the network that an export's own load.py makes."""
        return self.scores(rebuilt(exported.directory))

    def finetune(
        self, arch: Architecture, config: training.TrainingConfig
    ) -> tuple[nn.Module, training.TrainingResult]:
        """The network that is taken home, trained further; a stopped training goes on."""
        network = self.taken(arch)
        settings = _digest(
            [self.weights, self.run.task.digest, asdict(config), self.run.reconstruct]
        )  # each has a folder: none goes on from another's end
        place = self.directory / "finetuned" / f"{arch.digest}-{settings[:8]}"
        config = scaled_in(config, network, self.run.space, self.run.build, self.run.task.example(2))
        result = training.train_network(network, self.run.task, config, directory=place, progress=self.progress)
        return evaluators.recalibrated(network, self.run.task), result


def _digests(distributions: Sequence[Distribution]) -> list[str]:
    return [found.digest for found in distributions]


def has_test(task: Task) -> bool:
    """Whether a task has a test split."""
    return "test" in getattr(task, "splits", {"test": None})


def _trainings(rows: Mapping[str, ranking.Row]) -> int:
    return sum(1 + len(row.again) for row in rows.values())


def _stored_row(row: ranking.Row) -> dict[str, Any]:
    return {
        "digest": row.arch.digest,
        "architecture": row.arch.json(),
        "inherited": _or_none(row.inherited),
        "standalone": _or_none(row.standalone),
        "again": [_or_none(metric) for metric in row.again],
        "params": row.params,
        "macs": row.macs,
        "seconds": row.seconds,
    }


def _known_row(stored: Mapping[str, Any]) -> ranking.Row:
    return ranking.Row(
        Architecture.from_json(stored["architecture"]),
        _or_infinite(stored["inherited"]),
        _or_infinite(stored["standalone"]),
        stored["seconds"],
        tuple(map(_or_infinite, stored["again"])),
        stored["params"],
        stored["macs"],
    )


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no infinity


def _or_infinite(value: float | None) -> float:
    return math.inf if value is None else value


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
