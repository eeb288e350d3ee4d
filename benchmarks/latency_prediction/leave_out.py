"""What the rows on devices taken for new show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from benchmarks.latency_prediction.rotations import (
    BASELINES,
    CEILING,
    COVERAGE,
    DESIGNED,
    RANDOM,
    SPREAD,
    SUBSET,
    TOGETHER,
    Row,
)
from benchmarks.report import markdown

OURS = "transfer"
WORSE = 0.01
"""By how much the best baseline may be better on one device."""
_ABOUT = {
    SPREAD: "settings of one card spread over known and unseen devices, so that a near copy is usually known",
    TOGETHER: "all three settings of a card unseen together; these settings only",
    SUBSET: "nine other devices, with all 19 known",
    CEILING: "the device itself measured",
    "alone": "no other device known: the transfer is the ensemble",
}
Scores = dict[str, dict[str, list[list[float]]]]
"""By method and device, Spearman and MAPE of each draw and turn."""


def sections(rows: Sequence[Row]) -> list[str]:
    """Return a table of means over devices for each rotation and way to select measured networks."""
    lines = []
    for rotation in _ABOUT:
        for design in (RANDOM, DESIGNED):
            own = [row for row in rows if row["rotation"] == rotation and row.get("design", RANDOM) == design]
            if own:
                draws = len({row["draw"] for row in own})
                devices = len({row["device"] for row in own})
                told = f", what is measured {'drawn at random' if design == RANDOM else 'a diverse design'}"
                about = (
                    f"**{_ABOUT[rotation]}**{told if rotation != CEILING else ''}; {devices} devices, {draws} draws."
                )
                lines += ["", about[:2] + about[2].upper() + about[3:], "", _table(own)]
    return lines


def _table(rows: Sequence[Row]) -> str:
    """Return mean Spearman and MAPE of each method over devices, by number of measurements."""
    counts = sorted({row["k"] for row in rows})
    found = {k: scores(row for row in rows if row["k"] == k) for k in counts}
    methods = [*BASELINES, OURS, *sorted({name for each in found.values() for name in each} - {*BASELINES, OURS})]
    lines = []
    for method in methods:
        if any(method in each for each in found.values()):
            cells = [_cell(each.get(method)) for each in found.values()]
            lines.append([method if method != OURS else f"**{method}**", *cells])
    covered = [_coverage([row for row in rows if row["k"] == k]) for k in counts]
    if any(covered):
        lines.append([f"transfer: bounds of {COVERAGE:.0%} kept", *covered])
    return markdown(["Spearman, MAPE", *(f"{k} measured" for k in counts)], lines)


def scores(rows: Iterable[Row]) -> Scores:
    found: Scores = {}
    for row in rows:
        for method, pair in row["scores"].items():
            found.setdefault(method, {}).setdefault(row["device"], []).append(pair)
    return found


def mean(by_device: Mapping[str, list[list[float]]], which: int) -> float:
    """Return the mean over devices and draws of Spearman (0) or MAPE (1)."""
    return float(np.mean([np.mean([pair[which] for pair in pairs]) for pairs in by_device.values()]))


def compared(rows: Sequence[Row], k: int) -> list[str]:
    """Return devices on which a baseline ranks better by more than `WORSE`, mean over draws, and by how much."""
    found = scores(row for row in rows if row["k"] == k)
    if OURS not in found:
        return []
    worse = []
    for device, pairs in found[OURS].items():
        own = float(np.mean([pair[0] for pair in pairs]))
        others = {name: float(np.mean([p[0] for p in found[name][device]])) for name in BASELINES if name in found}
        best = max(others, key=lambda name: others[name])
        if others[best] > own + WORSE:
            worse.append(f"{device} ({own:.3f}, {best} {others[best]:.3f})")
    return worse


def aimed(rows: Sequence[Row], aims: Mapping[int, float], which: int) -> str:
    """Return a sentence that compares the result with the aim."""
    told = []
    better: Callable[[float, float], bool] = (lambda a, b: a >= b) if which == 0 else (lambda a, b: a <= b)
    for k, aim in aims.items():
        found = scores(row for row in rows if row["k"] == k)
        if OURS in found:
            reached = mean(found[OURS], which)
            shown = f"{reached:.4f} (aim {aim:.3f}" if which == 0 else f"{reached:.2f} % (aim {aim:g} %"
            told.append(f"{shown}, {'met' if better(reached, aim) else 'missed'}) from {k}")
    return ", ".join(told) or "no rows"


def _cell(by_device: Mapping[str, list[list[float]]] | None) -> str:
    return "" if by_device is None else f"{mean(by_device, 0):.4f}, {mean(by_device, 1):.1f} %"


def _coverage(rows: Sequence[Row]) -> str:
    kept = [row["coverage"] for row in rows if "coverage" in row]
    return f"{np.mean(kept):.1%}" if kept else ""


def by_device(rows: Sequence[Row], counts: Sequence[int]) -> str:
    """Return a table whose cells have Spearman of the best baseline, and of ours."""
    devices = sorted({row["device"] for row in rows})
    found = {k: scores(row for row in rows if row["k"] == k) for k in counts}
    lines = [[device, *(_pair(found[k], device) for k in counts)] for device in devices]
    return markdown(["Spearman: best baseline, transfer (MAPE)", *(f"{k} measured" for k in counts)], lines)


def _pair(found: Scores, device: str) -> str:
    if OURS not in found or device not in found[OURS]:
        return ""
    best = max(float(np.mean([p[0] for p in found[name][device]])) for name in BASELINES if name in found)
    own = np.mean(found[OURS][device], axis=0)
    return f"{best:.3f}, {own[0]:.3f} ({own[1]:.1f} %)"
