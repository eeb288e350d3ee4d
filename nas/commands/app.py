"""The `nas` command: train, search, inspect, export. Errors are one line with the remedy; --verbose adds the trace."""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas import logs
from nas.commands.check import check
from nas.commands.cluster import app as cluster_app
from nas.commands.init import init
from nas.commands.lazy import lazily
from nas.commands.options import (
    DEFAULT_URL,
    RUNS,
    Cluster,
    RunFile,
    Runs,
    Storage,
    Timeout,
    Trainers,
    Workers,
    refuse_misplaced_urls,
)
from nas.commands.shrink import shrink
from nas.commands.storage import app as storage_app
from nas.commands.target import app as target_app
from nas.commands.tune import tune
from nas.errors import NasError, UserError
from nas.execution import faults
from nas.execution.placement import Placement

if TYPE_CHECKING:
    from nas.commands import display, session
    from nas.results import front as fronts
    from nas.stages import search as stages
    from nas.stages.workflow import Workflow
    from supernets.export import Exported
else:
    display, session, stages = map(lazily, ("nas.commands.display", "nas.commands.session", "nas.stages.search"))
    fronts = lazily("nas.results.front")

app = typer.Typer(
    help="Neural architecture search with weight-sharing supernets over plain PyTorch models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(target_app, name="target")
app.add_typer(storage_app, name="storage")
app.add_typer(cluster_app, name="cluster")

StudyName = Annotated[str, typer.Argument(help="Name of a study; `nas studies` lists them.", show_default=False)]
Limits = Annotated[
    list[str],
    typer.Option(
        "--limit",
        help="Add a limit: 'latency_ms@cpu <= 2'; 'params <= 0.5x' is half of the parent's. Repeatable.",
    ),
]
Where = Annotated[list[str], typer.Option(help="Show only networks within a limit: 'latency_ms@cpu <= 2'. Repeatable.")]
OfTarget = Annotated[
    str | None, typer.Option("--target", help="Show the front of one target, for a study with several.")
]
Digest = Annotated[str, typer.Option("--architecture", help="Start of an architecture's digest. Default: the best.")]
Strategy = Annotated[
    str, typer.Option(help="Override the training strategy, e.g. 'sandwich(num_random=1)'; see `nas methods`.")
]
Sharing = Annotated[str, typer.Option(help="Override the weight sharing, e.g. 'routed(experts=2)'; see `nas methods`.")]
SearcherName = Annotated[
    str,
    typer.Option(
        "--searcher",
        help="Override the searcher, e.g. 'evolution(selection=nsga3)'; see `nas methods`.",
    ),
]
Gradient = Annotated[
    str,
    typer.Option(
        help="Run a gradient search first, e.g. 'drnas(concentration=2)'; see `nas methods`. Surrogate, evolution and "
        "bayesian search start from what it learns; the gradient searcher samples only from it."
    ),
]
Name = Annotated[str, typer.Option(help="Override the name: another study, in its own folder.")]
_INTERRUPTED = 130  # a shell's exit status after SIGINT


def main() -> None:
    """Run the command line; an error that the user can correct ends it with status 1 and one line."""
    try:
        refuse_misplaced_urls(sys.argv[1:])
        faults.arm()
        app()
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            display.stopped()
        _flush()
        raise
    except UserError as error:
        _fail(error, str(error))
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _fail(error, f"{place}{error.strerror or error}; see that the place exists, has room and may be written to")


def _flush() -> None:
    """Flush the output; ignore a closed pipe, as after `head`."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(error: Exception, message: str) -> None:
    if display.verbose():
        raise error
    display.error(message)
    sys.exit(1)


@app.callback()
def settings(
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show every evaluation, and the trace of an error.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show only results and errors.")] = False,
    log_json: Annotated[
        Path | None,
        typer.Option(
            envvar="NAS_LOG_JSON", metavar="FILE", help="Also write the log to FILE, one JSON object per line."
        ),
    ] = None,
) -> None:
    """Neural architecture search with weight-sharing supernets over plain PyTorch models."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    display.set_quiet(quiet)
    display.set_verbose(verbose)
    logs_progress = not (quiet or sys.stderr.isatty())  # log lines replace bars without a terminal
    told = logging.DEBUG if verbose else logging.WARNING
    logs.set_up({"nas": told, "supernets": min(told, logging.INFO) if logs_progress else told}, log_json)


# --- train and search ------------------------------------------------------------


@app.command()
def demo(
    task: Annotated[str, typer.Option(help="image: handwritten digits. text: a language model.")] = "image",
    strategy: Strategy = "",
    sharing: Sharing = "",
    searcher: SearcherName = "",
    gradient: Gradient = "",
    name: Name = "",
    seed: Annotated[int | None, typer.Option(min=0, help="Override the random seed.")] = None,
    storage: Storage = DEFAULT_URL,
    runs: Runs = RUNS,
    cluster: Cluster = None,
    workers: Workers = None,
    timeout: Timeout = None,
    trainers: Trainers = 1,
) -> None:
    """Run a whole search on a small data set.

    Trains, searches, prints the front and the trust report, and exports a network, in about five minutes. It ends with
    a summary of ten lines; `nas --verbose demo` and the dashboard show everything.
    """
    from nas import demos

    change = session.change(strategy, sharing, name, searcher, gradient, seed)
    with session.run_workflow(
        demos.run_file(task), change, storage, runs, Placement(cluster, workers, timeout, trainers)
    ) as workflow:
        (_demo_in_full if display.verbose() else _demo)(workflow)
        session.outlook(workflow.run.name, storage, runs)


def _demo(workflow: Workflow) -> None:
    """Run the demo and print a summary for newcomers."""
    from nas.commands import brief
    from nas.stages.exporting import exported_scores

    repository, name = workflow.repository, workflow.run.name
    session.introduce(workflow, detailed=False)
    study = stages.find(workflow, session.Terminal(detailed=False))
    record, rows = repository.study(name), fronts.front(repository, name)
    display.results(brief.lines(record, rows, len(study.evaluations), repository.trust(workflow.weights)))
    limit = brief.middle(record, rows)
    row = fronts.best(repository, name, [limit] if limit else [])
    exported = _export(workflow, row, workflow.directory / "best")
    display.results([brief.taken_home(row, limit, exported.directory, exported_scores(workflow, exported))])


def _demo_in_full(workflow: Workflow) -> None:
    from nas.stages.exporting import exported_scores
    from nas.stages.verifying import dominated_share

    study = session.search(workflow)
    share = dominated_share(workflow, study)
    display.say(f"\nthe front dominates or equals {share:.0%} of 100 uniformly sampled networks, evaluated alike")
    row = fronts.best(workflow.repository, study.name)
    exported = _export(workflow, row, workflow.directory / "best")
    display.exported(exported, row)
    display.agreement(exported_scores(workflow, exported), row.values())


@app.command()
def train(
    run_file: RunFile,
    strategy: Strategy = "",
    sharing: Sharing = "",
    name: Name = "",
    storage: Storage = DEFAULT_URL,
    runs: Runs = RUNS,
    cluster: Cluster = None,
    trainers: Trainers = 1,
) -> None:
    """Train the supernet of a run, or resume.

    A training that was stopped continues from its last checkpoint.
    """
    change, placement = session.change(strategy, sharing, name), Placement(cluster, trainers=trainers)
    with session.run_workflow(run_file, change, storage, runs, placement) as workflow:
        session.introduce(workflow)
        session.Terminal().trained(workflow)
        given = {"strategy": strategy, "sharing": sharing, "name": name}
        flags = "".join(f" --{flag} {session.quoted(value)}" for flag, value in given.items() if value)
        display.say(f"next: nas search {session.quoted(run_file)}{flags}{session.places(storage, runs)}")


@app.command()
def search(
    run_file: RunFile,
    strategy: Strategy = "",
    sharing: Sharing = "",
    searcher: SearcherName = "",
    gradient: Gradient = "",
    name: Name = "",
    limit: Limits = [],  # noqa: B006 - typer reads the default
    begin_with: Annotated[
        str, typer.Option(metavar="STUDY", help="Evaluate the front of another study of this space first.")
    ] = "",
    storage: Storage = DEFAULT_URL,
    runs: Runs = RUNS,
    cluster: Cluster = None,
    workers: Workers = None,
    timeout: Timeout = None,
    trainers: Trainers = 1,
) -> None:
    """Search: measure, train, search, verify.

    Does what is still missing: a search that was stopped is resumed by the same command.
    """
    from nas.stages import studying

    change = session.change(strategy, sharing, name, searcher, gradient, limits=limit)
    with session.run_workflow(
        run_file, change, storage, runs, Placement(cluster, workers, timeout, trainers)
    ) as workflow:
        if begin_with:
            studying.begin_with(workflow, begin_with)
        session.search(workflow)
        session.outlook(workflow.run.name, storage, runs)


@app.command()
def resume(
    study: StudyName,
    storage: Storage = DEFAULT_URL,
    runs: Runs = RUNS,
    cluster: Cluster = None,
    workers: Workers = None,
    timeout: Timeout = None,
    trainers: Trainers = 1,
) -> None:
    """Resume a study, from its own run file."""
    with session.study_workflow(study, storage, runs, Placement(cluster, workers, timeout, trainers)) as workflow:
        session.search(workflow)
        session.outlook(study, storage, runs)


app.command()(tune)
app.command()(init)


app.command()(shrink)


@app.command()
def propose(
    model: Annotated[
        str, typer.Argument(help="Folder of a transformers model, or package.module:function.", show_default=False)
    ],
    output: Annotated[Path | None, typer.Option(help="File to write, which must not exist. Default: print.")] = None,
) -> None:
    """Write a run file for a pretrained model.

    The sizes of the model become choices; the data is left open for you to fill in.
    """
    from nas.commands.propose import proposal, write

    if output is None:
        sys.stdout.write(proposal(model))
    else:
        display.say(f"wrote {write(model, output)}: name your data in it, then nas search {session.quoted(output)}")


@app.command()
def methods(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List strategies, sharings and searchers.

    Each with its settings and papers; gradient methods too.
    """
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
    storage: Storage = DEFAULT_URL, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """List the studies of a database."""
    with session.reading(storage) as repository:
        display.studies(repository.studies(), repository.num_evaluations(), as_json)


@app.command()
def front(
    study: StudyName,
    where: Where = [],  # noqa: B006 - typer reads the default
    target: OfTarget = None,
    compromises: Annotated[
        bool, typer.Option("--compromises", help="Show networks within 5 % of the front of every target.")
    ] = False,
    storage: Storage = DEFAULT_URL,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
) -> None:
    """Show the front and the trust report.

    The front holds the networks that no other network dominates, with predicted and measured metrics.
    """
    if compromises and (where or target):
        raise NasError("--compromises are of all targets under the study's limits: leave --target and --where out")
    with session.reading(storage) as repository:
        if as_json or as_csv or compromises:
            near = fronts.compromises(repository, study) if compromises else None
            rows = fronts.front(repository, study, where, target) if near is None else near
        if as_json or as_csv:
            lives = fronts.lived(repository, study, rows)
            sys.stdout.write(fronts.as_json(rows, lives) + "\n" if as_json else fronts.as_csv(rows, lives))
        elif compromises:
            display.compromises(repository.study(study), rows)
        else:
            session.show_front(repository, study, where, target)


@app.command()
def show(
    study: StudyName,
    architecture: Annotated[str, typer.Argument(help="Start of an architecture's digest.")] = "",
    storage: Storage = DEFAULT_URL,
) -> None:
    """Show a study, or one architecture of it."""
    with session.reading(storage) as repository:
        if architecture:
            found = fronts.find(repository, study, architecture)
            row = fronts.row(repository, study, architecture)
            display.architecture(found, row, fronts.told_life(fronts.lived(repository, study, [row])[row.arch.digest]))
        else:
            record = repository.study(study)
            supernet = repository.supernet(record.supernet_digest) if record.supernet_digest else None
            display.study(record, repository.num_evaluations()[study], supernet, repository.distributions(study))


@app.command()
def compare(
    study: StudyName,
    first: Annotated[str, typer.Argument(help="Start of an architecture's digest.")],
    second: Annotated[str, typer.Argument(help="Start of another digest.")],
    storage: Storage = DEFAULT_URL,
) -> None:
    """Compare two architectures of a study.

    Shows the choices in which they differ, and the differences of their metrics.
    """
    with session.reading(storage) as repository:
        display.comparison(fronts.find(repository, study, first), fronts.find(repository, study, second))


@app.command()
def dashboard(
    storage: Storage = DEFAULT_URL,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8501,
    allow_remote: Annotated[bool, typer.Option(help="Listen beyond this machine, although there is no login.")] = False,
) -> None:
    """Serve the dashboard until interrupted.

    It opens the database read-only.
    """
    from dashboard.serve import command, serve

    command(None, host, port, allow_remote=allow_remote)  # errors appear here, not in the server's log
    with session.reading(storage) as repository:  # or the browser
        display.say(f"dashboard of {repository.url}: http://{host}:{port} (stop with Ctrl-C)")
    raise typer.Exit(serve(storage, host, port, allow_remote=allow_remote))


@app.command()
def doctor(storage: Storage = DEFAULT_URL, runs: Runs = RUNS, cluster: Cluster = None) -> None:
    """Check this machine, database and cluster.

    Reports what is missing, what would be slow and why. The exit status is 1 if something is broken.
    """
    from nas.commands.doctor import examine

    broken = False
    for finding in examine(storage, runs, cluster):
        display.results([f"{finding.state:<7} {finding.about}: {finding.text}"])
        broken |= finding.state == "broken"
    if broken:
        raise typer.Exit(1)


# --- take home -------------------------------------------------------------------

Formats = Annotated[
    str,
    typer.Option(
        help="Formats, separated by commas: safetensors, torch, onnx, transformers. Default: all that can be written."
    ),
]


def _export(workflow: Workflow, row: fronts.Row, to: Path, formats: str = "", *tuned: Any) -> Exported:
    """Write the network of a row, or one fine-tuned from it with its scores."""
    from nas.stages.exporting import export

    return export(workflow, row, to, formats.split(",") if formats else (), *tuned)


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
    """Write a network as files.

    They run where this package is not installed.
    """
    with session.study_workflow(study, storage, runs) as workflow:
        row = session.chosen(workflow.repository, study, architecture, where, target)
        display.exported(_export(workflow, row, to, formats), row)


app.command()(check)


@app.command()
def finetune(
    study: StudyName,
    to: Annotated[Path, typer.Option(help="Folder to write.", show_default=False)],
    architecture: Digest = "",
    where: Where = [],  # noqa: B006 - typer reads the default
    target: OfTarget = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps. Default: a fifth of the supernet's.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate. Default: a tenth of the supernet's.")] = None,
    formats: Formats = "",
    storage: Storage = DEFAULT_URL,
    runs: Runs = RUNS,
) -> None:
    """Train a network further, then export it.

    Starts from the weights that the network inherits from the supernet.
    """
    from nas.stages.compressing import tuning
    from nas.stages.networks import finetune as trained_further
    from nas.stages.networks import scores

    with session.study_workflow(study, storage, runs) as workflow:
        row = session.chosen(workflow.repository, study, architecture, where, target)
        config = tuning(workflow.run, steps, lr)
        workflow.require_trained(study)
        before = scores(workflow, workflow.taken(row.arch))
        network, _ = trained_further(workflow, row.arch, config)
        after = scores(workflow, network)
        display.finetuned(before, after)
        display.exported(_export(workflow, row, to, formats, network, after), row)


@app.command()
def compress(
    run_file: RunFile,
    to: Annotated[Path, typer.Option(help="Folder to write; for several networks, one subfolder each.")],
    limit: Limits = [],  # noqa: B006 - typer reads the default
    networks: Annotated[int, typer.Option(min=1, help="How many networks of the front to export.")] = 1,
    steps: Annotated[int | None, typer.Option(help="Steps of fine-tuning for each network; 0 for none.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate. Default: a tenth of the supernet's.")] = None,
    strategy: Strategy = "",
    sharing: Sharing = "",
    searcher: SearcherName = "",
    name: Name = "",
    formats: Formats = "",
    storage: Storage = DEFAULT_URL,
    runs: Runs = RUNS,
    cluster: Cluster = None,
    workers: Workers = None,
    timeout: Timeout = None,
    trainers: Trainers = 1,
) -> None:
    """Make a trained model smaller.

    Searches its space under limits, fine-tunes what is found and exports it. The run file gives the trained weights as
    `init=`; the largest network is the parent. Other limits are another search of the same supernet, and the study is
    named after them unless --name is given. A run with sort="gates(sparsity=0.5)" begins with the network that these
    gates leave under its limits.
    """
    from nas.run_file import load
    from nas.stages.compressing import begin_with_masks, compressed, require_parent, study_name, tuning

    base = load(run_file)
    require_parent(base)
    tuning(base, steps, lr)  # raises errors before the search
    change = session.change(strategy, sharing, name or study_name(base.name, limit), searcher, limits=limit)
    folder, placement = runs / (name or base.name), Placement(cluster, workers, timeout, trainers)
    with session.workflow_of(change(base), run_file, storage, folder, placement) as workflow:
        begin_with_masks(workflow)
        session.search(workflow)
        rows = session.spread(workflow.repository, workflow.run.name, networks)
        for row, found in compressed(workflow, rows, steps, lr):
            place = to if networks == 1 else to / row.arch.digest[:8]
            display.exported(_export(workflow, row, place, formats, found.network, found.after), row)
            display.compressed(found.parent, found.before, found.after)
        session.outlook(workflow.run.name, storage, runs)


if __name__ == "__main__":
    main()
