"""Learnt masks against sorted prefixes, at equal distillation: a convolutional network of clothes, made smaller.

    python -m benchmarks.methods.masks [--seeds 3]

One residual network is trained once on Fashion-MNIST of 14 x 14 pixels; it is the parent. Every way ends in a network
of the same space with at most a half, or a quarter, of its multiply-accumulates, and has the same number of steps in
which the parent teaches: those in which masks are learnt count too.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")  # before torch is imported

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from benchmarks.methods.report import put
from benchmarks.pretrained.images import Block
from benchmarks.truth.image import halved
from nas.data import fashion_mnist
from search_spaces import Architecture, Space, choice
from supernets import Supernet, calibrate
from supernets.compression.coupling import coupled
from supernets.compression.fitting import Costs, fitted, saliency
from supernets.compression.learnt_gates import GateConfig
from supernets.compression.masks import counted, prune
from supernets.compression.sorting import sort_units
from supernets.compression.symmetry import Networks
from supernets.distillation import Distilled, Logits
from supernets.tasks import Classification
from supernets.training import TrainingConfig, train_network

ABOUT = """
Claimed (CoFi, arXiv:2204.00408; NViT, arXiv:2110.04869): masks that are learnt, or saliencies compared across layers,
choose better sizes than one share for all. Tried on a residual convolutional network, with 300 steps of distillation
for every way, of which masks take 150 to be learnt; the parent is one training, seeds are of masks and distillation.

As cut it holds: learnt masks are far ahead of sorted prefixes, and saliency is at a half. After equal distillation it
does not hold at this scale: at a half all sorted ways are alike, and at a quarter the sorted prefix of one share for
all is ahead, the masks being behind it by more than the spread; of the steps they have half left for training.
"""
WIDTHS, BLOCKS = (16, 32), 2
STEPS, MASKED = 300, 150
"""Of distillation in all, and of those in which masks are learnt."""
SHARES = (0.5, 0.25)
JUDGED = 2_000


class Networks8(Space):
    """Widths of two stages and of the middle of each of their blocks, in eighths of the parent's."""

    stages = choice(*range(2, 9), per=len(WIDTHS))
    middles = choice(*range(2, 9), per=len(WIDTHS) * BLOCKS)


def build(arch: Any) -> nn.Module:
    stages = [full * eighths // 8 for full, eighths in zip(WIDTHS, arch.stages, strict=True)]
    layers: list[nn.Module] = [nn.Conv2d(1, stages[0], 3, 1, 1, bias=False), nn.BatchNorm2d(stages[0]), nn.ReLU()]
    before, middles = stages[0], iter(arch.middles)
    for full, width in zip(WIDTHS, stages, strict=True):
        for block in range(BLOCKS):
            layers.append(Block(before, full * next(middles) // 8, width, 2 if block == 0 else 1))
            before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10))


def task() -> Classification:
    data = fashion_mnist()
    train, valid, test = ((halved(images), labels) for images, labels in (data.train, data.valid, data.test))
    valid, test = ((x[:JUDGED], y[:JUDGED]) for x, y in (valid, test))
    return Classification(train, valid, test, batch_size=64, name="fashion-mnist of 14 x 14")


def uniform(space: Space, costs: Costs, most: float) -> Architecture:
    """Return the network with one share for all stages and one for all middles, and the most MACs within the limit."""
    pairs = ((s, m) for s in range(2, 9) for m in range(2, 9))
    archs = [space.architecture({"stages": [s] * len(WIDTHS), "middles": [m] * len(WIDTHS) * BLOCKS}) for s, m in pairs]
    return max((arch for arch in archs if costs(arch)["macs"] <= most), key=lambda arch: costs(arch)["macs"])


def prefix(net: Supernet, taught: Distilled, most: float, seed: int) -> tuple[Architecture, int]:
    return uniform(net.space, counted(net, taught), most), STEPS


def by_score(net: Supernet, taught: Distilled, most: float, seed: int) -> tuple[Architecture, int]:
    sort_units(net, taught, "taylor")
    return prefix(net, taught, most, seed)


def by_saliency(net: Supernet, taught: Distilled, most: float, seed: int) -> tuple[Architecture, int]:
    groups, _ = coupled(Networks(net, taught.example(2)))
    arch = fitted(net, saliency(net, taught, groups, "taylor"), counted(net, taught), {"macs": most})
    sort_units(net, taught, "taylor")
    return arch, STEPS


def masked(weights_lr: float) -> Callable[[Supernet, Distilled, float, int], tuple[Architecture, int]]:
    def way(net: Supernet, taught: Distilled, most: float, seed: int) -> tuple[Architecture, int]:
        config = GateConfig(steps=MASKED, lr=0.1, weights_lr=weights_lr, seed=seed)
        return prune(net, taught, {"macs": most}, config).arch, STEPS - MASKED

    return way


WAYS = {
    "unsorted prefix, uniform": prefix,
    "sorted prefix, uniform": by_score,
    "sorted, sizes by saliency": by_saliency,
    "learnt masks": masked(0.0),
    "learnt masks and weights": masked(1e-3),
}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.methods.masks", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    data, space = task(), Networks8()
    parent = build(space.largest())
    common: dict[str, Any] = {"precision": "fp32", "evaluate_every": 0, "checkpoint_every": 0}
    train_network(parent, data, TrainingConfig(steps=600, lr=3e-3, **common), progress=False)
    put("masks", "the parent", "", "test error after, %", 0, 100 * data.evaluate(parent, "test")["error"])
    for seed in range(given.seeds):
        for share in SHARES:
            for name, way in WAYS.items():
                net = Supernet(space, build, init=parent)
                taught = Distilled(data, parent, [Logits(temperature=2)], labels=0.5)
                costs = counted(net, taught)
                whole = costs(space.largest())["macs"]
                arch, steps = way(net, taught, share * whole, seed)
                network = calibrate.recalibrate(net.extract(arch), data.calibration(calibrate.NUM_BATCHES))
                before = data.evaluate(network, "test")["error"]
                train_network(
                    network, taught, TrainingConfig(steps=steps, lr=1e-3, seed=seed, **common), progress=False
                )
                after = data.evaluate(network, "test")["error"]
                for measure, value in (
                    ("share of MACs", costs(arch)["macs"] / whole),
                    ("test error as cut, %", 100 * before),
                    ("test error after, %", 100 * after),
                ):
                    put("masks", f"MACs <= {share}x", name, measure, seed, round(value, 6))


if __name__ == "__main__":
    main()
