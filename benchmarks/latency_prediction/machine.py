"""This machine: 300 networks of the ready-made image space measured twice, and predicted from a few of them.

The networks are extracted ones of `search_spaces.mobilenet`, on one image of 32 x 32 pixels. What a second measuring
of the same networks says of the first is the noise floor: no predictor can do better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from scipy.stats import spearmanr

from benchmarks.report import markdown
from nas.predictors import PREDICTORS, OverRows
from nas.predictors.design import first
from nas.predictors.models import FloatArray
from nas.targets import CPUTarget, CUDATarget, LatencyResult, Target
from nas.targets.sets import Sets, references
from search_spaces import Architecture
from search_spaces.mobilenet import MobileNetSpace
from supernets import Supernet
from supernets.counting import Counts
from supernets.models import mobilenet

NAME = "machine"
NETWORKS = 300
ROUNDS = 2
MEASURED = (10, 30, 100)
SPACE = MobileNetSpace()
EXAMPLE = torch.zeros(1, 3, 32, 32)
PROFILE = "ensemble, counts"
KINDS = ("additive", "ridge", "gaussian_process", "boosting", "ensemble", PROFILE)
CHOSEN = ("random", "designed")

Row = dict[str, Any]
Done = Callable[[Row], Row | None]


def rows(data: Path, draws: int, done: Done) -> Iterator[Row]:
    """Yield measurements, round by round, then predictions from part of them."""
    for target in targets():
        measured = []
        for number in range(ROUNDS):
            key = {"part": NAME, "device": target.name, "what": "measured", "round": number}
            row = done(key)
            if row is None:
                row = key | measuring(target, measured[0] if measured else None)
                yield row
            measured.append(row["ms"])
        yield from _predictions(target.name, np.array(measured[0]), draws, done)


def targets() -> list[Target]:
    """Return this machine's processor with one thread, and its GPU, if any."""
    gpus: list[Target] = [CUDATarget("cuda", budget_s=0.5)] if torch.cuda.is_available() else []
    return [CPUTarget("cpu", threads=1, budget_s=0.5), *gpus]


@cache
def supernet() -> Supernet:
    return Supernet(SPACE, partial(mobilenet.build, num_classes=10, in_channels=3))


@cache
def networks() -> tuple[Architecture, ...]:
    """Every option of every choice often; the references that tie the sets together are among them."""
    drawn = SPACE.sample_many(NETWORKS, np.random.default_rng(0), uniform="choices", distinct=True)
    return tuple(dict.fromkeys((*references(SPACE), *drawn)))[:NETWORKS]


def measuring(target: Target, before: Sequence[float] | None) -> Row:
    """Measure all networks once, in sets of interleaved rounds, on the scale of the previous time."""
    begun = monotonic()
    anchors = [arch for arch in references(SPACE) if arch in networks()]
    scale = {arch: before[networks().index(arch)] for arch in anchors} if before else {}
    sets = Sets(target, SPACE, supernet().extract, EXAMPLE, scale)
    results: dict[Architecture, LatencyResult] = {}
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task(f"measuring on {target.name}", total=NETWORKS)
        for part in sets.measure(networks()):
            results |= dict(part)
            progress.update(bar, completed=len(results))
    found = [results[arch] for arch in networks()]
    return {
        "ms": [round(one.median_ms, 5) for one in found],
        "iqr": [round(one.iqr_ms, 5) for one in found],
        "settled": sum(bool(one.conditions["settled"]) for one in found),
        "seconds": round(monotonic() - begun, 1),
    }


# --- predicting --------------------------------------------------------------------------------------------------


def _predictions(device: str, ms: FloatArray, draws: int, done: Done) -> Iterator[Row]:
    for k in MEASURED:
        for draw in range(draws):
            for chosen in CHOSEN:
                seen = _chosen(chosen, k, draw)
                for kind in KINDS:
                    key = {"part": NAME, "device": device, "what": "predicted", "kind": kind, "k": k, "draw": draw}
                    key["chosen"] = chosen
                    if done(key) is None:
                        yield key | _quality(_fresh(kind), seen, ms)


def _chosen(how: str, k: int, draw: int) -> list[int]:
    """Return the networks to measure: random ones, or those nearest to a diverse design."""
    rng = np.random.default_rng([k, draw])
    if how == "random":
        return [int(i) for i in rng.choice(NETWORKS, k, replace=False)]
    rows = SPACE.encode(networks())
    left = dict(enumerate(rows))
    for wanted in SPACE.encode(first(SPACE, k, rng)):
        nearest = min(left, key=lambda i: float(np.square(left[i] - wanted).sum()))
        del left[nearest]
    return [i for i in range(NETWORKS) if i not in left]


def _fresh(kind: str) -> OverRows:
    if kind == PROFILE:
        return PREDICTORS["ensemble"](SPACE, _counts())
    return PREDICTORS[kind](SPACE)


@cache
def _counts() -> Counts:
    return Counts(SPACE, supernet().build, EXAMPLE)


def _quality(predictor: OverRows, seen: Sequence[int], ms: FloatArray) -> Row:
    """Return the quality on networks to which the predictor was not fitted."""
    rest = np.setdiff1d(np.arange(NETWORKS), seen)
    predictor.fit([networks()[i] for i in seen], ms[list(seen)])
    mean, _ = predictor.predict([networks()[i] for i in rest])
    return {"spearman": _spearman(mean, ms[rest]), "mape": _mape(mean, ms[rest])}


def _spearman(a: FloatArray, b: FloatArray) -> float:
    return round(float(spearmanr(a, b).statistic), 4)


def _mape(told: FloatArray, true: FloatArray) -> float:
    return round(float(np.mean(np.abs(told / true - 1))), 4)


# --- the report --------------------------------------------------------------------------------------------------


def report(rows: Sequence[Row]) -> list[str]:
    """Return, by device, the noise floor and a table."""
    lines = [f"## A real machine: {NETWORKS} networks of MobileNetSpace, one image of 32 x 32", ""]
    for device in dict.fromkeys(row["device"] for row in rows):
        own = [row for row in rows if row["device"] == device]
        lines += [*_floor(device, [row for row in own if row["what"] == "measured"]), ""]
        table = [row for row in own if row["what"] == "predicted"]
        if table:
            lines += [
                _table(table),
                "Median over draws of Spearman and mean absolute percentage error, on the rest.",
                "",
            ]
    return lines


def _floor(device: str, measured: Sequence[Row]) -> list[str]:
    first_ms = np.array(measured[0]["ms"])
    spread = median(iqr / ms for iqr, ms in zip(measured[0]["iqr"], measured[0]["ms"], strict=True))
    about = (
        f"**{device}**: {first_ms.min():.2f} to {first_ms.max():.2f} ms, {measured[0]['seconds']:.0f} s each time, "
        f"interquartile range {spread:.1%} in the median, {measured[0]['settled']} of {NETWORKS} ratios known to 1 %."
    )
    if len(measured) < ROUNDS:
        return [about]
    again = np.array(measured[1]["ms"])
    floor = f"Noise floor, the same networks measured twice: Spearman {_spearman(again, first_ms):.3f}, "
    rest = "What predictors say below is held against the first round, whose own error is in the figures."
    return [about, f"{floor}MAPE {_mape(again, first_ms):.1%}. {rest}"]


def _table(rows: Sequence[Row]) -> str:
    header = ["predictor", "networks chosen", *(f"{k} measured" for k in MEASURED)]
    body = []
    for kind in KINDS:
        for chosen in CHOSEN:
            cells = [[r for r in rows if (r["kind"], r["chosen"], r["k"]) == (kind, chosen, k)] for k in MEASURED]
            body.append([kind, chosen, *(_cell(cell) for cell in cells)])
    return markdown(header, body)


def _cell(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    return f"{median(r['spearman'] for r in rows):.3f}, {median(r['mape'] for r in rows):.1%}"
