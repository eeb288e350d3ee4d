"""Summarises a finished study in a few lines for newcomers; the dashboard has the details."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

from nas.objectives.units import is_cost, metric
from nas.records import StudyRecord, Trust
from nas.results.front import Row
from nas.results.trust import cost


def lines(study: StudyRecord, rows: Sequence[Row], num_evaluations: int, trust: Trust | None) -> list[str]:
    """Return lines on the front, the accuracy of predicted costs, the trust report, and the ranking by size alone."""
    return [
        _front(study, rows, num_evaluations),
        *(_foretold(rows, name) for name in study.objectives if any(name in row.verified for row in rows)),
        *([] if trust is None else [trust.verdict, _against_size(trust), f"trained alone for this: {cost(trust)}"]),
    ]


def middle(study: StudyRecord, rows: Sequence[Row]) -> str | None:
    """Return a limit at the geometric mean of a front's smallest and largest first cost; None if there is none."""
    name = next(filter(is_cost, study.objectives), None)
    values = [] if name is None else [_value(row, name) for row in rows]
    if not values or min(values) <= 0:
        return None
    return f"{name} <= {math.sqrt(min(values) * max(values)):.2g}"


def taken_home(row: Row, limit: str | None, place: object, scores: Mapping[str, float]) -> str:
    """Return a sentence on the exported network, with the scores of its files beside those on the front."""
    told = row.values()
    figures = (
        f"{metric(name).phrase} {metric(name).text(value)}"
        + (f" (on the front {metric(name).text(told[name])})" if name in told else "")
        for name, value in scores.items()
    )
    under = f" under {limit}" if limit else ""
    return f"exported the best{under}, {row.arch.digest[:8]}, to {place}: {', '.join(figures)}"


def _front(study: StudyRecord, rows: Sequence[Row], num_evaluations: int) -> str:
    found = f"front: {len(rows)} of {num_evaluations} evaluated networks"
    batch = study.settings.get("latency_batch")
    spans = [_span(rows, name) for name in study.objectives] if rows else []
    spans += [f"latencies of batches of {batch}"] if batch else []
    return ", ".join([found, *spans])


def _span(rows: Sequence[Row], name: str) -> str:
    values = [_value(row, name) for row in rows]
    low, high = min(values), max(values)
    times = f" ({high / low:.1f} times)" if is_cost(name) and low > 0 else ""
    return f"{metric(name).phrase} {metric(name).text(low)} to {metric(name).text(high)}{times}"


def _value(row: Row, name: str) -> float:
    """Return a metric as measured; as in the search if it was not measured."""
    return row.verified.get(name, row.metrics[name])


def _foretold(rows: Sequence[Row], name: str) -> str:
    apart = [abs(row.metrics[name] / row.verified[name] - 1) for row in rows if name in row.verified]
    return f"{metric(name).phrase}: predicted and measured lie {median(apart):.1%} apart in the median"


def _against_size(trust: Trust) -> str:
    """Return the banner, if any; else how much better the supernet ranks networks than each measure of size."""
    if trust.banner or trust.tau is None or not trust.baselines:
        return trust.banner or "Not compared with ranking by size."
    others = ", ".join(f"{one['tau']:.2f} by {one['name']} alone" for one in trust.baselines)
    least = min(one["margin_low"] for one in trust.baselines)
    text = f"Better than ranking by size: tau {trust.tau:.2f}, against {others} (difference at least {least:.2f}, 95 %)"
    return text.replace("-", "−")
