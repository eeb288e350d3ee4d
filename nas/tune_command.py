"""`nas tune`: stand-alone trainings under a budget (Hyperband), or a search of training settings (CARBS)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.errors import NasError
from nas.lazy import lazily
from nas.options import RUNS, Cluster, RunFile, Runs, Workers
from nas.placement import Placement

if TYPE_CHECKING:
    from nas import display
    from nas.executors import Executor
    from nas.fidelity.ledger import Trial
    from nas.run import Run
else:
    display = lazily("nas.display")

_METHODS = ("hyperband", "carbs")


def tune(
    run_file: RunFile,
    method: Annotated[
        str, typer.Option(help="hyperband: search networks by training them alone. carbs: search training settings.")
    ] = "hyperband",
    largest: Annotated[
        int, typer.Option(min=1, help="Hyperband: largest budget, a power of eta. Raise it later to continue.")
    ] = 27,
    steps: Annotated[
        int, typer.Option(min=0, help="Hyperband: steps of budget 1. Default: a 27th of the run file's.")
    ] = 0,
    eta: Annotated[int, typer.Option(help="Hyperband: promote one network in so many.")] = 3,
    reuse: Annotated[
        str, typer.Option(help="Hyperband: reuse when the budget is raised: discarding, preserving or efficient.")
    ] = "efficient",
    schedule: Annotated[
        str, typer.Option(help="Override the schedule; with constant, longer trainings continue shorter ones.")
    ] = "",
    trials: Annotated[int, typer.Option(min=1, help="CARBS: number of trainings. Raise it later to continue.")] = 20,
    settings: Annotated[
        str, typer.Option(help="CARBS: settings to tune, of lr, weight_decay, warmup, clip, steps, batch_size.")
    ] = "lr,weight_decay",
    of: Annotated[
        str, typer.Option(help="CARBS: what to train, the supernet or the largest network alone (network).")
    ] = "supernet",
    runs: Runs = RUNS,
    cluster: Cluster = None,
    workers: Workers = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            show_default=False, help="Longest time for a training, in seconds; then it is recorded as failed."
        ),
    ] = None,
) -> None:
    """Search by training networks alone.

    Hyperband trains many networks briefly and few for long; CARBS searches training settings. Both resume when stopped.
    """
    from nas.run import blaming, load

    if method not in _METHODS:
        raise NasError(f"method {method!r} is unknown: choose one of {', '.join(_METHODS)}")
    run = load(run_file)
    if schedule:
        run = replace(run, training=replace(run.training, schedule=schedule))
    placement = Placement(cluster, workers, timeout)
    file = None if placement.here else run_file.resolve()
    directory = runs / run.name / "tune"
    with blaming(run_file), placement.executor() as executor:
        if method == "hyperband":
            budget = replace(run.training, steps=steps or max(1, run.training.steps // 27))
            _hyperband(run, directory, budget.steps, largest, eta, reuse, executor, file)
        else:
            names = [name.strip() for name in settings.split(",")]
            _carbs(run, directory, names, of, trials, placement.at_once, executor, file)


def _hyperband(
    run: Run, directory: Path, steps: int, largest: int, eta: int, reuse: str, executor: Executor, file: Path | None
) -> None:
    from nas.fidelity.ledger import cost, cost_going_on
    from nas.fidelity.rungs import table
    from nas.tuning import hyperband

    total = sum(map(sum, table(eta, largest)))
    budget = replace(run.training, steps=steps)
    with display.bar("training alone (hyperband)") as tick:

        def tell(trial: Trial) -> None:
            tick(min(len(search.ledger.trials), total), total)

        search = hyperband(
            run, directory, budget, eta=eta, reuse=reuse, executor=executor, run_file=file, on_trial=tell
        )
        outcome = search.run(largest)
    trials = search.ledger.trials
    goes_on = budget.schedule == "constant" and budget.average == 0
    paid = cost_going_on(trials) if goes_on else cost(trials)
    display.hyperband(outcome, trials, run.task.metric, steps, paid)
    display.say(f"a larger budget goes on from here: --largest {largest * eta}")


def _carbs(
    run: Run,
    directory: Path,
    names: list[str],
    of: str,
    trials: int,
    at_once: int,
    executor: Executor,
    file: Path | None,
) -> None:
    from nas.tuning import carbs

    with display.bar(f"training the {of} (carbs)") as tick:

        def tell(trial: Trial) -> None:
            tick(len(search.ledger.trials), trials)

        search = carbs(run, directory, names, of=of, at_once=at_once, executor=executor, run_file=file, on_trial=tell)
        done = search.run(trials)
    display.carbs(search.carbs.front(), done, run.task.metric)
    display.say(f"more trainings go on from here: --trials {2 * trials}")
