"""Paths are those of the graph; rates and variances follow them as published; the base keeps its own."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy import Digits, ToySpace, build

from search_spaces import Architecture, Space, choice
from supernets import standalone
from supernets.connectivity import Connectivity, connectivity
from supernets.scaled import initialised, scaled, scaled_in
from supernets.scaling import Paths, Shortest, Unscaled, scale_variance, scaling
from supernets.skeleton import build_initialised
from supernets.spelling import SpellingError
from supernets.structure import stack
from supernets.supernet import Supernet
from supernets.training import TrainingConfig, train_network

FEATURES = torch.zeros(2, 6)
IMAGES = torch.zeros(2, 3, 8, 8)


def chain(length: int) -> nn.Sequential:
    return nn.Sequential(*(part for _ in range(length) for part in (nn.Linear(6, 6), nn.LayerNorm(6), nn.GELU())))


class Graph(nn.Module):
    """Nodes in order, each the sum of what its edges give of earlier ones: "layer", "skip" or nothing."""

    def __init__(self, edges: dict[tuple[int, int], str], nodes: int) -> None:
        super().__init__()
        self.nodes = nodes
        self.edges = nn.ModuleDict(
            {f"{a}-{b}": nn.Linear(6, 6) if kind == "layer" else nn.Identity() for (a, b), kind in edges.items()}
        )

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for node in range(1, self.nodes):
            terms = [self.edges[f"{a}-{node}"](values[a]) for a in range(node) if f"{a}-{node}" in self.edges]
            values.append(torch.relu(sum(terms[1:], terms[0])))
        return values[-1]


def enumerated(edges: dict[tuple[int, int], str], nodes: int, at: int = 0) -> Counter[int]:
    """Paths by length, each walked by itself."""
    if at == nodes - 1:
        return Counter({0: 1})
    found = Counter[int]()
    for (a, b), kind in edges.items():
        if a == at:
            for length, number in enumerated(edges, nodes, b).items():
                found[length + (kind == "layer")] += number
    return found


# --- paths --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 3, 7])
def test_a_chain_is_one_path(length: int) -> None:
    found = connectivity(chain(length), FEATURES)
    assert (found.paths, found.shortest, found.kernel, found.terms) == ({length: 1}, length, 1.0, {})


@pytest.mark.parametrize("seed", range(6))
def test_paths_of_random_graphs_are_those_one_can_walk(seed: int) -> None:
    """No two skips lie between the same two nodes, also over others: those would be one path."""
    rng = np.random.default_rng(seed)
    nodes = 5
    edges = {(a, b): "layer" for a in range(nodes) for b in range(a + 1, nodes) if b == a + 1 or rng.random() < 0.6}
    edges[0, 2] = "skip"
    found = connectivity(Graph(edges, nodes), FEATURES)
    assert Counter(found.paths) == enumerated(edges, nodes)


class Residual(nn.Module):
    """A stem, blocks of two layers that are added to what they read, and a head; written in place or not."""

    def __init__(self, blocks: int, in_place: bool = False, kernel: int = 3) -> None:
        super().__init__()
        self.in_place = in_place
        self.stem = nn.Conv2d(3, 4, kernel, padding=kernel // 2)
        self.blocks = nn.ModuleList(self.block(kernel) for _ in range(blocks))
        self.head = nn.Linear(4, 2)

    def block(self, kernel: int) -> nn.Module:
        convolutions = [nn.Conv2d(4, 4, kernel, padding=kernel // 2) for _ in range(2)]
        return nn.Sequential(nn.BatchNorm2d(4), convolutions[0], nn.ReLU(inplace=True), convolutions[1])

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            own = block(x)
            if self.in_place:
                x[:, :4] += own
            else:
                x = x + own
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


@pytest.mark.parametrize("in_place", [False, True])
def test_residual_blocks_double_the_paths(in_place: bool) -> None:
    found = connectivity(Residual(3, in_place), IMAGES)
    assert found.paths == {2 + 2 * taken: math.comb(3, taken) for taken in range(4)}
    assert found.shortest == 2 + 3, "stem, head and the three sums"
    assert found.terms == {"stem.weight": 4, **{f"blocks.{i}.3.weight": 4 for i in range(3)}}


def test_a_hand_written_activation_is_no_branch() -> None:
    class Gelu(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.04 * x**3)))

    net = nn.Sequential(nn.Linear(6, 6), Gelu(), nn.Linear(6, 6))
    assert connectivity(net, FEATURES) == Connectivity({2: 1}, 2, 1.0, {})


def test_attention_joins_queries_keys_and_values_fused_or_not() -> None:
    class Attention(nn.Module):
        def __init__(self, fused: bool) -> None:
            super().__init__()
            self.qkv = nn.Linear(6, 18) if fused else nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
            self.out = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            fused = isinstance(self.qkv, nn.Linear)
            q, k, v = self.qkv(x).chunk(3, -1) if fused else [own(x) for own in self.qkv]  # type: ignore[union-attr,operator]
            out: Tensor = self.out(nn.functional.scaled_dot_product_attention(q, k, v))
            return out

    x = torch.zeros(2, 5, 6)
    assert connectivity(Attention(False), x).paths == {2: 3}
    assert connectivity(Attention(True), x).paths == {2: 1}, "one layer gives all three"


def test_tokens_begin_with_the_layer_of_their_embedding() -> None:
    net = nn.Sequential(nn.Embedding(7, 6), nn.Linear(6, 7))
    assert connectivity(net, torch.zeros(2, 4, dtype=torch.int64)).paths == {2: 1}


def test_what_cannot_be_followed_is_a_chain_of_what_ran() -> None:
    class Lost(nn.Module):
        """Goes through numpy, which also asks for values."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            hidden = torch.from_numpy(np.maximum(self.first(x).numpy(), 0))
            out: Tensor = self.second(hidden)
            return out

    assert connectivity(Lost(), FEATURES).paths == {2: 1}, "what numpy gives comes from nowhere"


def test_the_module_is_left_as_it_was() -> None:
    net = Residual(2)
    net.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    connectivity(net, IMAGES)
    assert torch.equal(state, torch.get_rng_state()) and not net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


# --- rates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [Paths(), Shortest()])
@pytest.mark.parametrize("length", [1, 3, 10])
def test_on_a_chain_the_rate_is_the_published_power_of_its_depth(rule: Paths | Shortest, length: int) -> None:
    base, network = (connectivity(chain(n), FEATURES) for n in (3, length))
    assert rule.factor(network, base) == pytest.approx((length / 3) ** -1.5, rel=1e-12)


def test_over_several_paths_the_rate_is_the_published_sum() -> None:
    edges = {(0, 1): "layer", (1, 2): "layer", (2, 3): "layer", (0, 2): "layer", (0, 3): "layer", (1, 3): "skip"}
    base, network = connectivity(chain(3), FEATURES), connectivity(Graph(edges, 4), FEATURES)
    depths = [3, 2, 1, 1]  # 0123, 023, 03, 013
    assert Paths().factor(network, base) == pytest.approx((sum(d**3 for d in depths) / 27) ** -0.5, rel=1e-12)
    assert Shortest().factor(network, base) == 1.0, "a layer, and two sums of two terms"


@pytest.mark.parametrize("kernel", [1, 5, 7])
def test_the_rate_falls_with_the_kernel(kernel: int) -> None:
    base, network = (connectivity(Residual(2, kernel=q), IMAGES) for q in (3, kernel))
    for rule in (Paths(), Shortest()):
        assert rule.factor(network, base) == pytest.approx(3 / kernel, rel=1e-12)


def test_residual_blocks_have_as_many_paths_as_subsets() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            x = self.layer(x)
            for _ in range(70):
                x = x + self.layer(x)
            return x

    found = connectivity(Deep(), FEATURES)
    assert sum(found.paths.values()) == 2**70
    assert found.paths[1] == 1 and found.paths[71] == 1 and found.paths[2] == 70


def test_more_paths_than_floats_can_count_still_have_a_rate() -> None:
    many = Connectivity({1101: 2**1100}, 1, 1.0)
    assert 0 < Paths().factor(many, connectivity(chain(1), FEATURES)) < 1e-150


@pytest.mark.parametrize("rule", ["none", "paths", "shortest"])
def test_the_base_keeps_its_rate(rule: str) -> None:
    config = TrainingConfig(lr=0.01, scaling=rule)
    assert scaled(config, Residual(2), Residual(2), IMAGES) == config


def test_a_small_network_of_a_space_has_a_higher_rate_than_the_largest() -> None:
    space, config = ToySpace(), TrainingConfig(lr=0.01, scaling="paths")
    x = torch.zeros(2, 64)
    small, large = (build_initialised(build, arch, 0) for arch in (space.smallest(), space.largest()))
    assert scaled_in(config, large, space, build, x) == config
    assert scaled_in(config, small, space, build, x).lr == pytest.approx(0.01 * (3 / 4) ** -1.5)
    assert scaled_in(replace(config, scaling="none"), small, space, build, x).lr == 0.01


def test_a_rule_is_spelled_and_an_unknown_one_is_told_what_there_is() -> None:
    assert scaling("none") == Unscaled() and scaling("paths(variance=yes)") == Paths(variance=True)
    assert TrainingConfig(scaling="paths(variance=no)").scaling == "paths"
    with pytest.raises(SpellingError, match=r"no scaling is called 'depth': choose one of none\(variance\), paths"):
        TrainingConfig(scaling="depth")


# --- variances ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_sums_of_many_layers_keep_the_variance_of_one() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList(nn.Linear(400, 400, bias=False) for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            return sum((part(x) for part in self.parts[1:]), self.parts[0](x))

    torch.manual_seed(0)
    net, x = Sum(), torch.randn(64, 400)
    one, four = float(net.parts[0](x).var()), float(net(x).var())
    assert four == pytest.approx(4 * one, rel=0.1)
    assert float(scale_variance(net, x)(x).var()) == pytest.approx(one, rel=0.1)


class Depths(Space):
    depth = choice(1, 2, 4)


def residual(arch: Architecture) -> nn.Module:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 64)

        def forward(self, x: Tensor) -> Tensor:
            return x + torch.relu(self.layer(x))

    return nn.Sequential(nn.Linear(64, 64), stack(Block() for _ in range(arch.depth)), nn.Linear(64, 10))


def test_initial_weights_are_scaled_only_where_asked() -> None:
    arch, x = Depths().largest(), torch.zeros(2, 64)
    own = build_initialised(residual, arch, 0).state_dict()
    plain = initialised(residual, arch, TrainingConfig(scaling="paths"), x).state_dict()
    less = initialised(residual, arch, TrainingConfig(scaling="paths(variance=yes)"), x).state_dict()
    assert all(torch.equal(own[name], plain[name]) for name in own)
    ratios = {name: float((less[name] / own[name]).mean()) for name in own if name.endswith("weight")}
    assert ratios.pop("2.weight") == 1.0, "the head is added to nothing"
    assert all(ratio == pytest.approx(5**-0.5, rel=1e-5) for ratio in ratios.values()), "stem and four blocks"


# --- where networks are trained alone -----------------------------------------------------------------------------


def test_a_report_trains_each_network_at_its_own_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {}
    original = train_network

    def recording(module: nn.Module, task: Digits, config: TrainingConfig, **further: object) -> object:
        rates[sum(isinstance(own, nn.Linear) for own in module.modules())] = config.lr
        return original(module, task, config, **further)  # type: ignore[arg-type]

    monkeypatch.setattr("supernets.scaled.train_network", recording)
    supernet, archs = Supernet(Depths(), residual), list(Depths().enumerate())
    config = TrainingConfig(steps=2, lr=0.01, scaling="shortest", evaluate_every=0)
    report = standalone.measure(supernet, Digits(), archs, config, repeated=(), progress=False)
    assert len(report.rows) == 3
    assert rates == {2 + n: pytest.approx(0.01 * ((2 + n) / 6) ** -1.5) for n in (1, 2, 4)}
