"""Limits that are kept: cells of NAS-Bench-201 chosen for their accuracy among those whose bound keeps a limit.

All accuracies (CIFAR-100, 200 epochs) are known; of k cells the latency on a device is measured, and 200 limits are
drawn over the range of its latencies, evenly in the logarithm. Ways to choose the most accurate cell within a limit:

- `mean`: the predicted latency itself keeps the limit; k random cells are measured;
- `plain`: its conformal upper bound does; the same k cells;
- `corrected`: so does the bound corrected by what was chosen: of the k measurements the last 9, 19 or 39 are of cells
  that the plain bounds chose for limits drawn from the same range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from benchmarks.latency_prediction.tables import Codes, Vector, has_path, nasbench201, read
from benchmarks.report import markdown
from nas.predictors import Additive
from nas.predictors.conformal import Bounded, chosen
from search_spaces import NASBench201Space

NAME = "guarantee"
MEASURED = (30, 50, 100)
COVERAGES = (0.8, 0.9, 0.95)
LIMITS = 200
WAYS = ("mean", "plain", "corrected")
RANGE = (0.05, 0.95)
"""Quantiles of a device's latencies between which limits lie."""

Row = dict[str, Any]
Indices: TypeAlias = npt.NDArray[np.int64]


def back(measured: int, coverage: float) -> int:
    """How many of the measurements correct: with 20 i - 1 the quantiles are exact."""
    return {30: 19 if coverage > 0.9 else 9, 50: 19, 100: 39}[measured]


def rows(data: Path, draws: int, done: Callable[[Row], Any]) -> Iterator[Row]:
    """A row for each draw of measurements and limits, device and number of measurements, with all coverages."""
    cells = _cells(data)
    for draw in range(draws):
        for number, device in enumerate(cells.latency):
            for measured in MEASURED:
                key = {"part": NAME, "device": device, "measured": measured, "draw": draw}
                if not done(key):
                    yield key | _all_ways(cells, cells.latency[device], measured, np.random.default_rng([draw, number]))


def report(rows: Sequence[Row]) -> list[str]:
    body = []
    off: dict[str, list[float]] = {way: [] for way in WAYS}
    for measured in MEASURED:
        some = [row for row in rows if row["measured"] == measured]
        for coverage in COVERAGES if some else ():
            held = {way: [row[_name(way, coverage)] for row in some] for way in WAYS}
            cells = []
            for way in WAYS:
                kept, error = _share(held[way])
                off[way].append(100 * (kept - coverage))
                cells += [f"{100 * kept:.1f} ± {100 * error:.1f} %", f"{_cost(held[way]):.2f}"]
            served = np.mean([values[1] for values in held["corrected"]])
            inside = np.mean([row[_name("inside", coverage)] for row in some])
            body.append(
                [str(measured), f"{100 * coverage:g} %", f"{100 * inside:.1f} %", *cells, f"{100 * served:.0f} %"]
            )
    header = ["measured", "asked", "plain, any cell"]
    header += [text for way in WAYS for text in (f"{way}: kept", "cost")]
    header.append("corrected: served")
    num = len({(row["device"], row["draw"]) for row in rows})
    near = sum(abs(value) <= 2 for value in off["corrected"])
    return [
        "## Guarantees: limits that are kept",
        "",
        *markdown(header, body).splitlines(),
        "",
        f"{num} pairs of device and draw, {LIMITS} limits each, an additive table as predictor. Kept: the share of "
        "chosen cells within the limit, with the standard error over these pairs; cost: points of accuracy below the "
        "best cell that keeps the limit, all latencies known. Limits for which no bound is low enough are not served: "
        "no cell is chosen, and they do not count.",
        "",
        "Plain bounds hold for any cell about as often as asked, but not for those chosen by them: "
        f"{_range(off['plain'])} points beside what is asked here. Corrected ones are {_range(off['corrected'])} "
        f"points beside it, within 2 in {near} of {len(off['corrected'])} settings. Limits on the mean are kept as it "
        "happens.",
    ]


# --- one draw -----------------------------------------------------------------------------------------------------


class _Cells:
    """Those with a path from input to output."""

    def __init__(self, codes: Codes, error: Vector, latency: dict[str, Vector]) -> None:
        self.codes = codes
        self.error = error
        self.latency = latency


@cache
def _cells(data: Path) -> _Cells:
    table = nasbench201(data)
    accuracy = read(data, "nasbench201_accuracy.parquet", ["arch_index", "cifar100_test_e200"]).set_index("arch_index")
    error = 100 - accuracy.loc[table.index, "cifar100_test_e200"].to_numpy(dtype=np.float64)
    live = has_path(table)
    return _Cells(table.codes[live], error[live], {name: values[live] for name, values in table.latency.items()})


def _all_ways(cells: _Cells, latency: Vector, measured: int, rng: np.random.Generator) -> Row:
    """Of every way and coverage [share kept, share served, cost]; of plain bounds, the share of all cells inside."""
    low, high = np.log(np.quantile(latency, RANGE))
    limits = np.exp(rng.uniform(low, high, LIMITS))
    tried = np.exp(rng.uniform(low, high, LIMITS))
    drawn = rng.choice(len(latency), measured, replace=False)
    best = cells.error[chosen(cells.error, latency, limits)]
    plain = _fitted(cells, latency, drawn)
    mean = chosen(cells.error, plain.predict(cells.codes)[0], limits)
    told: Row = {}
    for coverage in COVERAGES:
        upper = plain.upper(cells.codes, coverage)
        num = back(measured, coverage)
        corrected = _corrected(cells, latency, _fitted(cells, latency, drawn[:-num]), tried, num, coverage)
        told[_name("inside", coverage)] = float(np.mean(latency <= upper))
        picks = zip(
            WAYS, (mean, chosen(cells.error, upper, limits), chosen(cells.error, corrected, limits)), strict=True
        )
        for way, picked in picks:
            told[_name(way, coverage)] = _outcome(cells.error, latency, limits, best, picked)
    return told


def _fitted(cells: _Cells, latency: Vector, some: Indices) -> Bounded:
    bounded = Bounded(Additive(NASBench201Space()))
    bounded.fit(cells.codes[some], latency[some])
    return bounded


def _corrected(cells: _Cells, latency: Vector, bounded: Bounded, tried: Vector, num: int, coverage: float) -> Vector:
    """Upper bounds after the cells were measured that were chosen for the first `num` limits that are served.

    Coverages that the measurements cannot give by themselves start from the highest they can.
    """
    base = min(coverage, 0.9)
    picked = chosen(cells.error, bounded.upper(cells.codes, base), tried)
    served = np.flatnonzero(picked >= 0)[:num]
    bounded.correct(tried[served], latency[picked[served]], base)
    return bounded.upper(cells.codes, coverage)


def _outcome(error: Vector, latency: Vector, limits: Vector, best: Vector, picked: Indices) -> list[float]:
    served = picked >= 0
    cost = error[picked[served]] - best[served]
    return [float(np.mean(latency[picked[served]] <= limits[served])), float(np.mean(served)), float(np.mean(cost))]


# --- figures ------------------------------------------------------------------------------------------------------


def _name(way: str, coverage: float) -> str:
    return f"{way}_{100 * coverage:g}"


def _share(values: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Of limits that were served, and its standard error over rows."""
    kept = np.array([value[0] for value in values])
    return float(kept.mean()), float(kept.std(ddof=1) / np.sqrt(len(kept))) if len(kept) > 1 else 0.0


def _cost(values: Sequence[Sequence[float]]) -> float:
    return float(np.mean([value[2] for value in values]))


def _range(off: Sequence[float]) -> str:
    return f"{min(off):+.1f} to {max(off):+.1f}"
