"""Automatic inheritance: hard concrete gates, what they leave of a network, and learning them."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces import Architecture, Space, choice
from supernets import Blocks, Supernet, SupernetError, stack
from supernets.compression.coupling import coupled
from supernets.compression.gates import (
    BOUND,
    Gate,
    expected_sparsity,
    masked,
    probability_open,
    sampled,
    sublayer_gates,
    unit_gates,
)
from supernets.compression.learnt_gates import GateConfig, Gates, _options, learn_gates, penalty
from supernets.compression.scores import score
from supernets.compression.sorting import sort_units
from supernets.compression.symmetry import Networks
from supernets.distillation import Affinity, DistillationError, Distilled
from supernets.errors import CompressionError
from supernets.tasks import Classification
from tests.supernets.test_sorting import Inputs, made
from tests.supernets.zoo import ZOO


class Sizes(Space):
    width = choice(8, 12)
    depth = choice(1, 2)
    heads = choice(1, 2, 3, per="depth")
    hidden = choice(4, 6, 8, per="depth")


class Block(nn.Module):
    """Pre-norm attention of heads of four, and a feed-forward part of sigmoids, which are not 0 at 0."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * 4 * heads)
        self.out = nn.Linear(4 * heads, width)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor, attends: bool = True, feeds: bool = True) -> Tensor:
        if attends:
            q, k, v = self.qkv(self.norm1(x)).view(len(x), -1, 3, self.heads, 4).permute(2, 0, 3, 1, 4)
            x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(self.up(self.norm2(x)).sigmoid()) if feeds else x


class Network(nn.Module):
    """Four positions of four numbers, to three classes."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.first = nn.Linear(4, arch.width)
        sizes = zip(arch.heads, arch.hidden, strict=True)
        self.blocks = stack(Block(arch.width, heads, hidden) for heads, hidden in sizes)
        self.last = nn.Linear(arch.width, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.blocks(self.first(x.view(-1, 4, 4))).mean(1))
        return y


def supernet(dtype: torch.dtype = torch.float64) -> Supernet:
    return Supernet(Sizes(), Network, layout={"*.qkv.*": Blocks(3)}, dtype=dtype)


def task(dtype: torch.dtype = torch.float64, **changes: Any) -> Classification:
    rng = np.random.default_rng(0)

    def split(n: int) -> tuple[np.ndarray, np.ndarray]:
        inputs = rng.normal(size=(n, 16))
        return inputs, (inputs[:, :3].argmax(1))

    return Classification(split(200), split(60), batch_size=16, dtype=dtype, **changes)


def gates_of(net: Supernet) -> list[Gate]:
    groups, _ = coupled(Networks(net, task().example(2)))
    return unit_gates(net, groups)


SUBLAYERS = ("blocks.*.out", "blocks.*.down")
X = torch.randn(5, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def gated(net: Supernet, gates: list[Gate], z: list[Tensor]) -> Tensor:
    network = net.extract(net.space.largest()).eval()
    named = dict(network.named_parameters())
    found: Tensor = torch.func.functional_call(network, masked(named, gates, z), (X,))
    return found


# --- hard concrete ------------------------------------------------------------------------------------------------


def test_gates_are_those_of_the_published_formula() -> None:
    for a, u in ((0.3, 0.2), (-2.0, 0.9), (4.6, 0.5)):
        inside = 1 / (1 + math.exp(-(math.log(u) - math.log(1 - u) + a) / (2 / 3)))
        expected = min(1.0, max(0.0, inside * 1.2 - 0.1))
        found = sampled(*torch.tensor([a, u], dtype=torch.float64))
        assert float(found) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("logit", [-3.0, 0.0, 2.0])
def test_the_probability_to_be_open_is_that_of_samples(logit: float) -> None:
    uniform = (torch.arange(100_000).double() + 0.5) / 100_000
    share = float((sampled(torch.full_like(uniform, logit), uniform) > 0).double().mean())
    assert float(probability_open(torch.tensor(logit).double())) == pytest.approx(share, abs=2e-5)


def test_the_penalty_is_of_one_side_and_its_multipliers_ascend() -> None:
    multipliers = torch.tensor([10.0, 20.0], requires_grad=True)
    found = penalty(0.5, torch.tensor(0.2), multipliers)
    assert float(found.detach()) == pytest.approx(10 * 0.3 + 20 * 0.09)
    found.backward()
    assert multipliers.grad is not None and bool((multipliers.grad > 0).all())
    assert float(penalty(0.5, torch.tensor(0.7), multipliers.detach())) == 0


# --- what gates leave ---------------------------------------------------------------------------------------------


def test_heads_and_hidden_units_are_gated_and_what_norms_average_over_is_not() -> None:
    net = supernet()
    found = gates_of(net)
    assert {(gate.parts[0].name, gate.units) for gate in found} == {
        (f"blocks.{i}.{name}", units) for i in (0, 1) for name, units in (("qkv.weight", 3), ("up.weight", 8))
    }
    assert {part.name for gate in found for part in gate.masked} == {
        f"blocks.{i}.{name}.weight" for i in (0, 1) for name in ("out", "down")
    }
    groups, _ = coupled(Networks(net, task().example(2)))
    assert len(unit_gates(net, groups, norms=True)) == 5


def test_with_zeros_and_ones_the_network_is_the_pruned_one() -> None:
    """Heads and feed-forward units, other ones in each block; units are brought to the end and left out."""
    net = supernet()
    gates = gates_of(net)
    kept = {"blocks.0.qkv.weight": [2], "blocks.1.qkv.weight": [0, 2]}
    kept |= {"blocks.0.up.weight": [1, 2, 5, 6, 7, 3], "blocks.1.up.weight": [0, 4, 6, 7]}
    z = [torch.zeros(gate.units).double().index_fill(0, torch.tensor(kept[gate.parts[0].name]), 1.0) for gate in gates]
    before = gated(net, gates, z)
    learnt = Gates(tuple(gates), tuple(BOUND * (2 * one - 1) for one in z), 0.0)
    sort_units(net, task(), learnt)
    arch = Sizes().architecture({"width": 12, "depth": 2, "heads": [1, 2], "hidden": [6, 4]})
    assert torch.allclose(net.extract(arch).eval()(X), before, rtol=0, atol=1e-12)
    assert not torch.allclose(before, gated(net, gates, [torch.ones_like(one) for one in z]), atol=1e-3)


@pytest.mark.parametrize(
    "name",
    [name if name in {"conv", "fused", "recurrent"} else pytest.param(name, marks=pytest.mark.slow) for name in ZOO],
)
def test_in_any_network_closed_units_are_units_that_are_not_there(name: str) -> None:
    """Each group for itself: convolutions with batch norm, recurrent cells, gated and fused layers."""
    case = ZOO[name]
    net = made(name)
    example = case.example()
    example = example.double() if example.is_floating_point() else example
    data = Inputs(example)
    groups, _ = coupled(Networks(net, example))
    compared = 0
    for gate in unit_gates(net, groups):
        own, moved = made(name), {part.name for part in gate.parts}
        slot = min(gate.group.choices, key=lambda one: sum(one in group.choices for group in groups))  # type: ignore[union-attr]
        for units in _options(own, gate, slot):
            order = torch.randperm(gate.units, generator=torch.Generator().manual_seed(units))
            z = torch.zeros(gate.units).double().index_fill(0, order[:units], 1.0)
            network = own.extract(case.space.largest()).eval()
            named = dict(network.named_parameters())
            expected = torch.func.functional_call(network, masked(named, [gate], [z]), (example,))
            learnt = Gates((gate,), (BOUND * (2 * z - 1),), 0.0)
            sort_units(own, data, learnt)  # type: ignore[arg-type]
            pruned = own.extract(learnt.fitting(own)).eval()
            part = gate.parts[0]
            assert pruned.get_parameter(part.name).shape[part.axis] * gate.units == units * part.size
            if all(p.shape == named[n].shape for n, p in pruned.named_parameters() if n not in moved):
                assert torch.allclose(pruned(example), expected, rtol=0, atol=1e-12), gate.label
                compared += units < gate.units
    assert compared >= {"conv": 3, "fused": 6, "encoder": 1}.get(name, 0)


@pytest.mark.parametrize("closed", ["blocks.0.out", "blocks.1.down", "blocks.0.down"])
def test_a_closed_sublayer_is_one_that_is_not_there(closed: str) -> None:
    net = supernet()
    gates = sublayer_gates(net, SUBLAYERS)
    assert [gate.label for gate in gates] == [f"blocks.{i}.{name}" for name in ("out", "down") for i in (0, 1)]
    z = [torch.tensor([float(gate.label != closed)]).double() for gate in gates]
    network = net.extract(Sizes().largest()).eval()
    x = network.first(X.view(-1, 4, 4))
    for i, block in enumerate(network.blocks):
        x = block(x, attends=closed != f"blocks.{i}.out", feeds=closed != f"blocks.{i}.down")
    assert torch.allclose(gated(net, gates, z), network.last(x.mean(1)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "name", [name if name in {"conv", "fused"} else pytest.param(name, marks=pytest.mark.slow) for name in ZOO]
)
def test_open_gates_change_nothing(name: str) -> None:
    case = ZOO[name]
    net = Supernet(case.space, case.build, layout=case.layout, dtype=torch.float64)
    example = case.example()
    groups, _ = coupled(Networks(net, example.double() if example.is_floating_point() else example))
    gates = unit_gates(net, groups, norms=True)
    network = net.extract(case.space.largest())
    named = dict(network.named_parameters())
    for key, value in masked(named, gates, [torch.ones(gate.units) for gate in gates]).items():
        assert torch.equal(value, named[key])


def test_expected_sparsity_is_the_mean_over_all_zeros_and_ones() -> None:
    """Of a matrix with gates on both axes and a vector, against an enumeration of all gates."""
    net = supernet()
    groups, _ = coupled(Networks(net, task().example(2)))
    gates = [*unit_gates(net, groups)[:2], *sublayer_gates(net, ["blocks.0.out"])]
    gates = [gate for gate in gates if gate.units <= 3]
    shapes = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    names = {part.name for gate in gates for part in gate.parts} | {n for gate in gates for n in gate.whole}
    probabilities = [torch.rand(gate.units, generator=torch.Generator().manual_seed(7)).double() for gate in gates]
    flat, total = torch.cat(probabilities), 0.0
    for code in range(2 ** len(flat)):
        bits = torch.tensor([code >> i & 1 for i in range(len(flat))]).double()
        chance = float((bits * flat + (1 - bits) * (1 - flat)).prod())
        z = bits.split([gate.units for gate in gates])
        ones = {name: torch.ones(shapes[name]).double() for name in names}
        everywhere = [Gate(g.label, g.units, g.parts, g.parts, g.whole) for g in gates]
        kept = sum(float(value.sum()) for value in {**ones, **masked(ones, everywhere, z)}.values())
        total += chance * (1 - kept / sum(value.numel() for value in ones.values()))
    assert float(expected_sparsity(shapes, gates, probabilities)) == pytest.approx(total, abs=1e-10)


# --- learning them ------------------------------------------------------------------------------------------------


def with_dead_units(net: Supernet) -> Supernet:
    """Of every block, hidden units 0, 2, 4 and 6 and head 1 are not read by what is behind them."""
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for i in (0, 1):
        state[f"blocks.{i}.down.weight"][:, ::2] = 0
        state[f"blocks.{i}.down.weight"][:, 1::2] *= 15
        state[f"blocks.{i}.up.weight"] *= 4
        state[f"blocks.{i}.out.weight"][:, 4:8] = 0
        state[f"blocks.{i}.out.weight"][:, :4] *= 6
        state[f"blocks.{i}.out.weight"][:, 8:] *= 6
    net.load_state_dict(state)
    return net


def test_what_nobody_reads_is_closed_and_sorted_to_the_end() -> None:
    net = with_dead_units(supernet(torch.float32))
    data = task(torch.float32)
    teacher = net.extract(Sizes().largest())
    before = net.digest()
    taught = Distilled(data, teacher, labels=0)
    found = learn_gates(net, taught, GateConfig(sparsity=0.3, steps=300, lr=0.05))
    assert net.digest() == before and found.sparsity == pytest.approx(0.3, abs=0.05)
    for gate, logits, mask in zip(found.gates, found.logits, found.masks, strict=True):
        dead = torch.arange(0, 8, 2) if gate.units == 8 else torch.tensor([1])
        alive = torch.tensor([i for i in range(gate.units) if i not in dead])
        # a few of the hidden units that are read matter less than the noise of their gates
        least = logits[alive].mean() if gate.units == 8 else logits[alive].min()
        assert float(logits[dead].max()) < float(least), gate.label
        assert 1 <= int(mask.sum()) < gate.units
    arch = found.fitting(net)
    for i in (0, 1):
        sizes = {gate.parts[0].name: int(mask.sum()) for gate, mask in zip(found.gates, found.masks, strict=True)}
        assert arch.heads[i] == sizes[f"blocks.{i}.qkv.weight"]
        assert abs(arch.hidden[i] - sizes[f"blocks.{i}.up.weight"]) <= 1 or arch.hidden[i] == 4
    sort_units(net, data, found)
    assert all(not bool(net.state_dict()[f"blocks.{i}.out.weight"][:, 8:].any()) for i in (0, 1))


def test_equal_seeds_learn_equal_gates_and_weights_learn_where_they_may() -> None:
    def learnt(**changes: Any) -> tuple[list[Tensor], str]:
        net = supernet(torch.float32)
        config = GateConfig(**{"steps": 10, **changes})
        found = learn_gates(net, task(torch.float32), config, sublayers=SUBLAYERS)
        assert all(bool((own.abs() <= BOUND).all()) for own in found.logits)
        return list(found.logits), net.digest()

    one, again, other, trained = learnt(), learnt(), learnt(seed=1), learnt(weights_lr=1e-3)
    assert all(map(torch.equal, one[0], again[0])) and not all(map(torch.equal, one[0], other[0]))
    assert one[1] == again[1] == other[1] == supernet(torch.float32).digest() != trained[1]


def test_gates_are_a_score_by_name() -> None:
    """Learnt once for all groups; the same order as by hand, and the largest network computes the same."""
    text = "gates(sparsity=0.3, steps=20)"
    net, by_hand = supernet(torch.float32), supernet(torch.float32)
    before = net.extract(Sizes().largest()).eval()(X.float())
    found = sort_units(net, task(torch.float32), text)
    sort_units(by_hand, task(torch.float32), learn_gates(by_hand, task(torch.float32), GateConfig(0.3, 20)))
    assert found.score == text and net.digest() == by_hand.digest()
    assert torch.allclose(net.extract(Sizes().largest()).eval()(X.float()), before, atol=1e-5)


def test_affinities_teach_gates() -> None:
    net = with_dead_units(supernet(torch.float32))
    teacher = net.extract(Sizes().largest())
    distilled = Distilled(task(torch.float32), teacher, [Affinity(scale=10)], labels=0)
    found = learn_gates(net, distilled, GateConfig(sparsity=0.4, steps=200, lr=0.05))
    hidden = [own for gate, own in zip(found.gates, found.logits, strict=True) if gate.units == 8]
    assert all(float(own[::2].mean()) < float(own[1::2].mean()) for own in hidden)


# --- mistakes -----------------------------------------------------------------------------------------------------


class Wide(Space):
    width = choice(4, 8)


def normed(arch: Architecture) -> nn.Module:
    return nn.Sequential(nn.Linear(16, arch.width), nn.LayerNorm(arch.width), nn.Linear(arch.width, 3))


def broken() -> Supernet:
    net = supernet(torch.float32)
    net.state_dict()["last.bias"].fill_(torch.nan)
    return net


@pytest.mark.parametrize(
    ("act", "kind", "message"),
    [
        (lambda: GateConfig(sparsity=1.0), SupernetError, "sparsity = 1.0: it must be a share between 0 and 1"),
        (lambda: GateConfig(steps=0), SupernetError, "steps = 0"),
        (lambda: score("gates(sparsity=2)"), SupernetError, "sparsity = 2.0: it must be a share"),
        (lambda: GateConfig(lr=0.0), SupernetError, "lr = 0.0"),
        (lambda: GateConfig(ramp=2.0), SupernetError, "ramp = 2.0"),
        (lambda: GateConfig(multiplier=-1.0), SupernetError, "multiplier = -1.0"),
        (lambda: GateConfig(weights_lr=-1.0), SupernetError, "weights_lr = -1.0"),
        (
            lambda: learn_gates(Supernet(Wide(), normed), task(torch.float32)),
            SupernetError,
            "no units can be gated: .* name sublayers, or let norms=True",
        ),
        (lambda: sublayer_gates(supernet(), ["blocks.*.mlp"]), DistillationError, "has no layer 'blocks.*.mlp'"),
        (lambda: sublayer_gates(supernet(), ["blocks.*.norm1"]), SupernetError, "'blocks.0.norm1' is a LayerNorm"),
        (lambda: learn_gates(broken(), task(torch.float32)), SupernetError, "no finite number"),
    ],
)
def test_gate_mistakes_get_one_line(act: Callable[[], object], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        act()
    assert "\n" not in str(caught.value)


def test_a_loss_that_is_no_number_ends_the_learning() -> None:
    data = task(torch.float32)
    data.splits["train"].inputs[50:].fill_(torch.inf)
    with pytest.raises(CompressionError, match="the loss of step 0 is no finite number"):
        learn_gates(supernet(torch.float32), data, GateConfig(steps=3))
