"""Pruning by learnt masks: what is counted is what is there, limits are kept, and a stopped course ends the same."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from search_spaces import Architecture, Space, choice
from supernets import Supernet, SupernetError, profile_network
from supernets.checkpoints import CheckpointError
from supernets.compression.coupling import coupled
from supernets.compression.fitting import FitError, fitted, saliency, shapes_of
from supernets.compression.gates import expected_size, sublayer_gates, unit_gates, uses, whole_size
from supernets.compression.importance import Calibration, Hessian
from supernets.compression.learnt_gates import GateConfig, Gates, learn_gates
from supernets.compression.masks import counted, prune
from supernets.compression.symmetry import Networks
from supernets.distillation import Distilled, Hidden, every, nearest
from tests.supernets.test_inheritance import SUBLAYERS, Sizes, X, gates_of, supernet, task, with_dead_units


class Channels(Space):
    first = choice(2, 4, 6)
    second = choice(2, 4, 8)


def convolutional(arch: Architecture) -> nn.Module:
    """Two convolutions with batch norm and a head; no product without a weight."""
    return nn.Sequential(
        *(nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, arch.first, 3, padding=1), nn.BatchNorm2d(arch.first), nn.ReLU()),
        *(nn.Conv2d(arch.first, arch.second, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten()),
        nn.Linear(4 * arch.second, 3),
    )


def channels(dtype: torch.dtype = torch.float32) -> Supernet:
    return Supernet(Channels(), convolutional, dtype=dtype)


# --- what is counted ----------------------------------------------------------------------------------------------


def test_prices_are_multiply_accumulates() -> None:
    network = channels(torch.float64).extract(Channels().largest())
    prices = uses(network, X)
    total = sum(network.get_parameter(name).numel() * price for name, price in prices.items())
    assert total == profile_network(network, X).macs
    assert prices == {"1.weight": 16, "4.weight": 4, "7.weight": 1}


@pytest.mark.parametrize("arch", list(Channels().enumerate()))
@pytest.mark.parametrize("of", ["params", "macs"])
def test_at_zeros_and_ones_the_expected_size_is_that_of_the_pruned_network(of: str, arch: Architecture) -> None:
    net = channels(torch.float64)
    groups, _ = coupled(Networks(net, X))
    gates = unit_gates(net, groups)
    largest = net.extract(Channels().largest())
    shapes = {name: tuple(p.shape) for name, p in largest.named_parameters()}
    prices = uses(largest, X) if of == "macs" else None
    sizes = {6: arch.first, 8: arch.second}
    z = [(torch.arange(gate.units) < sizes[gate.units]).double() for gate in gates]
    exact = [getattr(profile_network(net.extract(one), X), of) for one in (arch, Channels().largest())]
    ungated = exact[1] - whole_size(shapes, gates, prices)
    assert float(expected_size(shapes, gates, z, prices)) + ungated == pytest.approx(exact[0], abs=1e-9)


def test_closing_a_sublayer_closes_all_that_only_it_reads() -> None:
    gates = sublayer_gates(supernet(), SUBLAYERS, task().example(2))
    owned = {gate.label: set(gate.owned) for gate in gates}
    for i in (0, 1):
        block = f"blocks.{i}."
        assert owned[f"{block}out"] == {
            block + name for name in ("norm1.weight", "norm1.bias", "qkv.weight", "qkv.bias")
        }
        assert owned[f"{block}down"] == {
            block + name for name in ("norm2.weight", "norm2.bias", "up.weight", "up.bias")
        }


def test_what_a_network_keeps_is_counted_from_its_shapes() -> None:
    """With certain gates: its entries, without those of units that are closed."""
    net = supernet()
    gates = gates_of(net)
    shapes = shapes_of(net.build, Sizes().largest())
    logits = tuple(torch.where(torch.arange(gate.units) % 2 == 0, 60.0, -60.0) for gate in gates)  # half are open
    learnt = Gates(tuple(gates), logits, 0.5, None, shapes)
    arch = Sizes().architecture({"width": 12, "depth": 1, "heads": [1], "hidden": [6]})
    found = learnt.kept(shapes_of(net.build, arch))
    # its one head is open, and four of its six hidden units
    whole = sum(p.numel() for p in net.extract(arch).parameters())
    assert found == pytest.approx(whole - 2 * (12 + 1 + 12), rel=1e-9)
    assert learnt.kept({}) == 0


# --- from worths to architectures ---------------------------------------------------------------------------------


def test_the_descent_keeps_limits_and_no_single_change_is_better() -> None:
    net, data = supernet(), task()
    costs = counted(net, data)
    groups, _ = coupled(Networks(net, data.example(2)))
    worth = saliency(net, data, groups)
    largest = costs(Sizes().largest())
    for share in (0.8, 0.5, 0.35):
        limits = {"params": share * largest["params"], "macs": 0.9 * largest["macs"]}
        arch = fitted(net, worth, costs, limits)
        assert all(costs(arch)[name] <= most for name, most in limits.items())
        for one in Sizes().neighbours(arch):
            if all(costs(one)[name] <= most for name, most in limits.items()):
                assert worth(one) <= worth(arch)


def test_saliency_is_the_sum_over_the_units_that_stay() -> None:
    net, data = supernet(), task()
    groups, _ = coupled(Networks(net, data.example(2)))
    calibration = Calibration(net, data)
    group = next(group for group in groups if group.parts[0].name == "blocks.0.up.weight")
    scores = Hessian()(group, calibration).sort(descending=True).values
    arch = Sizes().architecture({"width": 12, "depth": 2, "heads": [3, 3], "hidden": [6, 8]})
    lost = saliency(net, data, [group])(Sizes().largest()) - saliency(net, data, [group])(arch)
    assert lost == pytest.approx(float(scores[6:].sum()), rel=1e-9)


# --- the whole ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["params", pytest.param("macs", marks=pytest.mark.slow)])
def test_pruning_ends_in_an_architecture_that_keeps_the_limit(name: str) -> None:
    net, data = supernet(), task()
    before = net.extract(Sizes().largest()).eval()(X)
    most = 0.7 * counted(net, data)(Sizes().largest())[name]
    found = prune(net, data, {name: most}, GateConfig(steps=20, lr=0.1), sublayers=SUBLAYERS)
    assert getattr(profile_network(net.extract(found.arch), data.example()), name) <= most
    assert torch.allclose(net.extract(Sizes().largest()).eval()(X), before, rtol=0, atol=1e-12), (
        "only the order changed"
    )


def test_dead_units_are_what_is_pruned() -> None:
    net, data = with_dead_units(supernet(torch.float32)), task(torch.float32)
    parent = net.extract(Sizes().largest())
    taught = Distilled(data, parent, labels=0)
    whole = counted(net, data)(Sizes().largest())["params"]
    found = prune(net, taught, {"params": 0.8 * whole}, GateConfig(steps=300, lr=0.05))
    pruned = net.extract(found.arch).eval()
    assert sum(p.numel() for p in pruned.parameters()) <= 0.8 * whole
    assert (
        found.arch.width == 12 and found.arch.depth == 2 and sum(found.arch.heads) < 6 and sum(found.arch.hidden) < 16
    )
    assert torch.allclose(pruned(X.float()), parent(X.float()), atol=0.3)


def test_pruning_works_on_channels() -> None:
    net, data = channels(), task(torch.float32)
    whole = counted(net, data)(Channels().largest())["macs"]
    found = prune(net, data, {"macs": 0.6 * whole}, GateConfig(steps=20, lr=0.1))
    assert profile_network(net.extract(found.arch), data.example()).macs <= 0.6 * whole
    assert found.gates.prices is not None and len(found.sorted.groups) == 2


def test_other_costs_may_be_limited() -> None:
    """Latency, as any function of the architecture."""
    net, data = channels(), task(torch.float32)
    found = prune(net, data, {"ms": 5}, GateConfig(steps=5), costs=lambda arch: {"ms": arch.first + arch.second / 2})
    assert found.arch.first + found.arch.second / 2 <= 5


# --- a layer that is nearest --------------------------------------------------------------------------------------


def test_each_layer_of_the_parent_teaches_the_nearest_one() -> None:
    net, data = supernet(), task()
    student, parent = net.extract(Sizes().largest()), supernet().extract(Sizes().largest())
    with torch.no_grad():
        for p in student.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    batch = data.batch(0, 0)

    def imitation(which: Any) -> Tensor:
        return Distilled(data, parent, [Hidden(which)], labels=0).taught(student, batch)[1].detach()

    pairs = {(a, b): float(imitation({f"blocks.{a}": f"blocks.{b}"})) for a in (0, 1) for b in (0, 1)}
    least = sum(min(pairs[a, b] for a in (0, 1)) for b in (0, 1)) / 2
    assert float(imitation(nearest("blocks.*"))) == pytest.approx(least, rel=1e-9)
    assert float(imitation(nearest("blocks.*", "blocks.1"))) == pytest.approx(min(pairs[0, 1], pairs[1, 1]), rel=1e-9)
    assert float(imitation(every("blocks.*"))) >= least - 1e-12


def test_layers_teach_masks() -> None:
    def logits(*terms: Any) -> list[Tensor]:
        net, data = supernet(), task()
        taught = Distilled(data, net.extract(Sizes().largest()), terms) if terms else data
        return list(learn_gates(net, taught, GateConfig(steps=4, lr=0.1)).logits)

    plain, deep = logits(), logits(Hidden(nearest("blocks.*"), weight=10.0))
    assert not all(map(torch.equal, plain, deep))


# --- stopped and gone on ------------------------------------------------------------------------------------------


class Stopped(Exception):
    pass


class Stopping:
    """A task that raises at a step."""

    def __init__(self, at: int) -> None:
        self.at, self.task = at, task(torch.float32)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def batch(self, step: int, seed: int) -> Any:
        if step == self.at:
            raise Stopped
        return self.task.batch(step, seed)


@pytest.mark.parametrize("weights_lr", [0.0, 1e-3])
def test_a_stopped_course_goes_on_and_ends_the_same(tmp_path: Path, weights_lr: float) -> None:
    config = GateConfig(steps=9, lr=0.1, weights_lr=weights_lr, checkpoint_every=3)

    def learnt(data: Any, place: Path | None) -> tuple[Gates, str]:
        net = supernet(torch.float32)
        found = learn_gates(net, data, config, sublayers=SUBLAYERS, directory=place)
        return found, net.digest()

    whole, digest = learnt(task(torch.float32), None)
    with pytest.raises(Stopped):
        learnt(Stopping(7), tmp_path)
    again, same = learnt(task(torch.float32), tmp_path)
    assert all(map(torch.equal, whole.logits, again.logits)) and digest == same
    known, _ = learnt(Stopping(0), tmp_path)
    assert all(map(torch.equal, whole.logits, known.logits)), "what has ended is not learnt again"
    with pytest.raises(CheckpointError, match="sparsity"):
        learn_gates(
            supernet(torch.float32),
            task(torch.float32),
            replace(config, sparsity=0.3),
            sublayers=SUBLAYERS,
            directory=tmp_path,
        )


# --- mistakes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "kind", "message"),
    [
        (lambda: GateConfig(of="ms"), SupernetError, "of = 'ms' is unknown: choose one of params, macs"),
        (lambda: GateConfig(checkpoint_every=-1), SupernetError, "checkpoint_every = -1: it must be 0"),
        (
            lambda: prune(channels(), task(torch.float32), {"macs": 10}),
            FitError,
            "limits macs <= 10: the smallest that was reached has macs = .*; raise them, or widen the space",
        ),
        (
            lambda: fitted(channels(), lambda arch: 1.0, counted(channels(), task(torch.float32)), {"params": 3}),
            FitError,
            "limits params <= 3: the smallest that was reached has params = .*; raise them, or widen the space",
        ),
        (
            lambda: prune(channels(), task(torch.float32), {"ms": 5}),
            FitError,
            "limit ms <= 5: it must be above 0, on one of params",
        ),
        (
            lambda: fitted(channels(), lambda arch: 1.0, counted(channels(), task(torch.float32)), {}),
            FitError,
            "limits is empty: name the most of one or more of params, macs",
        ),
    ],
)
def test_pruning_mistakes_get_one_line(act: Callable[[], object], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        act()
    assert "\n" not in str(caught.value)
