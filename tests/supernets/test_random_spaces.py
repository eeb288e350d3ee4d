"""The supernet's laws over random spaces: depths, nested and conditional choices, constraints."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from search_spaces import Architecture, Space
from supernets import Supernet
from tests.search_spaces.strategies import random_spaces


def leaves(value: Any, path: str = "net") -> Iterator[tuple[str, Any]]:
    """The values of an architecture, each with a path that can name a module."""
    if isinstance(value, Architecture):
        for name, inner in value.items():
            yield from leaves(inner, f"{path}_{value.kind}_{name}")
    elif isinstance(value, tuple):
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{path}_{index}")
    else:
        yield path, value


class Branches(nn.Module):
    """A branch for every value, as wide as the value says."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.base = nn.Linear(3, 2)
        self.branches = nn.ModuleDict()
        for path, value in leaves(arch):
            width = 1 + int(hashlib.sha256(repr(value).encode()).hexdigest(), 16) % 6
            self.branches[path] = nn.Sequential(nn.Linear(3, width), nn.LayerNorm(width), nn.Linear(width, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + sum(branch(x) for branch in self.branches.values())


@given(space=random_spaces(), seed=st.integers(0, 1000))
@settings(max_examples=25)
def test_laws_hold_in_random_spaces(space: Space, seed: int) -> None:
    net = Supernet(space, Branches, dtype=torch.float64)
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    for arch in space.sample_many(3, np.random.default_rng(seed)):
        subnet, extracted = net.subnet(arch), net.extract(arch)
        assert torch.allclose(subnet(x), extracted(x), rtol=0, atol=1e-12)
        subnet(x).square().sum().backward()
        extracted(x).square().sum().backward()
        gradients = net.gradients()
        net._store.zero_grad()
        assert gradients.keys() == {name for name, p in extracted.named_parameters() if p.grad is not None}
        for name, parameter in extracted.named_parameters():
            inside = tuple(slice(size) for size in parameter.shape)
            assert torch.allclose(gradients[name][inside], parameter.grad, rtol=1e-9, atol=1e-12)
            gradients[name][inside] = 0
            assert not gradients[name].any()
