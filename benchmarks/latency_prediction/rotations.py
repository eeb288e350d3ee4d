"""Devices taken for new: which, from how few measurements, and how well each method predicts the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import RidgeCV

from benchmarks.latency_prediction.tables import Table, Vector
from nas.predictors.design import diverse
from nas.predictors.kinds import Described
from nas.predictors.models import EnsembleModel
from nas.predictors.transfer import TransferModel

Rows = npt.NDArray[np.float64]
Row = dict[str, Any]
Method = Callable[["Unseen", npt.NDArray[np.intp], Vector], Vector]

RANDOM, DESIGNED = "random", "designed"
SPREAD, TOGETHER = "spread", "together"
"""Rotations: settings of one card are spread over known and unseen devices, or are unseen together."""
SUBSET, CEILING = "subset", "ceiling"
_REGULARISATION = 30.0  # of predictors of known devices, on 0/1 columns
COVERAGE = 0.9
_SIGMAS = 1.645
_POOL = 2000  # networks among which a design is found
_ALPHAS = np.logspace(-3, 3, 13)
_CARDS = ("1080ti", "2080ti", "titanx", "titanxp")


def rotations(large: int) -> dict[str, list[tuple[str, ...]]]:
    """Return sets of six unseen devices of the 19, each device at least once; `large` is the largest batch size."""
    others = [
        *(("silver_4114", "essential_ph_1", "samsung_a50"), ("gold_6240", "pixel3", "samsung_s7")),
        *(("silver_4210r", "samsung_a50", "pixel3"), ("silver_4114", "essential_ph_1", "samsung_s7")),
    ]
    spread: list[tuple[str, ...]] = []
    for turn, rest in enumerate(others):
        one, two, three = (_CARDS[(turn + step) % 4] for step in range(3))
        spread.append((f"{one}_1", f"{two}_32", f"{three}_{large}", *rest))
    cards = [tuple(f"{card}_{batch}" for batch in (1, 32, large)) for card in _CARDS]
    together: list[tuple[str, ...]] = [(*own, *rest) for own, rest in zip(cards, others, strict=True)]
    return {SPREAD: spread, TOGETHER: together}


@dataclass(frozen=True, eq=False)
class Unseen:
    """n networks on a new device, and their features without it."""

    onehot: Rows
    """(n, p)"""
    proxies: Rows
    """(n, d) predictions for the known devices; d may be 0."""
    model: TransferModel | None
    """The known devices to start from; empty if none is known."""
    rows: Rows
    """(n, ...) inputs of the model."""

    @cached_property
    def standard(self) -> Rows:
        """Return the (n, d) standardised proxies."""
        rows: Rows = (self.proxies - self.proxies.mean(axis=0)) / self.proxies.std(axis=0)
        return rows

    @classmethod
    def of(cls, table: Table, proxies: Rows, spread: Vector, columns: Rows, reference: npt.NDArray[np.intp]) -> Unseen:
        """`reference`: networks that tell how the known devices go together; `spread` (d,) errors of the proxies."""
        described = Described(table.space)
        rows = np.hstack([proxies, described(table.codes), columns])
        spreads = np.tile(spread, (len(reference), 1))
        model = TransferModel(rows[reference], spreads, *described.widths) if proxies.size else None
        return cls(table.space.encode(table.codes).astype(float), proxies, model, rows)


def fitted_many(rows: Rows, values: Rows, asked: Rows) -> Rows:
    """Return (m, c) predictions of a ridge regression fitted to (n, c) values, for large data."""
    centre, mean = rows.mean(axis=0), values.mean(axis=0)
    table = rows - centre
    gram = table.T @ table
    gram[np.diag_indices_from(gram)] += _REGULARISATION
    fitted: Rows = (asked - centre) @ np.linalg.solve(gram, table.T @ (values - mean)) + mean
    return fitted


def ridge(rows: Rows, measured: npt.NDArray[np.intp], y: Vector) -> Vector:
    fitted: Vector = RidgeCV(_ALPHAS).fit(rows[measured], y).predict(rows)
    return fitted


def ridge_onehot(new: Unseen, measured: npt.NDArray[np.intp], y: Vector) -> Vector:
    return ridge(new.onehot, measured, y)


def ridge_proxies(new: Unseen, measured: npt.NDArray[np.intp], y: Vector) -> Vector:
    return ridge(new.standard, measured, y)


def boosting(new: Unseen, measured: npt.NDArray[np.intp], y: Vector) -> Vector:
    model = GradientBoostingRegressor(random_state=0)  # on few rows far faster than by histograms
    fitted: Vector = model.fit(new.onehot[measured], y).predict(new.onehot)
    return fitted


def best_proxy(new: Unseen, measured: npt.NDArray[np.intp], y: Vector) -> Vector:
    """Predict from the known device that ranks the measured networks most similarly, with a least-squares line."""
    ranks = np.array([spearman(proxy, y) for proxy in new.proxies[measured].T])
    proxy = new.proxies[:, int(np.nan_to_num(ranks, nan=-1.0).argmax())]
    slope, intercept = np.polyfit(proxy[measured], y, 1)
    fitted: Vector = slope * proxy + intercept
    return fitted


BASELINES: dict[str, Method] = {
    "ridge on one-hot": ridge_onehot,
    "boosting": boosting,
    "best proxy": best_proxy,
    "ridge on proxies": ridge_proxies,
}
ALONE = ("ridge on one-hot", "boosting")
"""Those that need no known device."""


def evaluated(new: Unseen, y: Vector, measured: npt.NDArray[np.intp], relative: npt.NDArray[np.bool_]) -> Row:
    """Spearman and MAPE (percent) of each method on all other networks, and the coverage of the transfer's bounds.

    `relative`: (n,) networks whose relative error counts.
    """
    others = np.isfinite(y)
    others[measured] = False
    methods = {name: method for name, method in BASELINES.items() if new.model is not None or name in ALONE}
    with catch_warnings():
        simplefilter("ignore")  # of rank correlations of equal values
        means = {name: method(new, measured, y[measured]) for name, method in methods.items()}
    row: Row = {}
    if new.model is not None:
        model = EnsembleModel({"transfer": partial(copy, new.model)})  # as in `Transfer`
        model.fit(new.rows[measured], y[measured])
        means["transfer"], std = model.predict(new.rows)
        kept = np.abs(means["transfer"] - y)[others] <= _SIGMAS * std[others]
        row["coverage"] = round(float(kept.mean()), 4)
    ranks = rankdata(y[others])
    row["scores"] = {name: scored(mean, y, ranks, others, relative) for name, mean in means.items()}
    return row


def scored(
    mean: Vector, y: Vector, ranks: Vector, others: npt.NDArray[np.bool_], relative: npt.NDArray[np.bool_]
) -> list[float]:
    """Return Spearman over `others`, whose ranks are given, and MAPE in percent over the `relative` ones."""
    counted = others & relative
    error = 100 * np.abs(mean[counted] / y[counted] - 1).mean()
    rank = np.corrcoef(rankdata(mean[others]), ranks)[0, 1]
    return [round(float(np.nan_to_num(rank)), 5), round(float(error), 4)]


def spearman(a: Vector, b: Vector) -> float:
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def chosen(new: Unseen, design: str, y: Vector, k: int, seed: Sequence[int]) -> npt.NDArray[np.intp]:
    """Return (k,) networks to measure: random ones, or ones with diverse predictions for the known devices."""
    rng = np.random.default_rng(list(seed))
    pool = rng.permutation(np.flatnonzero(np.isfinite(y)))
    if design == RANDOM:
        return pool[:k]
    pool = pool[:_POOL]
    return pool[diverse(new.standard[pool], k, rng)]
