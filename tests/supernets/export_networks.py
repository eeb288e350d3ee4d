"""Networks that the export tests write and load again, as users have them: plain PyTorch in a file of its own."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from supernets.structure import one_of, stack


class ConvNet(nn.Module):
    """Convolutions with batch norm, a choice of operations and a choice of depth."""

    def __init__(self, arch: Any) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, arch.width, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(arch.width)
        self.blocks = stack(self.block(arch.width, op) for op in arch.ops)
        self.head = nn.Linear(arch.width, 5)

    @staticmethod
    def block(width: int, op: str) -> nn.Module:
        operation = one_of(
            op,
            {
                "conv": lambda: nn.Conv2d(width, width, 3, padding=1),
                "separable": lambda: nn.Conv2d(width, width, 3, padding=1, groups=width),
            },
        )
        return nn.Sequential(operation, nn.BatchNorm2d(width), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(torch.relu(self.norm(self.stem(x))))
        return self.head(x.mean((2, 3)))


def mlp(arch: Any, classes: int = 2) -> nn.Module:
    """A function that builds, with an argument of its own."""
    sizes = [4, *arch.widths]
    layers = [nn.Sequential(nn.Linear(a, b), nn.Tanh()) for a, b in pairwise(sizes)]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], classes))


class LanguageModel(nn.Module):
    """Embedding and output share their weight; positions are a buffer that the state dict leaves out."""

    positions: Tensor

    def __init__(self, arch: Any) -> None:
        super().__init__()
        self.embedding = nn.Embedding(17, arch["width"])
        self.attention = nn.MultiheadAttention(arch["width"], arch["heads"], batch_first=True)
        self.out = nn.Linear(arch["width"], 17, bias=False)
        self.out.weight = self.embedding.weight
        self.register_buffer("positions", torch.randn(8, arch["width"]), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.positions[: tokens.shape[1]]
        mask = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool).triu(1)
        y, _ = self.attention(x, x, x, attn_mask=mask, need_weights=False)
        return self.out(x + y)


class Recurrent(nn.Module):
    """An LSTM that also returns its state: an output of nested tuples."""

    def __init__(self, arch: Any) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, arch.cell.hidden, batch_first=True)
        self.out = nn.Linear(arch.cell.hidden, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, state = self.lstm(x)
        return self.out(y[:, -1]), state
