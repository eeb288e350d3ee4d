"""How many architectures each predictor judges in a second, from integer codes: all in one call, and one a call.

Beside them stands what a search that predicts one architecture at a time does: a network of HAT's form, three hidden
layers of 400 on ten features (arXiv:2005.14187), called for each, in numpy and in torch, the faster of which counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.latency_prediction import tables
from nas.predictors import PREDICTORS, Predictor

NAME = "throughput"
REFERENCE = "3x400, one a call"
BATCH = 100_000
MEASURED = 100
ROUNDS = 7
SINGLE_SECONDS = 0.2  # a round of single calls
AIMS = {"additive": 1000.0}  # times the reference; 10 for what is learned otherwise
TABLES = {"NAS-Bench-201": (tables.nasbench201, "2080ti_1"), "Once-for-all": (tables.ofa, "2080ti_1")}

Row = dict[str, Any]


def rows(data: Path, draws: int, done: Callable[[Row], bool]) -> Iterator[Row]:
    """Yield a row per predictor and space: architectures per second, median and quartiles of interleaved rounds."""
    for name, (load, device) in TABLES.items():
        key = {"part": NAME, "space": name, "measured": MEASURED}
        if not all(done({**key, "predictor": kind}) for kind in (*PREDICTORS, REFERENCE)):
            yield from ({**key, **row} for row in _timed(load(data), device) if not done({**key, **row}))


def _timed(table: tables.Table, device: str) -> list[Row]:
    rng = np.random.default_rng(0)
    some = rng.permutation(len(table.codes))[:MEASURED]
    codes = table.codes[rng.integers(len(table.codes), size=BATCH)]
    timers: dict[tuple[str, str], Callable[[], float]] = {}
    for kind, make in PREDICTORS.items():
        predictor = make(table.space)
        predictor.fit(table.codes[some], table.latency[device][some])
        timers[kind, "batched"] = partial(_batched, partial(predictor.predict, codes))
        timers[kind, "single"] = partial(_single, partial(_one, predictor, codes))
    for framework, network in {"numpy": _numpy_network(), "torch": _torch_network()}.items():
        timers[REFERENCE, framework] = partial(_single, network)
    rates: dict[tuple[str, str], list[float]] = {key: [] for key in timers}
    for _ in range(ROUNDS):
        for key, timer in timers.items():
            rates[key].append(timer())
    return _rows(rates)


def _rows(rates: dict[tuple[str, str], list[float]]) -> list[Row]:
    reference = max(("numpy", "torch"), key=lambda framework: np.median(rates[REFERENCE, framework]))
    found: list[Row] = [
        {"predictor": REFERENCE, "framework": reference, "single": _quartiles(rates[REFERENCE, reference])}
    ]
    for kind in PREDICTORS:
        times = np.array(rates[kind, "batched"]) / rates[REFERENCE, reference]  # round by round: drift cancels
        batched, single = _quartiles(rates[kind, "batched"]), _quartiles(rates[kind, "single"])
        found.append({"predictor": kind, "batched": batched, "single": single, "times": _quartiles(times)})
    return found


def _one(predictor: Predictor, codes: tables.Codes, at: int) -> Any:
    return predictor.predict(codes[at : at + 1])


def _batched(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return BATCH / (time.perf_counter() - start)


def _single(call: Callable[[int], Any]) -> float:
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < SINGLE_SECONDS:
        call(calls)
        calls += 1
    return calls / (time.perf_counter() - start)


def _quartiles(values: Sequence[float] | np.ndarray[Any, Any]) -> list[float]:
    return [float(f"{value:.4g}") for value in np.quantile(values, [0.25, 0.5, 0.75])]


def _numpy_network() -> Callable[[int], Any]:
    """Single precision, as the original."""
    rng = np.random.default_rng(0)
    sizes = (10, 400, 400, 400, 1)
    layers = [
        (rng.normal(size=(a, b)).astype(np.float32) / 20, np.zeros(b, dtype=np.float32)) for a, b in pairwise(sizes)
    ]
    features = rng.random((64, 10), dtype=np.float32)

    def call(at: int) -> float:
        hidden = features[at % 64]
        for weight, bias in layers[:-1]:
            hidden = np.maximum(hidden @ weight + bias, 0)
        return float((hidden @ layers[-1][0] + layers[-1][1])[0])

    return call


def _torch_network() -> Callable[[int], Any]:
    torch.set_num_threads(1)
    sizes = (10, 400, 400, 400, 1)
    layers: list[torch.nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers[:-1]).eval()
    features = torch.rand(64, 10)

    def call(at: int) -> float:
        with torch.inference_mode():
            return float(network(features[at % 64 : at % 64 + 1]).item())

    return call


def report(rows: Sequence[Row]) -> list[str]:
    lines = [
        "## Throughput",
        "",
        f"Architectures a second from integer codes, {BATCH:,} in one call or one a call, after {MEASURED} "
        f"measurements; median (quartiles) of {ROUNDS} interleaved rounds.",
        "",
        "| space | predictor | one call | one a call | one call, times the reference | aim |",
        "|---|---|---|---|---|---|",
    ]
    missed = []
    for row in rows:
        kind, aim = row["predictor"], AIMS.get(row["predictor"], 10.0)
        if kind == REFERENCE:
            lines.append(f"| {row['space']} | {kind} ({row['framework']}) | | {_shown(row['single'])} | 1 | |")
            continue
        cells = (_shown(row["batched"]), _shown(row["single"]), _shown(row["times"]))
        lines.append(f"| {row['space']} | {kind} | {' | '.join(cells)} | {aim:,.0f} |")
        if row["times"][1] < aim:
            missed.append(f"{kind} on {row['space']} ({row['times'][1]:,.0f})")
    told = f"Missed: {', '.join(missed)}." if missed else "All met."
    return [*lines, "", f"Aims: 10 times the reference for learned predictors, 1,000 times for tables. {told}"]


def _shown(quartiles: Sequence[float]) -> str:
    low, middle, high = quartiles
    return f"{middle:,.0f} ({low:,.0f} to {high:,.0f})"
