"""A run file whose whole job takes seconds: perceptrons on 300 of scikit-learn's digits."""

import numpy as np
from sklearn.datasets import load_digits
from torch import nn

from nas.run import Run
from search_spaces import Architecture, Space, choice
from supernets.structure import one_of, stack
from supernets.tasks import Classification
from supernets.training import TrainingConfig


class TinySpace(Space):
    width = choice(8, 12, 16, 24)
    depth = choice(0, 1, 2)
    ratio = choice(1, 2, 3, per="depth")
    norm = choice("none", "batch")


class Block(nn.Module):
    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, width * ratio)
        self.down = nn.Linear(width * ratio, width)

    def forward(self, x):  # type: ignore[no-untyped-def]
        return x + self.down(self.up(x).relu())


def build(arch: Architecture) -> nn.Module:
    width = arch["width"]
    norm = one_of(arch["norm"], {"none": nn.Identity, "batch": lambda: nn.BatchNorm1d(width)})
    blocks = stack([Block(width, ratio) for ratio in arch["ratio"]])
    return nn.Sequential(nn.Linear(64, width), norm, blocks, nn.Linear(width, 10))


def digits() -> Classification:
    inputs, labels = load_digits(return_X_y=True)
    inputs = (inputs[:300] / 16).astype(np.float32)
    parts = np.split(np.arange(300), [160, 230])
    return Classification(*((inputs[part], labels[part]) for part in parts), batch_size=16, name="300 digits")


run = Run(
    name="tiny",
    space=TinySpace(),
    build=build,
    task=digits(),
    objectives=("error", "params"),
    training=TrainingConfig(steps=40, lr=1e-2, precision="fp32", checkpoint_every=10, evaluate_every=20),
    evaluations=30,
    batch=6,
    measured=6,
    trust_networks=3,
    trust_steps=5,
)
