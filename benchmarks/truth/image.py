"""The image task: clothes of 14 x 14 pixels in ten classes, and 243 convolutional networks with batch norm.

    image (N, 1, 14, 14) -> stem, 5 x 5 places -> blocks -> batch norm -> pooling over places -> classes (N, 10)

A block mixes places channel by channel, normalises, and has a hidden layer over channels (the order of ConvNeXt,
arXiv:2201.03545). Three choices are sizes. The other two are not: the operator that mixes, and the pooling, which wants
other features of the same weights for each of its options. Both are operations of a `one_of`, as a relaxation needs
them; the two kernels are one operation of two sizes, so that they share their weight.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.truth.task import TruthTask
from nas.data import fashion_mnist
from search_spaces import Space, choice
from supernets.structure import OneOf, one_of, stack
from supernets.tasks import Classification
from supernets.training import TrainingConfig


class ImageSpace(Space):
    """3^5 = 243 networks, of 386 to 9,563 parameters."""

    width = choice(8, 16, 24)
    depth = choice(1, 2, 3)
    ratio = choice(0.5, 1.0, 2.0)
    mixer = choice("squeeze", "conv3", "conv5")
    head = choice("mean", "attention", "max")


class Squeeze(nn.Module):
    """Scales every channel by what all of them are on average (arXiv:1709.01507, without the bottleneck)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = torch.sigmoid(self.gate(x.mean((2, 3))))
        return x * gate[:, :, None, None]


class MeanPool(nn.Module):
    """The mean over places (N, C, P)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(-1)


class AttentionPool(nn.Module):
    """The mean over places (N, C, P), weighted by a learned score."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.score(x.mT).softmax(1)
        return (x @ weights).squeeze(-1)


class MaxPool(nn.Module):
    """The largest over places (N, C, P)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.amax(-1)


KERNELS = {"conv3": 3, "conv5": 5}


def mixer(name: str, width: int) -> OneOf:
    """What mixes places: each channel filtered on its own, or a gate.

    Kernels of all sizes are one parameter: a smaller one is its centre.
    """
    kernel = KERNELS.get(name, max(KERNELS.values()))  # a squeeze has none
    convolution = partial(nn.Conv2d, width, width, kernel, padding=kernel // 2, groups=width, bias=False)
    options: dict[str, Callable[[], nn.Module]] = {"squeeze": partial(Squeeze, width), "conv": convolution}
    return one_of("conv" if name in KERNELS else "squeeze", options)


def pool(name: str, width: int) -> OneOf:
    """What is left of a channel's places."""
    return one_of(name, {"mean": MeanPool, "attention": partial(AttentionPool, width), "max": MaxPool})


class Block(nn.Module):
    """Mixing over places and a hidden layer over channels, added to the input."""

    def __init__(self, width: int, mixed_by: str, hidden: int) -> None:
        super().__init__()
        self.mixer = mixer(mixed_by, width)
        self.norm = nn.BatchNorm2d(width)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # channels are last in memory, so turning the axes moves nothing
        y = self.norm(self.mixer(x)).permute(0, 2, 3, 1)
        y = self.down(F.relu(self.up(y)))
        z: Tensor = x + y.permute(0, 3, 1, 2)
        return z


class Network(nn.Module):
    """The network of an architecture of ImageSpace."""

    def __init__(self, arch: Any) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, arch.width, 4, stride=3, padding=1, bias=False)
        hidden = round(arch.width * arch.ratio)
        self.blocks = stack(Block(arch.width, arch.mixer, hidden) for _ in range(arch.depth))
        self.norm = nn.BatchNorm2d(arch.width)
        self.pool = pool(arch.head, arch.width)
        self.classifier = nn.Linear(arch.width, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images).contiguous(memory_format=torch.channels_last)
        features = self.pool(self.norm(self.blocks(x)).flatten(2))
        logits: Tensor = self.classifier(features)
        return logits


def halved(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Images (n x 1 x 2h x 2w) as means of 2 x 2 pixels, of sums of whole numbers: every machine has the same ones."""
    n, channels, height, width = images.shape
    pixels = np.rint(images * 255).astype(np.int32).reshape(n, channels, height // 2, 2, width // 2, 2)
    sums: npt.NDArray[np.int32] = pixels.sum((3, 5), dtype=np.int32)
    return sums.astype(np.float32) / np.float32(4 * 255)


def load() -> TruthTask:
    """Fashion-MNIST, 55,000 images to learn from and 5,000 to be judged by.

    Raises:
        DataError: the package of the images is not installed.
    """
    data = fashion_mnist()
    train, valid, test = ((halved(images), labels) for images, labels in (data.train, data.valid, data.test))
    return TruthTask(
        name="image",
        space=ImageSpace(),
        build=Network,
        task=Classification(train, valid, test, batch_size=32, name="fashion-mnist of 14 x 14"),
        training=TrainingConfig(
            steps=400, lr=1.5e-2, weight_decay=0.01, precision="fp32", evaluate_every=0, checkpoint_every=0
        ),
        metric="error",
    )
