"""Draws the history of a search over its evaluations."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from dashboard import progress, text, theme
from dashboard.figures import axes
from nas.objectives.units import metric

_PLAIN: dict[str, Any] = {"color": theme.PLAIN, "opacity": 0.55}
_BROKEN: dict[str, Any] = {
    "color": theme.BROKEN,
    "opacity": 0.6,
    "symbol": "x-thin",
    "line": {"width": 1.2, "color": theme.BROKEN},
}
_MOST = 4000  # points per kind
_PER_ROW = 3


def hypervolume_figure(history: NDArray[np.float64]) -> go.Figure:
    """Draw the hypervolume over evaluations, `(n,)` from `progress.hypervolume_history`."""
    figure = go.Figure(
        go.Scatter(
            **_steps(history * 100),
            mode="lines",
            line={"color": theme.ACCENT, "width": 2, "shape": "hv"},
            fill="tozeroy",
            fillcolor="rgba(0,114,178,0.07)",
            hovertemplate="after %{x} evaluations<br>%{y:.1f} %<extra></extra>",
        )
    )
    figure.update_layout(template=theme.TEMPLATE, height=320, margin={"l": 12, "r": 24, "t": 12, "b": 12})
    figure.update_xaxes(title={"text": "evaluations"}, range=[0, max(1, len(history))])
    figure.update_yaxes(title={"text": "hypervolume (%)"}, rangemode="tozero")
    return figure


def best_figure(table: pd.DataFrame, objectives: Sequence[str]) -> go.Figure:
    """Draw each objective's best feasible value over evaluations in its own panel, with all values as faint points."""
    names = [name for name in objectives if name in table]
    feasible = table["_feasible"].to_numpy(bool)
    rows, across = max(1, -(-len(names) // _PER_ROW)), max(1, min(_PER_ROW, len(names)))
    figure = make_subplots(rows=rows, cols=across, horizontal_spacing=0.09, vertical_spacing=0.2 / rows)
    order = np.arange(1, len(table) + 1)
    for number, name in enumerate(names):
        named, place = metric(name), {"row": number // _PER_ROW + 1, "col": number % _PER_ROW + 1}
        for mask, label, marker in ((feasible, "evaluated", _PLAIN), (~feasible, "breaks a limit", _BROKEN)):
            shown = _thinned(np.flatnonzero(mask & table[name].notna().to_numpy()))
            trace = go.Scattergl(
                x=order[shown],
                y=table[name].to_numpy(float)[shown] * named.factor,
                mode="markers",
                name=label,
                marker={**marker, "size": 5},
                hovertemplate=f"evaluation %{{x}}<br>%{{y:{named.hover_format}}}<extra>{label}</extra>",
                showlegend=number == 0,
                legendgroup=label,
            )
            figure.add_trace(trace, **place)
        figure.add_trace(
            go.Scatter(
                **_steps(progress.best_so_far(table, name) * named.factor),
                mode="lines",
                line={"color": theme.ACCENT, "width": 2, "shape": "hv"},
                hovertemplate=f"best after %{{x}}<br>%{{y:{named.hover_format}}}<extra></extra>",
                name="best that keeps all limits",
                showlegend=number == 0,
                legendgroup="best",
            ),
            **place,
        )
        figure.update_yaxes(**axes.axis(named), **place)
        figure.update_xaxes(title={"text": "evaluations"}, range=[0, len(table) + 1], **place)
    figure.update_layout(template=theme.TEMPLATE, height=60 + 290 * rows, margin={"l": 12, "r": 24, "t": 44, "b": 12})
    return figure


def _steps(values: NDArray[np.float64]) -> dict[str, Any]:
    """Return the points of a step line: those where it changes, and the last."""
    changes = np.flatnonzero(np.diff(values, prepend=np.nan) != 0)
    places = np.unique([*changes, max(0, len(values) - 1)]).astype(int) if len(values) else np.zeros(0, dtype=int)
    return {"x": places + 1, "y": values[places]}


def _thinned(places: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return about `_MOST` positions at most, evenly spaced over the search."""
    return places[:: max(1, -(-len(places) // _MOST))]


def growth_figure(histories: Mapping[str, NDArray[np.float64]]) -> go.Figure:
    """Draw the hypervolumes of several studies over their evaluations, in a common unit."""
    figure = go.Figure(
        [
            go.Scatter(
                **_steps(history * 100),
                mode="lines",
                name=text.plot(name, 40),
                line={"shape": "hv", "width": 2, "color": theme.QUALITATIVE[place % len(theme.QUALITATIVE)]},
                hovertemplate="after %{x} evaluations<br>%{y:.1f} %<extra></extra>",
            )
            for place, (name, history) in enumerate(histories.items())
        ]
    )
    figure.update_layout(template=theme.TEMPLATE, height=320, showlegend=True)
    figure.update_xaxes(title={"text": "evaluations"}, rangemode="tozero")
    figure.update_yaxes(title={"text": "hypervolume (%)"}, rangemode="tozero")
    return figure


def timeline_figure(rows: pd.DataFrame) -> go.Figure:
    """Draw a row per worker with its evaluations over time; failed ones differ in colour and pattern.

    Columns as in `progress.timeline`.
    """
    figure = go.Figure()
    names = list(dict.fromkeys(rows["worker"]))
    looks = ((False, "evaluated", theme.SKY, ""), (True, "failed", theme.PICKED, "x"))
    for failed, label, color, pattern in looks:
        own = rows[rows["failed"] == failed]
        if not len(own):
            continue
        figure.add_trace(
            go.Bar(
                base=(own["end"] - pd.to_timedelta(own["seconds"], unit="s")).dt.tz_localize(None),
                x=1000 * own["seconds"].to_numpy(float),  # along an axis of time, in milliseconds
                y=[text.plot(worker, 30) for worker in own["worker"]],
                orientation="h",
                name=label,
                marker={"color": color, "line": {"width": 0.5, "color": theme.PAPER}, "pattern": {"shape": pattern}},
                customdata=list(zip(own["place"], own["seconds"].round(3), strict=True)),
                hovertemplate=f"evaluation %{{customdata[0]}}<br>%{{customdata[1]}} s<extra>{label}</extra>",
            )
        )
    figure.update_layout(
        template=theme.TEMPLATE, height=96 + 34 * max(1, len(names)), barmode="overlay", showlegend=True
    )
    figure.update_xaxes(title={"text": "time (UTC)"}, type="date")
    figure.update_yaxes(ticks="", showline=False, showgrid=False)
    return figure
