"""Draws the front of a study: all evaluations in the plane of two metrics, with the uncertainty of the front."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard import planes, queries, text, theme
from dashboard.figures import axes
from dashboard.planes import Plane
from nas.objectives.limits import Limit
from nas.objectives.units import Metric, metric

_FAR = 5  # ratio of the ends of fronts above which axes are logarithmic
_FAINT_BARS = "rgba(86,180,233,0.45)"
MOST_BARS = 60
"""Above this many networks on a front, intervals are omitted, since they would hide the networks."""

_KINDS: Mapping[str, dict[str, Any]] = {
    "evaluated": {"color": theme.PLAIN, "opacity": 0.55, "size": 6},
    "breaks a limit": {
        "color": theme.BROKEN,
        "opacity": 0.6,
        "size": 6,
        "symbol": "x-thin",
        "line": {"width": 1.2, "color": theme.BROKEN},
    },
    "breaks a limit as measured": {"color": theme.REFUTED, "opacity": 1.0, "size": 9, "symbol": "x"},
}
_FRONT: dict[str, Any] = {
    "color": theme.ACCENT,
    "opacity": 1.0,
    "size": 10,
    "line": {"width": 1.5, "color": theme.PAPER},
}

Shares = Mapping[str, tuple[float, float]]
"""By metric, the interval of measured values as shares of predicted ones."""


def front_figure(
    shown: Plane,
    *,
    logs: Sequence[str] = (),
    chosen: int | None = None,
    compared: int | None = None,
    shares: Shares | None = None,
) -> go.Figure:
    """Draw all evaluations of a plane; `customdata` of each point is its position in the study.

    Solid marks are the front in the plane's objectives; the step line joins networks that are not dominated on its two
    axes. Networks that break a limit only as measured are at their evaluated values. Open diamonds are measured values
    of the front's networks, joined to the predicted ones. Bars on the front show `shares`, and one standard deviation
    of a corrected metric. Colour is a third axis. Points hidden by others are omitted if there are many, as are
    nonpositive values on a logarithmic axis.
    """
    x, y = shown.axes[:2]
    mx, my = metric(x), metric(y)
    table = shown.table[planes.drawable(shown.table, shown.axes, logs)]
    third = metric(shown.axes[2]) if len(shown.axes) > 2 else None
    front = table[table["_front"]]
    rest = table[~table["_front"]]
    figure = go.Figure()
    feasible, refuted = rest["_feasible"].to_numpy(bool), rest["_refuted"].to_numpy(bool)
    masks = {"evaluated": feasible, "breaks a limit": ~feasible & ~refuted, "breaks a limit as measured": refuted}
    for name, mask in masks.items():
        if mask.any() or name == "evaluated":
            rows = planes.thinned(rest[mask], (x, y), logs)
            figure.add_trace(_points(rows, mx, my, name, _colored(_KINDS[name], rows, third, front)))
    same = set(shown.objectives) == {x, y}
    _add_step(figure, table, mx, my, same)
    name = "front" if set(shown.objectives) <= {x, y} else f"front ({len(shown.objectives)} objectives)"
    marks = _points(front, mx, my, name, _colored(_FRONT, front, third, front, scale=True))
    figure.add_trace(_with_bars(marks, front, mx, my, shares or {}))
    _add_measured(figure, front, mx, my)
    for place, label, color in ((chosen, "chosen", theme.PICKED), (compared, "compared", theme.OTHER)):
        if place is not None and place in table.index:
            figure.add_trace(_ring(table.loc[[place]], mx, my, label, color))
    _add_limits(figure, shown.limits, mx, my, logs)
    figure.update_layout(
        template=theme.TEMPLATE,
        height=540,
        margin={"l": 72, "r": 24, "t": 64, "b": 60},  # fits axes and legend; otherwise Plotly draws twice
        dragmode="zoom",
        clickmode="event+select",
        uirevision=f"{shown.axes} {logs}",
    )
    figure.update_xaxes(**axes.axis(mx, x in logs), **axes.log_ticks(table[x] * mx.factor, x in logs))
    figure.update_yaxes(**axes.axis(my, y in logs), **axes.log_ticks(table[y] * my.factor, y in logs))
    _leave_bars_out_of_ranges(figure, table, mx, my)
    return figure


def _leave_bars_out_of_ranges(figure: go.Figure, table: pd.DataFrame, mx: Metric, my: Metric) -> None:
    """Fit the axes to predicted and measured points; they may cut wide intervals, which would crowd the points."""
    for update, at in ((figure.update_xaxes, mx), (figure.update_yaxes, my)):
        columns = [name for name in (at.name, queries.measured(at.name)) if name in table]
        values = table[columns].to_numpy(float) * at.factor
        if np.isfinite(values).any():
            low, high = float(np.nanmin(values)), float(np.nanmax(values))
            pad = 0.06 * (high - low) or abs(high) or 1.0
            bottom = low - pad if low > pad or low <= 0 else low / 1.2  # a logarithmic axis has no 0
            update(autorangeoptions={"clipmin": bottom, "clipmax": high + pad})


def _points(rows: pd.DataFrame, mx: Metric, my: Metric, name: str, marker: dict[str, Any], **more: Any) -> Any:
    """Return a trace of points that keeps its look while other points are selected."""
    same = {key: marker[key] for key in ("opacity", "size") if key in marker}
    return go.Scatter(
        x=rows[mx.name].to_numpy(float) * mx.factor,
        y=rows[my.name].to_numpy(float) * my.factor,
        mode="markers",
        name=name,
        customdata=rows.index.to_numpy(np.int32),
        hovertemplate=(
            f"evaluation %{{customdata}}<br>{text.plot(mx.axis)} %{{x:{mx.hover_format}}}<br>"
            f"{text.plot(my.axis)} %{{y:{my.hover_format}}}<extra>{name}</extra>"
        ),
        marker=marker,
        selected={"marker": same},
        unselected={"marker": same},
        **more,
    )


def _colored(
    look: Mapping[str, Any], rows: pd.DataFrame, third: Metric | None, front: pd.DataFrame, scale: bool = False
) -> dict[str, Any]:
    """Return the look of points, coloured by a third metric, if any, on the scale of the front."""
    if third is None or look is _KINDS["breaks a limit"]:
        return dict(look)
    span = front[third.name] if len(front) else rows[third.name]
    bar = {
        "title": {"text": text.plot(third.axis), "side": "right", "font": {"size": 12}},
        "thickness": 12,
        "outlinewidth": 0,
        "tickfont": {"size": 11},
    }
    return {
        **look,
        "color": rows[third.name].to_numpy(float) * third.factor,
        "colorscale": theme.LOW_HIGH,
        "cmin": float(span.min()) * third.factor if len(span) else 0,
        "cmax": float(span.max()) * third.factor if len(span) else 1,
        "showscale": scale,
        "colorbar": {**bar, "tickformat": third.tick_format or None} if scale else None,
    }


def _with_bars(marks: Any, front: pd.DataFrame, mx: Metric, my: Metric, shares: Shares) -> Any:
    """Add intervals of predicted values to the front if it is small enough to show them."""
    for name, at in (("error_x", mx), ("error_y", my)):
        bars = _bars(front, at, shares)
        if bars and 0 < len(front) <= MOST_BARS:
            look = {"color": _FAINT_BARS, "thickness": 1.2, "width": 0}
            marks[name] = {"type": "data", "symmetric": False, **bars, **look}
    return marks


def _bars(front: pd.DataFrame, at: Metric, shares: Shares) -> dict[str, Any] | None:
    values = front[at.name].to_numpy(float) * at.factor
    if queries.spread(at.name) in front:
        width = front[queries.spread(at.name)].to_numpy(float) * at.factor
        return {"array": width, "arrayminus": width}
    if at.name in shares:
        low, high = shares[at.name]
        return {"array": values * max(high - 1, 0), "arrayminus": values * max(1 - low, 0)}
    return None


def _add_measured(figure: go.Figure, front: pd.DataFrame, mx: Metric, my: Metric) -> None:
    """Draw measured values of the networks, and thin lines from the predicted ones."""
    columns = [queries.measured(one.name) for one in (mx, my)]
    if not any(column in front for column in columns):
        return
    places = [
        (front[column].fillna(front[one.name]) if column in front else front[one.name]).to_numpy(float) * one.factor
        for one, column in zip((mx, my), columns, strict=True)
    ]
    known = np.any([front[column].notna().to_numpy() for column in columns if column in front], axis=0)
    xs, ys = places[0][known], places[1][known]
    if not len(xs):
        return
    was = front[known]
    gap = np.full(len(xs), math.nan)
    figure.add_trace(
        go.Scatter(
            x=np.column_stack([was[mx.name].to_numpy(float) * mx.factor, xs, gap]).ravel(),
            y=np.column_stack([was[my.name].to_numpy(float) * my.factor, ys, gap]).ravel(),
            mode="lines",
            line={"color": theme.OTHER, "width": 1, "dash": "dot"},
            hoverinfo="skip",
            showlegend=False,
            legendgroup="measured",
        )
    )
    marker = {"symbol": "diamond-open", "size": 9, "color": theme.OTHER, "opacity": 1.0, "line": {"width": 1.6}}
    points = was.assign(**{mx.name: xs / mx.factor, my.name: ys / my.factor})
    figure.add_trace(_points(points, mx, my, "measured", marker, legendgroup="measured"))


def _ring(row: pd.DataFrame, mx: Metric, my: Metric, name: str, color: str) -> go.Scatter:
    return go.Scatter(
        x=row[mx.name] * mx.factor,
        y=row[my.name] * my.factor,
        mode="markers",
        name=name,
        marker={"symbol": "circle-open", "size": 18, "color": color, "line": {"width": 3}},
        hoverinfo="skip",
        selected={"marker": {"opacity": 1.0}},
        unselected={"marker": {"opacity": 1.0}},
    )


def _add_step(figure: go.Figure, table: pd.DataFrame, mx: Metric, my: Metric, is_front: bool) -> None:
    """Draw the boundary of the dominated region: from each point to the right, then down to the next."""
    best = table[queries.non_dominated(table, (mx.name, my.name))].sort_values(mx.name)
    if mx.name != my.name and len(best):
        xs, ys = best[mx.name].tolist(), best[my.name].tolist()
        figure.add_trace(
            go.Scatter(
                x=[x * mx.factor for x in (xs[0], *xs, table[mx.name].max())],
                y=[y * my.factor for y in (table[my.name].max(), *ys, ys[-1])],
                mode="lines",
                line={"shape": "hv", "color": theme.ACCENT, "width": 1.5},
                opacity=0.7,
                name="best in these two",
                hoverinfo="skip",
                showlegend=not is_front,
            )
        )


def _add_limits(figure: go.Figure, limits: Sequence[Limit], mx: Metric, my: Metric, logs: Sequence[str]) -> None:
    """Draw a dashed line at each limit on one of the two metrics, with its value at the edge of the plot."""
    for limit in limits:
        for shown, vertical in ((mx, True), (my, False)):
            log = shown.name in logs
            if limit.metric != shown.name or (log and limit.value <= 0):
                continue
            at = limit.value * shown.factor
            place = math.log10(at) if log else at  # annotations, unlike shapes, count in decades on a log axis
            along, across = ("x", "y") if vertical else ("y", "x")
            figure.add_shape(
                type="line",
                **{f"{along}0": at, f"{along}1": at, f"{along}ref": along},
                **{f"{across}0": 0, f"{across}1": 1, f"{across}ref": f"{across} domain"},
                line={"color": theme.PICKED, "width": 1.3, "dash": "dash"},
                layer="below",
            )
            figure.add_annotation(
                **{along: place, f"{along}ref": along, across: 1, f"{across}ref": f"{across} domain"},
                text=text.plot(queries.limit_text(limit)),
                showarrow=False,
                xanchor="right",
                yanchor="top" if vertical else "bottom",
                xshift=-4 if vertical else -2,
                yshift=0,
                font={"size": 12, "color": theme.PICKED},
                bgcolor="rgba(255,255,255,0.75)",
            )


def fronts_figure(fronts: Mapping[str, pd.DataFrame], x: Mapping[str, str], y: str, title: str = "") -> go.Figure:
    """Draw several fronts by name in one plane: of targets, each with its own latency metric, or of studies."""
    my, across = metric(y), [metric(name) for name in x.values()]
    figure = go.Figure()
    for place, (name, front) in enumerate(fronts.items()):
        mx = metric(x[name])
        rows = front.dropna(subset=[mx.name, y]).sort_values(mx.name)
        figure.add_trace(
            go.Scatter(
                x=rows[mx.name] * mx.factor,
                y=rows[y] * my.factor,
                mode="lines+markers",
                name=text.plot(name, 40),
                line={"shape": "hv", "width": 1.6, "color": theme.QUALITATIVE[place % len(theme.QUALITATIVE)]},
                marker={"size": 8, "symbol": place % 8},
                customdata=[text.plot(name, 40)] * len(rows),
                hovertemplate=(
                    f"%{{customdata}}<br>{text.plot(mx.axis)} %{{x:{mx.hover_format}}}<br>"
                    f"{text.plot(my.axis)} %{{y:{my.hover_format}}}<extra></extra>"
                ),
            )
        )
    figure.update_layout(template=theme.TEMPLATE, height=460, showlegend=True)
    every = pd.concat([front[x[name]] for name, front in fronts.items()]).dropna()
    log = bool(len(every) and 0 < _FAR * every.min() < every.max())
    found = axes.axis(across[0], log) | axes.log_ticks(every * across[0].factor, log)
    figure.update_xaxes(**{**found, **({"title": {"text": title}} if title else {})})
    figure.update_yaxes(**axes.axis(my))
    return figure
