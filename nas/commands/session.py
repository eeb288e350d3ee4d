"""Steps that several commands share: open a run, search, and show its progress and front."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nas.commands import display
from nas.commands.options import RUNS
from nas.errors import NasError
from nas.execution.placement import HERE, Placement
from nas.migrations import opening
from nas.objectives.hurdles import rejections
from nas.progress import Tick
from nas.records import Distribution
from nas.results import front as fronts
from nas.stages import search as stages
from nas.stages.search import Listener
from nas.storage import DEFAULT_URL, Repository

if TYPE_CHECKING:
    from nas.run import Run
    from nas.stages.latency import Latency
    from nas.stages.workflow import Workflow
    from nas.study import Study
    from supernets.standalone import StandalonePlan

Change = Callable[["Run"], "Run"]


def change(
    strategy: str,
    sharing: str,
    name: str,
    searcher: str = "",
    gradient: str = "",
    seed: int | None = None,
    limits: Sequence[str] = (),
) -> Change:
    """Return the change that a command's flags make to a run."""
    from nas.run_variants import changed

    trained = partial(changed, strategy=strategy, sharing=sharing, seed=seed)
    return partial(trained, name=name, searcher=searcher, gradient=gradient, limits=limits)


@contextmanager
def run_workflow(
    run_file: Path,
    change: Change,
    storage: str,
    runs: Path,
    placement: Placement = HERE,
    folder: Path | None = None,
) -> Iterator[Workflow]:
    """Yield the workflow of a run file, with its files in `folder`, or in a subfolder of `runs` if that is None."""
    from nas.run_file import load

    run = change(load(run_file))
    with workflow_of(run, run_file, storage, folder or runs / run.name, placement) as workflow:
        yield workflow


@contextmanager
def workflow_of(
    run: Run, run_file: Path, storage: str, folder: Path, placement: Placement = HERE
) -> Iterator[Workflow]:
    """Yield the workflow of a run that was loaded from a file."""
    from nas.run_file import blaming
    from nas.stages.workflow import Workflow

    repository, shown = Repository(storage, patience=run.patience_s), not display.quiet()
    with (
        blaming(run_file),
        Workflow(run, repository, folder, run_file.resolve(), placement, shown) as workflow,
    ):
        yield workflow


@contextmanager
def study_workflow(study: str, storage: str, runs: Path, placement: Placement = HERE) -> Iterator[Workflow]:
    """Yield the workflow of a stored study, with the supernet's settings from the database."""
    from nas.run_variants import as_trained

    with reading(storage) as repository:
        record = repository.study(study)
        if record.run_file is None:
            raise NasError(
                f"study {study!r} was not started from a run file, so its model is not known: call nas.search in Python"
            )
        supernet = repository.supernet(record.supernet_digest) if record.supernet_digest else None
        learnt = repository.distributions(study)
    change = partial(as_trained, study=record, supernet=supernet, distributions=learnt)
    elsewhere = supernet is not None and not (runs / study).exists() and Path(supernet.weights_path).exists()
    folder = Path(supernet.weights_path).parent if supernet and elsewhere else None
    with run_workflow(Path(record.run_file), change, storage, runs, placement, folder) as workflow:
        yield workflow


def introduce(workflow: Workflow, *, detailed: bool = True) -> None:
    run, supernet = workflow.run, workflow.initial
    shared = f"{supernet.num_parameters:,} shared parameters ({run.sharing})"
    display.headline(f"{run.name}: {run.space.how_many()} architectures, {shared}")
    if supernet.opened is not None:
        display.say(supernet.opened.table() if display.verbose() else supernet.opened.summary())
    if detailed:
        display.profiles(supernet.profiles(run.task.example(), sample=2))


class Terminal(Listener):
    """Shows the progress of a search on the terminal; without `detailed`, only the result of each stage."""

    def __init__(self, *, detailed: bool = True) -> None:
        self.detailed = detailed

    def progress(self, title: str) -> AbstractContextManager[Tick]:
        return display.bar(title)

    def planned(self, plan: StandalonePlan) -> None:
        if self.detailed or plan.refused:
            display.foretold(plan)

    def measured(self, latencies: Mapping[str, Latency]) -> None:
        for name, found in latencies.items():
            display.predictor(name, found)

    def trained(self, workflow: Workflow) -> None:
        display.trained(workflow.result, workflow.run.training.strategy, workflow.weights)
        if self.detailed:
            display.curve(workflow.repository.curve(workflow.weights), workflow.run.task.metric)

    def not_trained(self) -> None:
        display.say("supernet: not trained, for no objective or limit needs trained weights")

    def learnt(self, distributions: Sequence[Distribution]) -> None:
        display.learnt(distributions)

    def stopping(self) -> None:
        display.stopping()


def search(workflow: Workflow) -> Study:
    introduce(workflow)
    study = stages.find(workflow, Terminal())
    show_front(workflow.repository, study.name)
    return study


def show_front(repository: Repository, name: str, where: Sequence[str] = (), target: str | None = None) -> None:
    study, found = repository.study(name), fronts.read(repository, name)
    rows = fronts.front_of(repository, name, found, where, target)
    failures = () if rows else filter(None, found.inherited.errors)
    display.rejected(rejections(found.inherited.errors))
    display.front(study, rows, repository.num_evaluations()[name], where, target, next(iter(failures), None))
    trust = repository.trust(study.supernet_digest) if study.supernet_digest else None
    if trust is not None:
        display.trust(trust, found.known)


def outlook(study: str, storage: str, runs: Path) -> None:
    display.say(f"\ntake a network home:  nas export {study} --to my_network{places(storage, runs)}")
    display.say(f"look around:          nas dashboard{places(storage)}")


def places(storage: str, runs: Path = RUNS) -> str:
    """Return the options for this database and folder, for use in a suggested command."""
    flags = "" if storage == DEFAULT_URL else f" --storage {quoted(shown(storage))}"
    return flags + ("" if runs == RUNS else f" --runs {quoted(runs)}")


def shown(storage: str) -> str:
    """Return the URL without its password."""
    return opening.shown(opening.parsed(storage))


def quoted(text: object) -> str:
    return shlex.quote(str(text))


@contextmanager
def reading(storage: str) -> Iterator[Repository]:
    with Repository(storage, read_only=True) as repository:
        yield repository


def chosen(repository: Repository, study: str, architecture: str, where: list[str], target: str | None) -> fronts.Row:
    if not architecture:
        return fronts.best(repository, study, where, target)
    return fronts.row(repository, study, architecture)


def spread(repository: Repository, study: str, number: int) -> list[fronts.Row]:
    """Return `number` networks, evenly spaced along the part of the front that keeps all limits as measured.

    Raises:
        NasError: none does.
    """
    kept = [row for row in fronts.front(repository, study) if not row.broken]
    if number == 1 or not kept:
        return [fronts.best(repository, study)]  # raises an error if no network keeps the limits
    places = [round(i * (len(kept) - 1) / (number - 1)) for i in range(min(number, len(kept)))]
    return [kept[place] for place in dict.fromkeys(places)]
