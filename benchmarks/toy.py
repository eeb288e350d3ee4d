"""A truth that takes a second, to try the benchmark: perceptrons of six sizes that imitate another one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from benchmarks.truths import TOY, Truth
from search_spaces import Architecture, Space, choice
from supernets.calibrate import recalibrate
from supernets.profile import profile_network
from supernets.skeleton import build_initialised
from supernets.structure import stack
from supernets.tasks import Classification
from supernets.training import TrainingConfig, train_network

NUM_EXAMPLES = {"train": 640, "valid": 256}


class Perceptrons(Space):
    width = choice(2, 6, 16)
    depth = choice(1, 2)


def build(arch: Architecture) -> nn.Module:
    width = arch.width
    blocks = [nn.Sequential(nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width)) for _ in range(arch.depth)]
    return nn.Sequential(nn.Linear(12, width), stack(blocks), nn.Linear(width, 4))


def task() -> Classification:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(12, 16)), rng.normal(size=(16, 4))

    def drawn(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = rng.normal(size=(n, 12))
        labels = (np.tanh(inputs @ first) @ second).argmax(1)
        return torch.tensor(inputs, dtype=torch.float32), torch.tensor(labels)

    return Classification(*(drawn(n) for n in NUM_EXAMPLES.values()), batch_size=32, name=TOY)


def toy() -> Truth:
    """Train each of the six alone, twice."""
    made = task()
    training = TrainingConfig(steps=30, lr=1e-2, precision="fp32", checkpoint_every=0, evaluate_every=0)
    archs = tuple(Perceptrons().enumerate())

    def alone(arch: Architecture, seed: int) -> float:
        module = build_initialised(build, arch, seed)
        train_network(module, made, replace(training, seed=seed), progress=False)
        return made.evaluate(recalibrate(module, made.calibration(8)))[made.metric]

    profiles = [profile_network(build_initialised(build, arch, 0), made.example()) for arch in archs]
    return Truth(
        TOY,
        Perceptrons(),
        build,
        made,
        training,
        made.metric,
        archs,
        np.array([[alone(arch, seed) for seed in (0, 1)] for arch in archs]),
        np.array([profile.params for profile in profiles], dtype=np.float64),
        np.array([profile.macs for profile in profiles], dtype=np.float64),
    )
