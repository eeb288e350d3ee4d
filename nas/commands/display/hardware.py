"""Hardware shown: targets, what was measured on them, and how well latency is predicted."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

from nas.commands.display.terminal import DIGEST, escape, results, say, show, table_of, warn
from nas.objectives.units import metric
from nas.records import (
    Measurement,
    TargetRecord,
)

if TYPE_CHECKING:
    from nas.stages.latency import Latency

_NOTABLE = 0.05  # share by which a machine must be slower than before for a word about it
_NUMBERS = re.compile(r"\d+(?:\.\d+)?")
_T = TypeVar("_T")


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
    table = table_of("target", "kind", "version", "measurements", "last measured (UTC)", "machine")
    seen: set[str] = set()
    for target in found:
        count, last = counts.get((target.name, target.version), none)
        settings = "".join(f" {name}={value}" for name, value in target.settings.items())
        earlier = " (earlier)" if target.name in seen else ""
        version = f"{target.version[:DIGEST]}{earlier}" if target.description else "-"
        when = last[:16].replace("T", " ") or "-"
        row = (target.name, f"{target.kind}{settings}", version, str(count), when, target.machine or "-")
        table.add_row(*map(escape, row))
        seen.add(target.name)
    show(table)


def measured(target: TargetRecord, found: Sequence[Measurement], num_new: int) -> None:
    """Range and spread of what was measured, and what was odd about it."""
    low, high = (metric("latency_ms").text(end(m.median_ms for m in found)) for end in (min, max))
    spread = sorted(m.iqr_ms / m.median_ms for m in found)[len(found) // 2]
    known = f", {len(found) - num_new} of them known before" if num_new < len(found) else ""
    results(
        [
            f"{target.name} (version {target.version[:DIGEST]}): {len(found)} networks{known}, {low} to {high}, "
            f"the middle half of the passes spans {spread:.1%} of the median",
        ]
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
        warn(f"{len(alike)} of {len(found)} networks{', at most' if len(alike) > 1 else ''}: {said}")


def predictor(target: str, found: Latency) -> None:
    """How far the latencies predicted for a target can be trusted."""
    if found.is_whole():
        say(f"latency on {target}: all {len(found.codes)} networks of the space are measured")
    elif found.quality is None:
        warn(f"latency on {target}: predicted from {len(found.codes)} networks, too few to say how well")
    else:
        helped = f", with what is known of {', '.join(found.others)}" if found.others else ""
        say(f"latency on {target}: {found.quality.verdict}{helped}")
    for note in found.notes:
        warn(f"latency on {target}: {note}")


def checked(text: str, changed: bool) -> None:
    """Whether a machine is as it was."""
    if changed:
        warn(text)
    else:
        results([text])
