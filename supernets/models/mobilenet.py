"""A MobileNet-like image classifier: stages of inverted residual blocks (arXiv:1801.04381, arXiv:1905.02244).

    image (N, C, H, W) -> stem convolution -> stages -> 1x1 convolution -> mean over space -> classes (N, K)

Every block expands its channels, filters each one separately, and projects back.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from supernets.models.layers import norm_and_activation
from supernets.structure import stack

Norm = Callable[[int], nn.Module]
Activation = Callable[[], nn.Module]
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "hardswish": nn.Hardswish}


class Block(nn.Module):
    """Inverted residual: 1x1 up to `hidden` channels, depthwise `kernel` x `kernel`, 1x1 down to `width`.

    A `residual` block adds its input, so its output must have the input's shape.
    """

    def __init__(
        self,
        in_width: int,
        width: int,
        kernel: int,
        expansion: float,
        stride: int,
        norm: Norm,
        activation: Activation,
        *,
        residual: bool,
    ) -> None:
        super().__init__()
        hidden = round(in_width * expansion)
        self.expand = nn.Conv2d(in_width, hidden, 1, bias=False)
        self.expand_norm = norm(hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False)
        self.depthwise_norm = norm(hidden)
        self.project = nn.Conv2d(hidden, width, 1, bias=False)
        self.project_norm = nn.BatchNorm2d(width)
        self.activation = activation()
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation(self.expand_norm(self.expand(x)))
        y = self.activation(self.depthwise_norm(self.depthwise(y)))
        y = cast(Tensor, self.project_norm(self.project(y)))
        return x + y if self.residual else y


class Stage(nn.Module):
    """One block that sets width and resolution, then a stack of residual blocks that keep them.

    The first block never adds its input, even if width and resolution stay the same: that depends on two choices, and
    `forward` must not depend on choices, so that the model can be relaxed.
    """

    def __init__(
        self,
        in_width: int,
        width: int,
        kernels: Sequence[int],
        expansions: Sequence[float],
        stride: int,
        norm: Norm,
        activation: Activation,
    ) -> None:
        super().__init__()
        self.first = Block(in_width, width, kernels[0], expansions[0], stride, norm, activation, residual=False)
        later = zip(kernels[1:], expansions[1:], strict=True)
        self.rest = stack(
            Block(width, width, kernel, expansion, 1, norm, activation, residual=True) for kernel, expansion in later
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.rest(self.first(x))
        return y


def convolution(
    in_width: int, width: int, kernel: int, stride: int, norm: Norm, activation: Activation
) -> nn.Sequential:
    """Convolution, normalisation, activation."""
    return nn.Sequential(nn.Conv2d(in_width, width, kernel, stride, kernel // 2, bias=False), norm(width), activation())


class MobileNet(nn.Module):
    """Stem, stages and head of an architecture; see `build`."""

    def __init__(
        self,
        arch: Any,
        num_classes: int,
        in_channels: int,
        stem_stride: int,
        strides: Sequence[int],
        norm: Norm,
        activation: Activation,
    ) -> None:
        super().__init__()
        self.stem = convolution(in_channels, arch.stem, 3, stem_stride, norm, activation)
        widths = [arch.stem, *(stage.width for stage in arch.stages)]
        self.stages = nn.Sequential(
            *(
                Stage(in_width, stage.width, stage.kernel, stage.expansion, stride, norm, activation)
                for in_width, stage, stride in zip(widths, arch.stages, strides, strict=False)
            )
        )
        self.head = convolution(widths[-1], arch.head, 1, 1, norm, activation)
        self.classifier = nn.Linear(arch.head, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        # Channels last in memory: depthwise convolutions then train in half the time on a CPU.
        x = self.stem(images).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.head(self.stages(x))
        logits: Tensor = self.classifier(features.mean((2, 3)))
        return logits


def build(
    arch: Any,
    *,
    num_classes: int = 10,
    in_channels: int = 1,
    stem_stride: int = 1,
    strides: Sequence[int] = (1, 2, 2),
    activation: str = "relu",
    norm: str | Norm = "batch",
) -> MobileNet:
    """Return the network of `arch`: `stem`, `head`, and `stages` of `width` and, per block, `kernel` and `expansion`.

    `strides` holds the stride of each stage's first block: (1, 2, 2) takes 8x8 images to 2x2 and 28x28 images to 7x7.
    `norm` precedes every activation: "batch"; one of `layers.EVONORMS`, which replace the activation too; or a custom
    function from a number of channels to such a combined layer.

    Raises:
        ValueError: `strides` does not have one entry per stage, or the activation or the norm is unknown.
    """
    if len(strides) != len(arch.stages):
        raise ValueError(f"strides={tuple(strides)}: the network has {len(arch.stages)} stages, give one stride each")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation={activation!r}: choose one of {', '.join(ACTIVATIONS)}")
    made: tuple[Norm, Activation] = (
        norm_and_activation(norm, ACTIVATIONS[activation]) if isinstance(norm, str) else (norm, nn.Identity)
    )
    return MobileNet(arch, num_classes, in_channels, stem_stride, strides, *made)
