"""ReXNet, an image classifier of inverted residual blocks whose widths grow from block to block (arXiv:2007.00992).

    image (N, C, H, W) -> stem convolution -> blocks -> 1x1 convolution -> mean over space -> classes (N, K)

A block adds its input to its output. The input may have fewer channels; it is then added to the first ones.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from supernets.models.layers import norm_and_activation


class Gate(nn.Module):
    """Squeeze-and-excitation: scales channels by a gate from their means, via `width` channels (arXiv:1709.01507)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, width, 1)
        self.norm = nn.BatchNorm2d(width)
        self.expand = nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.reduce(x.mean((2, 3), keepdim=True))))
        gated: Tensor = x * self.expand(y).sigmoid()
        return gated


class Block(nn.Module):
    """1x1 up to `expansion` times the channels, depthwise 3x3, 1x1 to `width`; no first 1x1 if expansion is 1."""

    def __init__(
        self, in_width: int, width: int, expansion: int, stride: int, gate_ratio: int | None, norm: str = "batch"
    ) -> None:
        super().__init__()
        hidden = in_width * expansion
        normalise, raise_ = norm_and_activation(norm, nn.SiLU)
        _, filter_ = norm_and_activation(norm, nn.ReLU6)
        self.expand = convolution(in_width, hidden, 1, 1, normalise) if expansion > 1 else nn.Identity()
        self.raised = raise_() if expansion > 1 else nn.Identity()
        self.depthwise = convolution(hidden, hidden, 3, stride, normalise, groups=hidden)
        self.gate = nn.Identity() if gate_ratio is None else Gate(hidden, max(1, hidden // gate_ratio))
        self.filtered = filter_()
        self.project = convolution(hidden, width, 1, 1)
        self.residual = stride == 1 and in_width <= width

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.filtered(self.gate(self.depthwise(self.raised(self.expand(x)))))
        y = self.project(y)
        if self.residual:
            y = y + F.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))
        return y


def convolution(
    in_width: int,
    width: int,
    kernel: int,
    stride: int,
    norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    groups: int = 1,
) -> nn.Sequential:
    """Convolution and normalisation."""
    return nn.Sequential(
        nn.Conv2d(in_width, width, kernel, stride, kernel // 2, groups=groups, bias=False), norm(width)
    )


class ReXNet(nn.Module):
    """Stem, blocks and head of an architecture; see `build`."""

    def __init__(
        self,
        arch: Any,
        num_classes: int,
        in_channels: int,
        stem_stride: int,
        stages: Sequence[int],
        strides: Sequence[int],
        gated_from: int,
        norm: str,
    ) -> None:
        super().__init__()
        normalise, activation = norm_and_activation(norm, nn.SiLU)
        self.stem = nn.Sequential(convolution(in_channels, arch.stem, 3, stem_stride, normalise), activation())
        blocks: list[Block] = []
        before = arch.stem
        for stage, (count, stride) in enumerate(zip(stages, strides, strict=True)):
            for place in range(count):
                width, ratio = arch.widths[len(blocks)], 12 if stage >= gated_from else None
                blocks.append(Block(before, width, 6 if stage else 1, 1 if place else stride, ratio, norm))
                before = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(convolution(before, arch.head, 1, 1, normalise), activation())
        self.classifier = nn.Linear(arch.head, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.head(self.blocks(self.stem(images)))
        logits: Tensor = self.classifier(features.mean((2, 3)))
        return logits


def build(
    arch: Any,
    *,
    num_classes: int = 10,
    in_channels: int = 1,
    stem_stride: int = 1,
    stages: Sequence[int] = (1, 2, 2, 3, 3, 5),
    strides: Sequence[int] = (1, 2, 2, 2, 1, 2),
    gated_from: int = 2,
    norm: str = "batch",
) -> ReXNet:
    """Return the network of `arch`, which has `stem`, `head` and `widths`, one per block.

    `stages` holds the number of blocks of each stage, `strides` the stride of its first block; stages from index
    `gated_from` on scale their channels by a gate. Use a stem_stride of 2 for images of 224 pixels. `norm` is "batch",
    or one of `layers.EVONORMS`, which replace the activation too; projections and gates keep batch norm.

    Raises:
        ValueError: `strides` has not one entry a stage, `widths` not one a block, or the norm is unknown.
    """
    if len(strides) != len(stages):
        raise ValueError(f"strides={tuple(strides)}: there are {len(stages)} stages, give one stride each")
    if len(arch.widths) != sum(stages):
        raise ValueError(f"{len(arch.widths)} widths: stages={tuple(stages)} are {sum(stages)} blocks, give one each")
    return ReXNet(arch, num_classes, in_channels, stem_stride, stages, strides, gated_from, norm)
