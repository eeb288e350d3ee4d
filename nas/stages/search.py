"""Runs all stages of a search, for commands and Python: measure, train, gradient search, search, judge, verify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nas.commands.options import DEFAULT_URL, RUNS
from nas.execution.interrupts import gracefully
from nas.execution.placement import HERE, Placement
from nas.progress import Tick, silent
from nas.records import Distribution, StudyRecord, Trust
from nas.results import front as fronts
from nas.results.front import Row
from nas.storage import Repository

if TYPE_CHECKING:
    from torch import nn

    from nas.run import Run
    from nas.stages.latency import Latency
    from nas.stages.trust import TrustStage
    from nas.stages.workflow import Workflow
    from nas.study import Study
    from supernets.export import Exported
    from supernets.standalone import StandalonePlan


class Listener:
    """Receives the progress of a search. The methods do nothing; override those you need."""

    def progress(self, title: str) -> AbstractContextManager[Tick]:
        """Return a context that lasts as long as a stage and yields its `Tick`."""
        return nullcontext(silent)

    def planned(self, plan: StandalonePlan) -> None:
        """Receive the networks that the trust report will train, or why there will be no report."""

    def measured(self, latencies: Mapping[str, Latency]) -> None:
        """Receive the latency predictors, by target."""

    def trained(self, workflow: Workflow) -> None:
        """The supernet is trained: see `workflow.result`."""

    def not_trained(self) -> None:
        """The run needs no trained weights."""

    def learnt(self, distributions: Sequence[Distribution]) -> None:
        """Receive the distributions of the gradient search."""

    def stopping(self) -> None:
        """Ctrl-C was pressed once: running evaluations finish first."""


def find(workflow: Workflow, listener: Listener | None = None) -> Study:
    """Run all stages of a search, in order, and return its study; finished work of earlier calls is reused.

    Raises:
        NasError: another process drives the study, or a predictor is not accurate enough for a limit.
    """
    with workflow.repository.driving(workflow.run.name):
        return _found(workflow, listener or Listener())


def _found(workflow: Workflow, listener: Listener) -> Study:
    from nas.stages.gradient import distributions
    from nas.stages.studying import open_study
    from nas.stages.trust import TrustStage
    from nas.stages.verifying import verify

    run, trust = workflow.run, TrustStage(workflow)
    judged = bool(run.trust) and run.trains
    fresh = judged and not workflow.checkpoints.exists()
    if fresh:  # shows the cost of the report before anything is trained
        listener.planned(trust.planned())
    predictors = measure(workflow, listener) if run.target_names else {}
    if run.trains:
        _ = workflow.weights  # trains, resumes or loads the supernet
        listener.trained(workflow)
    else:
        listener.not_trained()
    if run.gradient:
        listener.learnt(distributions(workflow, predictors))
    with listener.progress(f"searching ({run.searcher})") as tick:
        study = open_study(workflow, predictors, lambda study, _: tick(len(study.evaluations), run.evaluations))
        tick(len(study.evaluations), run.evaluations)
        with gracefully(listener.stopping):
            study.run(run.evaluations)
    if judged:
        _judge(trust, listener, announced=fresh)
    with listener.progress("verifying the front") as tick:
        verify(workflow, study.name, tick)
    return study


def measure(workflow: Workflow, listener: Listener) -> dict[str, Latency]:
    """Return the latency predictors; this comes before training, so that it soon shows if one is too inaccurate."""
    from nas.stages.predicting import latencies

    with listener.progress("measuring networks") as tick:
        found = latencies(workflow, tick)
    listener.measured(found)
    return found


def _judge(trust: TrustStage, listener: Listener, *, announced: bool) -> None:
    if not announced and (trust.plan.refused or not trust.is_known()):
        listener.planned(trust.plan)
    with listener.progress("training alone, for the trust report") as tick:
        trust.run(tick)


@dataclass(frozen=True)
class Found:
    """The result of a search."""

    study: StudyRecord
    front: list[Row]
    """The non-dominated networks under the limits, by the first objective: see `Row`. If `broken` is not empty, a
    network breaks limits as measured that it was predicted to keep."""
    trust: Trust | None
    """How far the order of inherited metrics can be trusted; None if no network was trained alone."""
    workflow: Workflow

    @property
    def best(self) -> Row:
        """The network of the front with the lowest first objective that keeps all limits, including as measured.

        Raises:
            NasError: none does.
        """
        return fronts.first_kept(
            self.front, self.study, (), lambda: self.workflow.repository.evaluations(self.study.name)
        )

    def network(self, row: Row) -> nn.Module:
        """Return a network of the front: an object of your own class, with its own weights, in evaluation mode.

        Raises:
            NasError: the run needed no trained weights, so there are none.
        """
        self.workflow.require_trained(self.study.name)
        return self.workflow.taken(row.arch).eval()

    def export(self, row: Row, to: Path | str, formats: Sequence[str] = ()) -> Exported:
        """Write a network of the front as files that run without this package, like `nas export`.

        Args:
            formats: from `supernets.export.FORMATS`; if empty, all that this machine can write.

        Raises:
            NasError: a format is unknown, or the networks have no weights.
        """
        from nas.stages.exporting import export

        return export(self.workflow, row, Path(to), formats)


def search(
    run: Run | Path | str,
    *,
    storage: str = DEFAULT_URL,
    directory: Path | str | None = None,
    placement: Placement = HERE,
    listener: Listener | None = None,
) -> Found:
    """Measure, train, search, judge and verify, like `nas search`, and return the result.

    A repeated call resumes a stopped search, or returns the stored result of a finished one.

    Args:
        run: a `Run`, or the path of a run file; `nas resume`, `nas export` and workers need the file.
        storage: SQLAlchemy URL of the database of results, created if missing.
        directory: folder for checkpoints; None for ``runs/NAME``, as on the command line.
        placement: where evaluations run.
        listener: receives the progress; None for silence.

    Raises:
        NasError: an error that the user can correct, in one line.
    """
    from nas.run_file import blaming, load
    from nas.stages.workflow import Workflow

    file = Path(run).resolve() if isinstance(run, str | Path) else None
    loaded = load(run) if isinstance(run, str | Path) else run
    place = Path(directory) if directory is not None else RUNS / loaded.name
    with (
        blaming(file) if file else nullcontext(),
        Workflow(
            loaded, Repository(storage, patience=loaded.patience_s), place, file, placement, progress=False
        ) as workflow,
    ):
        study = find(workflow, listener).name
        repository = workflow.repository
        record = repository.study(study)
        trust = repository.trust(record.supernet_digest) if record.supernet_digest else None
        return Found(record, fronts.front(repository, study), trust, workflow)
