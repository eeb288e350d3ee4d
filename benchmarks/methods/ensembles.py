"""An ensemble with a common trunk against one network of equal cost, and against networks trained apart.

    python -m benchmarks.methods.ensembles [--seeds 5]

Convolutional networks of four layers learn clothes of 14 x 14 pixels (Fashion-MNIST), 4,000 of them or 500, each by the
same number of steps. Of two paths `split` layers are in common. Ways at equal multiply-accumulates have their widths
fitted: the nearest whole number of channels.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")  # before torch is imported

import argparse
import copy
import itertools
from collections.abc import Callable, Sequence
from statistics import fmean

import torch
from torch import Tensor, nn

from benchmarks.methods.report import put
from benchmarks.truth.image import halved
from nas.data import fashion_mnist
from supernets import ensemble, profile_network
from supernets.tasks import Classification, EachPath, Task, evaluating
from supernets.training import TrainingConfig, train_network

ABOUT = """
NEAS: an ensemble with a common trunk is better than one network of as many multiply-accumulates. Of networks of four
layers, trained for 400 steps each, that **does not hold with 4,000 examples** (five seeds): one wider network is
best, ahead of every way to split it and of two networks trained apart. **It holds with 500** (three seeds), which are
seen fifty times: each path learning is better than one network in all three seeds, by 0.5 % of errors in the median.
Two networks apart are better than the common trunk there, at equal cost by a little. Whether each path learns by
itself, as published, or their mean learns makes no clear difference; paths whose mean learns disagree in four of ten
answers of the larger data, so they are worth little alone. Costs are within 8 % of each other, but for the networks
apart that are each as wide as a path.
"""
EXAMPLES, JUDGED = 4_000, 4_000
SUBJECTS = {"4,000 clothes": EXAMPLES, "500 clothes": 500}
STEPS = 400
WIDTH, SPLIT = 12, 2
GROWTH = (1, 1, 2, 2)
"""Channels of the layers, in widths."""


def task(examples: int = EXAMPLES) -> Classification:
    data = fashion_mnist()
    (x, y), (u, v), (s, t) = data.train, data.valid, data.test
    train, valid, test = ((halved(a[:n]), b[:n]) for a, b, n in ((x, y, examples), (u, v, 1_000), (s, t, JUDGED)))
    return Classification(train, valid, test, name="clothes")


def layers(width: int) -> list[nn.Module]:
    """Return four layers and a head."""
    channels = [1, *(width * times for times in GROWTH)]
    pairs = enumerate(itertools.pairwise(channels))
    made: list[nn.Module] = [
        nn.Sequential(
            nn.Conv2d(before, after, 3, 2 if at in (0, 2) else 1, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()
        )
        for at, (before, after) in pairs
    ]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], 10))
    return [*made, head]


def paths(width: int, split: int, number: int = 2) -> nn.Module:
    return ensemble(layers(width), *(layers(width)[split:] for _ in range(number - 1)))


def macs(module: nn.Module) -> int:
    return profile_network(copy.deepcopy(module), torch.zeros(1, 1, 14, 14)).macs


def fitted(build: Callable[[int], nn.Module], wanted: int) -> int:
    """Return the width at which a network has the wanted cost."""
    return min(range(4, 64), key=lambda width: abs(macs(build(width)) - wanted))


class Together(nn.Module):
    """Averages the outputs of separate networks."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([network(x) for network in self.networks]).mean(0)


def trained(build: Callable[[], nn.Module], learns: Task, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    module = build()
    config = TrainingConfig(steps=STEPS, seed=seed, evaluate_every=0, checkpoint_every=0)
    train_network(module, learns, config, progress=False)
    return module


def apart(width: int, learns: Task, seed: int) -> nn.Module:
    return Together([trained(lambda: ensemble(layers(width)), learns, seed * 100 + own) for own in range(2)])


def disagreement(module: nn.Module, about: Classification) -> float:
    """Return the share of test examples on which two paths, or two networks, predict different classes."""
    found = []
    with evaluating(module):
        for batch in about.batches("test"):
            if isinstance(module, Together):
                choices = [network(batch.inputs).argmax(-1) for network in module.networks]
            else:
                choices = [own.argmax(-1) for own in EachPath(about).outputs(module, batch)]
            found.append(float((choices[0] != choices[-1]).float().mean()))
    return fmean(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--subjects", nargs="+", choices=list(SUBJECTS), default=list(SUBJECTS))
    arguments = parser.parse_args()
    for subject in arguments.subjects:
        measure(subject, arguments.seeds)


def measure(subject: str, seeds: int) -> None:
    about = task(SUBJECTS[subject])
    each = EachPath(about)
    cost = macs(paths(WIDTH, SPLIT))
    alone = fitted(lambda width: ensemble(layers(width)), cost)
    half = fitted(lambda width: ensemble(layers(width)), cost // 2)
    whole = fitted(lambda width: paths(width, 0), cost)
    ways: dict[str, Callable[[int], nn.Module]] = {
        "two paths, each learns": lambda seed: trained(lambda: paths(WIDTH, SPLIT), each, seed),
        "two paths, their mean learns": lambda seed: trained(lambda: paths(WIDTH, SPLIT), about, seed),
        "two paths from the first layer": lambda seed: trained(lambda: paths(whole, 0), each, seed),
        "one network": lambda seed: trained(lambda: ensemble(layers(alone)), about, seed),
        "two networks apart": lambda seed: apart(half, about, seed),
        "two networks apart, of twice a path": lambda seed: apart(WIDTH, about, seed),
    }
    for seed in range(seeds):
        for way, train in ways.items():
            module = train(seed)
            error = about.evaluate(module, "test")["error"]
            put("ensembles", subject, way, "million MACs", seed, round(macs(module) / 1e6, 3))
            put("ensembles", subject, way, "test error, %", seed, round(100 * error, 3))
            if way != "one network":
                put("ensembles", subject, way, "paths disagree, %", seed, round(100 * disagreement(module, about), 3))
            print(seed, way, error, flush=True)


if __name__ == "__main__":
    main()
