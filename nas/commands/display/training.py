"""Training shown: what networks cost, how the supernet was trained, what gradients learned, and the trust report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from nas.commands.display.terminal import (
    DIGEST,
    escape,
    headline,
    quiet,
    results,
    say,
    show,
    table_of,
    titled,
    verbose,
    warn,
)
from nas.objectives.units import metric
from nas.records import (
    CurvePoint,
    Distribution,
    Trust,
)
from nas.results.trust import brief, planned

if TYPE_CHECKING:
    from nas.results.corrected import Corrected
    from search_spaces.narrowing import Closed
    from supernets.catalogue import Entry
    from supernets.profile import Profile
    from supernets.standalone import StandalonePlan
    from supernets.training import TrainingResult

_MOST_CLOSED = 4  # options that a training closed, for people
_T = TypeVar("_T")


def profiles(found: Mapping[str, Profile]) -> None:
    """What networks of a space cost, before anything is trained."""
    names = ("params", "macs", "activation_bytes")
    table = table_of("network", *(metric(name).phrase for name in names), numbers=True)
    for label, profile in found.items():
        table.add_row(label, *(metric(name).text(getattr(profile, name)) for name in names))
    if not quiet():
        show(table)


def methods(title: str, option: str, found: Sequence[Entry]) -> None:
    """What there is to choose from for an option of the command line."""
    titled(title, option)
    table = table_of("name", "what it does; its settings; its papers", header=False)
    for entry in found:
        told = filter(None, (entry.summary, entry.settings, " ".join(entry.papers)))
        table.add_row(escape(entry.name), escape("\n".join(told)))
    show(table)


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


def learnt(distributions: Sequence[Distribution]) -> None:
    """What a gradient search has learnt, and all that it warns of."""
    first = distributions[0]
    say(f"gradient search: {first.steps[-1]:,} steps of {first.method!r} in {first.seconds:.0f} s")
    by_derived: dict[str, list[Distribution]] = {}
    for found in distributions:
        by_derived.setdefault(found.arch.digest, []).append(found)
    for digest, group in by_derived.items():
        labels = ", ".join(found.label for found in group if found.label)
        say(f"derived {digest[:DIGEST]}{' for ' if labels else ''}{labels}, {_certainty(group)}")
    costs = [metric(name).phrase for name in first.settings.get("objectives", ())[1:]]
    if len(distributions) > 1 and costs:
        say(f"(the numbers are the weights of {' and '.join(costs)}, of 1 in all)")
    warnings = {(warning, found.label): None for found in distributions for warning in found.warnings}
    for warning, label in warnings:
        warn(f"{label}: {warning}" if label else warning)


def _certainty(group: Sequence[Distribution]) -> str:
    """How much distributions leave open."""
    likeliest = [max(vector) for found in group for vector in found.final.values() if len(vector) > 1]
    return f"likeliest options at {sum(likeliest) / len(likeliest):.0%} on average" if likeliest else "no choice left"


def foretold(plan: StandalonePlan) -> None:
    """What the trust report trains, costs and can decide, or why there will be none."""
    if plan.refused:
        warn(f"no trust report: {plan.refused}")
        return
    say(f"trust report: {planned(len(plan.archs), len(plan.repeated), plan.steps, plan.share, plan.asked)}")


def trust(found: Trust, correction: Corrected | None = None) -> None:
    """How far the front's order can be believed, and how the front was corrected for it."""
    headline("trust report")
    if found.level == "reliable":
        results([found.verdict])
    else:
        warn(found.verdict)
    if found.banner:
        warn(found.banner)
    if correction is not None and correction.sentence:
        results([correction.sentence])
    if not quiet():
        table = table_of("", "", header=False)
        for fact in brief(found):
            table.add_row(fact.name, fact.text)
        show(table)
