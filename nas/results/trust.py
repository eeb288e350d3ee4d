"""A trust report for display: its figures, each with name and unit. The verdict itself is in the record."""

from __future__ import annotations

from dataclasses import dataclass

from nas.objectives.units import Metric, metric
from nas.records import Trust
from nas.results.correction import FEWEST

_MINUS = "−"
ENOUGH = 16
"""Number of networks from which corrections are good: benchmarks/results/correction.md."""


@dataclass(frozen=True)
class Fact:
    """A line of the report."""

    name: str
    text: str


def facts(trust: Trust) -> list[Fact]:
    """Return all figures of a report in order of importance."""
    named = metric(trust.metric)
    found = [
        ("Kendall's tau", _span(trust.tau, trust.tau_low, trust.tau_high)),
        ("Spearman's rho", _span(trust.rho, trust.rho_low, trust.rho_high)),
        ("two trainings alone", _ceiling(trust, named)),
        *((f"{one['name']} alone", _baseline(one)) for one in trust.baselines),
        ("regret of the first", _regret(trust.regret, named)),
        (f"regret of the first {trust.k}", _regret(trust.regret_k, named) if trust.k > 1 else ""),
        (f"best {trust.k} found", f"{100 * trust.top_k:.0f} %" if trust.top_k is not None and trust.k > 1 else ""),
        ("inherited − alone", _gap(trust.gap, trust.absolute_gap, named)),
        *((f"of {one['size']} networks", _gap(one["mean"], one["absolute"], named)) for one in trust.gaps),
        ("trained alone", cost(trust)),
    ]
    return [Fact(name, text) for name, text in found if text]


_IN_DETAIL = ("Spearman", "regret of the first ", "best ", "of small", "of middle", "of large", "MACs alone")


def brief(trust: Trust) -> list[Fact]:
    """Return the figures that a terminal shows; the dashboard has all."""
    return [fact for fact in facts(trust) if not fact.name.startswith(_IN_DETAIL)]


def cost(trust: Trust) -> str:
    """Describe what was trained for the report, and its cost."""
    again = sum(bool(row["again"]) for row in trust.rows)
    repeated = f", {again} of them twice" if again else ""
    share = "" if trust.share is None else f"; {percent(trust.share)} of the supernet's computation"
    return f"{len(trust.rows)} networks{repeated}, {trust.steps:,} steps each{share}, {trust.seconds:,.0f} s"


def planned(networks: int, repeated: int, steps: int, share: float, asked: float) -> str:
    """Describe what will be trained, its cost relative to the supernet's training, and its purpose."""
    more = f", more than the requested {percent(asked)}" if share > 1.005 * asked else ""
    what = f"{networks} networks alone, {repeated} of them twice, {steps:,} steps each"
    decides = "to judge the ranks and correct the front" if networks >= FEWEST else "to judge the ranks"
    return f"{what}: about {percent(share)} of the supernet's computation{more}, {decides}{_better(networks, asked)}"


def _better(networks: int, asked: float) -> str:
    """Suggest settings if only few networks were requested."""
    if networks >= ENOUGH:
        return ""
    return f"; {ENOUGH} correct far better: trust_networks={ENOUGH}, trust={asked * ENOUGH / networks:.2g}"


def percent(share: float) -> str:
    """Format a share: `10 %`, `0.4 %`."""
    return f"{100 * share:.0f} %" if share > 0.095 else f"{100 * share:.2g} %"


def signed(value: float, named: Metric) -> str:
    """Format a difference of a metric with sign and unit: `+1.2 %`."""
    return f"{_MINUS if value < 0 else '+'}{named.text(abs(value))}"


def _span(value: float | None, low: float | None, high: float | None) -> str:
    if value is None or low is None or high is None:
        return ""
    return f"{value:.2f} ({low:.2f} to {high:.2f})".replace("-", _MINUS)


def _ceiling(trust: Trust, named: Metric) -> str:
    if trust.noise is None:
        return ""
    noise = f"one training is good to ±{named.text(trust.noise)}"
    tau = _span(trust.ceiling, trust.ceiling_low, trust.ceiling_high)
    return f"tau {tau} with one another; {noise}" if tau else noise


def _baseline(one: dict[str, float]) -> str:
    margin = f"{one['margin']:+.2f} ({one['margin_low']:+.2f} to {one['margin_high']:+.2f})"
    return f"tau {one['tau']:.2f}; margin over it {margin}".replace("-", _MINUS)


def _regret(regret: float | None, named: Metric) -> str:
    return "" if regret is None else f"{named.text(regret)} worse than the best"


def _gap(mean: float | None, absolute: float | None, named: Metric) -> str:
    if mean is None or absolute is None:
        return ""
    return f"mean {signed(mean, named)}, mean distance {named.text(absolute)}"
