"""A supernet whose training closes options against one that trains all, by what is found in the end.

    python -m benchmarks.methods.shrinking [--seeds 4]

The image task of benchmarks/truth, every network of which was trained alone: 243 networks, of which two choices, how
places are mixed and pooled, are names of three options each. Both supernets have the same number of single paths. Each
network that is left is then evaluated with inherited weights, and the best by that is taken: its regret is how much
worse it is, trained alone, than the best of all.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")  # before torch is imported

import argparse
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmarks.methods.report import put
from benchmarks.truths import Truth, find
from nas.results.correction import tau
from search_spaces.narrowing import Closed, narrowed
from supernets import Supernet, calibrate
from supernets.training import train

ABOUT = """
NEAS: closing options by quality and diversity leads to better networks than training all of them. In three seeds the
network found is 1.3 % of errors worse than the best of all, in place of 2.6 % without shrinking and 3.1 % with as
many options closed by chance: **it holds for the median**, and three seeds are few. What is closed is not harmless:
it always was the squeeze and the largest of pooling, with which two in three of the best tenth go, and the best left
is 1.3 % worse than the best. Both are worse in a supernet and not always alone, for qualities are those of inherited
weights. Down to one option it is **worse than nothing**: the rounds that follow can tell by likeness alone.
"""
STEPS = 1_200
JUDGED = 40
"""Networks that are evaluated, of those that are left."""
PLAIN = "uniform(over=choices)"
WAYS = {
    "none": PLAIN,
    "quality, then likeness": "narrowing(keep=2, start=0.3, stop=0.5)",
    "down to one option": "narrowing(keep=1, start=0.3, stop=0.6)",
}


def at_random(truth: Truth, seed: int) -> tuple[Closed, ...]:
    """Return one random option to close per choice that is not numeric."""
    rng = np.random.default_rng([seed, 1])
    named = [slot for slot in truth.space.slots if not slot.numeric]
    return tuple(Closed(slot.path, slot.options[int(rng.integers(len(slot.options)))]) for slot in named)


def run(truth: Truth, way: str, strategy: str, seed: int, closed: Sequence[Closed] = ()) -> None:
    """Train, evaluate the remaining networks, and store the quality of the best one."""
    supernet = Supernet(truth.space, truth.build, seed=seed)
    config = replace(truth.training, steps=STEPS, seed=seed, strategy=strategy)
    within = narrowed(truth.space, closed)
    gone = (*closed, *train(supernet, truth.task, config, space=within, progress=False).closed)
    worth = dict(zip(truth.archs, truth.mean.tolist(), strict=True))
    left = narrowed(truth.space, gone)
    archs = left.sample_many(min(JUDGED, left.count()), np.random.default_rng([seed, 2]), distinct=True)
    found = [calibrate.evaluate(supernet, arch, truth.task)["error"] for arch in archs]
    best = min(worth.values())
    top = sorted(worth, key=worth.__getitem__)[:24]
    values = {
        "networks left": float(left.count()),
        "best left, % worse": 100 * (min(worth[arch] for arch in left.enumerate()) - best),
        "of the best tenth left, %": 100 * float(np.mean([arch in left for arch in top])),
        "regret of the found, %": 100 * (worth[archs[int(np.argmin(found))]] - best),
        "tau among those left": float(tau(np.array(found), np.array([worth[arch] for arch in archs]))),
        "mean inherited error, %": 100 * float(np.mean(found)),
    }
    for measure, value in values.items():
        put("shrinking", "image", way, measure, seed, round(value, 3))
    print(seed, way, [f"{one.path}={one.option}: {one.why}" for one in gone], values, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4)
    truth = find("image")
    for seed in range(parser.parse_args().seeds):
        for way, strategy in WAYS.items():
            run(truth, way, strategy, seed)
        run(truth, "one option of each at random", PLAIN, seed, at_random(truth, seed))


if __name__ == "__main__":
    main()
