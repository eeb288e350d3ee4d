"""Learning rates that follow the architecture against one rate for all, over twelve sizes.

    python -m benchmarks.methods.learning_rates [--seeds 3] [--trainings FILE]

Twelve networks of one space are trained alone on digits. For each rule a grid of rates is tried once with a seed of its
own, and the one with the smallest mean validation error over the twelve is kept; with it they are trained anew, by
other seeds and at two budgets. So each rule has one setting, chosen in the same way and at the same cost.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")  # before torch is imported

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import rows
from benchmarks.methods.report import put
from nas.data import digits
from nas.results.correction import tau
from search_spaces import Architecture, Space, choice
from supernets.scaled import initialised, scaled_in
from supernets.structure import stack
from supernets.tasks import Classification
from supernets.training import TrainingConfig, TrainingError, train_network

ABOUT = """
Claimed (arXiv:2402.17440, arXiv:2602.07494): one setting serves networks of all sizes, if their learning rates follow
their paths. Tried on digits with twelve networks of each of two spaces: plain chains of 3 to 13 layers with stochastic
gradient descent, and 1 to 8 residual blocks with AdamW; 150 steps, each rule with the best of a grid of rates around
its optimum, which was chosen by a seed of its own. Means and worst are over the twelve sizes.

It does not hold here: no rule is ahead of one fixed rate in the mean, and the deepest, narrowest chains are worse with
`paths`. On chains the tau between two budgets is higher in the median, but single seeds overlap. With residual blocks
`paths` is behind, and its worst network is the farthest; taus there are low whatever the rule, where errors at the
longer budget differ by few points. The fixed rate of residual blocks has a flat optimum: at 0.03 in place
of 0.1 it has the same error at the end and 8.9 % at a third of the steps, so the lead of `shortest` there is none.
"""
SHORT = 1 / 3
"""Of the steps: the other budget."""


class Chains(Space):
    """4 x 3 plain networks of 3 to 13 layers."""

    depth = choice(1, 3, 6, 11)
    width = choice(16, 32, 64)


class Residuals(Space):
    """4 x 3 networks of 1 to 8 residual blocks."""

    depth = choice(1, 2, 4, 8)
    width = choice(16, 32, 64)


def chain(arch: Architecture) -> nn.Module:
    width = arch.width
    blocks = stack(nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in range(arch.depth))
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), blocks, nn.Linear(width, 10)).apply(_he)


def _he(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(module.bias)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.down(torch.relu(self.up(self.norm(x))))
        return y


def residual(arch: Architecture) -> nn.Module:
    blocks = stack(Block(arch.width) for _ in range(arch.depth))
    return nn.Sequential(nn.Flatten(), nn.Linear(64, arch.width), blocks, nn.Linear(arch.width, 10))


@dataclass(frozen=True)
class Subject:
    name: str
    space: Space
    build: Callable[[Architecture], nn.Module]
    training: TrainingConfig
    rates: dict[str, tuple[float, ...]]
    """By rule, for the largest network."""


COMMON: dict[str, Any] = {"precision": "fp32", "evaluate_every": 0, "checkpoint_every": 0}
SUBJECTS = (
    Subject(
        "chains, SGD",
        Chains(),
        chain,
        TrainingConfig(steps=150, optimizer="sgd", weight_decay=0.0, clip=math.inf, **COMMON),
        dict.fromkeys(("none", "paths"), (0.003, 0.01, 0.03, 0.1)),
    ),
    Subject(
        "residual blocks, AdamW",
        Residuals(),
        residual,
        TrainingConfig(steps=150, **COMMON),
        {
            "none": (0.001, 0.003, 0.01, 0.03, 0.1, 0.3),
            "paths": (1e-4, 3e-4, 0.001, 0.003, 0.01),
            "shortest": (0.001, 0.003, 0.01, 0.03, 0.1),
            "shortest(variance=yes)": (0.001, 0.003, 0.01, 0.03, 0.1),
        },
    ),
)


def task() -> Classification:
    data = digits()
    return Classification(data.train, data.valid, data.test, batch_size=32)


class Trainings:
    """Errors of trainings, each run once and stored in a file."""

    def __init__(self, path: Path) -> None:
        self.task, self.path = task(), path
        self._known = {row["key"]: (row["valid"], row["test"]) for row in rows.lines(path)}

    def __call__(self, subject: Subject, arch: Architecture, config: TrainingConfig) -> tuple[float, float]:
        """Return (valid, test) errors; 1 if a training failed."""
        key = f"{subject.name} {arch.json()} {config.scaling} {config.lr:g} {config.steps} {config.seed}"
        if key not in self._known:
            self._known[key] = self._trained(subject, arch, config)
            valid, test = self._known[key]
            rows.append_line(self.path, {"key": key, "valid": valid, "test": test})
        return self._known[key]

    def _trained(self, subject: Subject, arch: Architecture, config: TrainingConfig) -> tuple[float, float]:
        example = self.task.example(2)
        network = initialised(subject.build, arch, config, example)
        own = scaled_in(config, network, subject.space, subject.build, example)
        try:
            train_network(network, self.task, own, progress=False)
        except TrainingError:
            return 1.0, 1.0
        valid, test = (self.task.evaluate(network, split)["error"] for split in ("valid", "test"))
        return valid, test


def measured(subject: Subject, rule: str, trainings: Trainings, seeds: int) -> None:
    archs = list(subject.space.enumerate())
    base = replace(subject.training, scaling=rule, seed=100)
    tried = {lr: np.mean([trainings(subject, a, replace(base, lr=lr))[0] for a in archs]) for lr in subject.rates[rule]}
    best = replace(base, lr=min(tried, key=lambda lr: tried[lr]))
    for seed in range(seeds):
        long = np.array([trainings(subject, arch, replace(best, seed=seed)) for arch in archs])
        fewer = replace(best, seed=seed, steps=round(SHORT * best.steps))
        short = np.array([trainings(subject, arch, fewer) for arch in archs])
        for measure, value in (
            ("rate of the largest", best.lr),
            ("mean test error, %", 100 * long[:, 1].mean()),
            ("worst test error, %", 100 * long[:, 1].max()),
            (f"mean at {SHORT:.2g} of the steps, %", 100 * short[:, 1].mean()),
            ("tau between budgets", tau(short[:, 0], long[:, 0])),
        ):
            put("learning_rates", subject.name, rule, measure, seed, round(float(value), 6))


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.methods.learning_rates", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trainings", type=Path, default=Path("learning_rates.jsonl"), help="of single trainings")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    trainings = Trainings(given.trainings)
    for subject in SUBJECTS:
        for rule in subject.rates:
            measured(subject, rule, trainings, given.seeds)


if __name__ == "__main__":
    main()
