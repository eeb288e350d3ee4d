"""Handwritten digits, turned, scaled, moved and noisy: small convolutional networks for this machine's processor.

    image (N, 1, 24, 24) -> patches (N, width, rows, columns) -> blocks -> mean over places -> classes (N, 10)

What mixes places costs next to nothing and decides much; hidden layers cost most and decide little. Size does not tell
which networks are good, trained ones do.
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

SIDE = 24
PATCHES = (2, 4)
FILTERS = {"row": (1, 5), "conv3": (3, 3), "conv5": (5, 5)}


class Networks(Space):
    """288 classifiers of images."""

    patch = choice(*PATCHES)  # pixels on a side
    width = choice(16, 32, 64, 96)
    depth = choice(1, 2, 4)
    mixer = choice("gate", *FILTERS)
    ratio = choice(1, 2, 4)  # of the hidden layer's width


class Gate(nn.Module):
    """Scales every channel by what all of them are on average (arXiv:1709.01507, without the bottleneck)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = torch.sigmoid(self.gate(x.mean((2, 3))))
        return x * gate[:, :, None, None]


def patches(size: int, width: int) -> OneOf:
    """Cuts an image; each size has weights of its own."""
    return one_of(f"patch{size}", {f"patch{p}": partial(nn.Conv2d, 1, width, p, p, bias=False) for p in PATCHES})


def mixer(name: str, width: int) -> OneOf:
    """What mixes places: each channel filtered on its own, or a gate."""
    filters = {
        known: partial(nn.Conv2d, width, width, (h, w), padding=(h // 2, w // 2), groups=width, bias=False)
        for known, (h, w) in FILTERS.items()
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
        self.classifier = nn.Linear(arch.width, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.classifier(self.norm(self.blocks(x)).mean((2, 3)))
        return logits


def scattered(images: Floats, rng: np.random.Generator) -> Floats:
    """Images (n x 1 x h x h) on a larger canvas, turned by up to 20°, scaled by 1.5 to 2.3 and moved, with noise."""
    canvas = np.stack([_placed(image[0], rng)[None] for image in images])
    return (canvas + rng.normal(0, 0.1, canvas.shape)).astype(np.float32)


def _placed(image: Floats, rng: np.random.Generator) -> Floats:
    angle, scale, centre = rng.uniform(-0.35, 0.35), rng.uniform(1.5, 2.3), (SIDE - 1) / 2 + rng.uniform(-2.5, 2.5, 2)
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
        copies(data.train, 10, 0), copies(data.valid, 4, 1), copies(data.test, 4, 2), batch_size=24, name="digits"
    ),
    objectives=("error", "latency_ms@cpu"),
    training=TrainingConfig(steps=2500, lr=1e-2, strategy="fair", precision="fp32", evaluate_every=0),
    evaluations=100,
    measured=40,
    latency_batch=16,
    trust=0.4,  # of which less than a quarter is spent: steps are planned for a front of large networks
    trust_networks=24,
)
