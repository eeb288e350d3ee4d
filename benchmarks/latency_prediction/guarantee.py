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
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from benchmarks.latency_prediction.tables import Codes, Vector, has_path, nasbench201, read
from benchmarks.report import markdown
from nas.predictors import PREDICTORS
from nas.predictors.conformal import Bounded, chosen
from search_spaces import NASBench201Space

NAME = "guarantee"
KINDS = ("additive", "ridge")
"""One that errs where nothing is left to choose, and one whose errors are what is chosen."""
MEASURED = (30, 50, 100)
COVERAGES = (0.8, 0.9, 0.95)
LIMITS = 200
WAYS = ("mean", "plain", "corrected")
RANGE = (0.05, 0.95)
"""Quantiles of a device's latencies between which limits lie."""

Row = dict[str, Any]
Indices: TypeAlias = npt.NDArray[np.int64]


def back(measured: int, coverage: float) -> int:
    """Return how many of the measurements correct the bounds; with 20 i - 1, the quantiles are exact."""
    return {30: 19 if coverage > 0.9 else 9, 50: 19, 100: 39}[measured]


def rows(data: Path, draws: int, done: Callable[[Row], Any]) -> Iterator[Row]:
    """Yield a row per draw, predictor, device and number of measurements, with all coverages."""
    cells = _cells(data)
    for draw, kind in product(range(draws), KINDS):
        for number, (device, latency) in enumerate(cells.latency.items()):
            for measured in MEASURED:
                key = {"part": NAME, "kind": kind, "device": device, "measured": measured, "draw": draw}
                if not done(key):
                    yield key | _all_ways(cells, latency, kind, measured, np.random.default_rng([draw, number]))


def report(rows: Sequence[Row]) -> list[str]:
    body = []
    off: dict[str, list[float]] = {way: [] for way in WAYS}
    for kind, measured, coverage in product(KINDS, MEASURED, COVERAGES):
        some = [row for row in rows if (row["kind"], row["measured"]) == (kind, measured)]
        if some:
            inside = float(np.mean([row[_name("inside", coverage)] for row in some]))
            told = {way: _told([row[_name(way, coverage)] for row in some]) for way in WAYS}
            for way in WAYS:
                off[way].append(100 * (told[way].kept - coverage))
            cells = [text for way in WAYS for text in (told[way].share, f"{told[way].cost:.2f}")]
            asked = [kind, str(measured), f"{100 * coverage:g} %", f"{100 * inside:.1f} %"]
            body.append([*asked, *cells, f"{100 * told['corrected'].served:.0f} %"])
    header = ["predictor", "measured", "asked", "plain, any cell"]
    header += [text for way in WAYS for text in (f"{way}: kept", "cost")]
    num = len({(row["device"], row["draw"]) for row in rows})
    near = sum(abs(value) <= 2 for value in off["corrected"])
    return [
        "## Guarantees: limits that are kept",
        "",
        *markdown([*header, "corrected: served"], body).splitlines(),
        "",
        f"{num} pairs of device and draw, {LIMITS} limits each. Kept: the share of chosen cells within the limit, with "
        "the standard error over these pairs; cost: points of accuracy below the best cell that keeps the limit, all "
        "latencies known. Limits for which no bound is low enough are not served: no cell is chosen, and they do not "
        "count.",
        "",
        "Plain bounds hold for any cell about as often as asked, but not for those chosen by them: "
        f"{_range(off['plain'])} points beside what is asked here, with either sign, for choosing finds what was "
        "predicted too low, or a corner where the predictor errs to one side. Corrected ones are "
        f"{_range(off['corrected'])} points beside it, within 2 in {near} of {len(off['corrected'])} settings. Limits "
        "on the predicted mean are kept as it happens.",
    ]


# --- one draw -----------------------------------------------------------------------------------------------------


class _Cells:
    """The cells with a path from input to output."""

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


def _all_ways(cells: _Cells, latency: Vector, kind: str, measured: int, rng: np.random.Generator) -> Row:
    """Return, by way and coverage, how many limits were kept and served, and total costs; see `_outcome`.

    `inside` is the share of all cells within their plain bounds.
    """
    low, high = np.log(np.quantile(latency, RANGE))
    limits = np.exp(rng.uniform(low, high, LIMITS))
    tried = np.exp(rng.uniform(low, high, LIMITS))
    drawn = rng.choice(len(latency), measured, replace=False)
    plain = _fitted(cells, latency, kind, drawn)
    told: Row = {}
    for coverage in COVERAGES:
        num = back(measured, coverage)
        fewer = _fitted(cells, latency, kind, drawn[:-num])
        upper = plain.upper(cells.codes, coverage)
        told[_name("inside", coverage)] = float(np.mean(latency <= upper))
        bounds = (plain.predict(cells.codes)[0], upper, _corrected(cells, latency, fewer, tried, num, coverage))
        for way, values in zip(WAYS, bounds, strict=True):
            told[_name(way, coverage)] = _outcome(cells.error, latency, values, limits)
    return told


def _fitted(cells: _Cells, latency: Vector, kind: str, some: Indices) -> Bounded:
    bounded = Bounded(PREDICTORS[kind](NASBench201Space()))
    bounded.fit(cells.codes[some], latency[some])
    return bounded


def _corrected(cells: _Cells, latency: Vector, bounded: Bounded, tried: Vector, num: int, coverage: float) -> Vector:
    """Upper bounds after the cells were measured that were chosen for the first `num` limits that are served.

    Coverages that the measurements cannot give by themselves start from the highest they can. Where too few limits are
    served there is nothing to correct by, and next to nothing is chosen.
    """
    base = min(coverage, 0.9)
    picked = chosen(cells.error, bounded.upper(cells.codes, base), tried)
    served = np.flatnonzero(picked >= 0)[:num]
    if len(served) < num:
        return np.full(len(latency), np.inf)
    bounded.correct(tried[served], latency[picked[served]], base)
    return bounded.upper(cells.codes, coverage)


def _outcome(error: Vector, latency: Vector, upper: Vector, limits: Vector) -> list[float]:
    """Return how many limits were kept and how many served, and the sum of costs of those served."""
    picked, best = chosen(error, upper, limits), chosen(error, latency, limits)
    served = (picked >= 0) & (best >= 0)
    kept = latency[picked[served]] <= limits[served]
    return [float(kept.sum()), float(served.sum()), float(np.sum(error[picked[served]] - error[best[served]]))]


# --- figures ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Told:
    """Shares of limits: kept among those served, with its standard error, and served among all; the mean cost."""

    kept: float
    error: float
    served: float
    cost: float

    @property
    def share(self) -> str:
        return f"{100 * self.kept:.1f} ± {100 * self.error:.1f} %"


def _told(outcomes: Sequence[Sequence[float]]) -> _Told:
    """Rows are independent, the limits of one row are not: the error is that of a ratio of sums over rows."""
    kept, served, cost = np.array(outcomes).T
    share = kept.sum() / max(served.sum(), 1.0)
    error = np.sqrt(np.sum((kept - share * served) ** 2)) / max(served.sum(), 1.0)
    return _Told(float(share), float(error), float(served.mean() / LIMITS), float(cost.sum() / max(served.sum(), 1.0)))


def _name(way: str, coverage: float) -> str:
    return f"{way}_{100 * coverage:g}"


def _range(off: Sequence[float]) -> str:
    return f"{min(off):+.1f} to {max(off):+.1f}"
