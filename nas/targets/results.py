"""Converts the rounds of a set of networks to results in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nas.targets.measuring import Rounds
from nas.targets.target import LatencyResult


def results(
    rounds: Rounds,
    conditions: Mapping[str, Any],
    peaks: Sequence[int] | None = None,
    energies: Sequence[float | None] | None = None,
) -> list[LatencyResult]:
    """Return one result per network, in order: median and spread with the measuring conditions.

    Args:
        conditions: conditions common to all networks of the set.
        peaks: peak bytes of each network.
        energies: millijoules of a pass of each network.
    """
    shared = {**conditions, "warmup": rounds.warmup, "rounds": len(rounds.seconds), "networks": rounds.seconds.shape[1]}
    return [
        LatencyResult(
            float(rounds.median[i]) * 1e3,
            float(rounds.iqr[i]) * 1e3,
            len(rounds.parts),
            shared
            | {
                "settled": bool(rounds.settled[i]),
                "uncertainty": round(float(rounds.uncertainty[i]), 4),
                "outliers": round(float(rounds.outliers[i]), 4),
                "drift": round(rounds.drift, 4),
            },
            None if peaks is None else peaks[i],
            None if energies is None else energies[i],
            rounds.notes(i),
        )
        for i in range(rounds.seconds.shape[1])
    ]
