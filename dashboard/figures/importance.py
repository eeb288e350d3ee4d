"""Draws importances of choices and effects of options, with intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard import text, theme
from nas.objectives.units import metric

_ROW = 26  # pixels
_MOST_LINES = 2000


def importance_figure(tables: Mapping[str, pd.DataFrame], most: int = 12) -> go.Figure:
    """Draw the importance of each choice by metric, most important first, with intervals.

    Columns as in `importance.importances`.
    """
    best: dict[str, float] = {}
    for table in tables.values():
        for name, value in zip(table["choice"], table["importance"], strict=True):
            best[name] = max(best.get(name, 0.0), value)
    names = sorted(best, key=lambda name: -best[name])[:most]
    figure = go.Figure()
    for place, (name, table) in enumerate(tables.items()):
        rows = table.set_index("choice").reindex(names)
        figure.add_trace(
            go.Bar(
                y=[text.plot(one, 40) for one in names],
                x=rows["importance"] * 100,
                orientation="h",
                name=text.plot(metric(name).phrase, 40),
                marker={"color": theme.QUALITATIVE[place % len(theme.QUALITATIVE)]},
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": (rows["high"] - rows["importance"]) * 100,
                    "arrayminus": (rows["importance"] - rows["low"]) * 100,
                    "color": theme.MUTED,
                    "thickness": 1.2,
                    "width": 3,
                },
                hovertemplate="%{y}: %{x:.1f} %<extra></extra>",
            )
        )
    height = 100 + len(names) * max(_ROW, 14 * len(tables))
    figure.update_layout(template=theme.TEMPLATE, height=height, barmode="group", showlegend=True)
    figure.update_xaxes(title={"text": "share of the variance that the choice explains alone (%)"}, rangemode="tozero")
    figure.update_yaxes(autorange="reversed", ticks="", showgrid=False)
    return figure


def effects_figure(table: pd.DataFrame, name: str, choices: Sequence[str]) -> go.Figure:
    """Draw the effect of each option of some choices on a metric, with intervals (columns of `Effects.table`)."""
    named = metric(name)
    rows = table[table["choice"].isin(list(choices))]
    rows = rows.assign(_order=rows["choice"].map({one: at for at, one in enumerate(choices)}))
    rows = rows.sort_values("_order", kind="stable")
    effect = rows["effect"] * named.factor
    figure = go.Figure(
        go.Scatter(
            x=effect,
            y=[
                [text.plot(one, 30) for one in rows["choice"]],
                [text.plot(one, 20) or " " for one in rows["option"]],
            ],
            mode="markers",
            marker={"size": 9, "color": theme.ACCENT},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": rows["high"] * named.factor - effect,
                "arrayminus": effect - rows["low"] * named.factor,
                "color": theme.SKY,
                "thickness": 2,
                "width": 3,
            },
            customdata=rows["count"],
            hovertemplate=f"%{{x:+.3~g}} {named.unit}<br>in %{{customdata}} networks<extra></extra>",
        )
    )
    figure.add_vline(x=0, line={"color": theme.FAINT, "width": 1})
    figure.update_layout(template=theme.TEMPLATE, height=90 + 22 * max(2, len(rows)), showlegend=False)
    figure.update_xaxes(title={"text": f"change of {text.plot(named.axis)}, all other choices being equal"})
    figure.update_yaxes(autorange="reversed", ticks="", showgrid=False)
    return figure


def parallel_figure(table: pd.DataFrame, options: Mapping[str, Sequence[Any]], names: Sequence[str]) -> go.Figure:
    """Draw a line per network through its choices and metrics, coloured by the first metric, the best dark.

    Choices are columns of codes, whose labels are in `options`.
    """
    rows = table.head(_MOST_LINES)
    dimensions: list[dict[str, Any]] = []
    for choice, values in options.items():
        lowest = int(min(0, rows[choice].min()))  # ABSENT, below the others, if some networks lack the choice
        ticks = list(range(lowest, len(values)))
        said = [*["absent"] * -lowest, *(text.shortened(value, 10) for value in values)]
        dimensions.append({"label": choice, "values": rows[choice], "tickvals": ticks, "ticktext": said})
    for name in names:
        shown = metric(name)
        dimensions.append({"label": text.shortened(shown.axis, 22), "values": rows[name] * shown.factor})
    first = rows[names[0]].to_numpy(float)
    line = {
        "color": first,
        "colorscale": theme.LOW_HIGH,
        "cmin": float(np.nanmin(first)),
        "cmax": float(np.nanmax(first)),
    }
    figure = go.Figure(go.Parcoords(dimensions=dimensions, line=line, labelangle=-20, labelside="top"))
    figure.update_layout(template=theme.TEMPLATE, height=430, margin={"l": 60, "r": 60, "t": 90, "b": 24})
    return figure
