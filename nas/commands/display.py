"""What the command line shows: tables and sentences on stdout, bars and errors on stderr."""

from __future__ import annotations

import io
import json
import os
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.markup import escape as without_markup
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from nas.objectives.aims import latency
from nas.objectives.units import metric
from nas.progress import Tick, silent
from nas.records import (
    CurvePoint,
    Distribution,
    Evaluation,
    Measurement,
    StudyRecord,
    SupernetRecord,
    TargetRecord,
    Trust,
)
from nas.results.trust import brief, planned

if TYPE_CHECKING:
    from nas.fidelity import Outcome, Trial
    from nas.results.corrected import Corrected
    from nas.results.front import Row
    from nas.results.shrinking import Shrunk
    from nas.stages.latency import Latency
    from search_spaces import Space
    from search_spaces.narrowing import Closed
    from supernets.catalogue import Entry
    from supernets.export import Exported
    from supernets.profile import Profile
    from supernets.standalone import StandalonePlan
    from supernets.training import TrainingResult

_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)
_verbose = False
_MOST_CLOSED = 4  # options that a training closed, for people
_MOST_ROWS = 16  # of a front, for people
_DIGEST = 8  # characters of a digest that tell architectures apart for people
_NOTABLE = 0.05  # share by which a machine must be slower than before for a word about it
_WIDE = 10_000  # characters of a line that nobody's window bounds

_NUMBERS = re.compile(r"\d+(?:\.\d+)?")
_T = TypeVar("_T")


def escape(text: str) -> str:
    """A text as it stands: nothing in it is markup, and no character of it is obeyed by a terminal.

    Names and notes come from files and databases, which anything may have written.
    """
    return without_markup(plain(text))


def plain(text: str) -> str:
    """A text whose unprintable characters are spelled, as in \\x1b, but for ends of lines and tabs."""
    return "".join(one if one.isprintable() or one in "\n\t" else one.encode("unicode_escape").decode() for one in text)


def set_quiet(quiet: bool) -> None:
    """Results and errors only."""
    _err.quiet = quiet


def quiet() -> bool:
    return _err.quiet


def set_verbose(verbose: bool) -> None:
    """All there is to tell."""
    global _verbose
    _verbose = verbose


def verbose() -> bool:
    return _verbose


def results(texts: Sequence[str]) -> None:
    """What came of it, also where it is quiet."""
    for text in texts:
        _out.print(escape(text), soft_wrap=True)


def say(text: str) -> None:
    """A sentence about what was done or comes next."""
    if not quiet():
        _out.print(escape(text), soft_wrap=True)


def headline(text: str) -> None:
    if not quiet():
        _out.print(f"\n[bold]{escape(text)}[/bold]", soft_wrap=True)


def error(text: str) -> None:
    sys.stderr.write(f"error: {plain(' '.join(text.split()))}\n")


def stopping() -> None:
    """After the first Ctrl-C of a search."""
    sys.stderr.write("stopping: what is being evaluated is finished first; Ctrl-C again stops at once\n")


def stopped() -> None:
    """After Ctrl-C."""
    sys.stderr.write("stopped: the same command goes on from here\n")


@contextmanager
def bar(title: str) -> Iterator[Tick]:
    """A bar with rate and time left on a terminal; elsewhere a line every half minute; nothing where it is quiet."""
    if quiet():
        yield silent
    elif not _err.is_terminal:
        yield _lines(title)
    else:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=_err) as progress:
            task = progress.add_task(escape(title), total=None, rate="")

            def tick(done: int, total: int) -> None:
                speed = progress.tasks[0].speed
                progress.update(task, completed=done, total=total, rate=f"{speed:.1f}/s" if speed else "")

            yield tick


def _lines(title: str, every_s: float = 30.0) -> Tick:
    """Progress for a log. The rate is that of this call: what was found done does not count."""
    begin: tuple[float, int] | None = None
    last = time.monotonic()

    def tick(done: int, total: int) -> None:
        nonlocal begin, last
        now = time.monotonic()
        if begin is None:
            begin = now, done
        if done < total and now - last >= every_s:
            last = now
            rate = (done - begin[1]) / max(now - begin[0], 1e-9)
            left = f", {(total - done) / rate:.0f} s left" if rate else ""
            sys.stderr.write(f"{title}: {done} of {total}, {rate:.2g}/s{left}\n")

    return tick


def _table(*columns: str, header: bool = True, numbers: bool = False) -> Table:
    """Without lines; a text that is too long for the terminal goes on below, never cut."""
    table = Table(box=None, show_header=header, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for index, name in enumerate(columns):
        table.add_column(escape(name), justify="right" if numbers and index else "left", overflow="fold")
    return table


def _show(table: Table) -> None:
    """As wide as the terminal; in a pipe or a file as wide as it needs to be, without spaces at the end of lines."""
    if _out.is_terminal or "COLUMNS" in os.environ:
        _out.print(table)
        return
    text = io.StringIO()
    Console(file=text, width=_WIDE, highlight=False).print(table)  # whose width is 80 in a pipe, whatever print is told
    _out.file.write("".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines()))


def profiles(found: Mapping[str, Profile]) -> None:
    """What networks of a space cost, before anything is trained."""
    names = ("params", "macs", "activation_bytes")
    table = _table("network", *(metric(name).phrase for name in names), numbers=True)
    for label, profile in found.items():
        table.add_row(label, *(metric(name).text(getattr(profile, name)) for name in names))
    if not quiet():
        _show(table)


def methods(title: str, option: str, found: Sequence[Entry]) -> None:
    """What there is to choose from for an option of the command line."""
    _out.print(f"[bold]{escape(title)}[/bold], {escape(option)}", soft_wrap=True)
    table = _table("name", "what it does; its settings; its papers", header=False)
    for entry in found:
        told = filter(None, (entry.summary, entry.settings, " ".join(entry.papers)))
        table.add_row(escape(entry.name), escape("\n".join(told)))
    _show(table)


def trained(result: TrainingResult, strategy: str, weights: str) -> None:
    """What was done now to have a trained supernet, and what it cost."""
    if result.steps == 0:
        say(f"supernet: the weights it began with, as they are, {weights}")
        return
    if result.resumed_from == result.steps:
        say(f"supernet: found trained, {result.steps:,} steps of {strategy!r}, weights {weights}")
        closed(result.closed)
        return
    begin = f"went on from step {result.resumed_from:,} to" if result.resumed_from else "trained"
    say(f"supernet: {begin} {result.steps:,} steps of {strategy!r} in {result.seconds:.0f} s, weights {weights}")
    if result.skipped:
        say(f"{result.skipped} steps were left out: their loss or gradient was not finite")
    closed(result.closed)


def closed(found: Sequence[Closed]) -> None:
    """What a training has closed, and why; all of it where details are wanted."""
    if found:
        say(f"{len(found)} options were closed on the way, and the search leaves them out:")
    most = len(found) if verbose() else _MOST_CLOSED
    for one in found[:most]:
        say(f"  {one.path} = {one.option}: {one.why}")
    if len(found) > most:
        say(f"  {len(found) - most} more: nas --verbose tells all, and so does the dashboard")


def curve(points: Sequence[CurvePoint], name: str) -> None:
    """The last values of the smallest, random and largest subnets."""
    last = {point.which: point.value for point in points if point.metric == name}
    texts = (
        f"{which} {metric(name).text(last[which])}" for which in ("smallest", "random", "largest") if which in last
    )
    if last:
        say(f"{metric(name).phrase} of its networks: {', '.join(texts)}")


def studies(found: Sequence[StudyRecord], counts: Mapping[str, int], as_json: bool) -> None:
    """All studies of a database."""
    if as_json:
        records = [asdict(study) | {"evaluations": counts[study.name]} for study in found]
        sys.stdout.write(json.dumps(records, indent=2) + "\n")
    elif not found:
        _out.print("no studies yet: nas demo makes one, nas search my_run.py yours")
    else:
        table = _table("study", "status", "evaluated", "objectives", "limits", "created (UTC)")
        for study in found:
            objectives, limits = ", ".join(study.objectives), ", ".join(study.limits) or "-"
            created = study.created[:16].replace("T", " ")
            row = (study.name, study.status, str(counts[study.name]), objectives, limits, created)
            table.add_row(*map(escape, row))
        _show(table)


def study(
    record: StudyRecord,
    num_evaluations: int,
    supernet: SupernetRecord | None,
    distributions: Sequence[Distribution] = (),
) -> None:
    """One study, field by field, how its supernet was trained, and what had been learnt before by gradients."""
    table = _table("", "", header=False)
    how = {} if supernet is None else {"sharing": supernet.sharing, "strategy": supernet.settings.get("strategy")}
    settings = {name: value for name, value in record.settings.items() if name != "closed"}
    shown = asdict(record) | {"settings": settings, "evaluations": num_evaluations} | how
    for name, value in shown.items():
        table.add_row(name.replace("_", " "), escape(_listed(value) or "-"))
    for one in record.settings.get("closed", ()):
        table.add_row("closed", escape(f"{one['path']} = {one['option']}: {one['why'] or 'by the run file'}"))
    _show(table)
    if distributions:
        learnt(distributions)


def learnt(distributions: Sequence[Distribution]) -> None:
    """What a gradient search has learnt, and all that it warns of."""
    first = distributions[0]
    say(f"gradient search: {first.steps[-1]:,} steps of {first.method!r} in {first.seconds:.0f} s")
    by_derived: dict[str, list[Distribution]] = {}
    for found in distributions:
        by_derived.setdefault(found.arch.digest, []).append(found)
    for digest, group in by_derived.items():
        labels = ", ".join(found.label for found in group if found.label)
        say(f"derived {digest[:_DIGEST]}{' for ' if labels else ''}{labels}, {_certainty(group)}")
    costs = [metric(name).phrase for name in first.settings.get("objectives", ())[1:]]
    if len(distributions) > 1 and costs:
        say(f"(the numbers are the weights of {' and '.join(costs)}, of 1 in all)")
    warnings = {(warning, found.label): None for found in distributions for warning in found.warnings}
    for warning, label in warnings:
        _warn(f"{label}: {warning}" if label else warning)


def _certainty(group: Sequence[Distribution]) -> str:
    """How much distributions leave open."""
    likeliest = [max(vector) for found in group for vector in found.final.values() if len(vector) > 1]
    return f"likeliest options at {sum(likeliest) / len(likeliest):.0%} on average" if likeliest else "no choice left"


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
        _out.print(why if failure is None else f"evaluations failed, for instance: {escape(failure)}", soft_wrap=True)
        return
    others = {latency(name) for name in own if target not in (None, name)}
    _rows(record, rows, leave_out=others)
    if len(own) > 1 and target is None:
        say(f"one of these fronts: nas front {record.name} --target {next(iter(own))}; near all of them: --compromises")
    broken = [row for row in rows if row.broken]
    if broken:
        say(f"{len(broken)} of them break a limit as measured, though predicted to keep it (marked !)")


def hyperband(outcome: Outcome, trials: Sequence[Trial], name: str, steps: int, paid: int) -> None:
    """What trainings under a budget found: each budget with the best of its networks, and the best of all.

    Args:
        name: of the metric.
        steps: of the budget 1.
        paid: budgets of all trainings.
    """
    headline(f"Hyperband up to {outcome.largest} x {steps:,} steps: {len(trials)} trainings, {paid * steps:,} steps")
    text = metric(name).text
    table = _table("steps", "networks", "failed", f"best {name}", f"median {name}", numbers=True)
    for budget in sorted({trial.budget for trial in trials}):
        of_budget = [trial for trial in trials if trial.budget == budget]
        found = sorted(trial.metrics[name] for trial in of_budget if trial.error is None)
        told = [text(found[0]), text(statistics.median(found))] if found else ["-", "-"]
        table.add_row(f"{budget * steps:,}", str(len(of_budget)), str(len(of_budget) - len(found)), *told)
    _show(table)
    if outcome.best is None:
        why = next((trial.error for trial in trials if trial.error), "nothing reached the largest budget")
        results([f"all failed at the largest budget, for instance: {why}"])
        return
    best = outcome.best
    results([f"best: {best.config.digest[:_DIGEST]}, {name} {text(best.metrics[name])}: {best.config.json()}"])


def forecast(best: Trial | None, trials: Sequence[Trial], name: str, steps: int) -> None:
    """How long trainings went on, and the best of them.

    Args:
        name: of the metric.
        steps: of an epoch.
    """
    lengths = Counter({trial.config.digest: trial.budget for trial in trials}.values())
    headline(f"forecasts: {sum(lengths.values())} trainings, {len(trials)} epochs of {steps:,} steps paid for")
    table = _table("epochs", "trainings that ended there", numbers=True)
    for length, number in sorted(lengths.items()):
        table.add_row(str(length), str(number))
    _show(table)
    if best is None:
        results([f"all failed, for instance: {next((trial.error for trial in trials if trial.error), 'none began')}"])
        return
    found = f"{name} {metric(name).text(best.metrics[name])} after {best.budget} epochs"
    results([f"best: {best.config.digest[:_DIGEST]}, {found}: {best.config.json()}"])


def carbs(found: Sequence[tuple[Mapping[str, float | int], float, float]], trials: Sequence[Trial], name: str) -> None:
    """The front of quality and cost among settings, from the cheapest on."""
    failed = sum(trial.error is not None for trial in trials)
    broke = f", {failed} failed" if failed else ""
    headline(f"CARBS: {len(trials)} trainings{broke}; settings on the front of {name} and cost")
    if not found:
        results([f"all failed, for instance: {next(trial.error for trial in trials if trial.error)}"])
        return
    table = _table("examples", name, *found[0][0], numbers=True)
    for settings, value, cost in found:
        table.add_row(f"{cost:,.0f}", metric(name).text(value), *(f"{setting:.3g}" for setting in settings.values()))
    _show(table)


def compromises(record: StudyRecord, rows: Sequence[Row]) -> None:
    """The networks near every front as a table."""
    own = record.settings.get("targets", {})
    headline(f"{len(rows)} networks of {record.name} near the front of each of {', '.join(own) or 'its one target'}")
    if rows:
        _rows(record, rows)
    else:
        say("no network keeps the limits of all targets and is within 5 % of every front: search longer")


def rejected(rules: Mapping[str, int]) -> None:
    """How many candidates were not evaluated, by the hurdle that each did not clear."""
    if rules:
        why = ", ".join(f"{count} by {rule}" for rule, count in rules.items())
        say(f"{sum(rules.values())} candidates were rejected before their evaluation: {why}")


def shrunk(study: str, found: Shrunk, space: Space) -> None:
    """What no good network needs, and why the rest stays."""
    before, after, num = space.how_many(), found.space.how_many(), len(found.closed)
    headline(f"{num} of {len(found.options)} options of study {study} can be closed: {before} networks, then {after}")
    table = _table("choice", "option", "evaluated", "on the front", "the front loses", "")
    for one in found.options:
        cells = (one.path, str(one.option), str(one.seen), str(one.on_front), str(one.loss))
        table.add_row(*map(escape, cells), escape(one.stays and f"stays: {one.stays}") or "closed")
    _show(table)
    if found.closed:
        say(f"without all that is closed the front loses {found.loss} of its hypervolume")


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
    table = _table("architecture", *headers, *(["on the front of"] if several else []), numbers=True)
    for row in shown:
        targets = [", ".join(row.targets)] if several else []
        table.add_row(row.arch.digest[:_DIGEST], *(_cell(row, name) for name in names), *targets)
    _show(table)
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


def foretold(plan: StandalonePlan) -> None:
    """What the trust report trains, costs and can decide, or why there will be none."""
    if plan.refused:
        _warn(f"no trust report: {plan.refused}")
        return
    say(f"trust report: {planned(len(plan.archs), len(plan.repeated), plan.steps, plan.share, plan.asked)}")


def trust(found: Trust, correction: Corrected | None = None) -> None:
    """How far the front's order can be believed, and how the front was corrected for it."""
    headline("trust report")
    if found.level == "reliable":
        _out.print(escape(found.verdict), soft_wrap=True)
    else:
        _warn(found.verdict)
    if found.banner:
        _warn(found.banner)
    if correction is not None and correction.sentence:
        _out.print(escape(correction.sentence), soft_wrap=True)
    if not quiet():
        table = _table("", "", header=False)
        for fact in brief(found):
            table.add_row(fact.name, fact.text)
        _show(table)


def targets(found: Sequence[TargetRecord], counts: Mapping[tuple[str, str], tuple[int, str]], as_json: bool) -> None:
    """Hardware targets, the newest version of each name first, and how much is measured on them."""
    none = (0, "")
    if as_json:
        records = [
            asdict(target) | {"version": target.version, "measurements": count, "last_measured": last or None}
            for target in found
            for count, last in [counts.get((target.name, target.version), none)]
        ]
        sys.stdout.write(json.dumps(records, indent=2) + "\n")
        return
    table = _table("target", "kind", "version", "measurements", "last measured (UTC)", "machine")
    seen: set[str] = set()
    for target in found:
        count, last = counts.get((target.name, target.version), none)
        settings = "".join(f" {name}={value}" for name, value in target.settings.items())
        earlier = " (earlier)" if target.name in seen else ""
        version = f"{target.version[:_DIGEST]}{earlier}" if target.description else "-"
        when = last[:16].replace("T", " ") or "-"
        row = (target.name, f"{target.kind}{settings}", version, str(count), when, target.machine or "-")
        table.add_row(*map(escape, row))
        seen.add(target.name)
    _show(table)


def measured(target: TargetRecord, found: Sequence[Measurement], num_new: int) -> None:
    """Range and spread of what was measured, and what was odd about it."""
    low, high = (metric("latency_ms").text(end(m.median_ms for m in found)) for end in (min, max))
    spread = sorted(m.iqr_ms / m.median_ms for m in found)[len(found) // 2]
    known = f", {len(found) - num_new} of them known before" if num_new < len(found) else ""
    _out.print(
        escape(
            f"{target.name} (version {target.version[:_DIGEST]}): {len(found)} networks{known}, {low} to {high}, "
            f"the middle half of the passes spans {spread:.1%} of the median"
        ),
        soft_wrap=True,
    )
    pace = max((m.conditions.get("slowdown", 1.0) for m in found), key=lambda pace: abs(pace - 1), default=1.0)
    if abs(pace - 1) > _NOTABLE:
        word = "slower" if pace > 1 else "faster"
        say(f"the machine was up to {abs(pace - 1):.0%} {word} than the first time; figures are brought to that scale")
    notes: dict[str, list[str]] = {}
    for note in (note for m in found for note in m.notes):
        notes.setdefault(_NUMBERS.sub("#", note), []).append(note)
    for alike in notes.values():
        said = max(alike, key=lambda note: [float(number) for number in _NUMBERS.findall(note)])
        _warn(f"{len(alike)} of {len(found)} networks{', at most' if len(alike) > 1 else ''}: {said}")


def predictor(target: str, found: Latency) -> None:
    """How far the latencies predicted for a target can be trusted."""
    if found.is_whole():
        say(f"latency on {target}: all {len(found.codes)} networks of the space are measured")
    elif found.quality is None:
        _warn(f"latency on {target}: predicted from {len(found.codes)} networks, too few to say how well")
    else:
        helped = f", with what is known of {', '.join(found.others)}" if found.others else ""
        say(f"latency on {target}: {found.quality.verdict}{helped}")
    for note in found.notes:
        _warn(f"latency on {target}: {note}")


def checked(text: str, changed: bool) -> None:
    """Whether a machine is as it was."""
    if changed:
        _warn(text)
    else:
        _out.print(escape(text), soft_wrap=True)


def _warn(text: str) -> None:
    _out.print(f"[bold yellow]{escape(text)}[/]", soft_wrap=True)


def architecture(found: Evaluation, row: Row, life: Mapping[str, Any]) -> None:
    """One architecture: its values, what was found, what is expected of it alone and what was verified; its life."""
    headline(f"{found.arch.kind} {found.arch.digest}")
    sys.stdout.write(json.dumps(found.arch.to_dict(), indent=2) + "\n")
    told = {name: estimate.value for name, estimate in row.corrected.items()}
    columns = {"evaluated": row.metrics, **({"corrected": told} if told else {}), "verified": row.verified}
    table = _table("metric", *columns, numbers=True)
    for name in dict.fromkeys([*row.metrics, *row.verified]):
        cells = (metric(name).text(values[name]) if name in values else "-" for values in columns.values())
        table.add_row(metric(name).phrase, *cells)
    if found.failed:
        _out.print(f"failed: {escape(found.error or '')}", soft_wrap=True)
    else:
        _show(table)
    _show_life(life)


def _show_life(told: Mapping[str, Any]) -> None:
    """Which evaluation it was, how it was proposed and of which others, when it was stored and what it took."""
    parents = " and ".join(digest[:_DIGEST] for digest in told["parents"])
    proposed = [f"proposed as: {told['proposed']}{f' of {parents}' if parents else ''}"] if told["proposed"] else []
    stored = [f"stored {told['stored']}"] if told["stored"] else []
    took = f"took {told['seconds']:.3g} s on {told['worker'] or 'this machine'}"
    _out.print(escape("; ".join([f"evaluation {told['evaluation']:,}", *proposed, *stored, took])), soft_wrap=True)


def comparison(first: Evaluation, second: Evaluation) -> None:
    """Where two architectures differ."""
    table = _table("", first.arch.digest[:_DIGEST], second.arch.digest[:_DIGEST], numbers=True)
    for path, (one, other) in first.arch.diff(second.arch).items():
        table.add_row(escape(path), escape(_shown(one)), escape(_shown(other)))
    table.add_section()
    for name in dict.fromkeys([*first.metrics, *second.metrics]):
        cells = (metric(name).text(e.metrics[name]) if name in e.metrics else "-" for e in (first, second))
        table.add_row(metric(name).phrase, *cells)
    _show(table)


def _listed(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {' '.join(item) if _is_texts(item) else _shown(item)}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else _shown(value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)


def exported(found: Exported, row: Row) -> None:
    """Where an exported network lies, and how near its files come to it."""
    headline(f"exported {row.arch.digest[:_DIGEST]} to {found.directory}")
    for name, path in found.paths.items():
        apart = f", outputs within {found.differences[name]:.1e} of the network's" if name in found.differences else ""
        _out.print(f"  {path.name}{apart}", soft_wrap=True)


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
