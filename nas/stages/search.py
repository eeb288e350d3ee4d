"""All stages of a search, in order, for commands and Python: measure, train, learn, search, judge, verify."""

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
    """What a caller hears as a search goes on. This one keeps it to itself; override what you want to hear."""

    def progress(self, title: str) -> AbstractContextManager[Tick]:
        """Of one stage, for as long as it lasts."""
        return nullcontext(silent)

    def planned(self, plan: StandalonePlan) -> None:
        """What the trust report will train, or why there will be none."""

    def measured(self, latencies: Mapping[str, Latency]) -> None:
        """What predicts latencies, by target."""

    def trained(self, workflow: Workflow) -> None:
        """The supernet is trained: `workflow.result` tells how."""

    def not_trained(self) -> None:
        """Nothing that is asked for needs trained weights."""

    def learnt(self, distributions: Sequence[Distribution]) -> None:
        """Gradients have told where to search."""

    def stopping(self) -> None:
        """Ctrl-C was pressed once: what is being evaluated is finished first."""


def find(workflow: Workflow, listener: Listener | None = None) -> Study:
    """All the work of a search, in its order; what an earlier call has done is found and not done again.

    Raises:
        NasError: another process drives the study, or a limit hangs on a predictor that is not good enough for it.
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
    if fresh:  # the cost of the report is known before anything is trained
        listener.planned(trust.planned())
    predictors = measure(workflow, listener) if run.target_names else {}
    if run.trains:
        _ = workflow.weights  # trains, resumes or finds it done
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
    """Before training: where limits cannot be kept for want of a predictor, that is known in a minute."""
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
    """What a search has come to."""

    study: StudyRecord
    front: list[Row]
    """The non-dominated networks under the limits, by the first objective: see `Row`. One whose `broken` is not empty
    breaks a limit as measured, though it was predicted to keep it."""
    trust: Trust | None
    """How far the order of networks with shared weights can be believed; None where no network was trained alone."""
    workflow: Workflow

    @property
    def best(self) -> Row:
        """The network of the front with the lowest first objective that keeps all limits.

        Raises:
            NasError: none does.
        """
        seen = self.workflow.repository.evaluations(self.study.name)
        return fronts.first_kept(self.front, self.study, seen=seen)

    def network(self, row: Row) -> nn.Module:
        """A network of the front: an object of your own class, with its own weights, in evaluation mode.

        Raises:
            NasError: the run needed no trained weights, so there are none.
        """
        self.workflow.require_trained(self.study.name)
        return self.workflow.taken(row.arch).eval()

    def export(self, row: Row, to: Path | str, formats: Sequence[str] = ()) -> Exported:
        """Writes a network of the front as files that run without this package; what `nas export` does.

        Args:
            formats: of `supernets.export.FORMATS`; all that this machine can write where it is empty.

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
    """Train, measure, search, judge and verify: all that `nas search` does, as one call.

    Stopped and called again, it goes on where it was; called when all is done, it finds what is there.

    Args:
        run: a `Run`, or the path of a run file: only of those do `nas resume`, `nas export` and workers find the model.
        storage: SQLAlchemy URL of the database of results, made where it is missing.
        directory: folder for checkpoints; ``runs/NAME`` if left out, as on the command line.
        placement: where evaluations run.
        listener: what is told as it goes on; None to hear nothing.

    Raises:
        NasError: what a user can put right, in one line.
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
