"""`routed` by one word on models whose names say nothing: what is mixed is chosen by shapes, and told."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from search_spaces import Architecture, Space, choice
from supernets import Routed, Supernet, stack
from supernets.sharing import sharing


class Odd(Space):
    breadth = choice(8, 12)
    swell = choice(2, 3)
    storeys = choice(1, 2)


class MixerBlock(nn.Module):
    """Two perceptrons, one over places and one over channels."""

    def __init__(self, breadth: int, swell: int, places: int = 6) -> None:
        super().__init__()
        self.calm, self.still = nn.LayerNorm(breadth), nn.LayerNorm(breadth)
        self.east, self.west = nn.Linear(places, 10), nn.Linear(10, places)
        self.north, self.south = nn.Linear(breadth, breadth * swell), nn.Linear(breadth * swell, breadth)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.west(self.east(self.calm(x).transpose(1, 2)).relu()).transpose(1, 2)
        return x + self.south(self.north(self.still(x)).relu())


class Convs(nn.Module):
    def __init__(self, breadth: int, swell: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(breadth, breadth, 3, padding=1), nn.BatchNorm2d(breadth)
        self.c = nn.Conv2d(breadth, breadth, 2 * swell - 1, padding=swell - 1, groups=breadth)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.c(self.b(self.a(x)).relu())


class GluBlock(nn.Module):
    """Attention beside a gate and its values in one matrix."""

    def __init__(self, breadth: int, swell: int) -> None:
        super().__init__()
        self.ask, self.key, self.say = (nn.Linear(breadth, 16) for _ in range(3))
        self.back = nn.Linear(16, breadth)
        self.twin, self.shut = nn.Linear(breadth, 2 * breadth * swell), nn.Linear(breadth * swell, breadth)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.back(nn.functional.scaled_dot_product_attention(self.ask(x), self.key(x), self.say(x)))
        gate, value = self.twin(x).chunk(2, -1)
        return x + self.shut(gate.sigmoid() * value)


class Gru(nn.Module):
    def __init__(self, breadth: int, swell: int) -> None:
        super().__init__()
        self.wheel = nn.GRU(breadth, breadth, batch_first=True, num_layers=1)
        self.tail = nn.Linear(breadth, breadth)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.tail(self.wheel(x)[0])


def model(block: Callable[[int, int], nn.Module], first: Callable[[int], nn.Module]) -> Callable[..., nn.Module]:
    def build(arch: Architecture) -> nn.Module:
        blocks = stack([block(arch.breadth, arch.swell) for _ in range(arch.storeys)])
        return nn.Sequential(first(arch.breadth), blocks)

    return build


def rows() -> Tensor:
    return torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def images() -> Tensor:
    return torch.randn(3, 1, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def into(breadth: int) -> nn.Module:
    return nn.Linear(5, breadth)


UNFAMILIAR = {
    "mixer": (model(MixerBlock, into), rows, {"east", "west", "north", "south"}, "pairs of matrices"),
    "convolutions": (model(Convs, lambda n: nn.Conv2d(1, n, 3, padding=1)), images, {"a"}, "convolutions"),
    "gru": (model(Gru, into), rows, {"wheel"}, "cells with several matrices"),
    "glu": (model(GluBlock, into), rows, {"twin", "shut"}, "pairs of matrices"),
}


@pytest.mark.parametrize("per", ["layer", "neuron"])
@pytest.mark.parametrize("name", list(UNFAMILIAR))
def test_an_unfamiliar_model_is_routed_by_one_word(name: str, per: str) -> None:
    build, example, owners, rule = UNFAMILIAR[name]
    x = example()
    net = Supernet(Odd(), build, sharing=Routed(per=per, hidden=8), example=x.float(), dtype=torch.float64)
    mixed = {stored.split(".")[-2] for stored in net.state_dict() if "@1" in stored}
    assert mixed == owners
    assert rule in repr(net)
    assert rule in net.coverage().table()
    for arch in Odd().enumerate():
        subnet, extracted = net.subnet(arch).eval(), net.extract(arch).eval()
        assert torch.allclose(subnet(x), extracted(x), rtol=0, atol=1e-12)
        subnet(x).square().mean().backward()
    assert any("@1" in touched for touched in net.gradients())
    assert any(touched.startswith("@router") for touched in net.gradients())


def test_the_command_line_word_is_enough() -> None:
    build, example, owners, _ = UNFAMILIAR["glu"]
    net = Supernet(Odd(), build, sharing=sharing("routed"))
    assert net.extract(Odd().smallest())(example().float()).shape == (3, 6, 8)
    assert {stored.split(".")[-2] for stored in net.state_dict() if "@1" in stored} == owners


def test_a_perceptron_is_mixed_between_its_ends() -> None:
    def build(arch: Architecture) -> nn.Module:
        return nn.Sequential(
            nn.Linear(5, arch.breadth), nn.Linear(arch.breadth, arch.breadth), nn.Linear(arch.breadth, 2)
        )

    net = Supernet(Odd().at(swell=2, storeys=1), build, sharing=Routed(hidden=8))
    assert {stored for stored in net.state_dict() if stored.endswith("@1")} == {"1.weight@1", "1.bias@1"}


def test_names_that_are_usual_come_first() -> None:
    def build(arch: Architecture) -> nn.Module:
        wide = nn.Sequential(nn.Linear(8, 20), nn.Linear(20, 8))
        return nn.ModuleDict({"fc1": nn.Linear(8, arch.breadth), "fc2": nn.Linear(arch.breadth, 8), "odd": wide})

    net = Supernet(Odd().at(swell=2, storeys=1), build, sharing=Routed(hidden=8))
    assert {stored.split(".")[0] for stored in net.state_dict() if "@1" in stored} == {"fc1", "fc2"}
    assert not net.coverage().notes
