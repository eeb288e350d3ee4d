"""Mixture-of-Supernets: what is exactly true of weights that a router mixes."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from toy import Digits, ToySpace
from zoo import ZOO, images, tokens

from search_spaces import Architecture, Space, choice
from supernets import OptimizerConfig, Routed, Supernet, SupernetError
from supernets.layout import Axes, Layouts, Shape
from supernets.models import gpt, vit
from supernets.training import train

SMALL = {"hidden": 8}  # units of the routers


class TransformerSpace(Space):
    width = choice(8, 12, 16)
    depth = choice(1, 2)
    heads = choice(1, 2, per="depth")
    ratio = choice(1, 2, 3, per="depth")


def small_vit(arch: Architecture) -> nn.Module:
    return vit.build(arch, head_size=4)


def small_gpt(arch: Architecture) -> nn.Module:
    return gpt.build(arch, vocab=11, context=6, head_size=4)


@dataclass(frozen=True)
class Model:
    space: Space
    build: Callable[[Architecture], nn.Module]
    example: Callable[[], Tensor]
    layout: Layouts
    mixed: dict[str, tuple[str, ...]]
    """The argument of `Routed`, where the model's own names do not say what is feed-forward."""

    def supernet(self, sharing: Routed | None = None, **changes: object) -> Supernet:
        settings = {"layout": self.layout, "dtype": torch.float64, "seed": 1, **changes}
        return Supernet(self.space, self.build, sharing=sharing, **settings)  # type: ignore[arg-type]

    def routed(self, **settings: object) -> Routed:
        return Routed(**{**SMALL, **self.mixed, **settings})  # type: ignore[arg-type]

    def archs(self, count: int = 4) -> list[Architecture]:
        rng = np.random.default_rng(0)
        return [self.space.smallest(), self.space.largest(), *(self.space.sample(rng) for _ in range(count - 2))]


def of_zoo(name: str, *mixed: str) -> Model:
    case = ZOO[name]
    return Model(case.space, case.build, case.example, case.layout, {"mixed": mixed} if mixed else {})


MODELS = {
    "vit": Model(TransformerSpace(), small_vit, images, {}, {}),
    "gpt": Model(TransformerSpace(), small_gpt, tokens, {}, {}),
    "encoder": of_zoo("encoder"),
    "fused": of_zoo("fused", "*.gate_up.*", "*.down.*", "*.qkv.*"),
    "conv": of_zoo("conv", "1.*.layers.*"),
    "recurrent": of_zoo("recurrent", "cell.*", "head.*"),
    "u_shaped": of_zoo("u_shaped", "up.*", "merge.*"),
    "tied": of_zoo("tied", "*"),
}
PER = ("layer", "neuron")


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    return MODELS[request.param]


@pytest.fixture(params=PER)
def per(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def set_(supernet: Supernet, name: str, value: Tensor) -> None:
    with torch.no_grad():
        supernet._store.parameters[name].value.copy_(value)


def experts_of(supernet: Supernet) -> dict[str, list[str]]:
    """From the plain name of each mixed parameter to the names of all its experts."""
    stored = supernet.state_dict()
    plain = dict.fromkeys(name.partition("@")[0] for name in stored if "@" in name and not name.startswith("@"))
    return {name: [name, *(other for other in stored if other.startswith(f"{name}@"))] for name in plain}


def alike(supernet: Supernet) -> Supernet:
    """With the same values in all experts of a parameter."""
    for names in experts_of(supernet).values():
        for name in names[1:]:
            set_(supernet, name, supernet.state_dict()[names[0]])
    return supernet


def part(supernet: Supernet, ending: str) -> list[str]:
    return [name for name in supernet.state_dict() if name.startswith("@router") and name.endswith(ending)]


# --- the exact checks -----------------------------------------------------------------------------------------------


def test_one_expert_is_entangled_bit_for_bit(model: Model, per: str) -> None:
    entangled, routed = model.supernet(), model.supernet(model.routed(experts=1, per=per))
    for arch in model.archs():
        results = []
        for supernet in (entangled, routed):
            supernet._store.zero_grad()
            outputs = supernet.subnet(arch)(model.example())
            outputs.square().mean().backward()
            results.append((outputs, supernet.gradients(), supernet.extract(arch).state_dict()))
        (outputs, gradients, weights), (own_outputs, own_gradients, own_weights) = results
        assert torch.equal(outputs, own_outputs)
        assert gradients.keys() == own_gradients.keys()
        assert all(torch.equal(gradient, own_gradients[name]) for name, gradient in gradients.items())
        assert all(torch.equal(weight, own_weights[name]) for name, weight in weights.items())


def test_training_one_expert_is_training_entangled_weights_bit_for_bit(per: str) -> None:
    def trained(sharing: Routed | None) -> tuple[tuple[float, ...], dict[str, Tensor]]:
        supernet = Supernet(ToySpace(), toy.build, sharing=sharing, seed=1)
        result = train(supernet, Digits(), toy.config(clip=0.1, evaluate_every=0), progress=False)
        return result.losses, supernet.state_dict()

    losses, weights = trained(None)
    own_losses, own_weights = trained(Routed(experts=1, per=per, mixed=("*",), hidden=8))
    assert losses == own_losses
    assert all(torch.equal(weight, own_weights[name]) for name, weight in weights.items())


@pytest.mark.parametrize("experts", [2, 3])
def test_identical_experts_are_the_plain_slice(model: Model, per: str, experts: int) -> None:
    routed, entangled = alike(model.supernet(model.routed(experts=experts, per=per))), model.supernet()
    entangled.load_state_dict({name: routed.state_dict()[name] for name in entangled.state_dict()})
    for arch in model.archs():
        weights = entangled.extract(arch).state_dict()
        for name, weight in routed.extract(arch).state_dict().items():
            assert torch.allclose(weight, weights[name], rtol=1e-14, atol=0), name


def test_neurons_with_equal_logits_are_a_layer(model: Model) -> None:
    """The router of a block is given to each neuron of its modules."""
    layer = model.supernet(model.routed(experts=2, per="layer"))
    neuron = model.supernet(model.routed(experts=2, per="neuron"))
    state = layer.state_dict()
    for name in neuron._store.parameters:
        if not name.startswith("@router"):
            set_(neuron, name, state[name])
    routers = {name.rpartition(".")[0].rpartition(".")[0] for name in state if name.startswith("@router")}
    for name in part(neuron, ".weight") + part(neuron, ".bias"):
        router = max((one for one in routers if name.startswith(one)), key=len)
        value = state[router + "." + ".".join(name.split(".")[-2:])]
        stored = neuron.state_dict()[name]
        set_(neuron, name, value.repeat(len(stored) // len(value), *[1] * (value.dim() - 1)))
    for arch in model.archs():
        folded = neuron.extract(arch).state_dict()
        for name, weight in layer.extract(arch).state_dict().items():
            assert torch.allclose(weight, folded[name], rtol=1e-13, atol=1e-15), name


def test_a_fused_neuron_keeps_its_coefficients_in_every_slice() -> None:
    """Slicing the head, then reshaping, equals reshaping to neurons, then slicing: no row meets another's."""
    model = MODELS["fused"]
    supernet = model.supernet(model.routed(experts=2, per="neuron"))
    for name in part(supernet, "head.weight"):
        set_(supernet, name, torch.zeros_like(supernet.state_dict()[name]))  # coefficients of the biases alone
    for arch in model.archs(6):
        for name, weight in supernet.extract(arch).named_parameters():
            if name not in experts_of(supernet):
                continue
            stored = supernet._store.parameters[name]
            rows = stored.shape[0]
            logits = supernet.state_dict()[f"@router.{name.rpartition('.')[0]}.head.bias"]
            apart = logits.view(rows, 2).softmax(1)  # of neuron j: logits 2 j and 2 j + 1
            first, second = (supernet.state_dict()[expert] for expert in experts_of(supernet)[name])
            columns = [column.view(-1, *[1] * (first.dim() - 1)) for column in apart.unbind(1)]
            whole = columns[0] * first + columns[1] * second
            count = stored.axes.blocks[0]
            blocked = whole.view(count, rows // count, *whole.shape[1:])[:, : len(weight) // count]
            cut = blocked.flatten(0, 1)
            if cut.dim() > 1:
                cut = cut[:, : weight.shape[1]]
            assert torch.allclose(weight, cut, rtol=1e-13, atol=1e-15), name


def test_folded_weights_are_the_mixed_ones_and_not_expert_0(model: Model, per: str) -> None:
    supernet = model.supernet(model.routed(per=per))
    for arch in model.archs():
        subnet, extracted = supernet.subnet(arch), dict(supernet.extract(arch).named_parameters())
        for name in experts_of(supernet):
            if name not in extracted:
                continue
            owner, _, attribute = name.rpartition(".")
            assert torch.equal(getattr(subnet.get_submodule(owner), attribute), extracted[name])
            shape = tuple(extracted[name].shape)
            plain = supernet._store.parameters[name].leaf(shape).detach().reshape(shape)
            assert plain.std(correction=0) == 0 or not torch.allclose(plain, extracted[name], rtol=1e-2), name
        with torch.no_grad():
            assert torch.allclose(
                supernet.subnet(arch).eval()(model.example()),
                supernet.extract(arch).eval()(model.example()),
                rtol=0,
                atol=1e-12,
            )


def test_mixing_weights_is_mixing_outputs_of_one_linear() -> None:
    supernet = Supernet(ToySpace(), toy.build, sharing=Routed(mixed=("1.0.2.*",), hidden=8), dtype=torch.float64)
    arch = ToySpace().sample(np.random.default_rng(3))
    linear = supernet.extract(arch).get_submodule("1.0.2")
    state, x = supernet.state_dict(), torch.randn(5, arch.width, dtype=torch.float64)
    hidden = F.relu(F.linear(features(supernet, arch), *router(supernet, "1.0", "hidden")))
    coefficients = F.linear(hidden, *router(supernet, "1.0", "head")).softmax(-1)[0]
    outputs = [
        F.linear(x, state[f"1.0.2.weight{at}"][: arch.width, : arch.width], state[f"1.0.2.bias{at}"][: arch.width])
        for at in ("", "@1")
    ]
    assert torch.allclose(linear(x), coefficients[0] * outputs[0] + coefficients[1] * outputs[1], atol=1e-12)


def features(supernet: Supernet, arch: Architecture) -> Tensor:
    return torch.from_numpy(supernet.space.encode([arch])).double()


def router(supernet: Supernet, group: str, layer: str) -> tuple[Tensor, Tensor]:
    state = supernet.state_dict()
    return state[f"@router.{group}.{layer}.weight"], state[f"@router.{group}.{layer}.bias"]


@pytest.mark.parametrize("head", ["zeros", "random"])
def test_identical_experts_under_a_head_of_zeros_stay_identical(per: str, head: str) -> None:
    """The saddle, which no initialisation here begins at: a random head leaves it."""
    sharing = Routed(per=per, mixed=("1.*.2.*",), hidden=8, init="copies", noise=0.0)
    supernet = Supernet(ToySpace(), toy.build, sharing=sharing, seed=1, dtype=torch.float64)
    if head == "zeros":
        for name in (*part(supernet, "head.weight"), *part(supernet, "head.bias")):
            set_(supernet, name, torch.zeros_like(supernet.state_dict()[name]))
    optimizer = supernet.optimizer(OptimizerConfig("adamw", lr=1e-2, weight_decay=0.0))
    rng, (images, labels) = np.random.default_rng(0), toy.digits()
    for _ in range(60):
        outputs = supernet.subnet(supernet.space.sample(rng)).eval()(images[:64].double())
        F.cross_entropy(outputs, labels[:64]).backward()
        optimizer.step()
    state = supernet.state_dict()
    apart = max(float((state[a] - state[b]).abs().max()) for a, b in experts_of(supernet).values())
    assert apart == 0 if head == "zeros" else apart > 1e-3


def test_relabelling_experts_with_their_columns_changes_nothing(model: Model, per: str) -> None:
    supernet = model.supernet(model.routed(experts=3, per=per))
    before = [supernet.extract(arch).state_dict() for arch in model.archs()]
    order = [2, 0, 1]
    state = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    for names in experts_of(supernet).values():
        for name, other in zip(names, order, strict=True):
            set_(supernet, name, state[names[other]])
    for name in (*part(supernet, "head.weight"), *part(supernet, "head.bias")):
        apart = state[name].unflatten(0, (-1, 3))
        set_(supernet, name, apart[:, order].flatten(0, 1))
    for arch, weights in zip(model.archs(), before, strict=True):
        for name, weight in supernet.extract(arch).state_dict().items():
            assert torch.allclose(weight, weights[name], rtol=1e-12, atol=1e-14), name


# --- over random architectures --------------------------------------------------------------------------------------


@cache
def shared(name: str, per: str) -> Supernet:
    return MODELS[name].supernet(MODELS[name].routed(experts=3, per=per))


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(MODELS)), st.sampled_from(PER), st.integers(0, 2**31))
def test_any_subnet_equals_its_extraction_and_touches_nothing_else(name: str, per: str, seed: int) -> None:
    supernet, example = shared(name, per), MODELS[name].example()
    arch = supernet.space.sample(np.random.default_rng(seed))
    supernet._store.zero_grad()
    outputs, plain = supernet.subnet(arch).eval()(example), supernet.extract(arch).eval()
    assert torch.allclose(outputs, plain(example), rtol=0, atol=1e-12)
    outputs.square().mean().backward()
    has = {parameter for parameter, _ in plain.named_parameters()}
    for touched in supernet.gradients():
        group = ".".join([*touched.split(".")[1:-2], ""])  # of a router
        there = any(parameter.startswith(group) for parameter in has)
        assert there if touched.startswith("@router") else touched.partition("@")[0] in has, touched


# --- gradients ------------------------------------------------------------------------------------------------------


def test_gradients_are_those_of_the_formula(model: Model, per: str) -> None:
    """Written out in plain differentiable operations on the same tensors."""
    supernet = model.supernet(model.routed(experts=3, per=per))
    arch = model.archs()[-1]
    supernet.subnet(arch)(model.example()).square().mean().backward()
    gradients = supernet.gradients()
    leaves = {
        name: shared.value.clone().requires_grad_(shared.trainable)
        for name, shared in supernet._store.parameters.items()
    }
    plain = supernet.extract(arch)
    weights = {}
    for name, parameter in plain.named_parameters():
        axes, shape = supernet._store.parameters[name].axes, tuple(parameter.shape)

        weights[name] = cut(leaves[name], axes, shape)
        if name in experts_of(supernet):
            route = supernet.weights._routes[name]
            parts = [leaves[f"{route.router}.{end}"] for end in ("hidden.weight", "hidden.bias")]
            hidden = F.relu(F.linear(features(supernet, arch), *parts))
            head, bias = (leaves[f"{route.router}.head.{end}"] for end in ("weight", "bias"))
            whole = F.linear(hidden, head, bias).view(-1, 3).softmax(-1)
            mixed: Tensor | float = 0.0
            for column, expert in zip(whole.unbind(1), experts_of(supernet)[name], strict=True):
                across = [1] * len(shape)
                across[route.axis or 0] = len(column)
                mixed = mixed + cut(column.view(across) * leaves[expert], axes, shape)
            weights[name] = mixed
    torch.func.functional_call(plain, weights, (model.example(),)).square().mean().backward()
    for name, leaf in leaves.items():
        if leaf.grad is not None:
            assert torch.allclose(gradients.get(name, torch.zeros(())), leaf.grad, rtol=1e-8, atol=1e-13), name
    assert gradients.keys() <= {name for name, leaf in leaves.items() if leaf.grad is not None}


def cut(tensor: Tensor, axes: Axes, shape: Shape) -> Tensor:
    blocked = tensor.view(axes.blocked(tuple(tensor.shape)))
    return axes.box(shape, tuple(tensor.shape)).of(blocked).reshape(shape)


def gradients_of(supernet: Supernet, run: Callable[[], None]) -> dict[str, Tensor]:
    supernet._store.zero_grad()
    run()
    return supernet.gradients()


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, gradient in one.items():
        assert torch.allclose(gradient, other[name], rtol=1e-9, atol=1e-13), name


def test_forwards_and_backwards_may_come_in_any_order(per: str) -> None:
    model = MODELS["vit"]
    supernet = model.supernet(model.routed(per=per))
    subnets = [supernet.subnet(arch) for arch in model.archs()[1:3]]
    x = model.example()

    def one_by_one() -> None:
        for subnet in subnets * 2:
            subnet(x).square().mean().backward()

    def forwards_first() -> None:
        losses = [subnet(x).square().mean() for subnet in subnets * 2]
        with torch.no_grad():
            subnets[0](x)
        with torch.inference_mode():
            subnets[1](x)
        for loss in reversed(losses):
            loss.backward()

    def together() -> None:
        sum(subnet(x).square().mean() for subnet in subnets * 2).backward()

    def recomputed() -> None:
        for subnet in subnets * 2:
            checkpoint(subnet, x, use_reentrant=False).square().mean().backward()

    expected = gradients_of(supernet, one_by_one)
    for run in (forwards_first, together, recomputed):
        assert_equal(expected, gradients_of(supernet, run))


def test_coefficients_follow_the_router(per: str) -> None:
    model = MODELS["gpt"]
    supernet = model.supernet(model.routed(per=per))
    arch, x = model.archs()[-1], model.example()
    subnet = supernet.subnet(arch)
    with torch.inference_mode():
        first = subnet(x)
    for name in part(supernet, "head.bias"):
        value = supernet.state_dict()[name].clone()
        value[::2] += 3  # of the first expert
        set_(supernet, name, value)
    second = subnet(x)
    second.square().mean().backward()
    assert not torch.allclose(first, second)
    assert torch.equal(second, supernet.subnet(arch)(x))


def test_coefficients_do_not_depend_on_autocast(per: str) -> None:
    model = MODELS["vit"]
    supernet = model.supernet(model.routed(per=per), dtype=torch.float32)
    arch = model.archs()[-1]
    extracted = dict(supernet.extract(arch).named_parameters())
    subnet = supernet.subnet(arch)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(subnet.get_submodule("blocks.0.mlp.up").weight, extracted["blocks.0.mlp.up.weight"])
        subnet(model.example().float()).float().square().mean().backward()
    assert any(name.startswith("@router") for name in supernet.gradients())


# --- what is stored -------------------------------------------------------------------------------------------------


class WideSpace(Space):
    width = choice(32, 64)


def wide(arch: Architecture) -> nn.Module:
    return nn.Sequential(nn.Linear(64, arch.width), nn.ReLU(), nn.Linear(arch.width, 64))


@pytest.mark.parametrize("experts", [2, 4])
@pytest.mark.parametrize("init", ["independent", "copies", "auto"])
def test_the_first_mix_varies_as_the_module_initialises(init: str, experts: int) -> None:
    sharing = Routed(experts=experts, mixed=("*",), init=init)
    supernet, plain = Supernet(WideSpace(), wide, sharing=sharing), Supernet(WideSpace(), wide)
    for name in part(supernet, "head.weight") + part(supernet, "head.bias"):
        set_(supernet, name, torch.zeros_like(supernet.state_dict()[name]))  # uniform
    mixed, own = (net.extract(WideSpace().largest()).state_dict() for net in (supernet, plain))
    for name in ("0.weight", "2.weight"):
        assert float(mixed[name].std()) == pytest.approx(float(own[name].std()), rel=0.03)
        state = supernet.state_dict()
        for one, other in pairwise(experts_of(supernet)[name]):
            assert not torch.allclose(state[one], state[other], rtol=1e-4)


def test_given_values_are_copied_and_drawn_ones_are_not() -> None:
    given = torch.randn(64, 64)
    supernet = Supernet(WideSpace(), wide, sharing=Routed(mixed=("*",)), init={"0.weight": given})
    state = supernet.state_dict()
    noise = float((state["0.weight@1"] - given).std() / given.std())
    assert noise == pytest.approx(0.01 / math.sqrt(2), rel=0.1)
    assert torch.allclose((state["0.weight"] + state["0.weight@1"]) / 2, given, atol=1e-6)
    assert float(F.cosine_similarity(state["2.weight"].flatten(), state["2.weight@1"].flatten(), 0)) < 0.1


def test_constants_keep_their_scale() -> None:
    class Shifted(nn.Linear):
        def reset_parameters(self) -> None:
            super().reset_parameters()
            nn.init.ones_(self.bias)

    supernet = Supernet(WideSpace(), lambda arch: Shifted(64, arch.width), sharing=Routed(mixed=("*",)))
    assert torch.allclose(supernet.extract(WideSpace().largest()).bias, torch.ones(64))


def test_a_router_reads_the_architecture_and_nothing_else(per: str) -> None:
    """Every choice in its own place: architectures that agree on average do not share their mix."""
    model = MODELS["vit"]
    supernet = model.supernet(model.routed(per=per))
    one, other = (
        TransformerSpace().architecture({"width": 16, "depth": 2, "heads": [1, 1], "ratio": ratios})
        for ratios in ([1, 3], [3, 1])
    )
    first, second = (supernet.extract(arch).get_parameter("blocks.0.mlp.down.weight")[:, :16] for arch in (one, other))
    assert not torch.allclose(first, second, rtol=1e-6, atol=0)
    again = supernet.extract(one).get_parameter("blocks.0.mlp.down.weight")
    assert torch.equal(first, again)


def test_one_router_a_block_or_a_module() -> None:
    names = {per: {name.removesuffix(".head.bias") for name in part(shared("vit", per), "head.bias")} for per in PER}
    assert names["layer"] == {"@router.blocks.0", "@router.blocks.1"}
    assert names["neuron"] == {f"@router.blocks.{i}.mlp.{way}" for i in (0, 1) for way in ("up", "down")}


def test_weight_and_bias_of_a_neuron_share_their_coefficients() -> None:
    supernet = shared("vit", "neuron")
    for name in experts_of(supernet):
        for index, expert in enumerate(experts_of(supernet)[name]):
            set_(supernet, expert, torch.full_like(supernet.state_dict()[expert], float(index)))
    linear = supernet.extract(supernet.space.largest()).blocks[0].mlp.up
    shared.cache_clear()
    assert torch.equal(linear.weight, linear.bias[:, None].expand_as(linear.weight))
    assert linear.bias.std() > 0


def test_norms_are_not_mixed() -> None:
    class Mlp(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.mlp = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, width), nn.PReLU(), nn.Linear(width, 8))

    supernet = Supernet(WideSpace(), lambda arch: Mlp(arch.width), sharing=Routed(hidden=8))
    assert set(experts_of(supernet)) == {f"mlp.{i}.{kind}" for i in (1, 3) for kind in ("weight", "bias")}


def test_transposed_matrices_are_routed_by_their_outputs() -> None:
    class Transposed(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.randn(8, width)), nn.Parameter(torch.randn(width))

    supernet = Supernet(
        WideSpace(), lambda arch: Transposed(arch.width), sharing=Routed(mixed=("*",), per="neuron", hidden=8)
    )
    assert supernet.state_dict()["@router.head.bias"].shape == (128,)
    assert supernet.extract(WideSpace().smallest()).weight.shape == (8, 32)


def test_frozen_parameters_stay_frozen(per: str) -> None:
    def frozen(arch: Architecture) -> nn.Module:
        module = wide(arch)
        module[0].requires_grad_(False)
        return module

    sharing = Routed(mixed=("*",), per=per, hidden=8)
    supernet = Supernet(WideSpace(), frozen, sharing=sharing)
    supernet.subnet(WideSpace().smallest())(torch.randn(2, 64)).sum().backward()
    assert not any(name.startswith("0.") for name in supernet.gradients())
    assert "2.weight@1" in supernet.gradients()


def test_moving_keeps_the_routing(per: str) -> None:
    supernet = MODELS["vit"].supernet(MODELS["vit"].routed(per=per))
    arch, example = supernet.space.largest(), MODELS["vit"].example()
    before = supernet.subnet(arch)(example)
    assert torch.equal(supernet.to("cpu").subnet(arch)(example), before)


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"experts": 0}, "experts = 0"),
        ({"per": "head"}, "layer, neuron"),
        ({"hidden": 0}, "hidden = 0"),
        ({"init": "zeros"}, "auto, independent, copies"),
        ({"noise": -1.0}, "noise = -1.0"),
        ({"noise": math.nan}, "noise = nan"),
    ],
)
def test_settings_are_checked(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SupernetError, match=message) as caught:
        Routed(**settings)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mixed", [("1.*.2.*", "*.typo.*"), ("1.0.0.*",)])
def test_a_pattern_that_names_nothing_says_what_there_is(mixed: tuple[str, ...]) -> None:
    sharing = Routed(mixed=mixed)
    with pytest.raises(SupernetError, match=r"the model has 0\.weight, .*routed\(mixed=0\.\*\)") as caught:
        Supernet(ToySpace(), toy.build, sharing=sharing)
    assert "\n" not in str(caught.value)


def test_bert_and_llama_need_no_pattern() -> None:
    pytest.importorskip("transformers", reason="the extra is not installed: pip install nas[transformers]")
    from test_transformers import BertSpace, LlamaSpace, bert, llama

    mixed = set(experts_of(Supernet(BertSpace(), bert, sharing=Routed(hidden=8))))
    assert mixed == {
        f"encoder.layer.{i}.{owner}.dense.{kind}"
        for i in range(3)
        for owner in ("intermediate", "output")
        for kind in ("weight", "bias")
    }
    supernet = Supernet(LlamaSpace(), llama, sharing=Routed(hidden=8))
    assert set(experts_of(supernet)) == {
        f"model.layers.{i}.mlp.{way}_proj.weight" for i in range(3) for way in ("gate", "up", "down")
    }
    arch = LlamaSpace().smallest()
    words = torch.randint(50, (2, 5), generator=torch.Generator().manual_seed(0))
    subnet, plain = supernet.subnet(arch).eval(), supernet.extract(arch).eval()
    with torch.no_grad():
        assert torch.allclose(subnet(words).logits, plain(words).logits, atol=1e-5)
