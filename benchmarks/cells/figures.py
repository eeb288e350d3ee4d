"""What a run proposes, looked up in the published tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.cells.rows import Outcome
from benchmarks.cells.tables import TARGETS, Tables, Vector
from nas.objectives import pareto

NUM_DRAWS = 10_000
NUM_FRONTS = 300
WORST = 0.9
"""Quantile of error and of latency at which the reference point of hypervolumes lies."""


# --- one cell -----------------------------------------------------------------------------------------------------


def random_search(tables: Tables, num: int, seed: int = 0) -> Vector:
    """Return (NUM_DRAWS,) regrets of the best of `num` random cells by published errors."""
    rng = np.random.default_rng([seed, num])
    regrets: Vector = tables.regret[rng.integers(len(tables.regret), size=(NUM_DRAWS, num))].min(1)
    return regrets


def rank(tables: Tables, cell: int) -> int:
    """Return the rank of a cell among all, from 1."""
    return 1 + int((tables.regret < tables.regret[cell]).sum())


def collapsed(outcome: Outcome) -> bool:
    """Return whether a warning says that operations without parameters win."""
    return any("without parameters" in line for line in outcome.warnings)


# --- limits -------------------------------------------------------------------------------------------------------


def feasible(tables: Tables, limits: Sequence[float]) -> npt.NDArray[np.bool_]:
    """Return (n,) whether the published latencies of cells keep all limits."""
    kept = np.ones(len(tables.error), dtype=bool)
    for target, limit in zip(TARGETS, limits, strict=True):
        kept &= tables.latency[target] <= limit
    return kept


# --- fronts -------------------------------------------------------------------------------------------------------


def reference(tables: Tables, target: str) -> list[float]:
    """Return the reference point of hypervolumes: error (percent) and latency (ms); it does not depend on results."""
    return [float(np.quantile(values, WORST)) for values in (tables.error, tables.latency[target])]


def points(tables: Tables, target: str, cells: npt.ArrayLike) -> Vector:
    """Return (n, 2) published errors and latencies."""
    chosen = np.asarray(cells, dtype=int)
    return np.stack([tables.error[chosen], tables.latency[target][chosen]], 1)


def share(tables: Tables, target: str, cells: npt.ArrayLike) -> float:
    """Return the hypervolume of these cells as a share of that of all cells."""
    return volume(tables, target, cells) / volume(tables, target, range(len(tables.error)))


def volume(tables: Tables, target: str, cells: npt.ArrayLike) -> float:
    """Return the hypervolume in points of error times milliseconds."""
    return pareto.hypervolume(points(tables, target, cells), reference(tables, target))


def proposed(outcome: Outcome, target: str) -> list[int]:
    """Return the different cells that a run proposes for a target."""
    pairs = zip(outcome.cells, outcome.labels, strict=True)
    return list(dict.fromkeys(cell for cell, label in pairs if label.split(" ")[0] == target))


def thinned(tables: Tables, target: str, cells: Sequence[int], num: int) -> list[int]:
    """Return at most `num` cells, evenly spaced in the order of latency, including both ends."""
    ordered = sorted(cells, key=lambda cell: (tables.latency[target][cell], tables.error[cell]))
    places = np.linspace(0, len(ordered) - 1, min(num, len(ordered))).round().astype(int)
    return [ordered[place] for place in places]


def random_fronts(tables: Tables, target: str, num: int, seed: int = 0) -> Vector:
    """Return (NUM_FRONTS,) shares of hypervolume of `num` random cells."""
    rng = np.random.default_rng([seed, num])
    drawn = (rng.choice(len(tables.error), num, replace=False) for _ in range(NUM_FRONTS))
    volumes = np.array([volume(tables, target, cells) for cells in drawn])
    return volumes / volume(tables, target, range(len(tables.error)))
