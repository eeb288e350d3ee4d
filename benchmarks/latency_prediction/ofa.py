"""Once-for-all sub-networks on three graphics cards, each at batch 1, 32 and 64.

Of a setting k networks are measured and no other setting is known. `transfer`: 10, 20 or 50 are measured and the other
eight settings are known, each by a ridge regression on `KNOWN` other networks. What a stage is too shallow to have is
no part of a network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from benchmarks.latency_prediction.tables import Table, ofa
from benchmarks.report import markdown
from nas.predictors import PREDICTORS, Predictor
from nas.predictors.transfer import Transfer

NAME = "ofa"
MEASURED = {"additive": (50, 100, 200), "ridge": (50, 100, 200), "transfer": (10, 20, 50), "ensemble": (50, 100, 200)}
KNOWN = 500

Row = dict[str, Any]


def rows(data: Path, draws: int, done: Callable[[Row], Any]) -> Iterator[Row]:
    """Yield rows kind by kind, quick ones first, with all settings of a draw."""
    table = ofa(data)
    for kind, numbers in MEASURED.items():
        for draw in range(draws):
            order = np.random.default_rng([draw, 3]).permutation(len(table.codes))
            for device in table.devices:
                for measured in numbers:
                    key = {"part": NAME, "device": device, "kind": kind, "measured": measured, "draw": draw}
                    if not done(key):
                        yield key | _errors(table, device, _made(table, kind, device, order), order[:measured])


def report(rows: Sequence[Row]) -> list[str]:
    rows = _whole(rows)
    settings = [(kind, measured) for kind, numbers in MEASURED.items() for measured in numbers]
    settings = [(kind, num) for kind, num in settings if any((r["kind"], r["measured"]) == (kind, num) for r in rows)]
    batches = sorted({_batch(row) for row in rows})
    body = []
    for kind, measured in settings:
        some = [row for row in rows if (row["kind"], row["measured"]) == (kind, measured)]
        cells = [_cell([row for row in some if _batch(row) == batch]) for batch in batches]
        body.append([kind, str(measured), str(len({row["draw"] for row in some})), *cells])
    return [
        "## Once-for-all: graphics cards",
        "",
        *markdown(["kind", "measured", "draws", *(f"batch {batch}" for batch in batches)], body).splitlines(),
        "",
        "Spearman and MAPE over all other networks, mean over three cards and the draws. `transfer` knows the other "
        f"eight settings, each from {KNOWN} networks. `2080ti_32` and `v100_32` were disturbed when they were "
        "measured, which bounds what batch 32 can reach.",
    ]


def _made(table: Table, kind: str, device: str, order: npt.NDArray[np.int64]) -> Predictor:
    """Return a predictor; those of known settings are fitted to other networks than those measured here."""
    if kind != "transfer":
        return PREDICTORS[kind](table.space)
    known: dict[str, Predictor] = {}
    for other in table.devices:
        if other != device:
            known[other] = PREDICTORS["ridge"](table.space)
            known[other].fit(table.codes[order[-KNOWN:]], table.latency[other][order[-KNOWN:]])
    return Transfer(table.space, known)


def _errors(table: Table, device: str, predictor: Predictor, some: npt.NDArray[np.int64]) -> Row:
    latency = table.latency[device]
    others = np.setdiff1d(np.arange(len(latency)), some)
    predictor.fit(table.codes[some], latency[some])
    predicted = predictor.predict(table.codes[others])[0]
    return {
        "spearman": float(spearmanr(predicted, latency[others]).statistic),
        "mape": float(np.mean(np.abs(predicted / latency[others] - 1))),
    }


def _whole(rows: Sequence[Row]) -> list[Row]:
    """Those of draws in which every setting is done, so that means are over the same settings."""
    devices = {row["device"] for row in rows}
    found: dict[tuple[Any, ...], set[str]] = {}
    for row in rows:
        found.setdefault((row["kind"], row["measured"], row["draw"]), set()).add(row["device"])
    return [row for row in rows if found[row["kind"], row["measured"], row["draw"]] == devices]


def _batch(row: Row) -> int:
    return int(str(row["device"]).rsplit("_", 1)[1])


def _cell(rows: Sequence[Row]) -> str:
    rank, mape = (
        float(np.mean([row[name] for row in rows])) if rows else float("nan") for name in ("spearman", "mape")
    )
    return f"{rank:.3f}, {100 * mape:.1f} %"
