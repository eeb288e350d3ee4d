"""An ensemble of image classifiers with a common trunk (NEAS, CVPR 2021), of inverted residual blocks.

image (N, C, H, W) -> stem convolution -> shared layers -> for each path, layers and a head -> mean of logits (N, K)
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from supernets.models.mobilenet import ACTIVATIONS, Block, convolution
from supernets.structure import ensemble, one_of

WIDTHS = (16, 16, 24, 24, 32, 32, 48, 48)
STRIDES = (1, 1, 2, 1, 1, 1, 2, 1)


class Head(nn.Module):
    """A 1x1 convolution, the mean over space, and a classifier that returns logits."""

    def __init__(self, in_width: int, width: int, num_classes: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.convolution = convolution(in_width, width, 1, 1, nn.BatchNorm2d, activation)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.convolution(x).mean((2, 3)))
        return logits


def build(
    arch: Any,
    *,
    num_classes: int = 10,
    in_channels: int = 1,
    stem: int = 16,
    head: int = 64,
    widths: Sequence[int] = WIDTHS,
    strides: Sequence[int] = STRIDES,
    activation: str = "relu",
) -> nn.Sequential:
    """Return the network of `arch`, which has `split`, a layer for each position in `first`, and those of other paths.

    Layers are named ``skip`` (a 1x1 convolution if width or resolution changes) or by kernel and expansion, ``k3e2``.
    The default `strides` take 8x8 images to 2x2.

    Raises:
        ValueError: `widths` or `strides` do not have one entry per layer, or the activation is unknown.
    """
    if not len(widths) == len(strides) == len(arch.first):
        raise ValueError(
            f"{len(widths)} widths and {len(strides)} strides: the network has {len(arch.first)} layers, give one each"
        )
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation={activation!r}: choose one of {', '.join(ACTIVATIONS)}")
    made = ACTIVATIONS[activation]
    steps = [*zip((stem, *widths), widths, strides, strict=False)]

    def path(ops: Sequence[str | None]) -> list[nn.Module]:
        layers = [_layer(op, *step, made) for op, step in zip(ops, steps, strict=True) if op is not None]
        return [*layers, Head(widths[-1], head, num_classes, made)]

    first, *others = (path(arch[name]) for name in ("first", "second", "third", "fourth") if name in arch)
    return nn.Sequential(convolution(in_channels, stem, 3, 1, nn.BatchNorm2d, made), ensemble(first, *others))


def _layer(op: str, in_width: int, width: int, stride: int, activation: type[nn.Module]) -> nn.Module:
    keeps = in_width == width and stride == 1
    block = partial(Block, in_width, width, stride=stride, norm=nn.BatchNorm2d, activation=activation, residual=keeps)
    options: Mapping[str, Callable[[], nn.Module]] = {
        "skip": nn.Identity if keeps else partial(_shortcut, in_width, width, stride),
        **{
            f"k{kernel}e{times}": partial(block, kernel=kernel, expansion=times)
            for kernel in (3, 5)
            for times in (2, 4)
        },
    }
    return one_of(op, options)


def _shortcut(in_width: int, width: int, stride: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(in_width, width, 1, stride, bias=False), nn.BatchNorm2d(width))
