"""`nas target`: describe, measure and check the machines that networks are timed on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.commands.lazy import lazily
from nas.commands.options import DEFAULT_URL, RUNS, AsJSON, RunFile, Runs, Storage
from nas.errors import NasError
from nas.records import STANDING_TARGETS, Measurement, TargetRecord

if TYPE_CHECKING:
    from nas import storage as databases
    from nas.commands import display
    from nas.stages.workflow import Workflow
    from nas.targets import Target
    from search_spaces import Architecture
else:
    display, databases = map(lazily, ("nas.commands.display", "nas.storage"))

app = typer.Typer(help="Manage hardware targets.", no_args_is_help=True)

TargetName = Annotated[str, typer.Argument(help="Name of a target, as in latency_ms@NAME.", show_default=False)]


@app.command()
def add(
    name: TargetName,
    kind: Annotated[str, typer.Argument(help="cpu, cuda, onnx, table or remote.", show_default=False)],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="SETTING=VALUE", help="Settings of the kind, e.g. threads=2.", show_default=False),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a target that has this name.")] = False,
    storage: Storage = DEFAULT_URL,
) -> None:
    """Describe a target: name, kind and settings.

    cpu threads=2; cuda precision=float16; onnx threads=4; table path=t4.csv column=ms; remote on=cpu threads=4.
    """
    from nas import targets

    target = targets.make(name, kind, settings or [])
    record = targets.target_record(target)
    with databases.Repository(storage) as repository:
        known = {record.name: record for record in (*STANDING_TARGETS, *repository.targets())}.get(name)
        if known is not None and not replace and (known.kind, known.settings) != (target.kind, target.settings):
            raise targets.TargetError(
                f"target {name!r} is {_written(known)} so far: take another name, or say with --replace that it is "
                f"{kind} {' '.join(settings or [])} from now on".rstrip()
            )
        repository.add_target(record)
    display.say(f"target {name}, version {record.version[:8]}: {record.machine or '-'}")
    display.say(f"next: nas target measure RUN_FILE {name}, or latency_ms@{name} as an objective or in a limit")


@app.command()
def measure(
    run_file: RunFile,
    name: TargetName,
    networks: Annotated[
        int | None,
        typer.Option(
            "-n",
            min=4,
            help="Networks in all. Default: until the predictor is good enough, at most the run's `measured`.",
        ),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Measure known networks again and replace their figures.")
    ] = False,
    storage: Storage = DEFAULT_URL,
    runs: Runs = RUNS,
) -> None:
    """Measure networks and fit a predictor.

    The networks need no training and are chosen to be informative. A stopped measurement is resumed.
    """
    from nas import targets
    from nas.stages.latency import refusal, serves
    from nas.stages.measuring import measured
    from nas.stages.predicting import latency as latency_of

    with _workflow(run_file, storage, runs) as workflow:
        target = _target(workflow, name)
        version = targets.target_record(target).version
        before = {m.arch_digest for m in workflow.repository.measurements(name, version=version)}
        with display.bar(f"measuring on {name}") as tick:
            latency = latency_of(workflow, target, networks, tick, again=again)
        found = measured(workflow, target, workflow.run.space.decode(latency.codes))
        display.measured(
            workflow.repository.target(name), found, sum(again or m.arch_digest not in before for m in found)
        )
        display.predictor(name, latency)
        if not serves(latency):
            display.say(f"no limit may hang on it yet: {refusal(latency, name)}")


@app.command()
def check(
    run_file: RunFile,
    name: TargetName,
    networks: Annotated[int, typer.Option("-n", min=1, help="Networks to measure again.")] = 10,
    storage: Storage = DEFAULT_URL,
    runs: Runs = RUNS,
) -> None:
    """Measure again: has anything changed?

    The exit status is 1 if a network has changed relative to the others, so that stored latencies rank it wrongly. A
    machine that is slower for all networks alike is no change: new measurements are rescaled to the first ones.
    """
    from nas import targets
    from nas.targets.comparing import compared

    with _workflow(run_file, storage, runs) as workflow:
        target = _target(workflow, name)
        now = targets.target_record(target)
        then, measurements = _measured_before(workflow, now)
        chosen = _spread_out(measurements, networks)
        archs = [_architecture(measurement) for measurement in chosen]
        with display.bar(f"measuring again on {name}") as tick:
            tick(0, len(archs))
            modules = [workflow.initial.extract(arch) for arch in archs]
            found = compared(list(zip(chosen, target.measure(modules, workflow.run.example, archs), strict=True)))
            tick(len(archs), len(archs))
    for line in _differences(then, now):
        display.checked(line, changed=True)
    changed = [(arch, ratio) for arch, ratio in zip(archs, found.networks, strict=True) if ratio.changed]
    for arch, ratio in changed:
        display.checked(
            f"{name}: network {arch.digest[:8]} is {ratio.text} beside the others than before", changed=True
        )
    measured = f"{name}, {len(archs)} networks measured again"
    if found.machine.changed:
        display.checked(
            f"{measured}: the machine is {found.machine.text} than when they were measured, all networks alike: ratios "
            "and ranks hold, and what is measured from now on is brought to the scale of then",
            changed=True,
        )
    else:
        value, low, high = found.machine.value, found.machine.low, found.machine.high
        text = f"they take {value:.2f} times as long as before ({low:.2f} to {high:.2f})"
        display.checked(f"{measured}: the machine is as fast as it was, {text}", changed=False)
    if changed:
        remedy = f"measure anew with nas target measure {run_file} {name} --again"
        display.checked(f"{len(changed)} of {len(archs)} networks have changed: {remedy}", changed=True)
        raise typer.Exit(1)


@app.command(name="list")
def list_targets(storage: Storage = DEFAULT_URL, as_json: AsJSON = False) -> None:
    """List targets, versions and measurements."""
    with databases.Repository(storage, read_only=True) as repository:
        found = sorted(repository.target_versions(), key=lambda target: target.name)  # stable: the newest version first
        names = {target.name for target in found}
        found = [*(target for target in STANDING_TARGETS if target.name not in names), *found]
        display.targets(found, repository.num_measurements(), as_json)


@contextmanager
def _workflow(run_file: Path, storage: str, runs: Path) -> Iterator[Workflow]:
    from nas.run_file import blaming, load
    from nas.stages.workflow import Workflow

    run = load(run_file)
    with (
        blaming(run_file),
        Workflow(run, databases.Repository(storage), runs / run.name, run_file.resolve()) as workflow,
    ):
        yield workflow


def _target(workflow: Workflow, name: str) -> Target:
    from nas import targets

    return targets.find(workflow.repository, name)


def _measured_before(workflow: Workflow, now: TargetRecord) -> tuple[TargetRecord, list[Measurement]]:
    """Return stored measurements of the run's networks: of the current version of a target, else of the newest one."""
    stored = workflow.repository.measurements(now.name)
    versions = [now, *(record for record in workflow.repository.target_versions() if record.name == now.name)]
    for record in versions:
        of_version = [m for m in stored if m.version == record.version]
        same = [m for m in of_version if _is_of(workflow, m)]
        if same:
            return record, same
    raise NasError(
        f"nothing of {workflow.run.name!r} was measured on {now.name!r} so far: nas target measure "
        f"{workflow.run_file and workflow.run_file.name} {now.name}"
    )


def _is_of(workflow: Workflow, measurement: Measurement) -> bool:
    """Return whether a measurement belongs to a network of this run, not of another run with the same choices."""
    from nas.stages.measuring import fingerprint

    arch = _architecture(measurement)
    return arch in workflow.run.space and fingerprint(workflow, arch) == measurement.network


def _architecture(measurement: Measurement) -> Architecture:
    from search_spaces import Architecture

    return Architecture.from_json(measurement.architecture)


def _spread_out(found: Sequence[Measurement], n: int) -> list[Measurement]:
    """Return n evenly spaced measurements, from the fastest to the slowest."""
    ordered = sorted(found, key=lambda m: m.median_ms)
    n = min(n, len(ordered))
    return [ordered[round(i * (len(ordered) - 1) / max(1, n - 1))] for i in range(n)]


def _differences(then: TargetRecord, now: TargetRecord) -> Iterator[str]:
    """Yield a line per difference between the fingerprints."""
    for key in dict.fromkeys([*then.description, *now.description]):
        before, after = then.description.get(key), now.description.get(key)
        if before != after:
            yield f"{now.name}: {key} was {_shown(before)}, is {_shown(after)}"


def _shown(value: Any) -> str:
    return "not told" if value is None else str(value)


def _written(target: TargetRecord) -> str:
    settings: Mapping[str, Any] = target.settings
    return " ".join([target.kind, *(f"{name}={value}" for name, value in settings.items())])
