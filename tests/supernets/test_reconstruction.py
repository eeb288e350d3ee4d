"""Fitting layers to the parent's: the largest network stays, redundant units cost nothing, no layer gets worse."""

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from search_spaces import Architecture, Space, choice
from supernets import Supernet
from supernets.compression.importance import reads
from supernets.compression.reconstruction import (
    Fitted,
    Reconstructed,
    kept_units,
    reconstruct,
    reconstructed,
)
from supernets.compression.side_by_side import Pass, watched
from supernets.errors import CompressionError
from tests.supernets.zoo import ZOO

BATCHES = 4


class Inputs:
    """A task of which only batches and outputs are asked: inputs like an example, or those that are given."""

    def __init__(self, make: Callable[[int], Tensor]) -> None:
        self.make = make

    def batch(self, step: int, seed: int) -> Tensor:
        return self.make(step)

    def outputs(self, module: nn.Module, batch: Tensor) -> Tensor:
        found: Tensor = module(batch)
        return found


def like(example: Tensor, rows: int = 40) -> Any:
    def make(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        shape = (rows, *example.shape[1:])
        if not example.is_floating_point():
            return torch.randint(int(example.max()) + 1, shape, generator=generator)
        return torch.randn(shape, generator=generator, dtype=example.dtype)

    return Inputs(make)


def giving(xs: Sequence[Tensor]) -> Any:
    return Inputs(xs.__getitem__)


def made(name: str) -> Supernet:
    case = ZOO[name]
    supernet = Supernet(case.space, case.build, layout=case.layout, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    for key, value in supernet.state_dict().items():
        if value.is_floating_point() and "running_var" not in key:
            value += torch.randn(value.shape, generator=generator, dtype=torch.float64) / 10
    return supernet


def narrow(supernet: Supernet) -> Iterator[Architecture]:
    yield supernet.space.smallest()
    yield from supernet.space.sample_many(2, np.random.default_rng(0))


def outputs(network: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = network.eval()(x)
    return found


@pytest.mark.parametrize("name", ZOO)
def test_the_largest_network_stays(name: str) -> None:
    supernet, example = made(name), ZOO[name].example()
    before = outputs(supernet.extract(supernet.space.largest()), example)
    network, _ = reconstructed(supernet, supernet.space.largest(), like(example), BATCHES)
    assert (outputs(network, example) - before).abs().max() <= 1e-12


@pytest.mark.parametrize("name", ZOO)
def test_no_layer_is_further_from_the_parent_than_before(name: str) -> None:
    supernet, task = made(name), like(ZOO[name].example())
    batches = [task.batch(number, 0) for number in range(BATCHES)]
    parent = supernet.extract(supernet.space.largest()).eval()
    for arch in narrow(supernet):
        kept, plain = kept_units(supernet, arch, supernet.extract(arch)), supernet.extract(arch)
        network, found = reconstructed(supernet, arch, task, BATCHES)
        for layer in found.layers:  # inputs of a layer depend on those before it alone, which are what they end as
            with_old = copy.deepcopy(network)
            with_old.set_submodule(layer.name, plain.get_submodule(layer.name))
            for data, judged in ((batches[:-1], False), (batches[-1:], True)):
                before, after = (distance(one, parent, layer, kept, data) for one in (with_old, network))
                assert after <= before * (1 + 1e-9) + 1e-25
                if judged:
                    assert before == pytest.approx(layer.before, abs=1e-12)
                    assert after == pytest.approx(layer.after if layer.kept else layer.before, abs=1e-12)


def distance(
    network: nn.Module, parent: nn.Module, layer: Fitted, kept: dict[str, Tensor], batches: Sequence[Tensor]
) -> float:
    """The squared one of what a layer gives from what it should, over that of the latter from 0."""
    axis = reads(network.get_submodule(layer.name))
    assert axis is not None
    apart = total = 0.0
    for batch in batches:
        own, theirs = (Seen(one, layer.name, batch) for one in (network, parent))
        wanted = theirs.made.index_select(axis, kept[layer.name])
        if layer.summed:  # the parent's sum, less what the network's own adds
            rest = own.sum(layer.name) - own.made
            wanted = theirs.sum(layer.name).index_select(axis, kept[layer.name]) - rest
        apart += float((own.made - wanted).square().sum())
        total += float(wanted.square().sum())
    return apart / total


ADDED = {"layers.5": "", "mlp.2": "", "down": "", "attention.out": "norm2", "linear2": "norm2"}
"""Layers of the zoo whose outputs are added to a stream; where the sum is seen: their block's output, or a norm's
input."""


class Seen:
    """What the layers of a network give in a forward pass, and the sum that the output of one goes into."""

    def __init__(self, network: nn.Module, name: str, x: Tensor) -> None:
        self.given: dict[str, Tensor] = {}
        self.gave: dict[str, Tensor] = {}
        handles = [one.register_forward_hook(self._note(path)) for path, one in network.named_modules()]
        outputs(network, x)
        for handle in handles:
            handle.remove()
        self.made = self.gave[name]

    def _note(self, path: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def note(module: nn.Module, given: tuple[Tensor, ...], gave: Tensor) -> None:
            if given:  # what computes a weight takes it by its attribute
                self.given[path], self.gave[path] = given[0], gave

        return note

    def sum(self, name: str) -> Tensor:
        ending = next(one for one in ADDED if name.endswith(f".{one}"))
        block, norm = name.removesuffix(f".{ending}"), ADDED[ending]
        return self.given[f"{block}.{norm}"] if norm else self.gave[block]


@pytest.mark.parametrize(
    ("name", "added"),
    [
        ("conv", {"layers.5"}),
        ("fused", {"attention.out", "down"}),
        ("encoder", {"linear2"}),
        ("tied", {"mlp.2"}),
        ("u_shaped", set()),
    ],
)
def test_layers_that_are_added_to_a_stream_are_found(name: str, added: set[str]) -> None:
    supernet = made(name)
    _, found = reconstructed(supernet, supernet.space.smallest(), like(ZOO[name].example()), BATCHES)
    for layer in found.layers:
        assert layer.summed == any(layer.name.endswith(f".{one}") for one in added)
    assert sum(layer.summed for layer in found.layers) == len(added)


class Added(nn.Module):
    """A layer whose output is added to the input, and more is done with it before or afterwards."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = F.dropout(self.layer(x), 0.5, self.training)
        if self.what == "changed in place":
            y.relu_()
        z = x + y
        if self.what == "added in place":
            z = (y + 0).add_(y) + x
        return torch.cat([z, y]) if self.what == "read again" else z


@pytest.mark.parametrize("what", ["only added", "changed in place", "added in place", "read again"])
def test_only_what_is_only_added_is_fitted_by_its_sum(what: str) -> None:
    torch.manual_seed(0)
    network, parent = nn.Sequential(Added(what)).double(), nn.Sequential(Added(what)).double()
    task = like(torch.zeros(1, 4, dtype=torch.float64))
    found = reconstruct(network, parent, [task.batch(number, 0) for number in range(4)], task, ridge=0.0)
    assert [layer.summed for layer in found.layers] == [what == "only added"]
    assert (outputs(network, task.batch(9, 0)) - outputs(parent, task.batch(9, 0))).abs().max() < 1e-9


@pytest.mark.parametrize("name", ZOO)
def test_a_network_has_the_parents_units_that_are_told(name: str) -> None:
    supernet = made(name)
    parent = supernet.extract(supernet.space.largest())
    whole = parent.state_dict()
    for arch in narrow(supernet):
        network = supernet.extract(arch)
        own = dict(network.named_parameters())  # without the names of tied ones, which hold another block's
        for path, units in kept_units(supernet, arch, network).items():
            name = f"{path}.bias"
            if name in whole and name in own:
                assert torch.equal(whole[name][units], own[name])


@pytest.mark.parametrize("name", ZOO)
def test_nothing_but_fitted_layers_changes(name: str) -> None:
    supernet = made(name)
    arch, weights = supernet.space.smallest(), supernet.digest()
    before = supernet.extract(arch).state_dict()
    network, found = reconstructed(supernet, arch, like(ZOO[name].example()), BATCHES)
    fitted = {f"{layer.name}.{own}" for layer in found.layers if layer.kept for own in ("weight", "bias")}
    after = network.state_dict()
    assert {key for key in before if not torch.equal(before[key], after[key])} <= fitted
    assert supernet.digest() == weights
    assert fitted, "no layer of the smallest network is fitted"


def test_a_network_without_a_layer_that_can_be_fitted_is_left_as_it_is() -> None:
    network, parent = (nn.Sequential(weight_norm(nn.Linear(3, 2))) for _ in range(2))
    found = reconstruct(network, parent, [torch.randn(4, 3) for _ in range(2)], like(torch.zeros(1, 3)))
    assert found == Reconstructed((), (("0", "its weight is computed"),))


class Hidden(Space):
    hidden = choice(5, 8)


class Linears(nn.Module):
    """Linear layers without anything between them."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, hidden), nn.Linear(hidden, hidden, bias=False)
        self.head = nn.Linear(hidden, 4)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.two(self.one(x)))
        return found


def redundant() -> tuple[Supernet, nn.Module]:
    """A supernet of linear networks whose last three hidden units are linear combinations of the others."""
    torch.manual_seed(0)
    parent = Linears(8).double()
    mix = torch.randn(3, 5, dtype=torch.float64)
    with torch.no_grad():
        for layer in (parent.one, parent.two):
            layer.weight[5:] = mix @ layer.weight[:5]
        parent.one.bias[5:] = mix @ parent.one.bias[:5]
    return Supernet(Hidden(), lambda arch: Linears(arch.hidden), init=parent, dtype=torch.float64), parent


def test_redundant_units_are_made_up_for_exactly() -> None:
    supernet, parent = redundant()
    arch = supernet.space.smallest()
    task = like(torch.zeros(1, 6, dtype=torch.float64))
    batches = [task.batch(number, 0) for number in range(BATCHES)]
    network = supernet.extract(arch)
    x, wanted = task.batch(99, 0), outputs(parent, task.batch(99, 0))
    assert (outputs(network, x) - wanted).abs().max() > 0.1
    reconstruct(network, parent, batches, task, ridge=0.0)
    assert (outputs(network, x) - wanted).abs().max() < 1e-9


@pytest.mark.parametrize(
    "layer",
    [
        lambda inputs: nn.Linear(inputs, 4),
        lambda inputs: nn.Conv1d(inputs, 4, 3, stride=2, padding=1, dilation=2),
        lambda inputs: nn.Conv2d(inputs, 4, (3, 2), stride=(1, 2), padding=(2, 1), padding_mode="reflect"),
        lambda inputs: nn.Conv2d(inputs, 4, 3, padding="same", bias=False),
        lambda inputs: nn.Conv3d(inputs, 4, 2),
    ],
)
def test_a_layer_gets_the_least_squares_weights(layer: Callable[[int], nn.Module]) -> None:
    """Any other weights are further from the parent's outputs, which a least-squares solver of all weights confirms."""
    torch.manual_seed(0)
    parent = nn.Sequential(layer(4)).double()
    network = nn.Sequential(layer(4)).double()
    axes = {nn.Linear: 0, nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}[type(parent[0])]
    xs = [torch.randn(6, *((4,) if axes == 0 else (4, *[6] * axes)), dtype=torch.float64) for _ in range(5)]
    found = reconstruct(network, parent, xs, giving(xs), ridge=0.0)
    assert found.layers[0].after < 1e-20
    for own, theirs in zip(network.parameters(), parent.parameters(), strict=True):
        assert (own - theirs).abs().max() < 1e-9


def test_a_ridge_holds_weights_where_data_says_nothing() -> None:
    torch.manual_seed(0)
    parent, network = nn.Linear(6, 3).double(), nn.Linear(6, 3).double()
    before = network.weight.detach().clone()
    xs = [torch.randn(20, 6, dtype=torch.float64) * torch.tensor([1, 1, 1, 0, 0, 0]) for _ in range(4)]
    for ridge in (0.0, 1e-6):
        reconstruct(nn.Sequential(network), nn.Sequential(parent), xs, giving(xs), ridge=ridge)
        assert torch.equal(network.weight[:, 3:], before[:, 3:]) or ridge == 0.0
        assert (network.weight[:, 3:] - before[:, 3:]).abs().max() < 1e-12
        assert (network.weight[:, :3] - parent.weight[:, :3]).abs().max() < 1e-5


class Several(nn.Module):
    """Layers that cannot be fitted, each for another reason, and one that can."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, width)
        self.normed = weight_norm(nn.Linear(width, width))
        self.twice = nn.Linear(width, width)
        self.idle = nn.Linear(width, width)
        self.depthwise = nn.Conv1d(width, width, 3, padding=1, groups=width)
        self.plain = nn.Linear(width, width)
        self.experts = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.head = nn.Linear(width, 7, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.twice(self.twice(self.normed(self.embedding(tokens))))
        x = self.plain(self.depthwise(x.transpose(1, 2)).transpose(1, 2)).relu()
        first = x.sum(-1) > x.sum(-1).median()
        x = torch.stack([self.experts[0](x[first]).mean(0), self.experts[1](x[~first]).mean(0)])
        found: Tensor = self.head(x)
        return found


def test_what_cannot_be_fitted_is_named() -> None:
    torch.manual_seed(0)
    network, parent = Several(6).double(), Several(8).double()
    task = like(torch.full((1, 5), 6))
    found = reconstruct(network, parent, [task.batch(number, 0) for number in range(4)], task)
    why = dict(found.left)
    assert why["head"] == "its weight is tied to another"
    assert why["normed"] == "its weight is computed"
    assert why["twice"] == why["idle"] == "it does not run once in every pass"
    assert why["depthwise"] == "it is a convolution by groups, or transposed"
    assert "plain" in [layer.name for layer in found.layers]
    assert "left head: its weight is tied to another" in found.table()


class Routing(nn.Module):
    """Which rows an expert gets depends on what a layer before it computes."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        self.one, self.expert = nn.Linear(4, 4), nn.Linear(4, 4)
        nn.init.constant_(self.one.bias, bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        found: Tensor = self.expert(x[x.sum(-1) > 0])
        return found


def test_a_layer_with_other_rows_than_the_parents_is_left() -> None:
    torch.manual_seed(0)
    network, parent = Routing(0.5).double(), Routing(-0.5).double()
    task = like(torch.zeros(1, 4, dtype=torch.float64))
    found = reconstruct(network, parent, [task.batch(number, 0) for number in range(4)], task)
    assert [layer.name for layer in found.layers] == ["one"]
    assert found.left == (("expert", "it runs on other inputs than in the parent"),)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda xs: xs[:1], "batches = 1: give 2 or more"),
        (lambda xs: [], "batches = 0: give 2 or more"),
        (lambda xs: [*xs, xs[0] * torch.nan], "what one computes on the calibration batches is no finite number"),
        (lambda xs: [x[:0] for x in xs], "no layer reads anything of the calibration batches"),
    ],
)
def test_data_that_tells_nothing_is_refused(change: Callable[[list[Tensor]], list[Tensor]], line: str) -> None:
    supernet, parent = redundant()
    network = supernet.extract(supernet.space.smallest())
    before = copy.deepcopy(network.state_dict())
    task = like(torch.zeros(1, 6, dtype=torch.float64))
    batches = change([task.batch(number, 0) for number in range(BATCHES)])
    with pytest.raises(CompressionError, match=line):
        reconstruct(network, parent, batches, task)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_ridge_below_nothing_is_refused() -> None:
    supernet, parent = redundant()
    with pytest.raises(CompressionError, match="ridge = -1"):
        reconstruct(supernet.extract(supernet.space.smallest()), parent, [1, 2], like(torch.zeros(1, 6)), ridge=-1)


def test_the_report_names_every_layer() -> None:
    supernet, _ = redundant()
    task = like(torch.zeros(1, 6, dtype=torch.float64))
    _, found = reconstructed(supernet, supernet.space.smallest(), task, BATCHES)
    assert isinstance(found, Reconstructed)
    assert found.table().startswith("reconstructed: 2 of 3 layers")  # the first one misses no input
    assert "two: " in found.table()


def test_passes_stop_go_on_raise_and_end() -> None:
    first = nn.Linear(2, 2)
    network = nn.Sequential(first, nn.Linear(2, 3))
    threads, x = threading.active_count(), torch.ones(1, 2)
    with watched(network, ["0", "1"]):
        one, other = Pass(lambda: network(x)), Pass(lambda: network(x))
        assert [stop.name for stop in (one.advance(), other.advance()) if stop] == ["0", "0"]
        with torch.no_grad():
            first.weight.zero_()
            first.bias.fill_(1)
        anew, old = one.advance(anew=True), other.advance()
        assert anew is not None and old is not None
        assert torch.equal(anew.given, torch.ones(1, 2))
        assert not torch.equal(old.given, torch.ones(1, 2))
        assert one.advance() is None
        other.leave()
        with pytest.raises(RuntimeError, match="cannot be multiplied"):
            Pass(lambda: network(torch.ones(1, 5))).advance()
    assert threading.active_count() == threads
