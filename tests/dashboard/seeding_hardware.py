"""Synthetic hardware: a processor that has changed once, a GPU, a board of a cluster, a table and a new machine."""

from collections.abc import Callable
from typing import Any

import numpy as np

from nas.records import Measurement, PredictorRecord, TargetRecord
from nas.storage import Repository
from search_spaces import Architecture, Space

NETWORK = "n" * 16
MACHINE = {
    "processor": "Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz",
    "cores": 8,
    "usable_cores": 2,
    "system": "Linux x86_64 glibc 2.36",
    "python": "3.11.9",
    "torch": "2.5.1",
    "capability": "AVX512",
    "threads": 1,
    "precision": "float32",
}
BEFORE = TargetRecord("cpu", "cpu", {**MACHINE, "torch": "2.4.0", "python": "3.11.4"})
CPU = TargetRecord("cpu", "cpu", MACHINE)
GPU = TargetRecord(
    "gpu0",
    "cuda",
    {**MACHINE, "device": "NVIDIA H200", "cuda": "12.4", "precision": "float16"},
    {"precision": "float16"},
)
BOARD = TargetRecord(
    "pi5",
    "remote",
    {"processor": "Raspberry Pi 5 Model B Rev 1.0", "torch": "2.5.1", "threads": 4, "precision": "float32"},
    {"threads": 4},
)
TABLE = TargetRecord("pixel3", "table", {"table": "pixel3.csv", "content": "c" * 16, "rows": 120, "column": "ms"})
NEW = TargetRecord("rtx3090", "cuda", {"device": "NVIDIA GeForce RTX 3090", "threads": 1, "precision": "float32"})

REFUSAL = (
    "pi5: its predictor may not decide on a limit: 10 measurements are too few for bounds of 90 %; measure 10 more "
    "architectures on pi5, those it is least sure of near the limit first"
)
NOTES = (
    "became 12% slower while it was timed",
    "became 7% slower while it was timed",
    "8% of the passes took far longer than the others: something else ran",
    "median known to 4.1% only when time was up, asked were 2.0%",
)


def measurements(
    target: TargetRecord, archs: list[Architecture], latency: Callable[[Architecture], float], **known: Any
) -> list[Measurement]:
    """One a network, every ninth of them with a note where the machine itself was timed."""
    rng, is_table = np.random.default_rng(len(archs)), target.kind == "table"
    found = []
    for place, arch in enumerate(archs):
        ms = latency(arch)
        notes = (NOTES[place // 9 % len(NOTES)],) if place % 9 == 4 and not is_table else ()
        found.append(
            Measurement(
                arch.digest,
                arch.json(),
                target.name,
                target.version,
                NETWORK,
                ms,
                0.0 if is_table else ms * float(rng.gamma(3, 0.007)),
                40,
                notes=notes,
                created=f"2026-03-{1 + (target is not BEFORE) * len(archs) % 28:02d}T10:{place % 60:02d}:00+00:00",
                **{name: value(ms) for name, value in known.items()},
            )
        )
    return found


def pairs(values: list[float], miss: float, room: float, seed: int) -> list[list[float]]:
    """Measured, predicted and upper bound (ms): predictions that miss by so much, bounds with so much room."""
    rng = np.random.default_rng(seed)
    predicted = [value * float(np.exp(rng.normal(0, miss))) for value in values]
    return [[value, mean, mean * (1 + room)] for value, mean in zip(values, predicted, strict=True)]


def good(values: list[float], **more: Any) -> dict[str, Any]:
    """Quality that serves limits."""
    verdict = "ranks 0.981, misses by 3.1 %, 92 % of bounds kept (90 % asked), from 60 measurements"
    quality = {"spearman": 0.981, "mape": 0.031, "coverage": 0.92, "coverage_asked": 0.9, "measurements": 60}
    said = {"held_back": len(values), "verdict": verdict, "serves_limits": True, "refusal": "", "helped_by": []}
    return {**quality, **said, "pairs": pairs(values, 0.04, 0.055, 1), **more}


def poor(values: list[float]) -> dict[str, Any]:
    """Quality that does not."""
    verdict = "ranks 0.71, misses by 24 %, 78 % of bounds kept (90 % asked), from 14 measurements"
    refusal = (
        "gpu0: its predictor may not decide on a limit: it ranks 0.71 (0.8 wanted), it misses by 24 % (20 % wanted); "
        "measure 10 more architectures on gpu0, those it is least sure of near the limit first"
    )
    quality = {"spearman": 0.71, "mape": 0.24, "coverage": 0.78, "coverage_asked": 0.9, "measurements": 14}
    said = {"held_back": len(values), "verdict": verdict, "serves_limits": False, "refusal": refusal}
    return {**quality, **said, "pairs": pairs(values, 0.3, 0.25, 2)}


def seed_targets(repository: Repository, space: Space, latency: Callable[[Architecture], float]) -> None:
    """Six versions of five targets, measurements on all but the newest, predictors of three."""
    archs = space.sample_many(120, np.random.default_rng(5), distinct=True)
    gpu = [0.1 + 0.07 * latency(arch) for arch in archs[:14]]
    known = iter(gpu)
    for target, found in (
        (BEFORE, measurements(BEFORE, archs[:40], lambda arch: 1.1 * latency(arch), peak_bytes=memory)),
        (CPU, measurements(CPU, archs[:60], latency, peak_bytes=memory)),
        (GPU, measurements(GPU, archs[:14], lambda _: next(known), peak_bytes=memory, energy_mj=lambda ms: 210 * ms)),
        (BOARD, measurements(BOARD, archs[:10], lambda arch: 9 * latency(arch))),
        (TABLE, measurements(TABLE, archs, lambda arch: 6 * latency(arch))),
        (NEW, []),
    ):
        repository.add_target(target)
        repository.add_measurements(found)
    values = [latency(arch) for arch in archs[:60]]
    verdict = "ranks 0.96, misses by 4.2 %, too few for bounds (90 % asked), from 10 measurements"
    helped = {"measurements": 10, "held_back": 100, "helped_by": ["cpu", "gpu0"], "coverage": None, "verdict": verdict}
    helped |= {"spearman": 0.96, "mape": 0.042, "serves_limits": False, "refusal": REFUSAL}
    for target, quality, warnings in (
        (BEFORE, good([1.1 * value for value in values[:40]]), ()),
        (CPU, good(values), ()),
        (GPU, poor(gpu), ("14 measurements for 58 features: only additive and ridge models were compared",)),
        (BOARD, good([], pairs=None, **helped), ()),
    ):
        kind = "transfer" if quality.get("helped_by") else "ensemble"
        repository.put_predictor(
            PredictorRecord(target.name, target.version, space.digest, NETWORK, kind, quality, "{}", warnings, CREATED)
        )


def memory(ms: float) -> int:
    return int(1.2e6 + 4e5 * ms)


CREATED = "2026-03-08T11:02:00+00:00"
