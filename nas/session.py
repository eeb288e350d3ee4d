"""What several commands do with a run: open it, train, measure, search, judge, show its front, export."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nas import display
from nas import front as fronts
from nas.errors import NasError
from nas.interrupts import gracefully
from nas.migrations import opening
from nas.options import RUNS
from nas.placement import HERE, Placement
from nas.storage import DEFAULT_URL, Repository

if TYPE_CHECKING:
    from torch import nn

    from nas.latency import Latency
    from nas.run import Run
    from nas.study import Study
    from nas.workflow import Workflow
    from supernets.export import Exported

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
    """What the flags of a command make of a run file's run."""
    from nas.run import changed

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
    """The workflow of a run file, its files in a folder below `runs` or in one that is given."""
    from nas.run import blaming, load
    from nas.workflow import Workflow

    run = change(load(run_file))
    place, show = folder or runs / run.name, not display.quiet()
    with (
        blaming(run_file),
        Workflow(run, Repository(storage), place, run_file.resolve(), placement, show) as workflow,
    ):
        yield workflow


@contextmanager
def study_workflow(study: str, storage: str, runs: Path, placement: Placement = HERE) -> Iterator[Workflow]:
    """The workflow that a study in the database came from, its supernet made as the database says."""
    from nas.run import as_trained

    with reading(storage) as repository:
        record = repository.study(study)
        if record.run_file is None:
            raise NasError(
                f"study {study!r} was not started from a run file, so its model is not known: use nas.study in Python"
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
    display.headline(f"{run.name}: {run.space.count():,} architectures, {shared}")
    if supernet.opened is not None:
        display.say(supernet.opened.table() if display.verbose() else supernet.opened.summary())
    if detailed:
        display.profiles(supernet.profiles(run.task.example(), sample=2))


def train(workflow: Workflow, *, detailed: bool = True) -> None:
    display.trained(workflow.result, workflow.run.training.strategy, workflow.weights)
    if detailed:
        display.curve(workflow.repository.curve(workflow.weights), workflow.run.task.metric)


def measure(workflow: Workflow) -> dict[str, Latency]:
    """Before training: where limits cannot be kept for want of a predictor, that is known in a minute."""
    with display.bar("measuring networks") as tick:
        latencies = workflow.measure(tick)
    for name, found in latencies.items():
        display.predictor(name, found)
    return latencies


def search(workflow: Workflow) -> Study:
    introduce(workflow)
    study = find(workflow)
    show_front(workflow.repository, study.name)
    return study


def find(workflow: Workflow, *, detailed: bool = True) -> Study:
    """All the work of a search, each part told when it is done.

    Raises:
        NasError: another process drives the study.
    """
    with workflow.repository.driving(workflow.run.name):
        return _found(workflow, detailed=detailed)


def _found(workflow: Workflow, *, detailed: bool) -> Study:
    run = workflow.run
    judged = bool(run.trust) and run.trains
    told = judged and not workflow.checkpoints.exists()
    if told:  # before anything is trained
        foretold = workflow.foretold()
        if detailed or foretold.refused:
            display.foretold(foretold)
    predictors = measure(workflow) if run.target_names else {}
    if run.trains:
        train(workflow, detailed=detailed)
    else:
        display.say("supernet: not trained, for no objective or limit needs trained weights")
    if run.gradient:
        display.learnt(workflow.distributions(predictors))
    with display.bar(f"searching ({run.searcher})") as tick:
        study = workflow.study(predictors, on_batch=lambda study, _: tick(len(study.evaluations), run.evaluations))
        tick(len(study.evaluations), run.evaluations)
        with gracefully(display.stopping):
            study.run(run.evaluations)
    if judged:
        judge(workflow, told=told or not detailed)
    with display.bar("verifying the front") as tick:
        workflow.verify(study.name, tick)
    return study


def judge(workflow: Workflow, *, told: bool) -> None:
    """The trust report; what it costs is said before, unless it was `told` already."""
    if not told and (workflow.trust_plan.refused or not workflow.trust_is_known()):
        display.foretold(workflow.trust_plan)
    with display.bar("training alone, for the trust report") as tick:
        workflow.trust(tick)


def show_front(repository: Repository, name: str, where: Sequence[str] = (), target: str | None = None) -> None:
    study, rows = repository.study(name), fronts.front(repository, name, where, target)
    failures = () if rows else filter(None, repository.columns(name).errors)
    display.front(study, rows, repository.num_evaluations()[name], where, target, next(iter(failures), None))
    trust = repository.trust(study.supernet_digest) if study.supernet_digest else None
    if trust is not None:
        display.trust(trust, fronts.correction(repository, name))


def outlook(study: str, storage: str, runs: Path) -> None:
    display.say(f"\ntake a network home:  nas export {study} --to my_network{places(storage, runs)}")
    display.say(f"look around:          nas dashboard{places(storage)}")


def places(storage: str, runs: Path = RUNS) -> str:
    """The options that find this database and these files again."""
    flags = "" if storage == DEFAULT_URL else f" --storage {quoted(shown(storage))}"
    return flags + ("" if runs == RUNS else f" --runs {quoted(runs)}")


def shown(storage: str) -> str:
    """The address without its password."""
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


def export(
    workflow: Workflow,
    row: fronts.Row,
    to: Path,
    formats: str = "",
    network: nn.Module | None = None,
    scores: Mapping[str, float] | None = None,
) -> Exported:
    """Writes the network of a row, or one that was fine-tuned from it with its new scores."""
    from supernets.export import FORMATS, available_formats

    unknown = [name for name in formats.split(",") if formats and name not in FORMATS]
    if unknown:
        raise NasError(f"format {unknown[0]!r} is unknown: choose of {', '.join(FORMATS)}, separated by commas")
    workflow.require_trained(workflow.run.name)
    taken = network if network is not None else workflow.network(row.arch)
    chosen = tuple(name for name in FORMATS if name in formats.split(",")) if formats else available_formats(taken)
    metadata = {
        "study": workflow.run.name,
        "weights": workflow.weights,
        "finetuned": network is not None,
        "metrics": {**row.values(), **(scores or {})},
    }
    return workflow.export(row.arch, to, chosen, metadata, taken)


def spread(repository: Repository, study: str, number: int) -> list[fronts.Row]:
    """So many networks of the front that keep all limits as measured, evenly from its first to its last.

    Raises:
        NasError: none does.
    """
    kept = [row for row in fronts.front(repository, study) if not row.broken]
    if number == 1 or not kept:
        return [fronts.best(repository, study)]  # which says what is missing where nothing is kept
    places = [round(i * (len(kept) - 1) / (number - 1)) for i in range(min(number, len(kept)))]
    return [kept[place] for place in dict.fromkeys(places)]
