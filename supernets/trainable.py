"""What the training loop trains: a supernet, or a single module as a supernet of one architecture."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from search_spaces import Architecture, Space, choice
from supernets.optim import Optimizer, OptimizerConfig
from supernets.store import Touched


class Trainable(Protocol):
    """The interface that the loop trains by. A `Supernet` has it."""

    device: torch.device

    def subnet(self, arch: Architecture, route: int | None = None) -> nn.Module: ...

    def extract(self, arch: Architecture) -> nn.Module: ...

    def route(self, arch: Architecture) -> int: ...

    def optimizer(self, config: OptimizerConfig) -> Optimizer: ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...


class _Itself(Space):
    """The space of a network that leaves nothing to choose."""

    network = choice("itself")


class Alone:
    """One ordinary module as a supernet of one architecture."""

    arch = _Itself().largest()

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))

    def subnet(self, arch: Architecture, route: int | None = None) -> nn.Module:
        return self.module

    def extract(self, arch: Architecture) -> nn.Module:
        return copy.deepcopy(self.module)

    def route(self, arch: Architecture) -> int:
        return 0

    def optimizer(self, config: OptimizerConfig) -> Optimizer:
        return Optimizer(self, config)

    def touched(self) -> list[Touched]:
        return [
            Touched(name, parameter.detach(), parameter.grad, parameter.dim() > 1)
            for name, parameter in self.module.named_parameters()
            if parameter.grad is not None
        ]

    def optimized(self) -> dict[str, Tensor]:
        return dict(self.module.named_parameters())

    def zero_grad(self) -> None:
        self.module.zero_grad()

    def state_dict(self) -> dict[str, Tensor]:
        return self.module.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.module.load_state_dict(state)
