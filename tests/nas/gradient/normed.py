"""A space of operations and widths over a network with batch norm and dropout, and a task to train it on."""

import torch
from torch import Tensor, nn

from search_spaces import Architecture, Space, choice
from supernets import Supernet, one_of
from supernets.tasks import Classification


class Operations(Space):
    width = choice(4, 6, 8)
    operation = choice("skip", "linear", per=3)


class Network(nn.Module):
    """Classes are told apart by the sign of the first feature."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        width = arch.width
        self.first = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Dropout(0.1))
        self.operations = nn.ModuleList(
            one_of(name, {"skip": nn.Identity, "linear": lambda: nn.Linear(width, width)}) for name in arch.operation
        )
        self.last = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for operation in self.operations:
            x = operation(x)
        out: Tensor = self.last(x)
        return out


def supernet() -> Supernet:
    return Supernet(Operations(), Network, seed=2)


def task() -> Classification:
    inputs = torch.randn(96, 3, generator=torch.Generator().manual_seed(4))
    labels = (inputs[:, 0] > 0).long()
    return Classification((inputs[:64], labels[:64]), (inputs[64:], labels[64:]), batch_size=16)
