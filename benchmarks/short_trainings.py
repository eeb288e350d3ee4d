"""How few steps a stand-alone training needs for useful ranks, on both truth tasks.

    python -m benchmarks.short_trainings        # a few minutes, one thread

32 networks, one from each of as many sizes, are trained alone for a share of the truth's steps, with another seed and
the whole schedule compressed into these steps; their ranks are then compared with the truth's mean. "Warm" trainings
start from the weights inherited from a supernet, trained once, whose own ranks are the row above them.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")  # before torch is imported

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks import truths
from benchmarks.finding import find
from benchmarks.report import machine, markdown
from benchmarks.truths import Truth, Vector
from nas.results.correction import tau
from supernets import calibrate
from supernets.skeleton import build_initialised
from supernets.supernet import Supernet
from supernets.training import train, train_network

RESULTS = Path("benchmarks/results/short_trainings.md")
NETWORKS = 32
SEED = 2
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
SUPERNET_STEPS = 1200


def main() -> None:
    torch.set_num_threads(1)
    rows = [row for name in truths.names() for row in measured(find(name))]
    header = ["task", "begun", "steps", "of the truth's", "tau with the truth", "mean distance", "mean above the truth"]
    text = [
        "# Ranks of short stand-alone trainings\n\n",
        f"{machine(threads=1)}; written by `python -m benchmarks.short_trainings`.\n\n",
        f"{NETWORKS} networks of all sizes, each trained alone for fewer steps than the truth's trainings, with "
        f"another seed; warm ones start from weights inherited from a supernet of {SUPERNET_STEPS:,} steps of `fair`. "
        "The last line of a task compares two of the truth's own trainings. Distances are in points of error (image) "
        "and in nats (text).\n\n",
        markdown(header, rows),
    ]
    RESULTS.write_text("".join(text), encoding="utf-8")


def measured(truth: Truth) -> list[list[str]]:
    """Return one line per share of the steps."""
    chosen = sized(truth)
    alone = truth.mean[chosen]
    supernet = Supernet(truth.space, truth.build, seed=SEED)
    train(
        supernet, truth.task, replace(truth.training, steps=SUPERNET_STEPS, strategy="fair", seed=SEED), progress=False
    )
    inherited = [calibrate.evaluate(supernet, truth.archs[i], truth.task)[truth.metric] for i in chosen]
    rows = [line(truth, "inherited", 0, np.array(inherited), alone)]
    for begun, first in (("cold", None), ("warm", supernet)):
        for share in SHARES:
            steps = round(share * truth.training.steps)
            values = np.array([trained(truth, i, steps, first) for i in chosen])
            rows.append(line(truth, begun, steps, values, alone))
            sys.stderr.write(" ".join(rows[-1]) + "\n")
    return [*rows, line(truth, "cold", truth.training.steps, truth.values[chosen, 0], truth.values[chosen, 1])]


def sized(truth: Truth) -> list[int]:
    """Positions of the networks, one drawn from each of as many sizes."""
    rng = np.random.default_rng(SEED)
    return [int(rng.choice(part)) for part in np.array_split(np.argsort(truth.params, kind="stable"), NETWORKS)]


def trained(truth: Truth, position: int, steps: int, supernet: Supernet | None) -> float:
    """The metric of one network trained alone, starting from inherited weights if there is a supernet."""
    arch = truth.archs[position]
    module = build_initialised(truth.build, arch, SEED) if supernet is None else supernet.extract(arch)
    train_network(module, truth.task, replace(truth.training, steps=steps, seed=SEED), progress=False)
    calibrate.recalibrate(module, truth.task.calibration(calibrate.NUM_BATCHES))
    return float(truth.task.evaluate(module)[truth.metric])


def line(truth: Truth, begun: str, steps: int, values: Vector, alone: Vector) -> list[str]:
    factor, digits = (100, 2) if truth.metric == "error" else (1, 3)
    apart = (values - alone) * factor
    share = f"{steps / truth.training.steps:.3g}"
    distances = (f"{np.abs(apart).mean():.{digits}f}", f"{apart.mean():+.{digits}f}")
    return [truth.name, begun, str(steps), share, f"{tau(values, alone):.3f}", *distances]


if __name__ == "__main__":
    main()
