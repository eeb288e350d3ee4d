"""Which axes move together: whole groups, no two in one, whatever the trained weights hide."""

import torch
from torch import Tensor, nn

from search_spaces import Architecture, Space, choice
from supernets import Supernet, one_of
from supernets.compression.coupling import CHANGES, UNSEEN, coupled
from supernets.compression.symmetry import Networks
from supernets.compression.units import Group


class Width(Space):
    width = choice(2, 4, 8)


def names(group: Group) -> set[tuple[str, int]]:
    return {(part.name, part.axis) for part in group.parts}


# --- weights that hide a dependence -------------------------------------------------------------------------------


class Scaled(nn.Module):
    """A branch that its layer scale makes vanish, as that of a ConvNeXt does at first."""

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, 3, padding=1, groups=width)
        self.pointwise = nn.Conv1d(width, width, 1)
        self.scale = nn.Parameter(torch.full((width, 1), scale))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.pointwise(self.depthwise(x).relu())


def scaled(scale: float) -> Supernet:
    def build(arch: Architecture) -> nn.Module:
        return nn.Sequential(nn.Conv1d(2, arch.width, 1), Scaled(arch.width, scale), nn.Conv1d(arch.width, 3, 1))

    return Supernet(Width(), build)


def test_a_vanishing_branch_is_coupled_to_its_stream() -> None:
    example = torch.randn(2, 2, 9)
    (hidden,), left = coupled(Networks(scaled(1e-9), example))
    assert not left and hidden.units == 8
    assert names(hidden) == {
        *(("0.weight", 0), ("0.bias", 0), ("1.depthwise.weight", 0), ("1.depthwise.bias", 0), ("1.scale", 0)),
        *(("1.pointwise.weight", 0), ("1.pointwise.weight", 1), ("1.pointwise.bias", 0), ("2.weight", 1)),
    }
    assert names(hidden) == names(coupled(Networks(scaled(1.0), example))[0][0])


def test_units_that_a_relu_holds_at_zero_are_still_told_apart() -> None:
    def build(arch: Architecture) -> nn.Module:
        network = nn.Sequential(nn.Linear(3, arch.width), nn.ReLU(), nn.Linear(arch.width, 2))
        if not network[0].bias.is_meta:
            nn.init.constant_(network[0].bias, -1e6)
        return network

    (group,), left = coupled(Networks(Supernet(Width(), build), torch.randn(2, 3)))
    assert names(group) == {("0.weight", 0), ("0.bias", 0), ("2.weight", 1)} and not left


# --- groups that share a choice, and axes in two groups --------------------------------------------------------------


class Heads(nn.Module):
    """As many heads as the width has pairs, so that one choice moves the stream and the heads."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (-1, 2)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        found: Tensor = self.out(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + found


def test_one_choice_that_moves_the_stream_and_the_heads_gives_a_group_of_each() -> None:
    def build(arch: Architecture) -> nn.Module:
        return nn.Sequential(nn.Linear(3, arch.width), Heads(arch.width), nn.Linear(arch.width, 2))

    example = torch.randn(2, 5, 3)
    stream, heads = coupled(Networks(Supernet(Width(), build, example=example), example))[0]
    assert stream.units == 8 and heads.units == 4
    assert names(heads) == {("1.qkv.weight", 0), ("1.qkv.bias", 0), ("1.out.weight", 1)}
    assert {part.blocks for part in heads.parts if part.name.startswith("1.qkv")} == {3}
    assert ("1.qkv.weight", 1) in names(stream) and ("1.out.weight", 0) in names(stream)


# --- experts: a router that takes one of two alike breaks the tie, so gradients tell nothing -----------------------


class Experts(Space):
    experts = choice(2, 3, 4)


class Routed(nn.Module):
    def __init__(self, experts: int) -> None:
        super().__init__()
        self.router = nn.Linear(3, experts)
        self.weight = nn.Parameter(torch.randn(experts, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        share, chosen = self.router(x).softmax(-1).max(-1)
        return x + share[:, None] * torch.einsum("nio,ni->no", self.weight[chosen], x)


def test_experts_of_each_block_are_a_group() -> None:
    def build(arch: Architecture) -> nn.Module:
        return nn.Sequential(Routed(arch.experts), Routed(arch.experts))

    groups, left = coupled(Networks(Supernet(Experts(), build), torch.randn(64, 3)))
    assert [names(group) for group in groups] == [
        {(f"{block}.router.weight", 0), (f"{block}.router.bias", 0), (f"{block}.weight", 0)} for block in (0, 1)
    ]
    assert not left and {group.units for group in groups} == {4}


# --- alternatives --------------------------------------------------------------------------------------------------


class Alternatives(Space):
    operator = choice("wide", "gated")
    width = choice(2, 4, 8)


class Gated(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(width, 6), nn.Linear(width, 6), nn.Linear(6, width)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.down(self.gate(x).sigmoid() * self.up(x))
        return found


def test_an_alternative_that_the_largest_lacks_is_permuted_with_the_stream() -> None:
    def build(arch: Architecture) -> nn.Module:
        operators = {
            "gated": lambda: Gated(arch.width),
            "wide": lambda: nn.Sequential(
                nn.Linear(arch.width, arch.width * 4), nn.ReLU(), nn.Linear(arch.width * 4, arch.width)
            ),
        }
        return nn.Sequential(nn.Linear(3, arch.width), one_of(arch.operator, operators), nn.Linear(arch.width, 2))

    supernet = Supernet(Alternatives(), build)
    groups, left = coupled(Networks(supernet, torch.randn(2, 3)))
    stream = next(group for group in groups if ("0.weight", 0) in names(group))
    assert supernet.space.largest()["operator"] == "gated"
    assert not left
    assert names(stream) == {
        *(("0.weight", 0), ("0.bias", 0), ("1.wide.0.weight", 1), ("1.gated.gate.weight", 1), ("1.gated.up.weight", 1))
    }
    behind = next(group for group in groups if ("2.weight", 1) in names(group))
    assert {("1.wide.2.weight", 0), ("1.gated.down.weight", 0)} < names(behind)
    inside = next(group for group in groups if group.units == 32)  # no network that was looked at has less of it
    assert names(inside) == {("1.wide.0.weight", 0), ("1.wide.0.bias", 0), ("1.wide.2.weight", 1)}


# --- what no output depends on ----------------------------------------------------------------------------------------


class Idle(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.used, self.idle = nn.Linear(3, 2), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.used(x)
        return found


def test_what_no_output_depends_on_is_left_and_said_so() -> None:
    groups, left = coupled(Networks(Supernet(Width(), lambda arch: Idle(arch.width)), torch.randn(2, 3)))
    assert not groups
    assert [(own.choices, set(own.names), own.why) for own in left] == [
        (("width",), {"idle.weight", "idle.bias"}, UNSEEN)
    ]


def test_positions_that_mean_something_stay() -> None:
    def build(arch: Architecture) -> nn.Module:
        return nn.Sequential(nn.Linear(3, arch.width), nn.Unflatten(1, (1, arch.width)), nn.Conv1d(1, 2, 2))

    groups, left = coupled(Networks(Supernet(Width(), build), torch.randn(2, 3)))
    assert not groups and [own.why for own in left] == [CHANGES]
