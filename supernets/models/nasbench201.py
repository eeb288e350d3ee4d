"""The networks of NAS-Bench-201 (arXiv:2001.00326): cells of four nodes and six edges, stacked in three stages.

    images (N, C, H, W) -> stem -> N cells -> reduction -> N cells -> reduction -> N cells -> mean -> classes (N, K)

Each reduction doubles the width and halves the resolution. Edge e of a cell applies one operation, `arch.op[e]`, from
one node to a later one; a node sums its incoming edges. All cells of a network have the same operations.
"""

import functools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from supernets.structure import one_of, stack

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""The source and target node of each edge, in the order of `arch.op`."""


class Zero(nn.Module):
    """No connection: zeros of the input's shape."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class Convolution(nn.Sequential):
    """ReLU, convolution, batch norm, in this order."""

    def __init__(self, in_width: int, width: int, kernel: int, stride: int = 1) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(in_width, width, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(width),
        )


class Cell(nn.Module):
    """Four nodes; `ops[e]` is the operation of edge e. Keeps the shape of its input."""

    def __init__(self, width: int, ops: Sequence[str]) -> None:
        super().__init__()
        options: dict[str, Callable[[], nn.Module]] = {
            "none": Zero,
            "skip_connect": nn.Identity,
            "nor_conv_1x1": partial(Convolution, width, width, 1),
            "nor_conv_3x3": partial(Convolution, width, width, 3),
            "avg_pool_3x3": partial(nn.AvgPool2d, 3, stride=1, padding=1, count_include_pad=False),
        }
        self.edges = nn.ModuleList(one_of(op, options) for op in ops)

    def forward(self, x: Tensor) -> Tensor:
        nodes = [x]
        for node in (1, 2, 3):
            entering = [
                cast(Tensor, edge(nodes[source]))
                for edge, (source, target) in zip(self.edges, EDGES, strict=True)
                if target == node
            ]
            nodes.append(functools.reduce(torch.add, entering))
        return nodes[-1]


class Reduction(nn.Module):
    """Residual block that doubles the width and halves the resolution."""

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.first = Convolution(in_width, width, 3, stride=2)
        self.second = Convolution(width, width, 3)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(in_width, width, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.shortcut(x) + self.second(self.first(x))
        return y


class CellNetwork(nn.Module):
    """Stem, three stages of cells and classifier of an architecture; see `build`."""

    def __init__(self, arch: Any, num_classes: int, in_channels: int, width: int, num_cells: int) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width)
        self.stem = nn.Sequential(nn.Conv2d(in_channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.stages = nn.ModuleList(stack(Cell(w, arch.op) for _ in range(num_cells)) for w in widths)
        self.reductions = nn.ModuleList(Reduction(w, 2 * w) for w in widths[:-1])
        self.norm = nn.Sequential(nn.BatchNorm2d(widths[-1]), nn.ReLU())
        self.classifier = nn.Linear(widths[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stages[0](self.stem(images))
        for reduction, stage in zip(self.reductions, self.stages[1:], strict=True):
            x = stage(reduction(x))
        logits: Tensor = self.classifier(self.norm(x).mean((2, 3)))
        return logits


def build(
    arch: Any, *, num_classes: int = 10, in_channels: int = 3, width: int = 16, num_cells: int = 5
) -> CellNetwork:
    """Return the network of `arch`, whose `op` names the operation of each of the six `EDGES`.

    The defaults give the published networks for CIFAR-10; `width` is the number of channels in the first stage,
    `num_cells` the number of cells per stage.
    """
    return CellNetwork(arch, num_classes, in_channels, width, num_cells)
