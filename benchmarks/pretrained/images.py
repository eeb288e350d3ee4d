"""A residual network of convolutions, trained here on Fashion-MNIST, as a space of smaller ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from nas.data import fashion_mnist
from search_spaces import Space, choice
from supernets.tasks import Classification
from supernets.training import TrainingConfig, train_network

WIDTHS = (32, 64, 128)
BLOCKS = 2
"""A stage."""
JUDGED = 2_000


class Networks(Space):
    """Channels of each stage and of the middle of each block, from an eighth to all of them."""

    stages = choice(2, 3, 4, 5, 6, 7, 8, per=len(WIDTHS))  # eighths
    middles = choice(2, 4, 6, 8, per=len(WIDTHS) * BLOCKS)


class Block(nn.Module):
    """A residual block of two convolutions, with a projection of the input if its shape differs."""

    def __init__(self, before: int, middle: int, after: int, stride: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(before, middle, 3, stride, 1, bias=False)
        self.one_norm = nn.BatchNorm2d(middle)
        self.two = nn.Conv2d(middle, after, 3, 1, 1, bias=False)
        self.two_norm = nn.BatchNorm2d(after)
        self.skip = nn.Conv2d(before, after, 1, stride, bias=False) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.two_norm(self.two(self.one_norm(self.one(x)).relu()))
        return F.relu(self.skip(x) + y)


def build(arch: Any) -> nn.Module:
    stages = [full * eighths // 8 for full, eighths in zip(WIDTHS, arch.stages, strict=True)]
    layers: list[nn.Module] = [
        nn.Conv2d(1, stages[0], 3, 2, 1, bias=False),
        nn.BatchNorm2d(stages[0]),
        nn.ReLU(),
    ]
    before, middles = stages[0], iter(arch.middles)
    for number, (full, width) in enumerate(zip(WIDTHS, stages, strict=True)):
        for block in range(BLOCKS):
            stride = 2 if number and block == 0 else 1
            layers.append(Block(before, full * next(middles) // 8, width, stride))
            before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10))


def task() -> Classification:
    data = fashion_mnist()
    valid, test = ((x[:JUDGED], y[:JUDGED]) for x, y in (data.valid, data.test))
    return Classification(data.train, valid, test, batch_size=64, name="fashion-mnist")


def trained(task: Classification, folder: Path, steps: int = 2500) -> nn.Module:
    """Return the largest network, trained alone; a finished training is reused from `folder`."""
    model = build(Networks().largest())
    config = TrainingConfig(steps=steps, lr=2e-3, precision="fp32", evaluate_every=0)
    train_network(model, task, config, directory=folder / "parent")
    return model
