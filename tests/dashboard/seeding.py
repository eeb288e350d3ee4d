"""A synthetic database to look at: a finished search over convolutional networks, a running one, and a failing one.

Run as a script to have one to browse: `python -m tests.dashboard.seeding sqlite:///synthetic.db`.
"""

import json
import math
import sys
from collections.abc import Sequence

import numpy as np

from nas.columns import Columns
from nas.records import (
    CurvePoint,
    Distribution,
    Evaluation,
    Life,
    Origin,
    SpaceRecord,
    StudyRecord,
    SupernetRecord,
    Trust,
)
from nas.results import front as fronts
from nas.storage import Repository
from search_spaces import Architecture, Space, choice
from tests.dashboard import seeding_hardware

OBJECTIVES = ("error", "latency_ms@cpu")
SHARES = (0.0, 0.5, 1.0)
LIMITS = ("params <= 2500000", "latency_ms@cpu <= 9")


class Stage(Space):
    width = choice(16, 24, 32, 48, 64, 96, 128, 192)
    depth = choice(1, 2, 3, 4)
    op = choice("conv", "separable", per="depth")
    kernel = choice(3, 5, 7, per="depth")
    expand = choice(2, 4, 6, per="depth")


class ConvSpace(Space):
    resolution = choice(96, 128, 160)
    stem = choice(16, 24)
    early = Stage(width=(16, 24, 32))
    middle = Stage(width=(32, 48, 64))
    late = Stage(width=(96, 128, 192))


def synthetic_metrics(arch: Architecture, rng: np.random.Generator) -> dict[str, float]:
    """Sizes counted roughly as a convolutional network's, and an error that falls with them."""
    params, macs, pixels = 3.0 * arch.stem * 9, 0.0, (arch.resolution / 2) ** 2
    macs += params * pixels
    before = arch.stem
    for stage in (arch.early, arch.middle, arch.late):
        pixels /= 4
        for op, kernel, expand in zip(stage.op, stage.kernel, stage.expand, strict=True):
            inner = before * expand
            spatial = inner * kernel**2 if op == "separable" else before * inner * kernel**2 / 4
            weights = spatial + before * inner * (op == "separable") + inner * stage.width
            params, macs, before = params + weights, macs + weights * pixels, stage.width
    error = 0.024 + 0.16 * (macs / 1e7) ** -0.45 + 0.02 * (params / 1e5) ** -0.5 + rng.normal(0, 0.004)
    return {
        "error": float(np.clip(error, 0.01, 0.9)),
        "latency_ms@cpu": float(0.4 + macs / 9e7 + 0.12 * sum(s.depth for s in (arch.early, arch.middle, arch.late)))
        * float(rng.lognormal(0, 0.05)),
        "params": float(round(params)),
        "macs": float(round(macs)),
    }


def evaluations(n: int, seed: int = 0, space: Space | None = None) -> list[Evaluation]:
    """`n` different networks, the later half bred from the best so far as a search would, one in forty failed."""
    space, rng = space or ConvSpace(), np.random.default_rng(seed)
    found: dict[Architecture, Evaluation] = {}
    while len(found) < n:
        arch = space.sample(rng)
        if len(found) > n // 3:
            good = sorted((e for e in found.values() if not e.failed), key=lambda e: e.metrics["error"])[: n // 5]
            arch = space.mutate(good[int(rng.integers(len(good)))].arch, rng)
        if arch in found:
            continue
        failed = rng.random() < 0.025
        metrics = {} if failed else synthetic_metrics(arch, rng)
        error = "out of memory: 1.2 GB asked, 0.9 GB free" if failed else None
        found[arch] = Evaluation(arch, metrics, error, float(rng.gamma(2, 0.4)), "worker-1")
    return list(found.values())


def lives(batch: Sequence[Evaluation]) -> dict[int, Life]:
    """One after the other with a breath between them; the later ones of one or two of those before."""
    rng, found, end = np.random.default_rng(len(batch)), {}, 1.79e9
    for place, one in enumerate(batch):
        end += one.seconds + float(rng.gamma(1, 0.2))
        parents = tuple(batch[int(at)].arch.digest for at in rng.integers(0, max(1, place), int(rng.integers(1, 3))))
        bred = Origin(("mutation", "crossover")[len(parents) - 1], parents)
        found[place] = Life(end, bred if place > len(batch) // 3 else Origin("drawn at random"))
    return found


def curve(rng: np.random.Generator, steps: int = 2000) -> list[CurvePoint]:
    """A training that converges, the largest subnet best."""
    points = []
    for step in range(0, steps + 1, 100):
        for which, floor in (("smallest", 0.11), ("random", 0.075), ("largest", 0.05)):
            error = floor + (0.9 - floor) * np.exp(-step / 350) + rng.normal(0, 0.004)
            points.append(CurvePoint(step, which, "error", float(error)))  # type: ignore[arg-type]
    for step in range(0, steps, 10):
        points.append(CurvePoint(step, "train", "loss", float(0.2 + 2.1 * np.exp(-step / 400) + rng.normal(0, 0.06))))
    return points


def trust(rng: np.random.Generator, *, reliable: bool = True) -> Trust:
    """A trust report of twelve networks, four trained twice, either ordered alike or not at all."""
    standalone = np.sort(rng.uniform(0.04, 0.12, 12))
    inherited = standalone * 1.25 + 0.01 + rng.normal(0, 0.006, 12) if reliable else rng.permutation(standalone) * 1.2
    rows = tuple(
        {
            "digest": f"{index:016x}",
            "architecture": json.dumps({"is": "Seeded", "index": index}),
            "inherited": float(mine),
            "standalone": float(alone),
            "again": [float(alone + rng.normal(0, 0.005))] if index % 3 == 0 else [],
            "params": 2.4e6 - 2e5 * index,
            "macs": 9e7 - 7e6 * index,
            "seconds": 70.0,
        }
        for index, (mine, alone) in enumerate(zip(inherited, standalone, strict=True))
    )
    gaps = tuple(
        {"size": size, "networks": 4, "params_low": low, "params_high": low + 6e5, "mean": mean, "absolute": 0.021}
        for size, low, mean in (("small", 2e5, 0.028), ("middle", 1e6, 0.019), ("large", 1.8e6, -0.004))
    )
    words = ("The inherited ranks can be trusted", "The inherited ranks are not reliable")[not reliable]
    tau = (
        {"tau": 0.76, "tau_low": 0.52, "tau_high": 0.94}
        if reliable
        else {"tau": 0.09, "tau_low": -0.36, "tau_high": 0.5}
    )
    rho = (
        {"rho": 0.88, "rho_low": 0.61, "rho_high": 0.99}
        if reliable
        else {"rho": 0.12, "rho_low": -0.5, "rho_high": 0.63}
    )
    margin = {"margin": 0.21, "margin_low": 0.04, "margin_high": 0.4}
    worse = {"margin": -0.46, "margin_low": -0.9, "margin_high": -0.08}
    return Trust(
        verdict=f"{words} (12 networks trained alone).",
        level="reliable" if reliable else "unreliable",
        banner=""
        if reliable
        else "No better than ranking by parameters: tau 0.09 by inherited metrics, 0.55 by parameters alone.",
        **tau,
        **rho,
        noise=0.0052,
        ceiling=0.85,
        ceiling_low=0.55,
        ceiling_high=0.94,
        k=3,
        top_k=0.67 if reliable else 0.0,
        regret=0.004 if reliable else 0.031,
        regret_k=0.0 if reliable else 0.011,
        gap=0.014,
        absolute_gap=0.021,
        gaps=gaps,
        baselines=tuple(
            {"name": name, "tau": 0.55, **(margin if reliable else worse)} for name in ("parameters", "MACs")
        ),
        rows=rows,
        steps=400,
        share=0.098,
        seconds=840.0,
    )


def verified(batch: list[Evaluation]) -> dict[str, dict[str, float]]:
    """Figures of networks taken out of the supernet: a little better than within it, some far slower."""
    return {
        one.arch.digest: {
            "error": one.metrics["error"] * 0.93,
            "latency_ms@cpu": one.metrics["latency_ms@cpu"]
            * (1.6 if 5.8 < one.metrics["latency_ms@cpu"] < 7 else 1.04),
        }
        for one in batch
        if not one.failed
    }


def learnt(label: str, seed: int, steps: int = 2000, *, collapsed: bool = False) -> Distribution:
    """Probabilities that leave the middle and end near one option, or all on the first one."""
    space, rng = ConvSpace(), np.random.default_rng(seed)
    moments = tuple(range(0, steps + 1, steps // 50))
    grown = np.array(moments)[:, None] / steps
    vectors, end = {}, {}
    for slot, kept in zip(space.slots, space.domains, strict=True):
        drift = np.zeros(len(slot.options))
        drift[list(kept)] = rng.normal(0, 2.2, len(kept))
        drift[kept[0]] += 6.0 * collapsed
        wiggle = np.cumsum(rng.normal(0, 0.06, (len(moments), len(slot.options))), axis=0)
        weights = np.exp(drift * grown + wiggle * grown) * np.isin(np.arange(len(slot.options)), kept)
        vectors[slot.path] = (weights / weights.sum(axis=1, keepdims=True)).tolist()
        end[slot.path] = np.maximum(vectors[slot.path][-1], 1e-12)
    warnings = ("The search collapsed: 91 % of the probability is on operations without parameters.",) * collapsed
    settings = {"steps": steps, "train_weights": False, "objectives": list(OBJECTIVES)}
    derived = space.likeliest(end).json()
    return Distribution("", "drnas", label, moments, vectors, derived, warnings, settings, 184.0)


def seed_database(url: str, n: int = 300) -> None:
    """Fill an empty database with three studies: `digits-cnn` (finished), `digits-cnn-wide` (running), `fresh`."""
    space, rng = ConvSpace(), np.random.default_rng(7)
    with Repository(url) as repository:
        repository.add_space(SpaceRecord(space.digest, space.name, space.declaration()))
        for digest, name, reliable in (("a" * 16, "digits-entangled", True), ("b" * 16, "digits-short", False)):
            repository.add_supernet(
                SupernetRecord(
                    digest,
                    space.digest,
                    name,
                    "entangled",
                    f"runs/{name}/weights.safetensors",
                    "d" * 16,
                    2000,
                    {"optimizer": "adamw", "lr": 0.003, "strategy": "sandwich"},
                )
            )
            repository.add_curve(digest, curve(rng))
            repository.put_trust(digest, trust(rng, reliable=reliable))
        for name, supernet, status, count, searcher in (
            ("digits-cnn", "a" * 16, "finished", n, "evolution"),
            ("digits-cnn-wide", "b" * 16, "running", n // 2, "random"),
            ("fresh", None, "created", 0, "bayesian"),
        ):
            objectives = OBJECTIVES if name != "digits-cnn-wide" else (*OBJECTIVES, "params")
            repository.create_study(
                StudyRecord(
                    name,
                    space.digest,
                    supernet,
                    objectives,
                    LIMITS,
                    searcher,
                    seed=3,
                    settings={"batch": 16, "population": 50, "mutation": 0.1},
                    run_file="examples/digits.py",
                    status=status,
                )
            )
            derived: list[Evaluation] = []
            if name == "digits-cnn":
                front = [learnt(f"cpu {share:.2f}", seed, collapsed=share == 1) for seed, share in enumerate(SHARES)]
                repository.put_distributions(name, "k", front)
                derived.append(Evaluation(front[0].arch, synthetic_metrics(front[0].arch, rng)))
            elif status == "running":
                repository.put_distributions(name, "one", [learnt("", 9)])
            batch = [*derived, *evaluations(count - len(derived), seed=count)]
            repository.store_evaluations(name, dict(enumerate(batch)), supernet or "none", "digits", lives(batch))
            for _ in range(4):  # a front, and what takes the places of those that break a limit as measured
                shown = {row.arch.digest for row in fronts.front(repository, name)}
                repository.add_verified(name, verified([one for one in batch if one.arch.digest in shown]))
        repository._taken("digits-cnn-wide", seconds=86400)  # runs as long as this process does
        seeding_hardware.seed_targets(repository, space, lambda arch: synthetic_metrics(arch, rng)["latency_ms@cpu"])


def as_columns(evaluations: Sequence[Evaluation]) -> Columns:
    """As the database gives them."""
    names = dict.fromkeys(name for one in evaluations for name in one.metrics)
    return Columns(
        np.arange(len(evaluations)),
        [one.arch.digest for one in evaluations],
        [one.error for one in evaluations],
        np.array([one.seconds for one in evaluations], dtype=float),
        [one.worker for one in evaluations],
        {name: np.array([one.metrics.get(name, math.nan) for one in evaluations], dtype=float) for name in names},
    )


if __name__ == "__main__":
    seed_database(sys.argv[1])
