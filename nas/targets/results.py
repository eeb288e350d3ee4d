"""Times in seconds as a result in milliseconds."""

from __future__ import annotations

from typing import Any

from nas.targets.measuring import Times
from nas.targets.target import LatencyResult


def result(
    times: Times, conditions: dict[str, Any], peak_bytes: int | None = None, energy_mj: float | None = None
) -> LatencyResult:
    """Median and spread with their conditions, outliers and drift among them."""
    told = {
        "warmup": times.warmup,
        "settled": times.settled,
        "outliers": round(times.outliers, 4),
        "drift": round(times.drift, 4),
    }
    return LatencyResult(
        times.median * 1e3,
        times.iqr * 1e3,
        len(times.seconds),
        {**conditions, **told},
        peak_bytes,
        energy_mj,
        times.notes,
    )
