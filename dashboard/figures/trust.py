"""Draws how well inherited metrics rank networks, compared with stand-alone training."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard import theme
from dashboard.figures import axes
from nas.objectives.units import Metric, metric
from nas.records import Trust

_LEVEL_COLORS = {"reliable": theme.OTHER, "rough": theme.ACCENT, "unreliable": theme.PICKED, "unknown": theme.MUTED}


def ranks_figure(rows: pd.DataFrame, name: str = "error", noise: float | None = None) -> go.Figure:
    """Draw inherited against stand-alone metrics, with the diagonal (columns of `queries.trust_table`).

    `noise`, the standard deviation of a stand-alone training, is a bar on both sides of each network.
    """
    named = metric(name)
    inherited, standalone, again = (rows[column] * named.factor for column in ("inherited", "standalone", "again"))
    low, high = (float(end) for end in (np.nanmin([*inherited, *standalone]), np.nanmax([*inherited, *standalone])))
    pad = (high - low) * 0.06 or 1.0
    ticks = {"dtick": axes.step((high - low) / 5 or 1.0)}
    span = [low - pad, high + pad]
    figure = go.Figure(axes.diagonal(span))
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


def agreement_figure(trust: Trust) -> go.Figure:
    """Draw rank correlations with stand-alone training, from -1 to 1: the supernet's, and those to compare with."""
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
    figure.update_xaxes(range=[-1.04, 1.04], title={"text": "−1: reversed   0: none   1: same order"})
    figure.update_yaxes(autorange="reversed", ticks="", showgrid=False, showline=False)
    return figure
