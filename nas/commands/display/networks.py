"""Networks shown: the front, compromises, one architecture, and what became of those that were exported."""

from __future__ import annotations

import json
import sys
from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from nas.commands.display.terminal import DIGEST, escape, headline, results, say, show, shown, table_of
from nas.objectives.aims import latency
from nas.objectives.units import metric
from nas.records import (
    Evaluation,
    StudyRecord,
)

if TYPE_CHECKING:
    from nas.results.front import Row
    from nas.results.shrinking import Shrunk
    from search_spaces import Space
    from supernets.export import Exported

_MOST_ROWS = 16  # of a front, for people
_T = TypeVar("_T")


def front(
    record: StudyRecord,
    rows: Sequence[Row],
    num_evaluations: int,
    where: Sequence[str] = (),
    target: str | None = None,
    failure: str | None = None,
) -> None:
    """The front as a table; what was measured on a network stands beside what was predicted of it.

    Args:
        where: limits beside the study's own.
        target: that it is the front of, where it is not that of all.
        failure: how one of the evaluations failed, said where there is no front.
    """
    own = record.settings.get("targets", {})
    bounds = ", ".join([*record.limits, *(own.get(target, ()) if target else ()), *where])
    limits = f" under {bounds}" if bounds else ""
    whose = f" on {target}" if target else f" on any of {', '.join(own)}" if own else ""
    headline(f"front of {record.name}{whose}: {len(rows)} of {num_evaluations} evaluated architectures{limits}")
    if not rows:
        why = "nothing keeps the limits: loosen one, or search longer"
        results([why if failure is None else f"evaluations failed, for instance: {failure}"])
        return
    others = {latency(name) for name in own if target not in (None, name)}
    _rows(record, rows, leave_out=others)
    if len(own) > 1 and target is None:
        say(f"one of these fronts: nas front {record.name} --target {next(iter(own))}; near all of them: --compromises")
    broken = [row for row in rows if row.broken]
    if broken:
        say(f"{len(broken)} of them break a limit as measured, though predicted to keep it (marked !)")


def compromises(record: StudyRecord, rows: Sequence[Row]) -> None:
    """The networks near every front as a table."""
    own = record.settings.get("targets", {})
    headline(f"{len(rows)} networks of {record.name} near the front of each of {', '.join(own) or 'its one target'}")
    if rows:
        _rows(record, rows)
    else:
        say("no network keeps the limits of all targets and is within 5 % of every front: search longer")


def _rows(record: StudyRecord, rows: Sequence[Row], leave_out: Container[str] = ()) -> None:
    """Networks with their metrics, the objectives first, and on whose fronts they are."""
    names = list(dict.fromkeys([*record.objectives, *(n for row in rows for n in row.verified), "params"]))
    names = [name for name in names if name != "activation_bytes" or name in record.objectives]
    names = [name for name in names if name not in leave_out]
    shown = _spread_out(rows, _MOST_ROWS)
    both = {name for name in names if any(name in row.metrics and name in row.verified for row in rows)}
    corrected = {name for row in rows for name in row.corrected}
    headers = (metric(name).phrase + _stages(name in corrected, name in both) for name in names)
    several = any(row.targets for row in rows)
    table = table_of("architecture", *headers, *(["on the front of"] if several else []), numbers=True)
    for row in shown:
        targets = [", ".join(row.targets)] if several else []
        table.add_row(row.arch.digest[:DIGEST], *(_cell(row, name) for name in names), *targets)
    show(table)
    if len(shown) < len(rows):
        say(f"{len(rows) - len(shown)} more between these: nas front {record.name} --csv has all")


def _spread_out(rows: Sequence[_T], most: int) -> Sequence[_T]:
    """At most so many, evenly spread from the first to the last."""
    if len(rows) <= most:
        return rows
    return [rows[round(i * (len(rows) - 1) / (most - 1))] for i in range(most)]


def _stages(corrected: bool, measured: bool) -> str:
    """What the values of a column are, where they are more than one."""
    if corrected:
        return " inherited → corrected" + (" → measured" if measured else "")
    return " predicted → measured" if measured else ""


def _cell(row: Row, name: str) -> str:
    text, estimate = metric(name).text, row.corrected.get(name)
    told, seen = ([text(values[name])] if name in values else [] for values in (row.metrics, row.verified))
    corrected = [f"{text(estimate.value)} ± {text(float(f'{estimate.std:.1g}'))}"] if estimate else []
    texts = [*told, *corrected, *seen]
    breaks = any(limit.split()[0] == name for limit in row.broken)
    return " → ".join(texts) + (" !" if breaks else "") if texts else "-"


def architecture(found: Evaluation, row: Row, life: Mapping[str, Any]) -> None:
    """One architecture: its values, what was found, what is expected of it alone and what was verified; its life."""
    headline(f"{found.arch.kind} {found.arch.digest}")
    sys.stdout.write(json.dumps(found.arch.to_dict(), indent=2) + "\n")
    told = {name: estimate.value for name, estimate in row.corrected.items()}
    columns = {"evaluated": row.metrics, **({"corrected": told} if told else {}), "verified": row.verified}
    table = table_of("metric", *columns, numbers=True)
    for name in dict.fromkeys([*row.metrics, *row.verified]):
        cells = (metric(name).text(values[name]) if name in values else "-" for values in columns.values())
        table.add_row(metric(name).phrase, *cells)
    if found.failed:
        results([f"failed: {found.error or ''}"])
    else:
        show(table)
    results(_life(life))


def _life(life: Mapping[str, Any]) -> list[str]:
    """Which evaluation it was, how it was proposed and from which parents, when it was stored and how long it took."""
    parents = " and ".join(digest[:DIGEST] for digest in life["parents"])
    proposed = [f"proposed as: {life['proposed']}{f' of {parents}' if parents else ''}"] if life["proposed"] else []
    stored = [f"stored {life['stored']}"] if life["stored"] else []
    took = f"took {life['seconds']:.3g} s on {life['worker'] or 'this machine'}"
    return [f"evaluation {life['evaluation']:,}", *proposed, *stored, took]


def comparison(first: Evaluation, second: Evaluation) -> None:
    """Where two architectures differ."""
    table = table_of("", first.arch.digest[:DIGEST], second.arch.digest[:DIGEST], numbers=True)
    for path, (one, other) in first.arch.diff(second.arch).items():
        table.add_row(escape(path), escape(shown(one)), escape(shown(other)))
    table.add_section()
    for name in dict.fromkeys([*first.metrics, *second.metrics]):
        cells = (metric(name).text(e.metrics[name]) if name in e.metrics else "-" for e in (first, second))
        table.add_row(metric(name).phrase, *cells)
    show(table)


def rejected(rules: Mapping[str, int]) -> None:
    """How many candidates were not evaluated, by the hurdle that each did not clear."""
    if rules:
        why = ", ".join(f"{count} by {rule}" for rule, count in rules.items())
        say(f"{sum(rules.values())} candidates were rejected before their evaluation: {why}")


def shrunk(study: str, found: Shrunk, space: Space) -> None:
    """What no good network needs, and why the rest stays."""
    before, after, num = space.how_many(), found.space.how_many(), len(found.closed)
    headline(f"{num} of {len(found.options)} options of study {study} can be closed: {before} networks, then {after}")
    table = table_of("choice", "option", "evaluated", "on the front", "the front loses", "")
    for one in found.options:
        cells = (one.path, str(one.option), str(one.seen), str(one.on_front), str(one.loss))
        table.add_row(*map(escape, cells), escape(one.stays and f"stays: {one.stays}") or "closed")
    show(table)
    if found.closed:
        say(f"without all that is closed the front loses {found.loss} of its hypervolume")


def exported(found: Exported, row: Row) -> None:
    """Where an exported network lies, and how near its files come to it."""
    headline(f"exported {row.arch.digest[:DIGEST]} to {found.directory}")
    for name, path in found.paths.items():
        apart = f", outputs within {found.differences[name]:.1e} of the network's" if name in found.differences else ""
        results([f"  {path.name}{apart}"])


def agreement(exported: Mapping[str, float], told: Mapping[str, float]) -> None:
    """What an exported network shows beside what the front says of it."""
    for name, value in exported.items():
        shown = metric(name)
        say(f"{shown.phrase} of the exported network {shown.text(value)}, on the front {shown.text(told[name])}")


def finetuned(before: Mapping[str, float], after: Mapping[str, float]) -> None:
    """What fine-tuning gained."""
    for name, value in after.items():
        say(f"{metric(name).phrase}: {metric(name).text(before[name])} → {metric(name).text(value)}")


def compressed(parent: Mapping[str, float], before: Mapping[str, float], after: Mapping[str, float]) -> None:
    """What a smaller network keeps of its parent, with the parent's own weights and after fine-tuning."""
    for name, value in after.items():
        shown = metric(name)
        told = {"parent": parent[name], "as found": before[name], "now": value}
        say(f"{shown.phrase}: " + ", ".join(f"{who} {shown.text(score)}" for who, score in told.items()))
