"""Figures, each a pure function from values to a Plotly figure. Units come from the metrics' names: see `nas.units`."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from dashboard import queries, theme
from nas.limits import Limit
from nas.records import Trust
from nas.units import Metric, metric

WEBGL_ABOVE = 1000
"""More points than this are drawn by the graphics card: SVG becomes slow."""
MOST_BARS = 150
"""More points than this are drawn without bars, which would hide them."""

_PLAIN: dict[str, Any] = {"color": "#8d9aa8", "opacity": 0.55}
_BROKEN: dict[str, Any] = {
    "color": "#b08a72",
    "opacity": 0.6,
    "symbol": "x-thin",
    "line": {"width": 1.2, "color": "#b08a72"},
}
_REFUTED: dict[str, Any] = {"color": "#8c4a1e", "opacity": 1.0, "symbol": "x"}
_SIZES = ("smallest", "random", "largest")
_SIZE_COLORS = {"smallest": theme.SKY, "random": theme.WARM, "largest": theme.ACCENT, "train": theme.MUTED}
_SIZE_DASHES = {"smallest": "dot", "random": "dash", "largest": "solid", "train": "solid"}


def front_figure(
    table: pd.DataFrame,
    x: str,
    y: str,
    objectives: Sequence[str] = (),
    limits: Sequence[Limit] = (),
    *,
    log_x: bool = False,
    log_y: bool = False,
    listed: Sequence[str] = (),
) -> go.Figure:
    """All evaluations in the plane of two metrics (columns of `queries.StudyView.table`).

    The step line joins what is not dominated in these two metrics; full marks are the study's front, in all its
    objectives. What breaks a limit only as measured stands where it was evaluated. `customdata` of each point begins
    with the architecture's digest; the digests in `listed` are shown as chosen. On a logarithmic axis, values that are
    not positive are left out.
    """
    mx, my = metric(x), metric(y)
    shown = table[_visible(table, x, log_x) & _visible(table, y, log_y)]
    figure = go.Figure()
    scatter = go.Scattergl if len(shown) > WEBGL_ABOVE else go.Scatter
    feasible, on_front = shown["_feasible"].to_numpy(bool), shown["_front"].to_numpy(bool)
    plain = shown[feasible & ~on_front]
    figure.add_trace(_points(scatter, plain, mx, my, "evaluated", listed, size=6, **_PLAIN))
    refuted = shown["_refuted"].to_numpy(bool)
    for broken, label, size, marker in (
        (~feasible & ~refuted, "breaks a limit", 6, _BROKEN),
        (refuted, "breaks a limit as measured", 9, _REFUTED),
    ):
        if broken.any():
            figure.add_trace(_points(scatter, shown[broken], mx, my, label, listed, size=size, **marker))
    _add_step(figure, shown, mx, my, set(objectives) == {x, y})
    name = "front" if set(objectives) <= {x, y} else f"front ({len(objectives)} objectives)"
    figure.add_trace(
        _points(
            scatter,
            shown[on_front],
            mx,
            my,
            name,
            listed,
            size=10,
            color=theme.ACCENT,
            opacity=1.0,
            line={"width": 1.5, "color": theme.PAPER},
        )
    )
    _add_limits(figure, limits, mx, my, log_x, log_y)
    figure.update_layout(
        template=theme.TEMPLATE,
        height=540,
        margin={"l": 12, "r": 24, "t": 48, "b": 12},
        dragmode="zoom",
        clickmode="event+select",
        uirevision=f"{x} {y} {log_x} {log_y}",
    )
    figure.update_xaxes(**_axis(mx, log_x), **_log_ticks(shown[x], log_x))
    figure.update_yaxes(**_axis(my, log_y), **_log_ticks(shown[y], log_y))
    return figure


def _visible(table: pd.DataFrame, name: str, log: bool) -> "pd.Series[bool]":
    values = table[name]
    return values.gt(0) if log else values.notna()


def _axis(shown: Metric, log: bool = False) -> dict[str, Any]:
    axis: dict[str, Any] = {"title": {"text": shown.axis}, "type": "log" if log else "linear"}
    if shown.tick_format:
        axis["tickformat"] = shown.tick_format
    return axis


def _log_ticks(values: "pd.Series[float]", log: bool) -> dict[str, Any]:
    """Ticks at 1, 2 and 5 where a logarithmic axis spans one to three decades; Plotly's own choice otherwise."""
    return {"dtick": "D2"} if log and len(values) and 10 <= values.max() / values.min() <= 1000 else {}


def _points(
    scatter: type[Any],
    rows: pd.DataFrame,
    mx: Metric,
    my: Metric,
    name: str,
    listed: Sequence[str],
    *,
    size: int,
    color: str,
    opacity: float,
    **marker: Any,
) -> Any:
    """A trace of points that keeps its look when others are chosen and turns orange where it is chosen."""
    chosen = [place for place, digest in enumerate(rows["_digest"]) if digest in listed]
    return scatter(
        x=rows[mx.name] * mx.factor,
        y=rows[my.name] * my.factor,
        mode="markers",
        name=name,
        customdata=[
            [digest, digest[:8], int(place)] for place, digest in zip(rows.index, rows["_digest"], strict=True)
        ],
        hovertemplate=(
            f"<b>%{{customdata[1]}}</b>  evaluation %{{customdata[2]}}<br>{mx.axis} %{{x:{mx.hover_format}}}<br>"
            f"{my.axis} %{{y:{my.hover_format}}}<extra>{name}</extra>"
        ),
        marker={"size": size, "color": color, "opacity": opacity, **marker},
        selectedpoints=chosen if listed else None,
        selected={"marker": {"color": theme.PICKED, "opacity": 1.0, "size": max(size, 9) + 3}},
        unselected={"marker": {"opacity": opacity, "color": color, "size": size}},
    )


def _add_step(figure: go.Figure, shown: pd.DataFrame, mx: Metric, my: Metric, is_front: bool) -> None:
    """The boundary of what is dominated in this plane: from each point to the right, then down to the next."""
    best = shown[queries.non_dominated(shown, (mx.name, my.name))].sort_values(mx.name)
    if mx.name != my.name and len(best):
        xs, ys = best[mx.name].tolist(), best[my.name].tolist()
        figure.add_trace(
            go.Scatter(
                x=[x * mx.factor for x in (xs[0], *xs, shown[mx.name].max())],
                y=[y * my.factor for y in (shown[my.name].max(), *ys, ys[-1])],
                mode="lines",
                line={"shape": "hv", "color": theme.ACCENT, "width": 1.5},
                opacity=0.7,
                name="best in these two",
                hoverinfo="skip",
                showlegend=not is_front,
            )
        )


def _add_limits(figure: go.Figure, limits: Sequence[Limit], mx: Metric, my: Metric, log_x: bool, log_y: bool) -> None:
    """A dashed line at each limit on one of the two metrics, with its value at the edge of the plot."""
    for limit in limits:
        for shown, log, vertical in ((mx, log_x, True), (my, log_y, False)):
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
                text=queries.limit_text(limit),
                showarrow=False,
                xanchor="right",
                yanchor="top" if vertical else "bottom",
                xshift=-4 if vertical else -2,
                yshift=0,
                font={"size": 12, "color": theme.PICKED},
                bgcolor="rgba(255,255,255,0.75)",
            )


def hypervolume_figure(history: NDArray[np.float64]) -> go.Figure:
    """Hypervolume over evaluations, `(n,)` as `queries.hypervolume_history` gives it."""
    figure = go.Figure(
        go.Scatter(
            x=np.arange(1, len(history) + 1),
            y=history * 100,
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
    """Best feasible value of each objective over evaluations, one panel each, over all values as faint points."""
    shown = [name for name in objectives if name in table]
    feasible = table["_feasible"].to_numpy(bool)
    figure = make_subplots(rows=1, cols=max(1, len(shown)), horizontal_spacing=0.09)
    order = np.arange(1, len(table) + 1)
    for column, name in enumerate(shown, start=1):
        named = metric(name)
        for mask, label, marker in ((feasible, "evaluated", _PLAIN), (~feasible, "breaks a limit", _BROKEN)):
            trace = go.Scattergl(
                x=order[mask],
                y=table[name][mask] * named.factor,
                mode="markers",
                name=label,
                marker={**marker, "size": 5},
                hovertemplate=f"evaluation %{{x}}<br>%{{y:{named.hover_format}}}<extra>{label}</extra>",
                showlegend=column == 1,
                legendgroup=label,
            )
            figure.add_trace(trace, row=1, col=column)
        figure.add_trace(
            go.Scatter(
                x=order,
                y=queries.best_so_far(table, name) * named.factor,
                mode="lines",
                line={"color": theme.ACCENT, "width": 2, "shape": "hv"},
                hovertemplate=f"best after %{{x}}<br>%{{y:{named.hover_format}}}<extra></extra>",
                name="best that keeps all limits",
                showlegend=column == 1,
                legendgroup="best",
            ),
            row=1,
            col=column,
        )
        figure.update_yaxes(**_axis(named), row=1, col=column)
        figure.update_xaxes(title={"text": "evaluations"}, range=[0, len(table) + 1], row=1, col=column)
    figure.update_layout(template=theme.TEMPLATE, height=350, margin={"l": 12, "r": 24, "t": 44, "b": 12})
    return figure


def curves_figure(curves: pd.DataFrame, name: str, log_y: bool = False) -> go.Figure:
    """Metric of the smallest, random and largest subnets over training steps (columns of `queries.curve_table`)."""
    named = metric(name)
    figure = go.Figure()
    for which in _SIZES:
        rows = curves[(curves["which"] == which) & (curves["metric"] == name)]
        if not len(rows):
            continue
        mean = rows.groupby("step")["value"].mean()
        figure.add_trace(
            go.Scatter(
                x=mean.index,
                y=mean * named.factor,
                mode="lines+markers" if len(mean) <= 60 else "lines",
                name=which,
                line={"color": _SIZE_COLORS[which], "width": 2, "dash": _SIZE_DASHES[which]},
                marker={"size": 5},
                hovertemplate=f"{which}, step %{{x}}<br>%{{y:{named.hover_format}}} {named.unit}<extra></extra>",
            )
        )
    _lay_out_curve(figure, _axis(named, log_y))
    if not log_y:
        figure.update_yaxes(rangemode="tozero")
    return figure


def loss_figure(curves: pd.DataFrame) -> go.Figure:
    """Training loss over steps, with a running mean over the raw values."""
    rows = curves[curves["which"] == "train"]
    smooth = rows["value"].rolling(max(1, len(rows) // 25), min_periods=1, center=True).mean()
    figure = go.Figure()
    figure.add_trace(
        go.Scatter(
            x=rows["step"],
            y=rows["value"],
            mode="lines",
            line={"color": theme.FAINT, "width": 1},
            name="each record",
            hovertemplate="step %{x}<br>%{y:.4f}<extra></extra>",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=rows["step"],
            y=smooth,
            mode="lines",
            line={"color": theme.INK, "width": 2},
            name="running mean",
            hoverinfo="skip",
        )
    )
    _lay_out_curve(figure, {"title": {"text": "training loss"}})
    return figure


def _lay_out_curve(figure: go.Figure, yaxis: dict[str, Any]) -> None:
    figure.update_layout(template=theme.TEMPLATE, height=380, showlegend=True)
    figure.update_xaxes(title={"text": "training step"}, rangemode="tozero")
    figure.update_yaxes(**yaxis)


def ranks_figure(rows: pd.DataFrame, name: str = "error", noise: float | None = None) -> go.Figure:
    """Inherited against stand-alone metric, with the line on which both agree (columns of `queries.trust_table`).

    `noise` is the deviation of a stand-alone training: a bar of it to both sides of each network.
    """
    named = metric(name)
    inherited, standalone, again = (rows[column] * named.factor for column in ("inherited", "standalone", "again"))
    low, high = (float(end) for end in (np.nanmin([*inherited, *standalone]), np.nanmax([*inherited, *standalone])))
    pad = (high - low) * 0.06 or 1.0
    ticks = {"dtick": _step((high - low) / 5 or 1.0)}
    figure = go.Figure()
    figure.add_trace(
        go.Scatter(
            x=[low - pad, high + pad],
            y=[low - pad, high + pad],
            mode="lines",
            line={"color": theme.FAINT, "width": 1.3, "dash": "dash"},
            name="both agree",
            hoverinfo="skip",
        )
    )
    if again.notna().any():
        figure.add_trace(_trained_again(rows["digest"], inherited, again, named))
    figure.add_trace(
        go.Scatter(
            x=standalone,
            y=inherited,
            mode="markers",
            name="networks",
            error_x=None if noise is None else _noise_bars(noise * named.factor),
            marker={"size": 10, "color": theme.ACCENT, "opacity": 0.85, "line": {"width": 1.5, "color": theme.PAPER}},
            text=[str(digest)[:8] for digest in rows["digest"]],
            hovertemplate=(
                f"<b>%{{text}}</b><br>alone %{{x:{named.hover_format}}} {named.unit}<br>"
                f"inherited %{{y:{named.hover_format}}} {named.unit}<extra></extra>"
            ),
        )
    )
    figure.update_layout(template=theme.TEMPLATE, height=430)
    span = [low - pad, high + pad]
    figure.update_xaxes(
        title={"text": f"trained alone: {named.axis}"}, range=span, constrain="domain", constraintoward="left", **ticks
    )
    figure.update_yaxes(
        title={"text": f"inherited weights: {named.axis}"}, range=span, scaleanchor="x", constrain="domain", **ticks
    )
    return figure


def _noise_bars(width: float) -> dict[str, Any]:
    return {"type": "constant", "value": width, "color": theme.SKY, "thickness": 1.5, "width": 4}


def _trained_again(digests: "pd.Series[str]", inherited: Any, again: Any, named: Metric) -> go.Scatter:
    return go.Scatter(
        x=again[again.notna()],
        y=inherited[again.notna()],
        mode="markers",
        name="trained again",
        marker={"size": 9, "color": theme.PAPER, "line": {"width": 1.5, "color": theme.ACCENT}},
        text=[str(digest)[:8] for digest in digests[again.notna()]],
        hovertemplate=f"<b>%{{text}}</b> again<br>alone %{{x:{named.hover_format}}} {named.unit}<extra></extra>",
    )


def predictions_figure(rows: pd.DataFrame) -> go.Figure:
    """Predicted against measured latency of networks held back (columns of `hardware.pairs_table`), and the line on
    which they agree. Both axes are logarithmic from a decade on.

    A bar reaches from a prediction up to its bound; whose bar ends below the line took longer than that.
    """
    named = metric("latency_ms")
    values = rows[["measured", "predicted", "upper"]].to_numpy(float)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    log = 0 < 10 * low <= high
    pad = (high / low) ** 0.04 if log else (high - low) * 0.05 or 1.0
    span = [low / pad, high * pad] if log else [low - pad, high + pad]
    figure = go.Figure()
    figure.add_trace(
        go.Scatter(
            x=span,
            y=span,
            mode="lines",
            line={"color": theme.FAINT, "width": 1.3, "dash": "dash"},
            name="both agree",
            hoverinfo="skip",
        )
    )
    kept, late = rows[~rows["above"]], rows[rows["above"]]
    bars = len(rows) <= MOST_BARS
    figure.add_trace(_predictions(kept, "held back", bars, size=8, color=theme.ACCENT, opacity=0.8))
    if len(late):
        marker = {"size": 11, "color": theme.PICKED, "symbol": "diamond"}
        figure.add_trace(_predictions(late, "slower than its bound", bars, **marker))
    figure.update_layout(template=theme.TEMPLATE, height=460)
    shared: dict[str, Any] = {"range": span, "dtick": _step((high - low) / 5 or 1.0)}
    if log:
        shared = {"type": "log", "range": np.log10(span).tolist(), "dtick": "D2" if high < 1000 * low else 1}
    figure.update_xaxes(title={"text": f"measured: {named.axis}"}, constrain="domain", constraintoward="left", **shared)
    figure.update_yaxes(title={"text": f"predicted: {named.axis}"}, scaleanchor="x", constrain="domain", **shared)
    return figure


def _predictions(rows: pd.DataFrame, name: str, bars: bool, **marker: Any) -> go.Scatter:
    to_bound = {
        "type": "data",
        "symmetric": False,
        "array": rows["upper"] - rows["predicted"],
        "arrayminus": [0.0] * len(rows),
        "color": theme.SKY if name == "held back" else marker["color"],
        "thickness": 1.2,
        "width": 3,
    }
    return go.Scatter(
        x=rows["measured"],
        y=rows["predicted"],
        mode="markers",
        name=name,
        error_y=to_bound if bars and rows["upper"].notna().any() else None,
        marker={"line": {"width": 1, "color": theme.PAPER}, **marker},
        customdata=rows["upper"],
        hovertemplate=(
            f"measured %{{x:.4~g}} ms<br>predicted %{{y:.4~g}} ms<br>bound %{{customdata:.4~g}} ms<extra>{name}</extra>"
        ),
    )


def _step(width: float) -> float:
    """The nearest of 1, 2 and 5 times a power of ten, for ticks that two axes share."""
    power = float(10.0 ** math.floor(math.log10(width)))
    return power * min((1, 2, 5, 10), key=lambda digit: abs(digit - width / power))


_LEVEL_COLORS = {"reliable": theme.OTHER, "rough": theme.ACCENT, "unreliable": theme.PICKED, "unknown": theme.MUTED}


def agreement_figure(trust: Trust) -> go.Figure:
    """Rank correlations with stand-alone training, between -1 and 1: the supernet's, and what they are held against."""
    color = _LEVEL_COLORS[trust.level]
    lines: list[tuple[str, float | None, float | None, float | None, str]] = [
        ("inherited metrics, τ", trust.tau, trust.tau_low, trust.tau_high, color),
        ("inherited metrics, ρ", trust.rho, trust.rho_low, trust.rho_high, color),
        ("a second training alone, τ", trust.ceiling, trust.ceiling_low, trust.ceiling_high, theme.MUTED),
        *((f"{one['name']} alone, τ", one["tau"], None, None, theme.MUTED) for one in trust.baselines),
    ]
    known = [line for line in lines if line[1] is not None]
    figure = go.Figure()
    for name, value, low, high, its_color in known:
        if low is not None and high is not None:
            figure.add_trace(
                go.Scatter(
                    x=[low, high], y=[name, name], mode="lines", line={"color": its_color, "width": 3}, hoverinfo="skip"
                )
            )
        figure.add_trace(
            go.Scatter(
                x=[value],
                y=[name],
                mode="markers",
                marker={"size": 13, "color": its_color, "line": {"width": 2, "color": theme.PAPER}},
                hovertemplate=f"{name} %{{x:.2f}}<extra></extra>",
            )
        )
    figure.add_shape(
        type="line", x0=0, x1=0, y0=0, y1=1, yref="paper", line={"color": theme.FAINT, "width": 1}, layer="below"
    )
    height = 70 + 34 * max(1, len(known))
    figure.update_layout(
        template=theme.TEMPLATE, height=height, showlegend=False, margin={"l": 12, "r": 12, "t": 4, "b": 12}
    )
    figure.update_xaxes(range=[-1.04, 1.04], title={"text": "−1: reversed   0: no agreement   1: the same order"})
    figure.update_yaxes(autorange="reversed", ticks="", showgrid=False, showline=False)
    return figure
