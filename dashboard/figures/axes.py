"""What axes of all figures have in common: titles with units, ticks, and the line where two agree."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from dashboard import text, theme
from nas.objectives.units import Metric


def axis(shown: Metric, log: bool = False) -> dict[str, Any]:
    """Title, kind and format of the axis of a metric."""
    found: dict[str, Any] = {"title": {"text": text.plot(shown.axis)}, "type": "log" if log else "linear"}
    if shown.tick_format:
        found["tickformat"] = shown.tick_format
    return found


def diagonal(span: Sequence[float]) -> go.Scatter:
    """The line on which both axes agree."""
    return go.Scatter(
        x=span,
        y=span,
        mode="lines",
        line={"color": theme.FAINT, "width": 1.3, "dash": "dash"},
        name="both agree",
        hoverinfo="skip",
    )


def log_ticks(values: "pd.Series[float]", log: bool) -> dict[str, Any]:
    """Ticks at 1, 2 and 5, written out, where a logarithmic axis spans one to three decades; else Plotly's own choice.

    Plotly's would be bare digits, of which nobody sees whether a 5 is 0.5 or 50. `values` are as the axis shows them.
    """
    if not (log and len(values) and 10 <= values.max() / values.min() <= 1000):
        return {}
    decades = range(math.floor(math.log10(values.min())) - 1, math.ceil(math.log10(values.max())) + 1)
    ticks = [float(f"{digit}e{decade}") for decade in decades for digit in (1, 2, 5)]
    return {"tickmode": "array", "tickvals": ticks, "ticktext": [f"{tick:,.10g}" for tick in ticks]}


def step(width: float) -> float:
    """The nearest of 1, 2 and 5 times a power of ten, for ticks that two axes share."""
    power = float(10.0 ** math.floor(math.log10(width)))
    return power * min((1, 2, 5, 10), key=lambda digit: abs(digit - width / power))
