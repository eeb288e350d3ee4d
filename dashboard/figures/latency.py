"""Draws predicted against measured latencies."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard import theme
from dashboard.figures import axes
from nas.objectives.units import metric

MOST_BARS = 150
"""Above this many points, bars are omitted, since they would hide the points."""


def predictions_figure(rows: pd.DataFrame) -> go.Figure:
    """Draw predicted against measured latency of held-out networks (columns of `hardware.pairs_table`), and the
    diagonal. Both axes are logarithmic if they span a decade or more.

    A bar reaches from a prediction up to its bound; a network whose bar ends below the diagonal exceeded its bound.
    """
    named = metric("latency_ms")
    values = rows[["measured", "predicted", "upper"]].to_numpy(float)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    log = 0 < 10 * low <= high
    pad = (high / low) ** 0.04 if log else (high - low) * 0.05 or 1.0
    span = [low / pad, high * pad] if log else [low - pad, high + pad]
    figure = go.Figure(axes.diagonal(span))
    kept, late = rows[~rows["above"]], rows[rows["above"]]
    bars = len(rows) <= MOST_BARS
    figure.add_trace(_predictions(kept, "held back", bars, size=8, color=theme.ACCENT, opacity=0.8))
    if len(late):
        marker = {"size": 11, "color": theme.PICKED, "symbol": "diamond"}
        figure.add_trace(_predictions(late, "slower than its bound", bars, **marker))
    figure.update_layout(template=theme.TEMPLATE, height=460)
    shared: dict[str, Any] = {"range": span, "dtick": axes.step((high - low) / 5 or 1.0)}
    if log:
        shared = {"type": "log", "range": np.log10(span).tolist(), **axes.log_ticks(pd.Series([low, high]), log)}
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
