"""What axes of all figures have in common: titles with units, and ticks."""

import math
from typing import Any

import pandas as pd

from dashboard import text
from nas.units import Metric


def axis(shown: Metric, log: bool = False) -> dict[str, Any]:
    """Title, kind and format of the axis of a metric."""
    found: dict[str, Any] = {"title": {"text": text.plot(shown.axis)}, "type": "log" if log else "linear"}
    if shown.tick_format:
        found["tickformat"] = shown.tick_format
    return found


def log_ticks(values: "pd.Series[float]", log: bool) -> dict[str, Any]:
    """Ticks at 1, 2 and 5 where a logarithmic axis spans one to three decades; Plotly's own choice otherwise."""
    return {"dtick": "D2"} if log and len(values) and 10 <= values.max() / values.min() <= 1000 else {}


def step(width: float) -> float:
    """The nearest of 1, 2 and 5 times a power of ten, for ticks that two axes share."""
    power = float(10.0 ** math.floor(math.log10(width)))
    return power * min((1, 2, 5, 10), key=lambda digit: abs(digit - width / power))
