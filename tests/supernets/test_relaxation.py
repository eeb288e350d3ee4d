"""A relaxation is the subnet where the mixture is one-hot, and the expectation of padded slices everywhere."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from search_spaces import Architecture, Space, choice
from search_spaces.vit import ViTSpace
from supernets import Supernet, SupernetError, one_of, stack
from supernets.models import vit
from supernets.relaxation import Mixture, RelaxationError, fitted
from tests.search_spaces.strategies import random_spaces
from tests.supernets.zoo import ZOO

RELAXABLE = ("conv", "grouped", "fused")


def drawn(space: Space, seed: int = 0) -> dict[str, Tensor]:
    """Random probabilities of every choice, as leaves."""
    rng = np.random.default_rng(seed)
    found = {}
    for slot, kept in zip(space.slots, space.domains, strict=True):
        vector = np.zeros(len(slot.options))
        vector[list(kept)] = rng.dirichlet(np.ones(len(kept)))
        found[slot.path] = torch.tensor(vector, requires_grad=True)
    return found


def parameter(module: nn.Module, name: str) -> Tensor:
    """What a module reads under this name."""
    path, _, attribute = name.rpartition(".")
    tensor: Tensor = getattr(module.get_submodule(path), attribute)
    return tensor


class Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(*x.shape[:-1], 2)


class Slotted(nn.Module):
    """A branch for every choice that is active, as wide as its option comes late; two choices share a layer."""

    def __init__(self, space: Space, arch: Architecture) -> None:
        super().__init__()
        codes = space.codes([arch])[0].tolist()
        widths = [2 * code + 1 for code in codes]
        always = [width for width, slot in zip(widths, space.slots, strict=True) if not slot.conditions]
        self.base = nn.Sequential(nn.Linear(3, always[0]), nn.RMSNorm(always[0]), nn.Linear(always[0], always[-1]))
        self.product = nn.Sequential(nn.Linear(always[-1], always[0] * always[-1]), nn.GELU())
        self.head = nn.Linear(always[0] * always[-1], 2)
        self.branches = nn.ModuleList(
            one_of("on" if width > 0 else "off", {"on": lambda w=width: self.branch(w), "off": Zero})
            for width in widths
        )

    @staticmethod
    def branch(width: int) -> nn.Module:
        return nn.Sequential(nn.Linear(3, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.product(self.base(x))) + sum(branch(x) for branch in self.branches)


def free_of_constraints(space: Space) -> bool:
    return not space.declaration()["constraints"] and space.count() == np.prod(
        [1.0]
    ) * _combinations(space)


def _combinations(space: Space) -> int:
    return sum(1 for _ in space.enumerate()) if space.count() <= 2000 else space.count()


def supernet_of(space: Space) -> Supernet:
    return Supernet(space, lambda arch: Slotted(space, arch), dtype=torch.float64)


relaxable_spaces = random_spaces().filter(lambda space: any(not slot.conditions for slot in space.slots))


@given(space=relaxable_spaces, seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
def test_one_hot_is_the_subnet_in_random_spaces(space: Space, seed: int) -> None:
    net = supernet_of(space)
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    for arch in space.sample_many(3, np.random.default_rng(seed)):
        try:
            relaxed = net.relax(Mixture.one_hot(space, arch))
        except RelaxationError as error:  # constraints may leave no network with everything at full size
            assert "small to large" in str(error)
            assume(False)
        subnet = net.subnet(arch)
        assert torch.allclose(relaxed(x), subnet(x), rtol=0, atol=1e-12)
        relaxed(x).square().sum().backward()
        ours = net.gradients()
        net._store.zero_grad()
        subnet(x).square().sum().backward()
        for name, gradient in net.gradients().items():
            assert torch.allclose(ours[name], gradient, rtol=1e-9, atol=1e-10), name
        net._store.zero_grad()
