"""Elements that several pages share: a network's metrics with intervals, its rank, and lists of networks."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import queries, text
from dashboard.planes import Plane
from dashboard.queries import StudyView
from nas.objectives.limits import Limit
from nas.objectives.units import metric
from nas.records import Evaluation

_NOTHING = "–"


def label(shown: StudyView, place: int) -> str:
    """Return a network's label in a list: its digest, its objectives, and whether it breaks a limit."""

    def cell(name: str) -> Any:
        return shown.table.at[place, name]

    known = {name: float(cell(name)) for name in shown.study.objectives if name in shown.table}
    values = [metric(name).text(value) for name, value in known.items() if math.isfinite(value)]
    return "  ·  ".join([cell("_digest")[:8], *values[:3], *([] if cell("_feasible") else ["breaks a limit"])])


def show_metrics(shown: StudyView, network: Evaluation, compared: Evaluation | None) -> None:
    """Show metrics with units beside the measured ones, or beside another network's."""
    verified = shown.verified.get(network.arch.digest, {})
    place = shown.places[network.arch.digest]
    rows = []
    for name in dict.fromkeys([*shown.metrics, *verified]):
        named, value = metric(name), network.metrics.get(name, math.nan)
        row = {"metric": text.markdown(named.axis) + ("  ↓" if name in shown.study.objectives else "")}
        row[network.arch.digest[:8]] = named.text(value) + _spread(shown, place, name)
        if compared:
            theirs = compared.metrics.get(name, math.nan)
            row[compared.arch.digest[:8]] = named.text(theirs)
            row["change"] = change(name, value, theirs)
        elif verified:
            row["verified"] = named.text(verified.get(name, math.nan))
        rows.append(row)
    st.table(pd.DataFrame(rows).set_index("metric"))
    if verified and not compared:
        st.caption("Verified: what the network taken out of the supernet showed by itself.")


def _spread(shown: StudyView, place: int, name: str) -> str:
    column = queries.spread(name)
    if column not in shown.table:
        return ""
    value = float(shown.table[column].iloc[place])
    return f" ± {metric(name).text(value)}" if math.isfinite(value) else ""


def say_place(shown: StudyView, plane: Plane, network: Evaluation) -> None:
    """Show whether the network is on the front, and which limits it breaks."""
    digest = network.arch.digest
    is_on = bool(plane.table["_front"].get(shown.places[digest], False))
    place = "on the front" if is_on else "not on the front"
    st.caption(f"↓ minimised. {digest[:8]} is {place}{_broken(shown, plane.limits, network)}.")


def _broken(shown: StudyView, bounds: Sequence[Limit], network: Evaluation) -> str:
    """Return text on the limits that a network breaks as evaluated, or, if there are none, as measured."""
    evaluated = queries.broken_limits(network.metrics, bounds)
    broken = evaluated or queries.broken_limits(shown.verified.get(network.arch.digest, {}), bounds)
    limits = " and ".join(text.markdown(queries.limit_text(limit)) for limit in broken)
    return f"; {'it' if evaluated else 'as measured it'} breaks {limits}" if broken else ""


def change(name: str, before: float, after: float) -> str:
    """Return the change of a metric: in percentage points for a metric in per cent, else relative."""
    named = metric(name)
    if not (math.isfinite(before) and math.isfinite(after)):
        return _NOTHING
    if named.unit == "%":
        return f"{(after - before) * named.factor:+.2f} points".replace("-", "−")
    return f"{(after / before - 1) * 100:+.1f} %".replace("-", "−") if before > 0 else _NOTHING


def nearest(shown: StudyView, plane: Plane) -> tuple[Evaluation, str] | None:
    """Return the network that comes nearest to the limits, and by how much it misses each."""
    table = plane.table[~plane.table["_failed"]]
    if not len(table) or not plane.limits:
        return None
    missed = np.zeros(len(table))
    for limit in plane.limits:
        for column in (limit.metric, queries.measured(limit.metric)):
            if column in table:
                values = table[column].to_numpy(float)
                over = (values - limit.value) / (abs(limit.value) or 1.0) * (1 if limit.is_upper else -1)
                missed = np.maximum(missed, np.nan_to_num(over, nan=0.0))
    one = shown.at(int(table.index[int(np.argmin(missed))]))
    known = {**one.metrics, **shown.verified.get(one.arch.digest, {})}
    broken = queries.broken_limits(one.metrics, plane.limits) or queries.broken_limits(known, plane.limits)
    named = {limit.metric: metric(limit.metric) for limit in broken}
    return one, ", ".join(f"{of.phrase} {of.text(known[name])}" for name, of in named.items())


def listed(shown: StudyView, rows: pd.DataFrame) -> pd.DataFrame:
    """Return networks as a table: digest, whether on the front, and every metric in its display unit."""
    found = pd.DataFrame({"network": rows["_digest"].str[:8], "front": rows["_front"]})
    for name in shown.metrics:
        found[metric(name).axis] = rows[name] * metric(name).factor
    return found


def as_csv(shown: StudyView, rows: pd.DataFrame) -> str:
    """Return comma-separated lines, one per network: metrics in stored units, `measured_NAME`, architecture as JSON."""
    found = pd.DataFrame({"digest": rows["_digest"]})
    for name in shown.metrics:
        found[name] = rows[name]
        if queries.measured(name) in rows:
            found[f"measured_{name}"] = rows[queries.measured(name)]
        if queries.spread(name) in rows:
            found[f"{name}_std"] = rows[queries.spread(name)]
    found["architecture"] = [arch.json() for arch in shown.archs(rows.index)]
    return found.to_csv(index=False, lineterminator="\n")
