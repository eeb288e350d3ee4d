"""NAS-Bench-201: latency of all cells on a device, from a few measured there and predictors of other devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from benchmarks.latency_prediction import leave_out
from benchmarks.latency_prediction.rotations import (
    CEILING,
    DESIGNED,
    RANDOM,
    SPREAD,
    SUBSET,
    TOGETHER,
    Row,
    Rows,
    Unseen,
    chosen,
    evaluated,
    fitted_many,
    rotations,
    scored,
)
from benchmarks.latency_prediction.tables import Codes, Table, Vector, has_path, nasbench201, nasbench201_subset
from search_spaces.nasbench201 import EDGES

NAME = "nasbench201"
MEASURED = (10, 20, 50, 100)
AIMS = {10: 0.965, 20: 0.968, 50: 0.972, 100: 0.973}
ERRORS = {10: 8.0, 100: 4.0}
"""Largest MAPE aimed at, in percent."""
CEILING_MEASURED = 5000
_REFERENCE = 300


@dataclass(frozen=True, eq=False)
class Cells:
    """The table, with predictors of all its devices."""

    table: Table
    _made: dict[tuple[str, ...], Unseen] = field(default_factory=dict)

    @cached_property
    def columns(self) -> Rows:
        """Return (n, p) operations on live edges, and their counts, as features of a cell's graph."""
        live = alive(self.table.codes)
        return np.hstack([_onehot(live), _counts(live)])

    @cached_property
    def described(self) -> Rows:
        """Return (n, q) features for known devices: operations and pairs of them, on all edges and on live ones."""
        codes, live = self.table.codes, alive(self.table.codes)
        return np.hstack([part for each in (codes, live) for part in (_onehot(each), _pairs(each), _counts(each))])

    @cached_property
    def known(self) -> dict[str, Vector]:
        """Predictions for every cell, by device, of a predictor fitted to all its measurements."""
        values = np.stack(list(self.table.latency.values()), axis=1)
        fitted = fitted_many(self.described, values, self.described)
        return {device: np.maximum(fitted[:, j], values[:, j].min()) for j, device in enumerate(self.table.devices)}

    @cached_property
    def errors(self) -> dict[str, float]:
        """Standard deviation of the predictor's residuals, by device."""
        return {device: float((mean - self.table.latency[device]).std()) for device, mean in self.known.items()}

    def latency(self, devices: Sequence[str]) -> dict[str, Vector]:
        return {device: self.table.latency[device] for device in devices}

    def beside(self, unseen: tuple[str, ...]) -> Unseen:
        """Return the data of a new device; all devices except `unseen` are known."""
        if unseen not in self._made:
            self._made[unseen] = self.unseen([device for device in self.table.devices if device not in unseen])
        return self._made[unseen]

    def unseen(self, known: Sequence[str], kept: npt.NDArray[np.intp] | None = None) -> Unseen:
        """Return the data of a new device with these known ones, on all cells or on `kept` ones."""
        rows = np.arange(len(self.table.codes)) if kept is None else kept
        table = Table(self.table.space, self.table.index[rows], self.table.codes[rows], {})
        proxies = np.stack([self.known[device][rows] for device in known], axis=1)
        spread = np.array([self.errors[device] for device in known])
        reference = np.random.default_rng(0).permutation(len(rows))[:_REFERENCE]
        return Unseen.of(table, proxies, spread, self.columns[rows], reference)


def rows(data: Path, draws: int, done: Callable[[Row], bool]) -> Iterator[Row]:
    """Every rotation, the devices of the smaller table with all 19 known, and what 5,000 measurements give."""
    cells = Cells(nasbench201(data))
    relative = has_path(cells.table)
    for device, y in cells.table.latency.items():
        for draw in range(draws):
            keys = {"part": NAME, "rotation": CEILING, "device": device, "draw": draw, "k": CEILING_MEASURED}
            if not done(keys):
                yield {**keys, **_ceiling(cells, y, relative, draw)}
    subset = nasbench201_subset(data)
    kept = np.searchsorted(cells.table.index, subset.index)
    spread, together = (rotations(256)[rotation] for rotation in (SPREAD, TOGETHER))
    for design in (RANDOM, DESIGNED):
        for draw in range(draws):
            for turn, unseen in enumerate(spread):
                keys = {"part": NAME, "rotation": SPREAD, "turn": turn, "draw": draw, "design": design}
                yield from _turn(keys, partial(cells.beside, unseen), cells.latency(unseen), relative, done)
    for draw in range(draws):
        for turn, unseen in enumerate(together):  # what else is unseen there has no near copies
            keys = {"part": NAME, "rotation": TOGETHER, "turn": turn, "draw": draw, "design": RANDOM}
            yield from _turn(keys, partial(cells.beside, unseen), cells.latency(unseen[:3]), relative, done)
        keys = {"part": NAME, "rotation": SUBSET, "turn": 0, "draw": draw, "design": RANDOM}
        yield from _turn(keys, partial(cells.unseen, cells.table.devices, kept), subset.latency, relative[kept], done)


def _turn(
    keys: Row,
    make: Callable[[], Unseen],
    latency: dict[str, Vector],
    relative: npt.NDArray[np.bool_],
    done: Callable[[Row], bool],
) -> Iterator[Row]:
    """Yield rows of one turn and draw, for all devices and numbers of measurements."""
    asked = [{**keys, "device": device, "k": k} for device in latency for k in MEASURED]
    todo = [each for each in asked if not done(each)]
    new = make() if todo else None
    for each in todo:
        assert new is not None
        y = latency[each["device"]]
        measured = chosen(new, keys["design"], y, each["k"], [keys["turn"], keys["draw"]])
        yield {**each, **evaluated(new, y, measured, relative)}


def _ceiling(cells: Cells, y: Vector, relative: npt.NDArray[np.bool_], draw: int) -> Row:
    order = np.random.default_rng([99, draw]).permutation(len(y))
    measured, others = order[:CEILING_MEASURED], np.ones(len(y), dtype=np.bool_)
    others[measured] = False
    mean = fitted_many(cells.described[measured], y[measured, None], cells.described)[:, 0]
    found = scored(np.maximum(mean, y[measured].min()), y, rankdata(y[others]), others, relative)
    return {"scores": {"ridge on pairs": found}}


def report(rows: Sequence[Row]) -> list[str]:
    """Return tables of every rotation and of each device of the first one, and the aims."""
    own = [row for row in rows if row["rotation"] == SPREAD and row["design"] == RANDOM]
    worse = {k: leave_out.compared(own, k) for k in MEASURED}
    behind = [f"from {k}: {', '.join(devices)}" for k, devices in worse.items() if devices]
    return [
        "## NAS-Bench-201, devices left out",
        "",
        *_ABOUT,
        *leave_out.sections(rows),
        "",
        "Each device, settings spread, drawn at random:",
        "",
        leave_out.by_device(own, MEASURED),
        "",
        f"Spearman of the transfer: {leave_out.aimed(own, AIMS, 0)}.",
        f"MAPE: {leave_out.aimed(own, ERRORS, 1)}.",
        f"Behind the best baseline of a device by more than {leave_out.WORSE}: {'; '.join(behind) or 'nowhere'}.",
    ]


_ABOUT = (
    "Six of the 19 settings are new at a time and 13 known, in four turns, so that each is new at least once; then k",
    "cells of a new one are measured, and all other cells predicted. Known devices are predictors fitted to their",
    "whole tables (ridge on operations and pairs of operations, of all edges and of live ones). Figures are means over",
    "devices of means over draws and turns. MAPE leaves out cells without a path; all methods get the same cells.",
)


def alive(codes: Codes) -> Codes:
    """Return (n, 6) codes in which operations on no path from input to output become "none", code 0."""
    at = {edge: position for position, edge in enumerate(EDGES)}
    there = codes != 0
    forward = {0: np.ones(len(codes), dtype=np.bool_)}
    for node in (1, 2, 3):
        forward[node] = np.any([forward[source] & there[:, at[source, node]] for source in range(node)], axis=0)
    backward = {3: np.ones(len(codes), dtype=np.bool_)}
    for node in (2, 1, 0):
        backward[node] = np.any([backward[to] & there[:, at[node, to]] for to in range(node + 1, 4)], axis=0)
    kept = np.stack([forward[source] & backward[to] for source, to in EDGES], axis=1)
    return np.where(kept, codes, np.int16(0))


def _onehot(codes: npt.NDArray[Any], options: int = 5) -> Rows:
    return np.hstack([np.eye(options)[column] for column in codes.T])


def _pairs(codes: Codes) -> Rows:
    later, earlier = np.tril_indices(codes.shape[1], -1)
    return _onehot(5 * codes[:, later] + codes[:, earlier], 25)


def _counts(codes: Codes) -> Rows:
    return np.stack([(codes == option).sum(axis=1) for option in range(5)], axis=1).astype(float)
