"""The laws of the supernet, over unlike models and random architectures."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from search_spaces import Architecture, Space, choice
from supernets import Blocks, BuildError, MemoryLimitError, OptimizerConfig, ShapeError, Supernet, SupernetError
from supernets.parametrized import settle
from supernets.profile import Layers
from tests.supernets.zoo import ZOO, Case

SUPERNETS: dict[str, Supernet] = {}


def supernet(name: str) -> Supernet:
    """The float64 supernet of a zoo model, built once."""
    if name not in SUPERNETS:
        case = ZOO[name]
        SUPERNETS[name] = Supernet(case.space, case.build, layout=case.layout, dtype=torch.float64)
    return SUPERNETS[name]


def sample(case: Case, seed: int) -> Architecture:
    return case.space.sample(np.random.default_rng(seed))


def shapes(module: nn.Module) -> list[tuple[str, torch.Size]]:
    return [(name, parameter.shape) for name, parameter in module.named_parameters()]


models = pytest.mark.parametrize("name", list(ZOO))


@models
@given(seed=st.integers(0, 10_000))
@settings(max_examples=15)
def test_subnet_equals_extracted_network(name: str, seed: int) -> None:
    case, arch = ZOO[name], sample(ZOO[name], seed)
    subnet, extracted = supernet(name).subnet(arch).eval(), supernet(name).extract(arch).eval()
    assert torch.allclose(subnet(case.example()), extracted(case.example()), rtol=0, atol=1e-12)


@models
def test_subnet_equals_extracted_network_in_float32(name: str) -> None:
    case = ZOO[name]
    net = Supernet(case.space, case.build, layout=case.layout)
    example = case.example()
    example = example.float() if example.is_floating_point() else example
    for seed in range(5):
        arch = sample(case, seed)
        assert torch.allclose(net.subnet(arch).eval()(example), net.extract(arch).eval()(example), rtol=1e-5, atol=1e-5)


@models
def test_networks_are_the_users_own_class(name: str) -> None:
    case, arch = ZOO[name], sample(ZOO[name], 0)
    plain = case.build(arch)
    extracted, subnet = supernet(name).extract(arch), supernet(name).subnet(arch)
    assert type(extracted) is type(plain)
    assert isinstance(subnet, type(plain))
    assert shapes(extracted) == shapes(plain)
    assert extracted.state_dict().keys() == plain.state_dict().keys()
    for name_, parameter in extracted.named_parameters():
        assert parameter.untyped_storage().nbytes() == parameter.numel() * 8, name_


@models
def test_extracted_network_is_independent(name: str) -> None:
    case, net = ZOO[name], supernet(name)
    before = net.digest()
    extracted = net.extract(case.space.largest())
    with torch.no_grad():
        for parameter in extracted.parameters():
            parameter.add_(1.0)
    assert net.digest() == before


@models
@given(seed=st.integers(0, 10_000))
@settings(max_examples=10)
def test_gradient_of_a_subnet_is_that_of_the_static_network_in_its_box(name: str, seed: int) -> None:
    """Gradients equal the ones autograd gives the extracted network, and are exactly zero elsewhere (law 4)."""
    case, net, arch = ZOO[name], supernet(name), sample(ZOO[name], seed)
    state = {n: t.clone() for n, t in net.state_dict().items()}
    extracted = net.extract(arch).train()
    subnet = net.subnet(arch).train()
    subnet(case.example()).square().sum().backward()
    extracted(case.example()).square().sum().backward()
    gradients = net.gradients()
    net.optimizer(OptimizerConfig()).zero_grad()
    used = {n: p for n, p in extracted.named_parameters() if p.grad is not None}
    assert gradients.keys() == used.keys()
    for parameter_name, parameter in used.items():
        shared = net._store.parameters[parameter_name]
        box = shared.axes.box(tuple(parameter.shape), shared.shape)
        full = gradients[parameter_name].view_as(shared.blocked).clone()
        assert torch.allclose(box.of(full).reshape(parameter.shape), parameter.grad, rtol=1e-9, atol=1e-12)
        box.of(full).zero_()
        assert not full.any()
    assert all(p.grad is None for p in subnet.parameters())
    net.load_state_dict(state)


@models
def test_gradients_of_several_subnets_add_up(name: str) -> None:
    case, net = ZOO[name], supernet(name)
    state = {n: t.clone() for n, t in net.state_dict().items()}
    archs = [sample(case, seed) for seed in range(4)]
    total: dict[str, Tensor] = {}
    for arch in archs:
        net.subnet(arch).train()(case.example()).square().sum().backward()
        for parameter, grad in net.gradients().items():
            total[parameter] = total.get(parameter, torch.zeros_like(grad)) + grad
        net._store.zero_grad()
        net.load_state_dict(state)
    for arch in archs:
        net.subnet(arch).train()(case.example()).square().sum().backward()
    together = net.gradients()
    net._store.zero_grad()
    net.load_state_dict(state)
    assert together.keys() == total.keys()
    for parameter, grad in together.items():
        assert torch.allclose(grad, total[parameter], rtol=1e-8, atol=1e-9)


def torch_optimizer(module: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """torch's own, unfused, vectors not decayed."""
    groups = [
        {"params": [p for p in module.parameters() if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in module.parameters() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.betas[0], nesterov=True)


@models
@pytest.mark.parametrize("rule", ["adamw", "sgd"])
def test_a_step_on_a_subnet_is_the_static_step_in_its_box(name: str, rule: str) -> None:
    """Against torch's own optimiser over the extracted network; what is outside keeps its bits."""
    case = ZOO[name]
    net = Supernet(case.space, case.build, layout=case.layout, dtype=torch.float64)
    arch, config = sample(case, 3), OptimizerConfig(rule, lr=0.01)
    before = {n: s.blocked.clone() for n, s in net._store.parameters.items()}
    extracted, ours = net.extract(arch).train(), net.optimizer(config)
    theirs = torch_optimizer(extracted, config)
    for _ in range(3):
        net.subnet(arch).train()(case.example()).square().mean().backward()
        settle(extracted)  # of spectral norm, torch moves the singular vectors by a step of the power method alone
        extracted(case.example()).square().mean().backward()
        ours.step()
        theirs.step()
        theirs.zero_grad()
    for parameter_name, parameter in extracted.named_parameters():
        shared = net._store.parameters[parameter_name]
        box = shared.axes.box(tuple(parameter.shape), shared.shape)
        assert torch.allclose(box.of(shared.blocked).reshape(parameter.shape), parameter, rtol=1e-8, atol=1e-9)
        outside_now, outside_then = shared.blocked.clone(), before[parameter_name].clone()
        box.of(outside_now).zero_()
        box.of(outside_then).zero_()
        assert torch.equal(outside_now, outside_then)
    used = dict(extracted.named_parameters())
    assert all(torch.equal(s.blocked, before[n]) for n, s in net._store.parameters.items() if n not in used)


@models
def test_the_largest_network_starts_as_the_users_own_initialisation(name: str) -> None:
    case = ZOO[name]
    net = Supernet(case.space, case.build, layout=case.layout, seed=7)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        plain = case.build(case.space.largest())
    ours = net.extract(case.space.largest()).state_dict()
    settle(plain)
    assert all(torch.equal(tensor, ours[key]) for key, tensor in plain.state_dict().items())


@models
def test_a_slice_of_a_slice_is_a_slice(name: str) -> None:
    """The smallest network cut out of the extracted largest one is the smallest network of the whole."""
    case, net = ZOO[name], supernet(name)
    smallest, largest = case.space.smallest(), case.space.largest()
    inner = Supernet(case.space, case.build, layout=case.layout, dtype=torch.float64)
    inner.load_state_dict(net.state_dict())
    whole = inner.extract(largest).state_dict()
    for key, tensor in inner.extract(
        smallest
    ).named_parameters():  # tied ones once: their other names are others' there
        if key in whole and key in net._store.parameters:
            shared = net._store.parameters[key]
            box = shared.axes.box(tuple(tensor.shape), tuple(whole[key].shape))
            blocked = whole[key].view(shared.axes.blocked(tuple(whole[key].shape)))
            assert torch.equal(box.of(blocked).reshape(tensor.shape), tensor)


@models
def test_building_leaves_the_random_state_alone(name: str) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    supernet(name).subnet(ZOO[name].space.largest())
    supernet(name).extract(ZOO[name].space.smallest())
    assert torch.equal(torch.get_rng_state(), before)


@models
def test_coverage_names_the_choices(name: str) -> None:
    coverage = supernet(name).coverage()
    assert any(row.elastic for row in coverage.rows)
    assert not coverage.idle
    assert len(coverage.table().splitlines()) == len(coverage.rows) + 1


def test_coverage_of_a_convolutional_space() -> None:
    rows = {row.name: row for row in supernet("conv").coverage().rows}
    depthwise = rows["1.0.layers.2.weight"]
    assert depthwise.shape == (16, 1, 5, 5)
    assert {axis: set(choices) for axis, choices in depthwise.axes.items()} == {
        0: {"width", "expansion.0"},
        2: {"kernel.0"},
        3: {"kernel.0"},
    }
    assert rows["1.2.layers.5.weight"].present == ("depth",)


def test_kernels_are_cut_from_the_centre() -> None:
    net, case = supernet("conv"), ZOO["conv"]
    large = net.extract(case.space.at(kernel=5).largest()).get_parameter("1.0.layers.2.weight")
    small = net.extract(case.space.at(kernel=3).largest()).get_parameter("1.0.layers.2.weight")
    assert torch.equal(large[:, :, 1:4, 1:4], small)


def test_fused_projections_are_cut_block_by_block() -> None:
    net, case = supernet("fused"), ZOO["fused"]
    large = net.extract(case.space.largest()).get_parameter("1.0.attention.qkv.weight")
    small = net.extract(case.space.at(heads=1).largest()).get_parameter("1.0.attention.qkv.weight")
    assert torch.equal(small, large.view(3, 12, 16)[:, :4].reshape(12, 16))


def test_tied_parameters_stay_tied() -> None:
    net, case = supernet("tied"), ZOO["tied"]
    for module in (net.subnet(case.space.smallest()), net.extract(case.space.smallest())):
        names = dict(module.named_parameters(remove_duplicate=False))
        assert names["head.weight"] is names["embedding.weight"]
    assert "head.weight" not in net.state_dict()


def test_buffers_that_are_no_slices_are_each_networks_own() -> None:
    net, case = supernet("tied"), ZOO["tied"]
    narrow = net.subnet(case.space.at(width=8).largest())
    plain = case.build(case.space.at(width=8).largest())
    assert torch.allclose(narrow.blocks[0].angles, plain.blocks[0].angles.double())
    assert torch.equal(narrow.blocks[0].mask, plain.blocks[0].mask)


def test_batch_norm_statistics_are_shared_by_training_subnets() -> None:
    net, case = Supernet(ZOO["conv"].space, ZOO["conv"].build), ZOO["conv"]
    net.subnet(case.space.smallest()).train()(case.example().float())
    statistics = net.state_dict()["1.0.layers.1.running_mean"]
    assert statistics[:4].any()
    assert not statistics[4:].any()


def test_profile_counts_what_the_network_has() -> None:
    case, net = ZOO["conv"], supernet("conv")
    arch = case.space.architecture({"is": "ConvSpace", "width": 4, "depth": 1, "kernel": [3], "expansion": [2]})
    profile = net.profile(arch, torch.zeros(2, 1, 8, 8))
    assert profile.params == sum(p.numel() for p in case.build(arch).parameters())
    assert profile.macs == 64 * (4 * 9 + 4 * 8 + 8 * 9 + 8 * 4) + 4 * 5
    assert profile.activation_bytes > 2 * 64 * 8 * 4
    assert profile.kinds["Linear"] == Layers(count=1, params=4 * 5 + 5, macs=4 * 5, output_bytes=2 * 5 * 4)


@models
def test_kinds_of_layers_add_up_to_the_profile(name: str) -> None:
    net, example = supernet(name), ZOO[name].example()
    profile = net.profile(net.space.largest(), example.float() if example.is_floating_point() else example)
    assert sum(layers.params for layers in profile.kinds.values()) == profile.params
    assert sum(layers.macs for layers in profile.kinds.values()) == profile.macs


def test_profiles_run_from_smallest_to_largest() -> None:
    for name, case in ZOO.items():
        example = case.example()
        profiles = supernet(name).profiles(example.float() if example.is_floating_point() else example)
        assert profiles["smallest"].params < profiles["largest"].params
        assert all(p.macs > 0 and p.activation_bytes > 0 for p in profiles.values()), name


def test_pretrained_values_reach_every_network() -> None:
    case = ZOO["fused"]
    plain = case.build(case.space.largest())
    net = Supernet(case.space, case.build, layout=case.layout, init=plain.state_dict())
    example = case.example().float()
    assert torch.equal(net.extract(case.space.largest())(example), plain(example))


def test_weights_survive_a_round_trip() -> None:
    case = ZOO["conv"]
    one, other = Supernet(case.space, case.build, seed=1), Supernet(case.space, case.build, seed=2)
    assert one.digest() != other.digest()
    bound = other.subnet(case.space.smallest()).eval()
    other.load_state_dict({name: tensor.clone() for name, tensor in one.state_dict().items()})
    assert one.digest() == other.digest()
    example = case.example().float()
    assert torch.equal(bound(example), one.extract(case.space.smallest()).eval()(example))


def test_a_step_with_infinite_gradients_changes_nothing() -> None:
    case = ZOO["conv"]
    net = Supernet(case.space, case.build)
    before, optimizer = net.digest(), net.optimizer(OptimizerConfig())
    (net.subnet(case.space.smallest()).eval()(case.example().float()).sum() * float("inf")).backward()
    assert not np.isfinite(optimizer.step())
    assert net.digest() == before
    assert not optimizer.state_dict()


def test_clipping_scales_the_whole_gradient() -> None:
    case = ZOO["conv"]
    nets = [Supernet(case.space, case.build) for _ in range(2)]
    for net, clip, scale in zip(nets, (0.5, None), (1.0, None), strict=True):
        loss = net.subnet(case.space.largest()).eval()(case.example().float()).square().sum() * 100
        loss.backward()
        optimizer = net.optimizer(OptimizerConfig("sgd", lr=0.1, weight_decay=0.0))
        if scale is None:
            touched = net._store.touched()
            norm = torch.stack([one.grad.norm() for one in touched]).norm()
            for one in touched:
                one.grad.mul_(0.5 / (norm + 1e-6))
        optimizer.step(clip=clip)
    one, other = (net.state_dict() for net in nets)
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)


# --- what goes wrong ----------------------------------------------------------------------------------------------


class Tiny(Space):
    width = choice(4, 8)
    mode = choice("a", "b")


def test_errors_are_one_line_with_a_remedy() -> None:
    def linear(arch: Architecture) -> nn.Module:
        return nn.Linear(arch.width, 2)

    def broken(arch: Architecture) -> nn.Module:
        raise KeyError("oops")

    def forgetful(arch: Architecture) -> nn.Module:
        return None  # type: ignore[return-value]

    def ranks(arch: Architecture) -> nn.Module:
        return nn.Conv2d(2, arch.width, 3) if arch.mode == "a" else nn.Conv1d(2, arch.width, 3)

    def joint(arch: Architecture) -> nn.Module:
        net = nn.ModuleDict({"base": nn.Linear(arch.width, 2)})
        if arch.width == 4 and arch.mode == "a":
            net["extra"] = nn.Linear(3, 3)
        return net

    def grows(arch: Architecture) -> nn.Module:
        return nn.Linear(20 if (arch.width, arch.mode) == (4, "a") else arch.width, 2)

    def foreign_state() -> None:
        Supernet(Tiny(), linear).optimizer(OptimizerConfig()).load_state_dict({"x|step": torch.zeros(())})

    odd = Tiny().architecture({"is": "Tiny", "width": 4, "mode": "a"})
    cases = [
        (BuildError, r"raised KeyError: 'oops'; build must accept", lambda: Supernet(Tiny(), broken)),
        (BuildError, r"returned NoneType; it must return a torch.nn.Module", lambda: Supernet(Tiny(), forgetful)),
        (ShapeError, r"tensors of different rank cannot share weights", lambda: Supernet(Tiny(), ranks)),
        (SupernetError, r"has no parameters", lambda: Supernet(Tiny(), lambda arch: nn.ReLU())),
        (
            SupernetError,
            r"layout pattern 'qkv\*' matches no parameter",
            lambda: Supernet(Tiny(), linear, layout={"qkv*": Blocks(3)}),
        ),
        (SupernetError, r"names axis 4", lambda: Supernet(Tiny(), linear, layout={"weight": Blocks(2, axis=4)})),
        (
            ShapeError,
            r"do not divide into 3 fused blocks",
            lambda: Supernet(Tiny(), linear, layout={"weight": Blocks(3)}),
        ),
        (SupernetError, r"Blocks\(count=0\)", lambda: Blocks(0)),
        (ShapeError, r"extra.weight that no single choice brings forth", lambda: Supernet(Tiny(), joint).subnet(odd)),
        (
            ShapeError,
            r"of shape \(2, 20\), but the largest known is \(2, 8\)",
            lambda: Supernet(Tiny(), grows).subnet(odd),
        ),
        (
            MemoryLimitError,
            r"narrow the space with where\(\), or raise memory_limit",
            lambda: Supernet(Tiny(), linear, memory_limit=10),
        ),
        (ShapeError, r"init names 'nope'", lambda: Supernet(Tiny(), linear, init={"nope": torch.zeros(1)})),
        (
            ShapeError,
            r"weight is \(1,\) in the given weights",
            lambda: Supernet(Tiny(), linear, init={"weight": torch.zeros(1)}),
        ),
        (ShapeError, r"lacks 'bias'", lambda: Supernet(Tiny(), linear).load_state_dict({"weight": torch.zeros(2, 8)})),
        (SupernetError, r"unknown optimizer 'adam'; there are adamw, sgd", lambda: OptimizerConfig("adam")),
        (SupernetError, r"lr = 0: a learning rate is above 0", lambda: OptimizerConfig(lr=0)),
        (SupernetError, r"optimizer state for 'x', which is no parameter here", foreign_state),
    ]
    for kind, message, provoke in cases:
        with pytest.raises(kind, match=message) as caught:
            provoke()
        assert "\n" not in str(caught.value)


def test_also_shows_the_supernet_a_joint_architecture() -> None:
    def grows(arch: Architecture) -> nn.Module:
        return nn.Linear(20 if (arch.width, arch.mode) == (4, "a") else arch.width, 2)

    odd = Tiny().architecture({"is": "Tiny", "width": 4, "mode": "a"})
    net = Supernet(Tiny(), grows, also=[odd])
    assert net.extract(odd).weight.shape == (2, 20)
