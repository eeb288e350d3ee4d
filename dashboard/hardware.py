"""The read model of hardware: what was measured on each version of a target, and what a predictor made of it."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import pandas as pd

from nas.objectives.units import metric, si
from nas.records import Measurement, PredictorRecord, SpaceRecord, TargetRecord

_NOTHING = "–"
_MOST_DIFFERENCES = 3
_FEWEST_PAIRS = 20

Key = tuple[str, str]
"""Name and version of a target."""
Span = tuple[float, float]


@dataclass(frozen=True)
class Measured:
    """What was measured on one version of a target; a span is None where nothing of the kind was."""

    count: int
    last: str
    latency_ms: Span | None
    spread: float | None
    """Interquartile range as a share of the median, in the median over all networks; None where none is known."""
    peak_bytes: Span | None
    energy_mj: Span | None
    noted: tuple[Measurement, ...]
    """Those with notes."""


def measured(found: Sequence[Measurement]) -> Measured:
    spreads = [one.iqr_ms / one.median_ms for one in found if one.median_ms > 0]
    return Measured(
        len(found),
        max((one.created for one in found), default=""),
        _span(one.median_ms for one in found),
        median(spreads) if any(spreads) else None,  # a table tells of no spread, which is not a spread of nothing
        _span(one.peak_bytes for one in found),
        _span(one.energy_mj for one in found),
        tuple(one for one in found if one.notes),
    )


def _span(values: Iterable[float | None]) -> Span | None:
    known = [value for value in values if value is not None]
    return (min(known), max(known)) if known else None


def in_order(versions: Sequence[TargetRecord]) -> list[TargetRecord]:
    """All versions by name, those of one name as they come: the newest first."""
    return sorted(versions, key=lambda target: target.name)


def current(versions: Sequence[TargetRecord]) -> dict[str, TargetRecord]:
    """Each target as it is now, by name; of `versions` the newest of a name come first."""
    return {target.name: target for target in reversed(versions)}


def targets_table(versions: Sequence[TargetRecord], found: Mapping[Key, Measured]) -> pd.DataFrame:
    """One row a version, below the target as it is now what it was before; memory and energy where any is known."""
    now = current(versions)
    rows = [_row(target, now[target.name], found[target.name, target.version]) for target in in_order(versions)]
    table = pd.DataFrame(rows)
    optional = [name for name in ("peak memory", "energy a pass (mJ)") if (table[name] == _NOTHING).all()]
    return table.drop(columns=optional)


def _row(target: TargetRecord, now: TargetRecord, found: Measured) -> dict[str, Any]:
    is_current = target.version == now.version
    return {
        "target": f"**{target.name}**" if is_current else "↳\u00a0earlier",
        "kind": target.kind,
        "machine": (target.machine or _NOTHING) if is_current else differences(target, now),
        "version": f"`{target.version[:8]}`",
        "measured": f"{found.count:,}",
        "latency (ms)": span_text(found.latency_ms, "latency_ms"),
        "spread": _NOTHING if found.spread is None else percent(found.spread),
        "peak memory": span_text(found.peak_bytes, "peak_bytes"),
        "energy a pass (mJ)": span_text(found.energy_mj, "energy_mj"),
        "last (UTC)": found.last.replace("T", " ")[:16] or _NOTHING,
        "with notes": f"{len(found.noted):,}" if found.noted else _NOTHING,
    }


def differences(before: TargetRecord, now: TargetRecord) -> str:
    """What an earlier version had that the target has not now: `torch 2.4.0, threads 2`."""
    keys = dict.fromkeys([*before.description, *now.description])
    found = [
        f"{key} {before.description.get(key, 'not told')}"
        for key in keys
        if before.description.get(key) != now.description.get(key)
    ]
    more = [f"{len(found) - _MOST_DIFFERENCES} more"] if len(found) > _MOST_DIFFERENCES else []
    return "differs: " + ", ".join([*found[:_MOST_DIFFERENCES], *more])


def span_text(span: Span | None, name: str) -> str:
    """A span of a metric's values in three figures or more, without its unit unless that is bytes: `0.41–12.3`."""
    if span is None:
        return _NOTHING
    texts = dict.fromkeys(f"{si(value)}B" if metric(name).is_count else _three_figures(value) for value in span)
    return "–\u2060".join(texts)


def _three_figures(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def kinds_of_notes(found: Iterable[Measured]) -> list[tuple[str, int]]:
    """Notes that say the same of different numbers, which are left out, with how many there are; the most first."""
    notes = [note for version in found for one in version.noted for note in one.notes]
    return Counter(re.sub(r"\d[\d.,]*( ?%)?", "…", note) for note in notes).most_common()


def notes_table(found: Iterable[Measured]) -> pd.DataFrame:
    """One row a note: where, of which network, what; the latest first."""
    rows = [
        {
            "target": one.target,
            "version": one.version[:8],
            "network": one.arch_digest[:8],
            "latency (ms)": one.median_ms,
            "note": note,
            "measured": pd.to_datetime(one.created, utc=True),
        }
        for version in found
        for one in version.noted
        for note in one.notes
    ]
    return pd.DataFrame(rows).sort_values("measured", ascending=False, ignore_index=True) if rows else pd.DataFrame()


def choices(
    predictors: Sequence[PredictorRecord], versions: Sequence[TargetRecord], spaces: Mapping[str, SpaceRecord]
) -> dict[str, PredictorRecord]:
    """The predictors by what they are called, those of targets as they are now first."""
    now = {target.name: target.version for target in current(versions).values()}

    def name(one: PredictorRecord) -> str:
        space = spaces[one.space_digest].name if one.space_digest in spaces else one.space_digest[:8]
        earlier = "" if now.get(one.target) == one.version else f"  ·  earlier version {one.version[:8]}"
        return f"{one.target}  ·  {space}{earlier}"

    ordered = sorted(predictors, key=lambda one: (now.get(one.target) != one.version, name(one)))
    names = Counter(map(name, ordered))
    exact = {True: "{}", False: "{}  ·  space {}, networks {}"}
    return {
        exact[names[name(one)] == 1].format(name(one), one.space_digest[:8], one.network[:8]): one for one in ordered
    }


def facts(predictor: PredictorRecord) -> dict[str, str]:
    """The figures of a predictor's quality on what was held back, those that are known."""
    quality = predictor.quality
    asked = _figure(quality.get("coverage_asked"), lambda value: f", {percent(value)} asked")
    known = {
        "Spearman's rho": _figure(quality.get("spearman"), lambda value: f"{value:.3f}".replace("-", "−")),
        "mean error (MAPE)": _figure(quality.get("mape"), percent),
        "bounds kept": _figure(quality.get("coverage"), lambda value: f"{percent(value)}{asked}"),
        "measurements": _figure(quality.get("measurements"), lambda value: f"{value:,.0f}"),
        "held back in turn": _figure(quality.get("held_back"), lambda value: f"{value:,.0f} predictions"),
        "kind": predictor.kind.replace("_", " "),
        "helped by": ", ".join(quality.get("helped_by") or []),
        "fitted": predictor.created.replace("T", " ")[:16] + " UTC",
        "version of the target": predictor.version[:8],
    }
    return {name: text for name, text in known.items() if text}


def _figure(value: Any, text: Any) -> str:
    is_number = isinstance(value, int | float) and math.isfinite(value)
    return str(text(value)) if is_number else ""


def pairs_table(predictor: PredictorRecord) -> pd.DataFrame:
    """Columns measured, predicted, upper (ms; NaN where no bound was given) and above, of networks held back."""
    names = ["measured", "predicted", "upper"]
    table = pd.DataFrame(predictor.quality.get("pairs") or [], columns=names).astype(dict.fromkeys(names, float))
    table["above"] = table["measured"] > table["upper"]
    return table


def shares(predictor: PredictorRecord, coverage: float = 0.9) -> tuple[float, float] | None:
    """From which share of a prediction to which the measured latencies of held-back networks lay, that many of them;
    None where too few were held back to tell."""
    rows = pairs_table(predictor)
    if len(rows) < _FEWEST_PAIRS or not (rows["predicted"] > 0).all():
        return None
    ratios = rows["measured"] / rows["predicted"]
    low, high = ratios.quantile([(1 - coverage) / 2, (1 + coverage) / 2])
    return float(low), float(high)
