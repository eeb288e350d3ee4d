"""The `nas` command: train, search, look, take home. Errors are one line with the remedy; --verbose gives the trace."""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas import display
from nas import front as fronts
from nas.errors import NasError
from nas.migrations import opening
from nas.options import RUNS, RunFile, Runs, Storage
from nas.storage import DEFAULT_URL, Repository
from nas.target_commands import app as target_app

if TYPE_CHECKING:
    from torch import nn

    from nas.latency import Latency
    from nas.run import Run
    from nas.study import Study
    from nas.workflow import Workflow
    from supernets.export import Exported

app = typer.Typer(
    help="Neural architecture search with weight-sharing supernets over plain PyTorch models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
storage_app = typer.Typer(help="The database of results.", no_args_is_help=True)
app.add_typer(target_app, name="target")
app.add_typer(storage_app, name="storage")

StudyName = Annotated[str, typer.Argument(help="Name of a study; `nas studies` lists them.", show_default=False)]
Cluster = Annotated[
    str | None, typer.Option(help="Evaluate on Ray: auto, local or an address; without it in this process.")
]
Workers = Annotated[int, typer.Option(min=1, help="Ray workers that hold the supernet.")]
Where = Annotated[list[str], typer.Option(help="A limit, as in --where 'latency_ms@cpu <= 2'; may be repeated.")]
OfTarget = Annotated[str | None, typer.Option("--target", help="The front of one target, of a study with several.")]
Digest = Annotated[
    str, typer.Option("--architecture", help="Beginning of an architecture's digest; else the best one.")
]
Strategy = Annotated[
    str, typer.Option(help="Training strategy in place of the run file's, as in 'sandwich(num_random=1)': nas methods.")
]
Sharing = Annotated[
    str, typer.Option(help="Sharing of weights in place of the run file's, as in 'routed(experts=2)': nas methods.")
]
SearcherName = Annotated[
    str,
    typer.Option(
        "--searcher",
        help="surrogate, evolution, bayesian, random or gradient, in place of the run file's; with settings where it "
        "has some, as in 'evolution(selection=nsga3)': nas methods.",
    ),
]
Gradient = Annotated[
    str,
    typer.Option(
        help="Learn distributions by gradients first, as in 'drnas(concentration=2)': nas methods. The searchers "
        "surrogate, evolution and bayesian begin with them, gradient draws from nothing else."
    ),
]
Name = Annotated[str, typer.Option(help="Name in place of the run file's: another study, in a folder of its own.")]
_INTERRUPTED = 130  # what a shell makes of SIGINT


def main() -> None:
    """Run the command line; every error a user can put right ends it with status 1 and one line."""
    from search_spaces import SpaceError

    try:
        app()
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            display.stopped()
        _flush()
        raise
    except (NasError, SpaceError) as error:
        _fail(error, str(error))
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _fail(error, f"{place}{error.strerror or error}; see that the place exists, has room and may be written to")
    except RuntimeError as error:
        supernets = sys.modules.get("supernets")  # only loaded by the commands that train or build
        if supernets is None or not isinstance(error, supernets.SupernetError):
            raise
        _fail(error, str(error))


def _flush() -> None:
    """Writes what is left; whoever read it may have had enough, as `head` has."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(error: Exception, message: str) -> None:
    if logging.getLogger("nas").level == logging.DEBUG:  # --verbose
        raise error
    display.error(message)
    sys.exit(1)


@app.callback()
def settings(
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Tell all: each evaluation, the trace of an error.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Results and errors only.")] = False,
) -> None:
    """Neural architecture search with weight-sharing supernets over plain PyTorch models."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    display.set_quiet(quiet)
    display.set_verbose(verbose)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logs_progress = not (quiet or sys.stderr.isatty())  # where a bar cannot be drawn, a line now and then says as much
    logging.getLogger("nas").setLevel(logging.DEBUG if verbose else logging.WARNING)
    logging.getLogger("supernets").setLevel(
        logging.DEBUG if verbose else logging.INFO if logs_progress else logging.WARNING
    )


# --- train and search ------------------------------------------------------------


@app.command()
def demo(
    task: Annotated[str, typer.Option(help="image: handwritten digits; text: a language model.")] = "image",
    strategy: Strategy = "",
    sharing: Sharing = "",
    searcher: SearcherName = "",
    gradient: Gradient = "",
    name: Name = "",
    seed: Annotated[int | None, typer.Option(min=0, help="Of all that is drawn, in place of the run file's.")] = None,
    storage: Storage = DEFAULT_URL,
    runs: Runs = RUNS,
    cluster: Cluster = None,
    workers: Workers = 2,
) -> None:
    """The whole job on real data that comes with a package: train, search, front, trust report, export.

    Ten lines tell what came of it; `nas --verbose demo` tells all, as the dashboard does.
    """
    from nas import demos

    change = _change(strategy, sharing, name, searcher, gradient, seed)
    with _workflow(demos.run_file(task), change, storage, runs, cluster, workers) as workflow:
        (_demo_in_full if display.verbose() else _demo)(workflow)
        _outlook(workflow.run.name, storage, runs)


def _demo(workflow: Workflow) -> None:
    """What a newcomer is told."""
    from nas import brief

    repository, name = workflow.repository, workflow.run.name
    _introduce(workflow, detailed=False)
    study = _found(workflow, detailed=False)
    record, rows = repository.study(name), fronts.front(repository, name)
    display.results(brief.lines(record, rows, len(study.evaluations), repository.trust(workflow.weights)))
    limit = brief.middle(record, rows)
    row = fronts.best(repository, name, [limit] if limit else [])
    exported = _export(workflow, row, workflow.directory / "best")
    display.results([brief.taken_home(row, limit, exported.directory, workflow.exported_scores(exported))])


def _demo_in_full(workflow: Workflow) -> None:
    study = _search(workflow)
    share = workflow.dominated_share(study)
    display.say(f"\nthe front dominates or equals {share:.0%} of 100 uniformly sampled networks, evaluated alike")
    row = fronts.best(workflow.repository, study.name)
    exported = _export(workflow, row, workflow.directory / "best")
    display.exported(exported, row)
    display.agreement(workflow.exported_scores(exported), row.values())


@app.command()
def train(
    run_file: RunFile,
    strategy: Strategy = "",
    sharing: Sharing = "",
    name: Name = "",
    storage: Storage = DEFAULT_URL,
    runs: Runs = RUNS,
) -> None:
    """Train the supernet of a run; a training that was stopped goes on."""
    with _workflow(run_file, _change(strategy, sharing, name), storage, runs) as workflow:
        _introduce(workflow)
        _train(workflow)
        given = {"strategy": strategy, "sharing": sharing, "name": name}
        flags = "".join(f" --{flag} {_quoted(value)}" for flag, value in given.items() if value)
        display.say(f"next: nas search {_quoted(run_file)}{flags}{_places(storage, runs)}")


@app.command()
def search(
    run_file: RunFile,
    strategy: Strategy = "",
    sharing: Sharing = "",
    searcher: SearcherName = "",
    gradient: Gradient = "",
    name: Name = "",
    begin_with: Annotated[
        str, typer.Option(metavar="STUDY", help="A study of the same space, whose front is evaluated first.")
    ] = "",
    storage: Storage = DEFAULT_URL,
    runs: Runs = RUNS,
    cluster: Cluster = None,
    workers: Workers = 2,
) -> None:
    """Train where needed, measure, search and verify the front; what was stopped goes on."""
    change = _change(strategy, sharing, name, searcher, gradient)
    with _workflow(run_file, change, storage, runs, cluster, workers) as workflow:
        if begin_with:
            workflow.begin_with(begin_with)
        _search(workflow)
        _outlook(workflow.run.name, storage, runs)


@app.command()
def resume(
    study: StudyName,
    storage: Storage = DEFAULT_URL,
    runs: Runs = RUNS,
    cluster: Cluster = None,
    workers: Workers = 2,
) -> None:
    """Go on with a study from the run file it was started with."""
    with _workflow_of(study, storage, runs, cluster, workers) as workflow:
        _search(workflow)
        _outlook(study, storage, runs)


Change = Callable[["Run"], "Run"]


def _change(
    strategy: str, sharing: str, name: str, searcher: str = "", gradient: str = "", seed: int | None = None
) -> Change:
    """What the flags of a command make of a run file's run."""
    from nas.run import changed

    return partial(
        changed, strategy=strategy, sharing=sharing, name=name, searcher=searcher, gradient=gradient, seed=seed
    )


@contextmanager
def _workflow(
    run_file: Path, change: Change, storage: str, runs: Path, cluster: str | None = None, workers: int = 2
) -> Iterator[Workflow]:
    from nas.run import blaming, load
    from nas.workflow import Workflow

    run = change(load(run_file))
    show = not display.quiet()
    with (
        blaming(run_file),
        Workflow(run, Repository(storage), runs / run.name, run_file.resolve(), cluster, workers, show) as workflow,
    ):
        yield workflow


@contextmanager
def _workflow_of(
    study: str, storage: str, runs: Path, cluster: str | None = None, workers: int = 2
) -> Iterator[Workflow]:
    """The workflow that a study in the database came from, its supernet made as the database says."""
    from nas.run import as_trained

    with _reading(storage) as repository:
        record = repository.study(study)
        if record.run_file is None or record.supernet_digest is None:
            raise NasError(
                f"study {study!r} was not started from a run file, so its model is not known: use nas.study in Python"
            )
        supernet = repository.supernet(record.supernet_digest)
        learnt = repository.distributions(study)
    change = partial(as_trained, study=record, supernet=supernet, distributions=learnt)
    with _workflow(Path(record.run_file), change, storage, runs, cluster, workers) as workflow:
        yield workflow


def _introduce(workflow: Workflow, *, detailed: bool = True) -> None:
    run, supernet = workflow.run, workflow.initial
    shared = f"{supernet.num_parameters:,} shared parameters ({run.sharing})"
    display.headline(f"{run.name}: {run.space.count():,} architectures, {shared}")
    if supernet.opened is not None:
        display.say(supernet.opened.table() if display.verbose() else supernet.opened.summary())
    if detailed:
        display.profiles(supernet.profiles(run.task.example(), sample=2))


def _train(workflow: Workflow, *, detailed: bool = True) -> None:
    display.trained(workflow.result, workflow.run.training.strategy, workflow.weights)
    if detailed:
        display.curve(workflow.repository.curve(workflow.weights), workflow.run.task.metric)


def _measure(workflow: Workflow) -> dict[str, Latency]:
    """Before training: where limits cannot be kept for want of a predictor, that is known in a minute."""
    with display.bar("measuring networks") as tick:
        latencies = workflow.measure(tick)
    for name, found in latencies.items():
        display.predictor(name, found)
    return latencies


def _search(workflow: Workflow) -> Study:
    _introduce(workflow)
    study = _found(workflow)
    _show_front(workflow.repository, study.name)
    return study


def _found(workflow: Workflow, *, detailed: bool = True) -> Study:
    """All the work of a search, each part told when it is done."""
    run = workflow.run
    told = bool(run.trust) and not workflow.checkpoints.exists()
    if told:  # before anything is trained
        foretold = workflow.foretold()
        if detailed or foretold.refused:
            display.foretold(foretold)
    predictors = _measure(workflow) if run.target_names else {}
    _train(workflow, detailed=detailed)
    if run.gradient:
        display.learnt(workflow.distributions(predictors))
    with display.bar(f"searching ({run.searcher})") as tick:
        study = workflow.study(predictors, on_batch=lambda study, _: tick(len(study.evaluations), run.evaluations))
        tick(len(study.evaluations), run.evaluations)
        study.run(run.evaluations)
    if run.trust:
        _judge(workflow, told=told or not detailed)
    with display.bar("verifying the front") as tick:
        workflow.verify(study.name, tick)
    return study


def _judge(workflow: Workflow, *, told: bool) -> None:
    """The trust report; what it costs is said before, unless it was `told` already."""
    if not told and (workflow.trust_plan.refused or not workflow.trust_is_known()):
        display.foretold(workflow.trust_plan)
    with display.bar("training alone, for the trust report") as tick:
        workflow.trust(tick)


def _show_front(repository: Repository, name: str, where: Sequence[str] = (), target: str | None = None) -> None:
    study, rows = repository.study(name), fronts.front(repository, name, where, target)
    failures = () if rows else (e.error for e in repository.evaluations(name) if e.error)
    display.front(study, rows, repository.num_evaluations()[name], where, target, next(iter(failures), None))
    trust = repository.trust(study.supernet_digest) if study.supernet_digest else None
    if trust is not None:
        display.trust(trust, fronts.correction(repository, name))


def _outlook(study: str, storage: str, runs: Path) -> None:
    display.say(f"\ntake a network home:  nas export {study} --to my_network{_places(storage, runs)}")
    display.say(f"look around:          nas dashboard{_places(storage)}")


def _places(storage: str, runs: Path = RUNS) -> str:
    """The options that find this database and these files again."""
    flags = "" if storage == DEFAULT_URL else f" --storage {_quoted(_shown(storage))}"
    return flags + ("" if runs == RUNS else f" --runs {_quoted(runs)}")


def _shown(storage: str) -> str:
    """The address without its password."""
    return opening.shown(opening.parsed(storage))


def _quoted(text: object) -> str:
    return shlex.quote(str(text))


@app.command()
def propose(
    model: Annotated[
        str, typer.Argument(help="Folder of a transformers model, or package.module:function.", show_default=False)
    ],
    output: Annotated[Path | None, typer.Option(help="File to write; it must not exist. Without it: print.")] = None,
) -> None:
    """Propose a search space within a pretrained model: a run file to edit, its data left open."""
    from nas.propose import proposal, write

    if output is None:
        sys.stdout.write(proposal(model))
    else:
        display.say(f"wrote {write(model, output)}: name your data in it, then nas search {_quoted(output)}")


@app.command()
def methods(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """List training strategies, ways to share weights, searchers and gradient methods, with their settings."""
    from nas.searchers import SEARCHERS
    from nas.searchers.gradient.methods import METHODS
    from nas.searchers.spelled import defaults
    from supernets.catalogue import catalogue, entry
    from supernets.sharing import SHARINGS
    from supernets.strategies import STRATEGIES

    found = {"strategy": catalogue(STRATEGIES), "sharing": catalogue(SHARINGS), "gradient": catalogue(METHODS)}
    found["searcher"] = [entry(name, defaults(made), made) for name, made in SEARCHERS.items()]
    if as_json:
        sys.stdout.write(json.dumps({kind: list(map(asdict, those)) for kind, those in found.items()}, indent=2) + "\n")
        return
    display.methods("training strategies", "as in --strategy 'sandwich(num_random=1)'", found["strategy"])
    display.say("")
    display.methods("sharings of weights", "as in --sharing 'routed(experts=2)'", found["sharing"])
    display.say("")
    display.methods("searchers", "as in --searcher 'evolution(selection=nsga3)'", found["searcher"])
    display.say("")
    display.methods("gradient methods", "as in --gradient 'drnas(concentration=2)'", found["gradient"])


# --- look ------------------------------------------------------------------------


@app.command()
def studies(
    storage: Storage = DEFAULT_URL, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False
) -> None:
    """List the studies of a database."""
    with _reading(storage) as repository:
        display.studies(repository.studies(), repository.num_evaluations(), as_json)


@app.command()
def front(
    study: StudyName,
    where: Where = [],  # noqa: B006 - typer reads the default
    target: OfTarget = None,
    compromises: Annotated[
        bool, typer.Option("--compromises", help="In place of fronts, the networks within 5 % of every target's.")
    ] = False,
    storage: Storage = DEFAULT_URL,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="As comma-separated values.")] = False,
) -> None:
    """The networks that no other dominates, with what was verified on them, and whether to trust their order."""
    if compromises and (where or target):
        raise NasError("--compromises are of all targets under the study's limits: leave --target and --where out")
    with _reading(storage) as repository:
        if as_json or as_csv or compromises:
            near = fronts.compromises(repository, study) if compromises else None
            rows = fronts.front(repository, study, where, target) if near is None else near
        if as_json or as_csv:
            sys.stdout.write(fronts.as_json(rows) + "\n" if as_json else fronts.as_csv(rows))
        elif compromises:
            display.compromises(repository.study(study), rows)
        else:
            _show_front(repository, study, where, target)


@app.command()
def show(
    study: StudyName,
    architecture: Annotated[str, typer.Argument(help="Beginning of an architecture's digest.")] = "",
    storage: Storage = DEFAULT_URL,
) -> None:
    """A study, or one of its architectures with all that is known of it."""
    with _reading(storage) as repository:
        if architecture:
            found = fronts.find(repository, study, architecture)
            display.architecture(found, fronts.row(repository, study, architecture))
        else:
            record = repository.study(study)
            supernet = repository.supernet(record.supernet_digest) if record.supernet_digest else None
            display.study(record, repository.num_evaluations()[study], supernet, repository.distributions(study))


@app.command()
def compare(
    study: StudyName,
    first: Annotated[str, typer.Argument(help="Beginning of an architecture's digest.")],
    second: Annotated[str, typer.Argument(help="Beginning of another one's.")],
    storage: Storage = DEFAULT_URL,
) -> None:
    """Two architectures of a study: where they differ, and what it costs and gains."""
    with _reading(storage) as repository:
        display.comparison(fronts.find(repository, study, first), fronts.find(repository, study, second))


@app.command()
def dashboard(
    storage: Storage = DEFAULT_URL,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8501,
    allow_remote: Annotated[bool, typer.Option(help="Let other machines in: the dashboard has no login.")] = False,
) -> None:
    """Serve the dashboard of a database, read only, until interrupted."""
    from dashboard.serve import command, serve

    command(None, host, port, allow_remote=allow_remote)  # what is wrong is said here rather than by the server,
    with _reading(storage) as repository:  # or in the browser
        display.say(f"dashboard of {repository.url}: http://{host}:{port} (stop with Ctrl-C)")
    raise typer.Exit(serve(storage, host, port, allow_remote=allow_remote))


@contextmanager
def _reading(storage: str) -> Iterator[Repository]:
    with Repository(storage, read_only=True) as repository:
        yield repository


# --- take home -------------------------------------------------------------------

Formats = Annotated[
    str,
    typer.Option(
        help="Of safetensors, torch, onnx, transformers (a folder for its from_pretrained); separated by commas."
    ),
]


@app.command()
def export(
    study: StudyName,
    to: Annotated[Path, typer.Option(help="Folder to write.", show_default=False)],
    architecture: Digest = "",
    where: Where = [],  # noqa: B006 - typer reads the default
    target: OfTarget = None,
    formats: Formats = "",
    storage: Storage = DEFAULT_URL,
    runs: Runs = RUNS,
) -> None:
    """Write a network of a study as files that run without this package."""
    with _workflow_of(study, storage, runs) as workflow:
        row = _chosen(workflow.repository, study, architecture, where, target)
        display.exported(_export(workflow, row, to, formats), row)


@app.command()
def finetune(
    study: StudyName,
    to: Annotated[Path, typer.Option(help="Folder to write.", show_default=False)],
    architecture: Digest = "",
    where: Where = [],  # noqa: B006 - typer reads the default
    target: OfTarget = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps; a fifth of the supernet's if left out.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate; a tenth of the supernet's if left out.")] = None,
    formats: Formats = "",
    storage: Storage = DEFAULT_URL,
    runs: Runs = RUNS,
) -> None:
    """Train a network of a study further from its inherited weights, then export it."""
    with _workflow_of(study, storage, runs) as workflow:
        row = _chosen(workflow.repository, study, architecture, where, target)
        base = workflow.run.training
        if steps is None and base.steps == 0:
            raise NasError(f"the supernet of {study!r} was not trained, so its steps give no measure: say --steps N")
        config = replace(
            base,
            steps=max(1, base.steps // 5) if steps is None else steps,
            lr=base.lr / 10 if lr is None else lr,
        )
        workflow.require_trained(study)
        before = workflow.scores(workflow.network(row.arch))
        network, _ = workflow.finetune(row.arch, config)
        after = workflow.scores(network)
        display.finetuned(before, after)
        display.exported(_export(workflow, row, to, formats, network, after), row)


def _chosen(repository: Repository, study: str, architecture: str, where: list[str], target: str | None) -> fronts.Row:
    if not architecture:
        return fronts.best(repository, study, where, target)
    return fronts.row(repository, study, architecture)


def _export(
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


@storage_app.command()
def upgrade(storage: Storage = DEFAULT_URL) -> None:
    """Bring a database to this version of the package, or create it."""
    before, after = Repository.upgrade(storage)
    was = {None: "created", after: "no upgrade needed"}.get(before, f"upgraded from {before}")
    display.say(f"{_shown(storage)} is at version {after}: {was}")


if __name__ == "__main__":
    main()
