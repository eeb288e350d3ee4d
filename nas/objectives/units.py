"""Derives from a metric's name its title, unit and device, and formats its values.

`latency_ms@cpu` is "latency (ms) on cpu"; errors are fractions in the database and per cent on the screen.
"""

import math
from dataclasses import dataclass

COSTS = ("params", "macs", "activation_bytes")
"""Metrics that are counted."""
MINUS = "minus_"
"""Before the name of a zero-cost proxy, of which more is better, as an objective, which is minimised."""
_SUFFIXES = {
    "ms": "ms",
    "us": "µs",
    "s": "s",
    "mj": "mJ",
    "j": "J",
    "mw": "mW",
    "w": "W",
    "mb": "MB",
    "kb": "kB",
    "bytes": "bytes",
}
_COUNTS = {"params": "parameters", "macs": "MACs", "flops": "FLOPs"}
_SHARES = ("error", "accuracy", "top1_error", "top5_error")
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def is_cost(name: str) -> bool:
    """Return whether a metric is a cost that every run knows: it depends on the architecture alone."""
    return name in COSTS or name.startswith("latency_ms@")


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as displayed. `factor` converts stored values to displayed ones."""

    name: str
    title: str
    unit: str = ""
    device: str = ""
    factor: float = 1.0
    is_count: bool = False

    @property
    def axis(self) -> str:
        """The title of an axis: `error (%)`, `latency (ms) on cpu`, `parameters`."""
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.title}{unit}" + (f" on {self.device}" if self.device else "")

    @property
    def phrase(self) -> str:
        """The name in running text: `latency on cpu`."""
        return self.title + (f" on {self.device}" if self.device else "")

    @property
    def tick_format(self) -> str:
        """Plotly's tick format: SI prefixes for counts, Plotly's default otherwise."""
        return "~s" if self.is_count else ""

    @property
    def hover_format(self) -> str:
        return ".3s" if self.is_count else ".3~g" if self.unit == "%" else ".4~g"

    def text(self, value: float) -> str:
        """Format a stored value with its unit: `3.1 %`, `1.24 ms`, `48.2k`."""
        if not math.isfinite(value):
            return "–"
        shown = value * self.factor
        if not self.is_count:
            digits = 3 if self.unit == "%" else 4
            return f"{shown:.{digits}g}" + (f" {self.unit}" if self.unit else "")
        number = si(shown)
        return f"{number} {self.unit}" if self.unit else number


def metric(name: str) -> Metric:
    """Parse a metric's name: `quantity[_unit][@device]`."""
    quantity, _, device = name.partition("@")
    if quantity in _SHARES or quantity.endswith("_error"):
        return Metric(name, quantity.replace("_", " "), "%", device, 100.0)
    if quantity in _COUNTS:
        return Metric(name, _COUNTS[quantity], "", device, is_count=True)
    stem, _, suffix = quantity.rpartition("_")
    if stem and suffix in _SUFFIXES:
        title = {"activation": "activations"}.get(stem, stem.replace("_", " "))
        return Metric(name, title, _SUFFIXES[suffix], device, is_count=suffix == "bytes")
    return Metric(name, quantity.replace("_", " "), "", device)


def si(value: float) -> str:
    """Format a number with three digits and an SI prefix: 48213 is `48.2k`."""
    rounded = float(f"{value:.3g}")
    for size, prefix in _PREFIXES:
        if abs(rounded) >= size:
            scaled = rounded / size
            return f"{scaled:.{2 - math.floor(math.log10(abs(scaled)))}f}{prefix}"
    return f"{rounded:g}"
