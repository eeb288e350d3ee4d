"""Handwritten digits, turned, scaled, moved and noisy: small convolutional networks for this machine's processor.

    image (N, 1, 20, 20) -> patches (N, width, places) -> blocks -> pooling over places -> classes (N, 10)

What mixes places, and how they are pooled, costs little and decides much; patches of half the side cost four times the
computation. Size does not tell which networks are good, trained ones do.
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.ndimage import affine_transform
from torch import Tensor, nn

from nas.data import Floats, Ints, digits
from nas.run import Run
from search_spaces import Space, choice
from supernets.structure import OneOf, one_of, stack
from supernets.tasks import Classification
from supernets.training import TrainingConfig

SIDE = 20
PATCHES = (2, 4)


class Networks(Space):
    """576 classifiers of images."""

    patch = choice(*PATCHES)  # pixels on a side
    width = choice(16, 24, 32, 48)
    depth = choice(1, 2, 3)
    mixer = choice("gate", "conv3", "conv5")
    ratio = choice(1, 2, 4, 8)  # of the hidden layer's width
    pool = choice("mean", "max")


class Gate(nn.Module):
    """Scales every channel by what all of them are on average (arXiv:1709.01507, without the bottleneck)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = torch.sigmoid(self.gate(x.mean((2, 3))))
        return x * gate[:, :, None, None]


class MeanPool(nn.Module):
    """The mean over places."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class MaxPool(nn.Module):
    """The largest over places."""

    def forward(self, x: Tensor) -> Tensor:
        return x.amax((2, 3))


def patches(size: int, width: int) -> OneOf:
    """Cuts an image; each size has weights of its own."""
    return one_of(f"patch{size}", {f"patch{p}": partial(nn.Conv2d, 1, width, p, p, bias=False) for p in PATCHES})


def mixer(name: str, width: int) -> OneOf:
    """What mixes places: each channel filtered on its own, or a gate."""
    filters = {
        f"conv{k}": partial(nn.Conv2d, width, width, k, padding=k // 2, groups=width, bias=False) for k in (3, 5)
    }
    return one_of(name, {"gate": partial(Gate, width), **filters})


class Block(nn.Module):
    """Mixing over places and a hidden layer over channels, added to the input."""

    def __init__(self, width: int, mixed_by: str, hidden: int) -> None:
        super().__init__()
        self.mixer = mixer(mixed_by, width)
        self.norm = nn.BatchNorm2d(width)
        self.hidden = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        # channels are last in memory, so turning the axes moves nothing
        y = self.norm(self.mixer(x)).permute(0, 2, 3, 1)
        z: Tensor = x + self.hidden(y).permute(0, 3, 1, 2)
        return z


class Network(nn.Module):
    """The classifier of an architecture."""

    def __init__(self, arch: Any) -> None:
        super().__init__()
        self.patches = patches(arch.patch, arch.width)
        self.blocks = stack(Block(arch.width, arch.mixer, arch.width * arch.ratio) for _ in range(arch.depth))
        self.norm = nn.BatchNorm2d(arch.width)
        self.pool = one_of(arch.pool, {"mean": MeanPool, "max": MaxPool})
        self.classifier = nn.Linear(arch.width, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.classifier(self.pool(self.norm(self.blocks(x))))
        return logits


def scattered(images: Floats, rng: np.random.Generator) -> Floats:
    """Images (n x 1 x h x h) on a larger canvas, turned by up to 20°, scaled by 1.2 to 1.9 and moved, with noise."""
    canvas = np.stack([_placed(image[0], rng)[None] for image in images])
    return (canvas + rng.normal(0, 0.1, canvas.shape)).astype(np.float32)


def _placed(image: Floats, rng: np.random.Generator) -> Floats:
    angle, scale, centre = rng.uniform(-0.35, 0.35), rng.uniform(1.2, 1.9), (SIDE - 1) / 2 + rng.uniform(-2, 2, 2)
    cos, sin = np.cos(angle), np.sin(angle)
    back = np.array([[cos, -sin], [sin, cos]]) / scale  # from the canvas to the image
    middle = (len(image) - 1) / 2
    placed: Floats = affine_transform(image, back, middle - back @ centre, (SIDE, SIDE), order=1)
    return placed


def copies(split: tuple[Floats, Ints], n: int, seed: int) -> tuple[Floats, Ints]:
    """Every image of a split `n` times, each otherwise."""
    images, labels = split
    return scattered(np.tile(images, (n, 1, 1, 1)), np.random.default_rng(seed)), np.tile(labels, n)


data = digits(valid=400, test=400)
run = Run(
    name="digits",
    space=Networks(),
    build=Network,
    task=Classification(
        copies(data.train, 10, 0), copies(data.valid, 5, 1), copies(data.test, 5, 2), batch_size=32, name="digits"
    ),
    objectives=("error", "latency_ms@cpu", "params"),
    training=TrainingConfig(steps=3500, lr=1e-2, strategy="fair", precision="fp32", evaluate_every=0),
    evaluations=160,
    measured=30,
    trust=0.25,
    trust_networks=24,
)
