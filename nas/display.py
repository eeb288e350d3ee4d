"""What the command line shows: tables and sentences on stdout, bars and errors on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from nas.records import CurvePoint, Evaluation, StudyRecord, Trust
from nas.units import metric

if TYPE_CHECKING:
    from nas.front import Row
    from supernets.export import Exported
    from supernets.profile import Profile

_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)
_DIGEST = 8  # characters of a digest that tell architectures apart for people


def set_quiet(quiet: bool) -> None:
    """Results and errors only."""
    _err.quiet = quiet


def quiet() -> bool:
    return _err.quiet


def say(text: str) -> None:
    """A sentence about what was done or comes next."""
    if not quiet():
        _out.print(escape(text), soft_wrap=True)


def headline(text: str) -> None:
    if not quiet():
        _out.print(f"\n[bold]{escape(text)}[/bold]", soft_wrap=True)


def error(text: str) -> None:
    sys.stderr.write(f"error: {text}\n")


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with rate and time left on a terminal; elsewhere nothing."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_err, disable=quiet() or not _err.is_terminal) as progress:
        task = progress.add_task(escape(title), total=None, rate="")

        def tick(done: int, total: int) -> None:
            speed = progress.tasks[0].speed
            progress.update(task, completed=done, total=total, rate=f"{speed:.1f}/s" if speed else "")

        yield tick


def profiles(found: Mapping[str, Profile]) -> None:
    """What networks of a space cost, before anything is trained."""
    table = Table("network", box=None)
    for name in ("params", "macs", "activation_bytes"):
        table.add_column(metric(name).axis, justify="right")
    for label, profile in found.items():
        table.add_row(label, *(metric(name).text(getattr(profile, name)) for name in ("params", "macs", "activation_bytes")))
    if not quiet():
        _out.print(table)


def curve(points: Sequence[CurvePoint], name: str) -> None:
    """The last values of the smallest, random and largest subnets."""
    last = {point.which: point.value for point in points if point.metric == name}
    shown = ", ".join(f"{which} {metric(name).text(last[which])}" for which in ("smallest", "random", "largest") if which in last)
    say(f"{metric(name).title} of subnets after training: {shown}")


def studies(found: Sequence[StudyRecord], counts: Mapping[str, int], as_json: bool) -> None:
    """All studies of a database."""
    if as_json:
        sys.stdout.write(json.dumps([asdict(study) | {"evaluations": counts[study.name]} for study in found], indent=2) + "\n")
    elif not found:
        _out.print("no studies yet: nas demo makes one, nas search my_run.py yours")
    else:
        table = Table("study", "status", "evaluations", "objectives", "limits", "searcher", "created", box=None)
        for study in found:
            objectives, limits = ", ".join(study.objectives), ", ".join(study.limits) or "-"
            row = (study.name, study.status, f"{counts[study.name]}", objectives, limits, study.searcher, study.created[:16])
            table.add_row(*map(escape, row))
        _out.print(table)


def study(record: StudyRecord, num_evaluations: int) -> None:
    """One study, field by field."""
    table = Table(show_header=False, box=None)
    for name, value in (asdict(record) | {"evaluations": num_evaluations}).items():
        text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        table.add_row(name.replace("_", " "), escape(text or "-"))
    _out.print(table)


def front(record: StudyRecord, rows: Sequence[Row], num_evaluations: int) -> None:
    """The front as a table; what was measured on a network stands beside what was predicted of it."""
    limits = f" under {', '.join(record.limits)}" if record.limits else ""
    headline(f"front of {record.name}: {len(rows)} of {num_evaluations} evaluated architectures{limits}")
    if not rows:
        _out.print("nothing keeps the limits: loosen one, or search longer")
        return
    names = list(dict.fromkeys([*record.objectives, *(n for row in rows for n in row.verified), "params", "macs"]))
    table = Table("architecture", box=None)
    for name in names:
        both = any(name in row.metrics and name in row.verified for row in rows)
        table.add_column(metric(name).axis + (" predicted → measured" if both else ""), justify="right")
    for row in rows:
        table.add_row(row.arch.digest[:_DIGEST], *(_cell(row, name) for name in names))
    _out.print(table)
    broken = [row for row in rows if row.broken]
    if broken:
        _out.print(f"{len(broken)} of them break a limit as measured, though predicted to keep it (marked !)")


def _cell(row: Row, name: str) -> str:
    told, seen = row.metrics.get(name), row.verified.get(name)
    texts = [metric(name).text(value) for value in (told, seen) if value is not None]
    breaks = any(limit.split()[0] == name for limit in row.broken)
    return " → ".join(texts) + (" !" if breaks else "") if texts else "-"


def trust(found: Trust) -> None:
    """How far the front's order can be believed."""
    headline("trust report")
    if math.isnan(found.tau):
        _out.print(f"not determined: {found.num_architectures} architectures were trained alone, or their metrics are equal")
        return
    interval = "" if math.isnan(found.tau_low) else f" (95 % interval {found.tau_low:.2f} to {found.tau_high:.2f})"
    _out.print(
        f"Kendall tau of inherited against stand-alone metrics {found.tau:.2f}{interval} over {found.num_architectures} "
        f"architectures; choosing by inherited rank costs {found.regret:.4f}; took {found.seconds:.0f} s",
        soft_wrap=True,
    )
    if found.tau_low <= 0 or found.tau < 0.3:
        _out.print("[bold yellow]do not trust the order of this front: train the candidates alone before choosing[/]")


def architecture(found: Evaluation, verified: Mapping[str, float]) -> None:
    """One architecture: its values, what was found and what was verified."""
    headline(f"{found.arch.kind} {found.arch.digest}")
    _out.print_json(found.arch.json())
    table = Table("metric", "evaluated", "verified", box=None)
    for name in dict.fromkeys([*found.metrics, *verified]):
        cells = (metric(name).text(values[name]) if name in values else "-" for values in (found.metrics, verified))
        table.add_row(metric(name).axis, *cells)
    _out.print(table if not found.failed else f"failed: {escape(found.error or '')}")


def comparison(first: Evaluation, second: Evaluation) -> None:
    """Where two architectures differ."""
    table = Table("", first.arch.digest[:_DIGEST], second.arch.digest[:_DIGEST], box=None)
    for path, (one, other) in first.arch.diff(second.arch).items():
        table.add_row(escape(path), escape(_shown(one)), escape(_shown(other)))
    table.add_section()
    for name in dict.fromkeys([*first.metrics, *second.metrics]):
        cells = (metric(name).text(e.metrics[name]) if name in e.metrics else "-" for e in (first, second))
        table.add_row(metric(name).axis, *cells)
    _out.print(table)


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)


def exported(found: Exported, row: Row) -> None:
    """Where an exported network lies, and how near its files come to it."""
    headline(f"exported {row.arch.digest[:_DIGEST]} to {found.directory}")
    for name, path in found.paths.items():
        apart = f", outputs within {found.differences[name]:.1e} of the network's" if name in found.differences else ""
        _out.print(f"  {path.name}{apart}", soft_wrap=True)


def finetuned(before: Mapping[str, float], after: Mapping[str, float]) -> None:
    """What fine-tuning gained."""
    for name, value in after.items():
        say(f"{metric(name).axis}: {metric(name).text(before[name])} → {metric(name).text(value)}")
