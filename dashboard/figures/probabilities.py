"""Draws the distributions of a gradient search: pure functions from choices to Plotly figures."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from dashboard import theme
from dashboard.choices import Choice

_PER_ROW = 3
_PANEL = 132  # pixels of a panel with its title
_LINE = 22  # pixels of a row of the heat map
_LEGIBLE = 0.14  # smallest share of a panel's height for a band's label
_LIKELY = [[0.0, theme.PAPER], [1.0, theme.ACCENT]]
_LARGE = [[0.0, theme.PAPER], [1.0, theme.OTHER]]  # another hue, since darker means larger here, not likelier
_LIGHTEST, _DARKEST = 0.16, 0.9
_DARK = 0.55  # shade above which text is white


def steps_figure(found: Sequence[Choice], steps: Sequence[int]) -> go.Figure:
    """Draw a panel per choice: probabilities of its options as bands over the steps, the first option at the bottom.

    Labels are at the end of bands that are wide enough; shades of numbers go from small to large.
    """
    rows = max(1, math.ceil(len(found) / _PER_ROW))
    height = 60 + _PANEL * rows
    figure = make_subplots(
        rows=rows,
        cols=_PER_ROW,
        subplot_titles=[choice.name for choice in found],
        shared_xaxes="all",
        shared_yaxes="all",
        horizontal_spacing=0.03,
        vertical_spacing=34 / height if rows > 1 else 0,
    )
    for number, choice in enumerate(found):
        row, column = number // _PER_ROW + 1, number % _PER_ROW + 1
        _add_bands(figure, choice, steps, row, column)
        if number + _PER_ROW >= len(found):
            figure.update_xaxes(showticklabels=True, row=row, col=column)
    for number in range(len(found), rows * _PER_ROW):
        row, column = number // _PER_ROW + 1, number % _PER_ROW + 1
        figure.update_xaxes(visible=False, row=row, col=column)
        figure.update_yaxes(visible=False, row=row, col=column)
    figure.update_layout(
        template=theme.TEMPLATE, height=height, showlegend=False, margin={"l": 12, "r": 12, "t": 24, "b": 12}
    )
    ticks = [steps[0] + share * (steps[-1] - steps[0]) for share in (0.25, 0.5, 0.75)]  # at the ends they would touch
    span = [steps[0], max(steps[-1], steps[0] + 1)]
    figure.update_xaxes(range=span, tickvals=ticks, tickformat=",.0f", showgrid=False)
    figure.update_yaxes(range=[0, 1], tickvals=[0, 0.5, 1], tickformat=".0%", showgrid=False)
    figure.update_annotations(selector={"yanchor": "bottom"}, font={"size": 12, "color": theme.MUTED})
    return figure


def _add_bands(figure: go.Figure, choice: Choice, steps: Sequence[int], row: int, column: int) -> None:
    shades = _shades(choice)
    bands = [
        go.Scatter(
            x=list(steps),
            y=choice.rows[:, index],
            stackgroup=f"{row} {column}",
            mode="lines",
            line={"width": 0.6, "color": theme.PAPER},
            fillcolor=shades[index][0],
            name=label,
            hovertemplate=f"<b>{label}</b> %{{y:.1%}} after %{{x:,}} steps<extra>{choice.name}</extra>",
        )
        for index, label in enumerate(choice.labels)
    ]
    figure.add_traces([*bands, _names(choice, steps, shades)], rows=row, cols=column)


def _names(choice: Choice, steps: Sequence[int], shades: Sequence[tuple[str, str]]) -> go.Scatter:
    """Return the options' names at the right end of their bands."""
    end = choice.rows[-1]
    wide = [index for index, share in enumerate(end) if share >= _LEGIBLE]
    return go.Scatter(
        x=[steps[-1]] * len(wide),
        y=(np.cumsum(end) - end / 2)[wide],
        text=[f"{choice.labels[index]} " for index in wide],
        mode="text",
        textposition="middle left",
        textfont={"size": 12, "color": [shades[index][1] for index in wide]},
        cliponaxis=False,
        hoverinfo="skip",
    )


def _shades(choice: Choice) -> list[tuple[str, str]]:
    """Return the colours of each option's area and of the text on it."""
    if not choice.is_ordered:
        return [(theme.TINTS[index % len(theme.TINTS)], theme.INK) for index in range(len(choice.labels))]
    places = np.linspace(_LIGHTEST, _DARKEST, len(choice.labels)).tolist()
    return [(sample_colorscale(_LARGE, [place])[0], _on(place)) for place in places]


def _on(shade: float) -> str:
    return theme.PAPER if shade > _DARK else theme.INK


def end_figure(found: Sequence[Choice]) -> go.Figure:
    """Draw a row per choice: options from left to right, darker if more likely, with the derived ones framed."""
    width = max(len(choice.labels) for choice in found)
    figure = go.Figure(
        go.Heatmap(
            z=[_padded(choice.rows[-1].tolist(), width, None) for choice in found],
            text=[_padded(_marked(choice), width, "") for choice in found],
            texttemplate="%{text}",
            textfont={"size": 12},  # Plotly selects its colour by contrast
            customdata=[[choice.name] * width for choice in found],
            zmin=0,
            zmax=1,
            colorscale=_LIKELY,
            showscale=False,
            xgap=2,
            ygap=2,
            hoverongaps=False,
            hovertemplate="%{customdata}: %{text} %{z:.1%}<extra></extra>",
        )
    )
    figure.update_layout(
        template=theme.TEMPLATE,
        height=36 + _LINE * len(found),
        margin={"l": 12, "r": 12, "t": 6, "b": 6},
        shapes=[_frame(number, choice.taken) for number, choice in enumerate(found) if choice.taken is not None],
    )
    figure.update_xaxes(visible=False, range=[-0.5, width - 0.5])
    figure.update_yaxes(
        tickvals=list(range(len(found))),
        ticktext=[choice.name for choice in found],
        range=[len(found) - 0.5, -0.5],
        showgrid=False,
        showline=False,
        ticks="",
        ticksuffix=" ",
    )
    return figure


def _padded(items: list[Any], width: int, filling: Any) -> list[Any]:
    return items + [filling] * (width - len(items))


def _marked(choice: Choice) -> list[str]:
    return [f"<b>{label}</b>" if index == choice.taken else label for index, label in enumerate(choice.labels)]


def _frame(number: int, taken: int) -> dict[str, Any]:
    """Return a frame around one cell of the heat map."""
    across, down = {"x0": taken - 0.49, "x1": taken + 0.49}, {"y0": number - 0.46, "y1": number + 0.46}
    return {"type": "rect", **across, **down, "line": {"color": theme.PICKED, "width": 1.6}}
