"""Draws stand-alone trainings: their curves, and forecasts against outcomes."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard import theme, tuning
from dashboard.figures import axes
from nas.objectives.units import Metric, metric

_MOST_BARS = 150
"""Above this many forecasts, intervals are omitted, since they would hide the points."""
_LOOKS: dict[str, Any] = {
    tuning.STOPPED: (theme.FAINT, theme.MUTED, "circle-open"),
    tuning.ENDED: (theme.SKY, theme.ACCENT, "circle"),
}
"""By fate: the colour of lines, the colour of ends, and their mark."""


def curves_figure(curves: pd.DataFrame, name: str, budget: str, best: str | None, log_y: bool = False) -> go.Figure:
    """Draw the metric over the budget, a line per training with a mark at its end (`tuning.curves_table`).

    Args:
        budget: the unit of budgets, for the axis title.
        best: the training to draw above all others.
    """
    named, figure = metric(name), go.Figure()
    for fate, (line, mark, symbol) in _LOOKS.items():
        rows = curves[(curves["fate"] == fate) & (curves["training"] != best)]
        if len(rows):
            _add(figure, rows, fate, named, budget, line, {"color": mark, "symbol": symbol, "size": 7}, width=1.2)
    rows = curves[curves["training"] == best]
    if len(rows):
        _add(figure, rows, "best", named, budget, theme.PICKED, {"color": theme.PICKED, "size": 10}, width=2.4)
    figure.update_layout(template=theme.TEMPLATE, height=430)
    most = int(curves["budget"].max())
    figure.update_xaxes(title={"text": budget}, **({"dtick": 1} if most <= 12 else {}))
    figure.update_yaxes(**axes.axis(named, log_y))
    return figure


def _add(
    figure: go.Figure, rows: pd.DataFrame, name: str, named: Metric, budget: str, line: str, mark: Any, width: float
) -> None:
    """Draw the lines of some trainings as one trace, with gaps between them, and their ends as another."""
    apart = pd.concat([pd.concat([own, own.tail(1).assign(value=np.nan)]) for _, own in rows.groupby("training")])
    hover = f"%{{text}}, {budget} %{{x}}<br>%{{y:{named.hover_format}}} {named.unit}<extra>{name}</extra>"
    figure.add_trace(
        go.Scatter(
            x=apart["budget"],
            y=apart["value"] * named.factor,
            text=apart["training"].str[:8],
            mode="lines",
            line={"color": line, "width": width},
            hovertemplate=hover,
            showlegend=False,
            legendgroup=name,
        )
    )
    ends = rows[rows["last"]]
    figure.add_trace(
        go.Scatter(
            x=ends["budget"],
            y=ends["value"] * named.factor,
            text=ends["training"].str[:8],
            mode="markers",
            name=name,
            marker={"line": {"width": 1.5, "color": mark["color"]}, **mark},
            hovertemplate=hover,
            legendgroup=name,
        )
    )


def forecasts_figure(rows: pd.DataFrame, name: str) -> go.Figure:
    """Draw forecasts, with intervals, against outcomes (columns of `tuning.forecasts_table`)."""
    named = metric(name)
    bars = len(rows) <= _MOST_BARS
    reach = ["expected", "outcome", *(["low", "high"] if bars else [])]
    values = rows[reach].to_numpy(float) * named.factor
    low, high = float(values.min()), float(values.max())
    pad = (high - low) * 0.04 or 1.0
    span = [low - pad, high + pad]
    figure = go.Figure(axes.diagonal(span))
    _add_forecasts(figure, rows[rows["inside"]], "within its interval", named, bars, color=theme.ACCENT, size=8)
    outside: dict[str, Any] = {"color": theme.PICKED, "size": 10, "symbol": "diamond"}
    _add_forecasts(figure, rows[~rows["inside"]], "outside its interval", named, bars, **outside)
    figure.update_layout(template=theme.TEMPLATE, height=430)
    shared: dict[str, Any] = {"range": span, "dtick": axes.step((high - low) / 5 or 1.0), "constrain": "domain"}
    figure.update_xaxes(title={"text": f"came out: {named.axis}"}, constraintoward="left", **shared)
    figure.update_yaxes(title={"text": f"forecast: {named.axis}"}, scaleanchor="x", **shared)
    return figure


def _add_forecasts(figure: go.Figure, rows: pd.DataFrame, name: str, named: Metric, bars: bool, **marker: Any) -> None:
    if not len(rows):
        return
    interval = {
        "type": "data",
        "symmetric": False,
        "array": (rows["high"] - rows["expected"]) * named.factor,
        "arrayminus": (rows["expected"] - rows["low"]) * named.factor,
        "color": marker["color"],
        "thickness": 1,
        "width": 2,
    }
    figure.add_trace(
        go.Scatter(
            x=rows["outcome"] * named.factor,
            y=rows["expected"] * named.factor,
            text=rows["training"].str[:8],
            customdata=rows["budget"],
            mode="markers",
            name=name,
            error_y=interval if bars else None,
            marker={"line": {"width": 1, "color": theme.PAPER}, "opacity": 0.85, **marker},
            hovertemplate=(
                f"%{{text}}, epoch %{{customdata}}<br>came out %{{x:{named.hover_format}}} {named.unit}<br>"
                f"forecast %{{y:{named.hover_format}}} {named.unit}<extra>{name}</extra>"
            ),
        )
    )
