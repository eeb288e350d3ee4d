"""`nas tune`: train under a budget, networks (Hyperband, forecasts) or settings (CARBS)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.commands.lazy import lazily
from nas.commands.options import RUNS, Cluster, RunFile, Runs, Workers
from nas.errors import NasError
from nas.execution.placement import Placement

if TYPE_CHECKING:
    from nas.commands import display
    from nas.execution.executors import Executor
    from nas.fidelity.ledger import Trial
    from nas.run import Run
    from supernets.training import TrainingConfig
else:
    display = lazily("nas.commands.display")

_METHODS = ("hyperband", "carbs", "forecast")


def tune(
    run_file: RunFile,
    method: Annotated[
        str,
        typer.Option(
            help="hyperband: search networks by training them alone. forecast: the same, guided by a model of each "
            "training. carbs: search training settings."
        ),
    ] = "hyperband",
    largest: Annotated[
        int,
        typer.Option(
            min=1, help="Hyperband: largest budget, a power of eta. Raise it later to continue. forecast: epochs."
        ),
    ] = 27,
    steps: Annotated[
        int, typer.Option(min=0, help="Steps of budget 1, or of an epoch. Default: a 27th of the run file's.")
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
    epochs: Annotated[int, typer.Option(min=1, help="forecast: epochs to pay for. Raise it later to continue.")] = 60,
    pool: Annotated[int, typer.Option(help="forecast: networks to choose from; it starts half of them.")] = 40,
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
    from nas.run_file import blaming, load

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
        elif method == "forecast":
            epoch = replace(run.training, steps=steps or max(1, run.training.steps // largest))
            _forecast(run, directory, epoch, largest, epochs, pool, placement.at_once, executor, file)
        else:
            names = [name.strip() for name in settings.split(",")]
            _carbs(run, directory, names, of, trials, placement.at_once, executor, file)


def _hyperband(
    run: Run, directory: Path, steps: int, largest: int, eta: int, reuse: str, executor: Executor, file: Path | None
) -> None:
    from nas.fidelity.ledger import cost, cost_going_on
    from nas.fidelity.rungs import table
    from nas.stages.tuning import hyperband

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


def _forecast(
    run: Run,
    directory: Path,
    epoch: TrainingConfig,
    largest: int,
    epochs: int,
    pool: int,
    at_once: int,
    executor: Executor,
    file: Path | None,
) -> None:
    from nas.stages.tuning import forecast

    with display.bar("training alone (forecast)") as tick:

        def tell(trial: Trial) -> None:
            tick(search.paid, epochs)

        search = forecast(
            run,
            directory,
            epoch,
            largest=largest,
            pool=pool,
            start=max(2, pool // 2),
            at_once=at_once,
            executor=executor,
            run_file=file,
            on_trial=tell,
        )
        best = search.run(epochs)
    display.forecast(best, search.ledger.trials, run.task.metric, epoch.steps)
    display.say(f"more epochs go on from here: --epochs {2 * epochs}")


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
    from nas.stages.tuning import carbs

    with display.bar(f"training the {of} (carbs)") as tick:

        def tell(trial: Trial) -> None:
            tick(len(search.ledger.trials), trials)

        search = carbs(run, directory, names, of=of, at_once=at_once, executor=executor, run_file=file, on_trial=tell)
        done = search.run(trials)
    display.carbs(search.carbs.front(), done, run.task.metric)
    display.say(f"more trainings go on from here: --trials {2 * trials}")
