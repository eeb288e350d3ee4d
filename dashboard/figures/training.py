"""Draws the training curves of a supernet."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from dashboard import theme
from dashboard.figures import axes
from nas.objectives.units import metric

_SIZES = ("smallest", "random", "largest")
_SIZE_COLORS = {"smallest": theme.SKY, "random": theme.WARM, "largest": theme.ACCENT, "train": theme.MUTED}
_SIZE_DASHES = {"smallest": "dot", "random": "dash", "largest": "solid", "train": "solid"}


def curves_figure(curves: pd.DataFrame, name: str, log_y: bool = False) -> go.Figure:
    """Draw a metric of the smallest, random and largest subnets over training steps (see `queries.curve_table`)."""
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
    _lay_out_curve(figure, axes.axis(named, log_y))
    if not log_y:
        figure.update_yaxes(rangemode="tozero")
    return figure


def loss_figure(curves: pd.DataFrame) -> go.Figure:
    """Draw the training loss over steps, with a running mean over the raw values."""
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
