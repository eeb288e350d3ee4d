"""A run with its database and its folder, which all stages of a search share.

The stages are functions of a workflow, in the modules beside this one; `search.find` calls them in order. Each reuses
the results of earlier calls in the database and the folder and computes the rest, so that a call after a kill loses
nothing and computes nothing twice.
"""

from __future__ import annotations

import copy
import logging
import math
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Self

from torch import nn

from nas import records
from nas.errors import NasError
from nas.execution import trainers
from nas.execution.executors import Executor
from nas.execution.placement import HERE, Placement
from nas.records import SpaceRecord, SupernetRecord
from nas.run import Run
from nas.stages import evaluators
from nas.storage import Repository
from nas.targets import Target
from nas.targets import find as find_target
from search_spaces import Architecture
from search_spaces.narrowing import Closed, together
from supernets import Supernet, training
from supernets.checkpoints import CheckpointError, newest
from supernets.compression.learnt_gates import Gates
from supernets.counting import Counts
from supernets.spelling import spell
from supernets.teams import ALONE, Team

logger = logging.getLogger(__name__)


@dataclass
class Workflow:
    """One run, its database, the folder for its files, and its supernet.

    Args:
        run_file: the Python file of the run, which workers load; without workers it is only recorded.
        placement: where evaluations run; without its own time limit, the run's applies.
        progress: whether to show bars on a terminal and log lines elsewhere.

    Use it as a context manager or call `close`, which ends the workers and closes the database.

    Raises:
        NasError: workers have no run file to load, or the run names a target that is not in the database.
    """

    run: Run
    """Stages replace it: they make limits absolute, close options after training, or add networks to begin with."""
    repository: Repository
    directory: Path
    run_file: Path | None = None
    placement: Placement = HERE
    progress: bool = True
    targets: dict[str, Target] = field(init=False)
    """The targets of objectives and limits, by name."""
    parent: dict[str, float] = field(default_factory=dict, init=False)
    """The parent's metrics that relative limits refer to, after `parent.settle_limits`."""
    gates: Gates | None = field(default=None, init=False, repr=False)
    """Learned gates for a run that sorts by them; None if they are not learned yet."""
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
        """End the workers and close the database."""
        self.executor.close()
        self.repository.close()

    @cached_property
    def executor(self) -> Executor:
        """The executor of evaluations."""
        return self.placement.executor()

    # --- the supernet

    @property
    def checkpoints(self) -> Path:
        """The folder of the supernet's checkpoints."""
        return self.directory / "supernet"

    @cached_property
    def initial(self) -> Supernet:
        """The supernet, with its initial weights until `supernet` is asked for.

        Units are sorted once: a training that resumes takes their order from its checkpoint.
        """
        begun = bool(self.run.sort) and newest(self.checkpoints).step > 0
        return evaluators.untrained(self.run, sort=not begun, gates=self.gates)

    @cached_property
    def supernet(self) -> Supernet:
        """The trained supernet: trained now, resumed or found finished, as `result` tells.

        A run that needs no trained weights has the initial ones.
        """
        if self.run.trains:
            self._record(self.initial, self.result)
            self._search_within(self.result.closed)
        return self.initial

    @cached_property
    def result(self) -> training.TrainingResult:
        """The result of training; `resumed_from` is the last step if an earlier call had finished it."""
        if self.run.gradient and not self.checkpoints.exists():
            self.initial.check_relaxation(self.run.task.example(2))  # before the training, which takes much longer
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

    def trained_result(self) -> training.TrainingResult | None:
        """`result` if the supernet has been trained by this workflow, else None."""
        return self.__dict__.get("result")

    @cached_property
    def weights(self) -> str:
        """The digest of the trained weights."""
        return self.supernet.digest()

    def require_trained(self, study: str) -> None:
        """Check that the supernet a study was searched with is here, without training it.

        Raises:
            NasError: its checkpoints are missing, or hold other weights.
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

    def _team(self) -> AbstractContextManager[Team]:
        """Return the team that trains: this process, with others if steps are left and `trainers` is above 1."""
        if self.placement.trainers == 1 or newest(self.checkpoints).step >= self.run.training.steps:
            return nullcontext(ALONE)
        assert self.run_file is not None
        return trainers.gathered(self.run_file, self.run, self.directory, self.placement)

    def _search_within(self, closed: Sequence[Closed]) -> None:
        """Restrict the run's search to what its training has left open."""
        if closed:
            run = replace(self.run, closed=together(self.run.closed, closed))
            first = tuple(arch for arch in run.begin_with if arch in run.searched)
            if len(first) < len(run.first):
                left = len(run.first) - len(first)
                logger.warning("%d of the networks to begin with have options that the training closed", left)
            self.run = replace(run, first=first)

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

    # --- its networks

    @cached_property
    def counted(self) -> Counts:
        """Tables of the counted costs, which latency predictors see beside the choices."""
        return Counts(self.run.space, self.run.build, self.run.task.example())

    @cached_property
    def counts(self) -> evaluators.CostModel:
        """The counted costs of any architecture."""
        return evaluators.CostModel(self.initial, self.run.task, {})

    def network(self, arch: Architecture) -> nn.Module:
        """Return the network of an architecture as it was evaluated, independent of the supernet."""
        return evaluators.network(self.supernet, self.run.task, arch)

    def taken(self, arch: Architecture) -> nn.Module:
        """Return the network as exported: `network`, with reconstructed layers if the run sets `reconstruct`."""
        if not self.run.reconstruct:
            return self.network(arch)
        if arch not in self._taken:
            self._taken.clear()  # callers ask for one network several times, then for the next
            self._taken[arch] = evaluators.reconstructed(self.supernet, self.run.task, arch, self.run.reconstruct)
        return copy.deepcopy(self._taken[arch])
