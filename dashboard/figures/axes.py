"""Helpers for the axes of all figures: titles with units, ticks, and the diagonal."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from dashboard import text, theme
from nas.objectives.units import Metric


def axis(shown: Metric, log: bool = False) -> dict[str, Any]:
    """Return title, kind and format of a metric's axis."""
    found: dict[str, Any] = {"title": {"text": text.plot(shown.axis)}, "type": "log" if log else "linear"}
    if shown.tick_format:
        found["tickformat"] = shown.tick_format
    return found


def diagonal(span: Sequence[float]) -> go.Scatter:
    """Return the line on which both axes are equal."""
    return go.Scatter(
        x=span,
        y=span,
        mode="lines",
        line={"color": theme.FAINT, "width": 1.3, "dash": "dash"},
        name="both agree",
        hoverinfo="skip",
    )


def log_ticks(values: "pd.Series[float]", log: bool) -> dict[str, Any]:
    """Return ticks at 1, 2 and 5 with full labels if a logarithmic axis spans one to three decades; else {}.

    Plotly's own ticks would be bare digits, with which 0.5 and 50 look alike. `values` are as shown on the axis.
    """
    if not (log and len(values) and 10 <= values.max() / values.min() <= 1000):
        return {}
    decades = range(math.floor(math.log10(values.min())) - 1, math.ceil(math.log10(values.max())) + 1)
    ticks = [float(f"{digit}e{decade}") for decade in decades for digit in (1, 2, 5)]
    return {"tickmode": "array", "tickvals": ticks, "ticktext": [f"{tick:,.10g}" for tick in ticks]}


def step(width: float) -> float:
    """Return the nearest of 1, 2 and 5 times a power of ten, for ticks that two axes share."""
    power = float(10.0 ** math.floor(math.log10(width)))
    return power * min((1, 2, 5, 10), key=lambda digit: abs(digit - width / power))
