"""The read model of hardware: measurements on each version of a target, and the quality of predictors."""

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
    """Measurements on one version of a target; a span is None if none has such a value."""

    count: int
    last: str
    latency_ms: Span | None
    spread: float | None
    """Interquartile range as a share of the median, its median over all networks; None if unknown."""
    peak_bytes: Span | None
    energy_mj: Span | None
    noted: tuple[Measurement, ...]
    """The measurements with notes."""


def measured(found: Sequence[Measurement]) -> Measured:
    spreads = [one.iqr_ms / one.median_ms for one in found if one.median_ms > 0]
    return Measured(
        len(found),
        max((one.created for one in found), default=""),
        _span(one.median_ms for one in found),
        median(spreads) if any(spreads) else None,  # tables have no spread, which does not mean 0
        _span(one.peak_bytes for one in found),
        _span(one.energy_mj for one in found),
        tuple(one for one in found if one.notes),
    )


def _span(values: Iterable[float | None]) -> Span | None:
    known = [value for value in values if value is not None]
    return (min(known), max(known)) if known else None


def in_order(versions: Sequence[TargetRecord]) -> list[TargetRecord]:
    """Return all versions by name; those of one name in the given order, newest first."""
    return sorted(versions, key=lambda target: target.name)


def current(versions: Sequence[TargetRecord]) -> dict[str, TargetRecord]:
    """Return the current version of each target, by name; `versions` must have the newest first."""
    return {target.name: target for target in reversed(versions)}


def targets_table(versions: Sequence[TargetRecord], found: Mapping[Key, Measured]) -> pd.DataFrame:
    """Return a row per version, the current one of a target first; memory and energy only if any are known."""
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
    """Return the values of an earlier version that have changed since: `torch 2.4.0, threads 2`."""
    keys = dict.fromkeys([*before.description, *now.description])
    found = [
        f"{key} {before.description.get(key, 'not told')}"
        for key in keys
        if before.description.get(key) != now.description.get(key)
    ]
    more = [f"{len(found) - _MOST_DIFFERENCES} more"] if len(found) > _MOST_DIFFERENCES else []
    return "differs: " + ", ".join([*found[:_MOST_DIFFERENCES], *more])


def span_text(span: Span | None, name: str) -> str:
    """Return a span of a metric's values with three or more digits, without unit except bytes: `0.41–12.3`."""
    if span is None:
        return _NOTHING
    texts = dict.fromkeys(f"{si(value)}B" if metric(name).is_count else _three_figures(value) for value in span)
    return "–\u2060".join(texts)


def _three_figures(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def kinds_of_notes(found: Iterable[Measured]) -> list[tuple[str, int]]:
    """Return notes with their numbers replaced by "…", and how often each occurs, most frequent first."""
    notes = [note for version in found for one in version.noted for note in one.notes]
    return Counter(re.sub(r"\d[\d.,]*( ?%)?", "…", note) for note in notes).most_common()


def notes_table(found: Iterable[Measured]) -> pd.DataFrame:
    """Return a row per note with target, network and text, latest first."""
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
    """Return the predictors by display name, those of current targets first."""
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
    """Return the known figures of a predictor's quality on held-out measurements."""
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
    """Return columns measured, predicted, upper (ms; NaN without a bound) and above, of held-out networks."""
    names = ["measured", "predicted", "upper"]
    table = pd.DataFrame(predictor.quality.get("pairs") or [], columns=names).astype(dict.fromkeys(names, float))
    table["above"] = table["measured"] > table["upper"]
    return table


def shares(predictor: PredictorRecord, coverage: float = 0.9) -> tuple[float, float] | None:
    """Return the interval of measured over predicted latency that contains a share `coverage` of held-out networks;
    None if there are too few."""
    rows = pairs_table(predictor)
    if len(rows) < _FEWEST_PAIRS or not (rows["predicted"] > 0).all():
        return None
    ratios = rows["measured"] / rows["predicted"]
    low, high = ratios.quantile([(1 - coverage) / 2, (1 + coverage) / 2])
    return float(low), float(high)
