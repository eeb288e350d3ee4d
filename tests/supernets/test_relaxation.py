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
from supernets.relaxation import Mixture, RelaxationError, fitted, frozen
from tests.search_spaces.strategies import random_spaces
from tests.supernets.zoo import ZOO

RELAXABLE = ("conv", "grouped", "fused", "tied", "normed")


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


def supernet_of(space: Space) -> Supernet:
    return Supernet(space, lambda arch: Slotted(space, arch), dtype=torch.float64)


relaxable_spaces = random_spaces().filter(lambda space: any(not slot.conditions for slot in space.slots))


@given(space=relaxable_spaces, seed=st.integers(0, 1000))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
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


@pytest.mark.parametrize("name", RELAXABLE)
def test_one_hot_is_the_subnet_of_models_unlike_each_other(name: str) -> None:
    case = ZOO[name]
    net = Supernet(case.space, case.build, layout=case.layout, dtype=torch.float64)
    mixture = Mixture(case.space)
    relaxed = net.relax(mixture).eval()  # one module follows its mixture
    for arch in case.space.sample_many(8, np.random.default_rng(0)):
        mixture.update({path: Mixture.one_hot(case.space, arch)[path] for path in mixture.free})
        found, wanted = relaxed(case.example()), net.subnet(arch).eval()(case.example())
        assert torch.allclose(found, wanted, rtol=0, atol=1e-12)


def test_one_hot_is_the_vision_transformer_with_its_gradients() -> None:
    space = ViTSpace()
    net = Supernet(space, vit.build, dtype=torch.float64)
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for arch in space.sample_many(5, np.random.default_rng(0)):
        relaxed, subnet = net.relax(Mixture.one_hot(space, arch)), net.subnet(arch)
        assert torch.allclose(relaxed(x), subnet(x), rtol=0, atol=1e-12)
        relaxed(x).square().sum().backward()
        ours = net.gradients()
        net._store.zero_grad()
        subnet(x).square().sum().backward()
        for name, gradient in net.gradients().items():
            assert torch.allclose(ours[name], gradient, rtol=1e-8, atol=1e-12), name
        net._store.zero_grad()


def padded(net: Supernet, arch: Architecture, name: str) -> Tensor:
    """What an architecture reads under a name, in its place in zeros of the stored shape."""
    shared = net._store.parameters[name]
    shape = tuple(dict(net.extract(arch).named_parameters())[name].shape)
    box, whole = shared.axes.box(shape, shared.shape), torch.zeros_like(shared.blocked)
    box.of(whole).copy_(box.of(shared.blocked))
    return whole.view(shared.shape)


def test_buffers_that_a_width_gives_are_the_expectation_of_their_contents() -> None:
    case = ZOO["tied"]
    net = Supernet(case.space, case.build, dtype=torch.float64)
    p = torch.tensor([0.25, 0.75], dtype=torch.float64, requires_grad=True)
    block = net.relax(Mixture(case.space, {"width": p})).get_submodule("blocks.1")
    small, large = (
        net.extract(case.space.where(width=width).largest()).get_buffer("blocks.1.angles") for width in (8, 16)
    )
    assert torch.equal(block.angles, p[0] * nn.functional.pad(small, (0, 8)) + p[1] * large)
    (gradient,) = torch.autograd.grad(block.angles.sum(), [p])
    assert torch.allclose(gradient, torch.stack([small.sum(), large.sum()]))
    assert block.mask.dtype == torch.bool


class Positions(nn.Module):
    """Adds a table that is no part of a larger one and not stored, in the order that a buffer of integers says."""

    def __init__(self, width: int, slope: float) -> None:
        super().__init__()
        self.register_buffer("table", slope * torch.linspace(0, 1, width), persistent=False)
        self.register_buffer("rows", torch.arange(4).flip(0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x[..., self.rows, :] + self.table


def test_alternatives_with_nothing_but_buffers_are_mixed() -> None:
    class PositionSpace(Space):
        width = choice(2, 3, 5)
        positions = choice("none", "steep", "flat")

    def build(arch: Architecture) -> nn.Module:
        options = {"none": nn.Identity} | {
            name: lambda slope=slope: Positions(arch.width, slope) for name, slope in (("steep", 3.0), ("flat", 0.3))
        }
        return nn.Sequential(nn.Linear(2, arch.width), one_of(arch.positions, options), nn.Linear(arch.width, 2))

    net = Supernet(PositionSpace(), build, dtype=torch.float64)
    x = torch.randn(3, 4, 2, dtype=torch.float64)
    for arch in net.space.enumerate():
        relaxed = net.relax(Mixture.one_hot(net.space, arch))
        assert torch.allclose(relaxed(x), net.subnet(arch)(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["conv", "fused"])
def test_weights_are_the_sum_of_padded_slices(name: str) -> None:
    case = ZOO[name]
    depth = max(case.space.slots[1].options)
    space = case.space.where(depth=depth)  # so that every parameter is in every network
    net = Supernet(space, case.build, layout=case.layout, dtype=torch.float64)
    probabilities = drawn(space)
    mixture = Mixture(space, probabilities)
    relaxed = net.relax(mixture)
    compared = 0
    for name, row in zip(net._survey.shapes, net.coverage().rows, strict=True):
        if not row.axes or name in net._anatomy._unmasked:
            continue
        slots = {slot for slot in space.slots if any(slot.path in moved for moved in row.axes.values())}
        mixture.forget()
        found = parameter(relaxed, name)
        explicit = torch.zeros_like(found)
        for arch in _all_of(space, [slot.path for slot in slots]):
            explicit = explicit + _chance(space, probabilities, arch, slots) * padded(net, arch, name).view_as(found)
        assert torch.allclose(found, explicit, rtol=0, atol=1e-14)
        direction = torch.randn(found.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        leaves = [probabilities[slot.path] for slot in slots]
        for ours, theirs in zip(
            torch.autograd.grad((found * direction).sum(), leaves),
            torch.autograd.grad((explicit * direction).sum(), leaves),
            strict=True,
        ):
            assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-13)
        compared += 1
    assert compared > 4


def _all_of(space: Space, paths: list[str]) -> Iterator[Architecture]:
    """One network for each combination of some choices, the others at their largest."""
    fixed = {slot.path: slot.options[-1] for slot in space.slots if slot.path not in paths}
    return space.where(**fixed).enumerate()


def _chance(space: Space, probabilities: dict[str, Tensor], arch: Architecture, slots: Any) -> Tensor:
    codes = space.codes([arch])[0]
    chance = torch.ones((), dtype=torch.float64)
    for slot, code in zip(space.slots, codes, strict=True):
        if slot in slots:
            chance = chance * probabilities[slot.path][int(code)]
    return chance


@given(space=random_spaces(constraints=False, most=16), seed=st.integers(0, 1000))
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
def test_expected_parameters_and_macs_are_those_of_enumeration(space: Space, seed: int) -> None:
    assume(any(not slot.conditions for slot in space.slots))
    net = supernet_of(space)
    example = torch.zeros(2, 3)
    mixture = Mixture(space, drawn(space, seed))
    archs = list(space.enumerate())
    chances = np.array([mixture.probability(arch) for arch in archs])
    assert chances.sum() == pytest.approx(1)
    profiles = [net.profile(arch, example) for arch in archs]
    for metric in ("params", "macs"):
        cost = net.expected(metric, example)
        counted = [getattr(profile, metric) for profile in profiles]
        assert [cost.of(arch) for arch in archs] == counted
        assert cost(mixture).item() == pytest.approx(chances @ np.array(counted), rel=1e-9)


def test_the_gradient_of_an_expected_cost_is_what_an_option_costs_more() -> None:
    space = ViTSpace(width=64, depth=2, heads=2, **{"ratio.1": 1})
    net = Supernet(space, vit.build)
    cost, probabilities = net.expected("params"), drawn(space)
    (gradient,) = torch.autograd.grad(cost(Mixture(space, probabilities)), [probabilities["ratio.0"]])
    counted = [cost.of(arch) for arch in space.enumerate()]
    assert (gradient - gradient[0]).tolist() == pytest.approx([one - counted[0] for one in counted])


def test_a_cost_is_fitted_to_what_was_measured() -> None:
    space = ViTSpace()
    net = Supernet(space, vit.build)
    counted = net.expected("macs", torch.zeros(1, 1, 8, 8))
    archs = space.sample_many(600, np.random.default_rng(0), uniform="choices")
    cost = fitted(space, archs, [counted.of(arch) for arch in archs])
    assert cost.r2 > 0.99
    fresh = space.sample_many(50, np.random.default_rng(1))
    assert np.corrcoef([cost.of(arch) for arch in fresh], [counted.of(arch) for arch in fresh])[0, 1] > 0.99
    with pytest.raises(SupernetError, match="10 or more"):
        fitted(space, archs[:4], [1.0] * 4)


def test_norms_mix_what_every_width_would_give() -> None:
    from supernets.relaxation.norms import mixed_group_norm, mixed_layer_norm

    x = torch.randn(3, 5, 12, dtype=torch.float64, requires_grad=True, generator=None) + 3
    chances = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64, requires_grad=True)
    widths = (4, 6, 12)
    layer = sum(
        p * nn.functional.pad(nn.functional.layer_norm(x[..., :w], (w,)), (0, 12 - w))
        for p, w in zip(chances, widths, strict=True)
    )
    assert torch.allclose(mixed_layer_norm(x, widths, chances, 1e-5), layer, rtol=0, atol=1e-13)
    rms = sum(
        p * nn.functional.pad(nn.functional.rms_norm(x[..., :w], (w,), eps=1e-6), (0, 12 - w))
        for p, w in zip(chances, widths, strict=True)
    )
    assert torch.allclose(mixed_layer_norm(x, widths, chances, 1e-6, centred=False), rms, rtol=0, atol=1e-13)
    maps = torch.randn(2, 12, 3, 3, dtype=torch.float64) - 1
    options = [(4, 2), (6, 2), (12, 3)]
    group = sum(
        p * nn.functional.pad(nn.functional.group_norm(maps[:, :c], g), (0, 0, 0, 0, 0, 12 - c))
        for p, (c, g) in zip(chances, options, strict=True)
    )
    assert torch.allclose(mixed_group_norm(maps, options, chances, 1e-5), group, rtol=0, atol=1e-13)


class Widths(Space):
    width = choice(4, 6, 12)


NORMS = {"layer": nn.LayerNorm, "rms": nn.RMSNorm, "group": lambda width: nn.GroupNorm(2, width)}


@pytest.mark.parametrize("norm", NORMS.values(), ids=list(NORMS))
def test_norms_are_mixed_with_their_weights_between_layers(norm: Any) -> None:
    """A one-hot mixture cannot tell a mask that is applied twice; this one is not."""
    space, chances = Widths(), {4: 0.2, 6: 0.5, 12: 0.3}
    build = lambda arch: nn.Sequential(nn.Linear(3, arch.width), norm(arch.width), nn.Linear(arch.width, 2))  # noqa: E731
    net = Supernet(space, build, dtype=torch.float64)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.normal_(generator=torch.Generator().manual_seed(tensor.numel()))
    relaxed = net.relax(Mixture(space, {"width": torch.tensor([*chances.values()], dtype=torch.float64)}))
    reach = torch.tensor([sum(p for width, p in chances.items() if width > i) for i in range(12)], dtype=torch.float64)
    up, _, head = net.extract(space.largest())
    x = torch.randn(5, 3, dtype=torch.float64)
    hidden = nn.functional.linear(x, up.weight * reach[:, None], up.bias * reach)
    mixed = sum(
        chances[arch.width] * nn.functional.pad(net.extract(arch)[1](hidden[:, : arch.width]), (0, 12 - arch.width))
        for arch in space.enumerate()
    )
    expected = nn.functional.linear(mixed, head.weight * reach, head.bias)
    assert torch.allclose(relaxed(x), expected, rtol=0, atol=1e-12)


class OperationSpace(Space):
    op = choice("conv3", "conv5", "skip")
    width = choice(2, 4)


def operations(arch: Architecture) -> nn.Module:
    kernel = {"conv5": 5}.get(arch.op, 3)
    convolution = nn.Conv2d(arch.width, arch.width, kernel, padding=kernel // 2)
    edge = one_of(
        "conv" if arch.op.startswith("conv") else "skip",
        {"conv": lambda: nn.Sequential(convolution, nn.BatchNorm2d(arch.width)), "skip": nn.Identity},
    )
    return nn.Sequential(nn.Conv2d(1, arch.width, 1), edge, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def test_operations_that_share_a_kernel_are_superposed_and_carry_the_mass_of_their_group() -> None:
    space = OperationSpace().where(width=4)
    net = Supernet(space, operations, dtype=torch.float64)
    p = torch.tensor([0.3, 0.2, 0.5], dtype=torch.float64, requires_grad=True)
    relaxed = net.relax(Mixture(space, {"op": p}))
    x = torch.randn(3, 1, 6, 6, dtype=torch.float64)
    stem, edge = relaxed[0](x), relaxed[1]
    whole = net._store.parameters["1.conv.0.weight"].value
    centre = torch.zeros_like(whole)
    centre[..., 1:4, 1:4] = whole[..., 1:4, 1:4]
    kernel = (p[0] * centre + p[1] * whole) / (p[0] + p[1])
    bias = net._store.parameters["1.conv.0.bias"].value
    mixed = nn.functional.batch_norm(
        nn.functional.conv2d(stem, kernel, bias, padding=2), None, None, training=True,
        weight=net._store.parameters["1.conv.1.weight"].value, bias=net._store.parameters["1.conv.1.bias"].value,
    )  # fmt: skip
    wanted = (p[0] + p[1]) * mixed + p[2] * stem
    assert torch.allclose(edge(stem), wanted, rtol=0, atol=1e-12)
    (gradient,) = torch.autograd.grad(edge(stem).square().sum(), [p])
    assert gradient.abs().min() > 1e-3  # batch norm does not hide the mass


def test_few_networks_are_built_to_put_many_alternatives_together() -> None:
    class Many(Space):
        op = choice("a", "b", "c", "d", per=6)

    built: list[Architecture] = []

    def build(arch: Architecture) -> nn.Module:
        built.append(arch)
        inner = {"c": lambda: one_of("x", {"x": lambda: nn.Linear(2, 2)})}
        return nn.Sequential(*(one_of(op, {k: inner.get(k, nn.Identity) for k in "abcd"}) for op in arch.op))

    net = Supernet(Many(), build)
    net.relax(Mixture(net.space))
    built.clear()
    relaxed = net.relax(Mixture(net.space))
    assert all(relaxed.get_submodule(f"{n}.{option}") is not None for n in range(6) for option in "abcd")
    assert isinstance(relaxed.get_submodule("3.c.x"), nn.Linear) and len(built) < 12  # of 18 that are missing


def test_what_is_not_run_is_exact_where_it_has_no_probability() -> None:
    space = OperationSpace()
    net = Supernet(space, operations, dtype=torch.float64)
    x = torch.randn(3, 1, 6, 6, dtype=torch.float64)
    vector = {"op": torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)}
    dense, sparse = net.relax(Mixture(space, vector)), net.relax(Mixture(space, vector, sparse=True))
    called = []
    sparse.get_submodule("1.conv").register_forward_hook(lambda *_: called.append(1))
    assert torch.equal(dense(x), sparse(x))
    assert not called


def test_partial_channels_go_through_operations_and_the_others_round() -> None:
    space = OperationSpace().where(width=4)
    net = Supernet(space, operations, dtype=torch.float64)
    x = torch.randn(3, 4, 6, 6, dtype=torch.float64)

    def edge(partial: int, *p: float) -> nn.Module:
        mixture = Mixture(space, {"op": torch.tensor(p, dtype=torch.float64)}, partial=partial)
        return net.relax(mixture).get_submodule("1")

    assert torch.equal(edge(2, 0, 0, 1)(x), x)
    half, changed = edge(2, 0.3, 0.2, 0.5), set()
    for seed in range(8):
        torch.manual_seed(seed)
        y = half(x)
        (channels,) = (y != x).any(0).flatten(1).any(1).nonzero(as_tuple=True)
        seen = torch.zeros_like(x).index_copy(1, channels, x[:, channels])
        assert torch.equal(y[:, channels], edge(1, 0.3, 0.2, 0.5)(seen)[:, channels])
        changed.add(tuple(channels.tolist()))
    assert len(changed) > 2
    assert {len(channels) for channels in changed} == {2}
    with pytest.raises(SupernetError, match="partial = 0"):
        Mixture(space, partial=0)


def test_operations_that_change_the_shape_see_all_channels() -> None:
    class DownSpace(Space):
        op = choice("conv", "pool")

    def build(arch: Architecture) -> nn.Module:
        return one_of(arch.op, {"conv": lambda: nn.Conv2d(4, 4, 2, stride=2), "pool": lambda: nn.MaxPool2d(2)})

    net, x = Supernet(DownSpace(), build), torch.randn(2, 4, 6, 6)
    assert torch.equal(net.relax(Mixture(net.space, partial=2))(x), net.relax(Mixture(net.space))(x))


def test_gradients_reach_the_store_and_stay_where_probability_is() -> None:
    space = ViTSpace()
    net = Supernet(space, vit.build)
    net.relax(Mixture.one_hot(space, space.smallest()))(torch.randn(2, 1, 8, 8)).square().sum().backward()
    assert net.gradients()["blocks.0.mlp.up.weight"][32:].abs().max() == 0
    assert net.gradients()["blocks.0.mlp.up.weight"][:32, :32].abs().max() > 0


@pytest.mark.parametrize(
    ("name", "message"),
    [("recurrent", "cell.lstm.weight_ih_l1 is there in .* one_of"), ("u_shaped", "down.1.weight is there in .* stack")],
)
def test_alternatives_that_nothing_says_are_an_error(name: str, message: str) -> None:
    case = ZOO[name]
    net = Supernet(case.space, case.build, layout=case.layout, dtype=torch.float64)
    with pytest.raises(RelaxationError, match=message):
        net.relax(Mixture(case.space))


def test_a_model_whose_forward_depends_on_the_architecture_is_found_out() -> None:
    case = ZOO["encoder"]  # its heads have width / 2 features: their number is fixed and their size is not
    net = Supernet(case.space, case.build, layout=case.layout, dtype=torch.float64)
    with pytest.raises(RelaxationError, match=r"away from the network; .*these change with it: .*head_dim"):
        net.check_relaxation(case.example())
    good = ZOO["fused"]
    Supernet(good.space, good.build, layout=good.layout, dtype=torch.float64).check_relaxation(good.example())


def test_wrong_mixtures_name_the_choice_and_the_rule() -> None:
    space = ViTSpace(width=(32, 64))
    net = Supernet(space, vit.build)
    for vector, message in [
        (torch.tensor([0.5, 0.5]), "shape"),
        (torch.tensor([0.5, 0.0, 0.6]), "sum to 1"),
        (torch.tensor([float("nan"), 0.0, 1.0]), "sum to 1"),
        (torch.tensor([0.3, 0.3, 0.4]), "narrowed"),
    ]:
        with pytest.raises(SupernetError, match=f"width .*{message}"):
            Mixture(space, {"width": vector})
    with pytest.raises(SupernetError, match="no choice of ViTSpace"):
        Mixture(space, {"widht": torch.ones(3) / 3})
    with pytest.raises(SupernetError, match="is over OperationSpace"):
        net.relax(Mixture(OperationSpace()))
    with pytest.raises(SupernetError, match="'macs' with an example"):
        net.expected("macs")


def test_the_derived_architecture_is_the_likeliest() -> None:
    space = ViTSpace()
    arch = space.sample(np.random.default_rng(3))
    mixture = Mixture.one_hot(space, arch)
    assert mixture.likeliest() == arch
    assert mixture.probability(arch) == 1
    assert space.sample(np.random.default_rng(0), weights=mixture.weights()) == arch


def test_unordered_options_ask_for_order() -> None:
    class Unordered(Space):
        width = choice(8, 4)
        extra = choice(1, 2)

    net = Supernet(
        Unordered(), lambda arch: stack([nn.Linear(3, 3 + arch.width - arch.width), nn.Linear(3, arch.width)])
    )
    with pytest.raises(RelaxationError, match="from small to large"):
        net.relax(Mixture(net.space))


@pytest.mark.parametrize("name", ["conv", "grouped", "fused", "tied"])
def test_frozen_weights_leave_the_gradients_of_probabilities_as_they_are(name: str) -> None:
    case = ZOO[name]
    net = Supernet(case.space, case.build, layout=case.layout, dtype=torch.float64)
    probabilities = drawn(case.space)
    relaxed = net.relax(Mixture(case.space, probabilities))
    leaves = list(probabilities.values())
    wanted = torch.autograd.grad(relaxed(case.example()).square().sum(), leaves)
    with frozen(relaxed):
        loss = relaxed(case.example()).square().sum()
        found = torch.autograd.grad(loss, leaves, retain_graph=True)
        assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))
        reached = accumulators(loss)
        assert reached <= set(map(id, leaves))  # so nothing on the way can compute a weight's
    relaxed(case.example()).square().sum().backward()
    assert net.gradients().keys() == net.state_dict().keys() - net._store.buffers.keys()


def accumulators(loss: Tensor) -> set[int]:
    """The leaves that a loss has a gradient for."""
    found, seen, todo = set(), set(), [loss.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        todo += [below for below, _ in node.next_functions]
    return found


def test_under_autocast_it_rounds_as_the_subnet_does() -> None:
    space = ViTSpace()
    net, arch = Supernet(space, vit.build), space.sample(np.random.default_rng(0))
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    gradients = []
    for network in (net.relax(Mixture.one_hot(space, arch)), net.subnet(arch)):
        with torch.autocast("cpu", torch.bfloat16):
            output = network(x)
        output.float().square().sum().backward()
        gradients.append((output, *(net.gradients()[name] for name in ("patches.weight", "blocks.0.mlp.up.weight"))))
        net._store.zero_grad()
    for ours, theirs in zip(*gradients, strict=True):
        assert ours.dtype == theirs.dtype
        assert torch.linalg.vector_norm((ours - theirs).float()) < 1e-2 * torch.linalg.vector_norm(theirs.float())
