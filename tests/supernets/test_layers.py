"""Layers given as graphs compute the published formulas; they are ordinary modules, in models and supernets alike."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from search_spaces import Computation, LayerSpace, Space, choice
from search_spaces.layers import PRIMITIVES, VECTORS
from search_spaces.mobilenet import digits_space
from search_spaces.rexnet import ReXNetSpace
from supernets import Supernet, calibrate
from supernets.models import layers, mobilenet, rexnet
from supernets.models.layers import EVONORMS, GraphLayer

EPS = 1e-5
C = 8


def images(n: int = 5, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(n, C, 6, 7, generator=generator, dtype=torch.float64) + 0.5


def made(name: str, groups: int = 4) -> GraphLayer:
    torch.manual_seed(0)
    layer = GraphLayer(EVONORMS[name], C, groups=groups).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer


def column(vector: Tensor) -> Tensor:
    return vector.detach()[None, :, None, None]


def batch_std(x: Tensor) -> Tensor:
    return (x.var((0, 2, 3), correction=0, keepdim=True) + EPS).sqrt()


def own_std(x: Tensor) -> Tensor:
    return (x.var((2, 3), correction=0, keepdim=True) + EPS).sqrt()


def own_rms(x: Tensor) -> Tensor:
    return (x.square().mean((2, 3), keepdim=True) + EPS).sqrt()


def group_std(x: Tensor, groups: int = 4) -> Tensor:
    n, c, h, w = x.shape
    variance = x.reshape(n, groups, c // groups, h, w).var((2, 3, 4), correction=0, keepdim=True)
    return (variance + EPS).sqrt().expand(n, groups, c // groups, 1, 1).reshape(n, c, 1, 1)


FORMULAS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "evonorm_b0": lambda x, v, std: x / torch.maximum(std, v * x + own_std(x)),
    "evonorm_b1": lambda x, v, std: x / torch.maximum(std, (x + 1) * own_rms(x)),
    "evonorm_b2": lambda x, v, std: x / torch.maximum(std, own_rms(x) - x),
    "evonorm_s0": lambda x, v, std: x * torch.sigmoid(v * x) / group_std(x),
}


@pytest.mark.parametrize("name", EVONORMS)
def test_named_layers_are_the_published_formulas(name: str) -> None:
    layer, x = made(name), images()
    told = FORMULAS[name](x, column(layer.v1), batch_std(x))
    wanted = column(layer.gamma) * told + column(layer.beta)
    torch.testing.assert_close(layer(x), wanted, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ["evonorm_b0", "evonorm_b1", "evonorm_b2"])
def test_in_evaluation_the_batch_variance_is_the_running_one(name: str) -> None:
    layer = made(name)
    running = torch.ones(C, dtype=torch.float64)
    for seed in range(3):
        layer(images(seed=seed))
        running = 0.9 * running + 0.1 * images(seed=seed).var((0, 2, 3), correction=0)
    layer.eval()
    x = images(2, seed=9)
    told = FORMULAS[name](x, column(layer.v1), (column(running) + EPS).sqrt())
    torch.testing.assert_close(layer(x), column(layer.gamma) * told + column(layer.beta), rtol=0, atol=1e-14)
    torch.testing.assert_close(layer(x)[:1], layer(x[:1]), rtol=0, atol=0)


def test_s0_without_its_gate_halves_the_input_over_the_deviation_of_the_group() -> None:
    layer, x = made("evonorm_s0"), images()
    nn.init.zeros_(layer.v1)
    wanted = column(layer.gamma) * (x * 0.5 / group_std(x)) + column(layer.beta)
    assert torch.equal(layer(x), wanted)


def test_s0_depends_on_no_other_example() -> None:
    layer, x = made("evonorm_s0"), images()
    assert torch.equal(layer(x)[:1], layer(x[:1]))
    assert torch.equal(layer.eval()(x), layer.train()(x))


def test_b0_without_its_vector_divides_by_the_larger_deviation() -> None:
    layer, x = made("evonorm_b0"), images()
    nn.init.zeros_(layer.v1)
    wanted = column(layer.gamma) * (x / torch.maximum(batch_std(x), own_std(x))) + column(layer.beta)
    assert torch.equal(layer(x), wanted)


@pytest.mark.parametrize("name", EVONORMS)
def test_a_graph_of_the_space_is_the_same_layer(name: str) -> None:
    arch = LayerSpace().write(Computation(tuple(map(tuple, EVONORMS[name]))))
    layer, named = GraphLayer(arch, C, groups=4).double(), made(name)
    layer.load_state_dict(
        {key: value for key, value in named.state_dict().items() if "moments" not in key}, strict=False
    )
    torch.testing.assert_close(layer(images()), named(images()), rtol=0, atol=1e-14)


def test_every_primitive_of_the_space_is_computed() -> None:
    x = images().abs() + 0.1
    told: dict[str, Any] = {
        "add": x + 2, "mul": x * 2, "max": x.clamp(min=2), "div": x / 2, "neg": -x, "sigmoid": x.sigmoid(),
        "tanh": x.tanh(), "exp": x.exp(), "log": (x + 1e-5).log(), "abs": x, "square": x * x, "sqrt": (x + 1e-5).sqrt(),
        "mean_bwh": x.mean((0, 2, 3), keepdim=True), "std_bwh": batch_std(x),
        "rms_bwh": (x.square().mean((0, 2, 3), keepdim=True) + EPS).sqrt(),
        "mean_wh": x.mean((2, 3), keepdim=True), "std_wh": own_std(x), "rms_wh": own_rms(x),
        "mean_whc": x.mean((1, 2, 3), keepdim=True),
        "std_whc": (x.var((1, 2, 3), correction=0, keepdim=True) + EPS).sqrt(),
        "rms_whc": (x.square().mean((1, 2, 3), keepdim=True) + EPS).sqrt(),
        "mean_group": x.reshape(5, 4, -1).mean(2).repeat_interleave(2, 1)[..., None, None], "std_group": group_std(x),
        "rms_group": (x.square().reshape(5, 4, -1).mean(2) + EPS).sqrt().repeat_interleave(2, 1)[..., None, None],
    }  # fmt: skip
    assert set(told) == {primitive.name for primitive in PRIMITIVES}
    for primitive in PRIMITIVES:
        layer = GraphLayer([(primitive.name, *("x", "v0")[: primitive.arity])], C, groups=4).double()
        nn.init.constant_(layer.v0, 2.0)
        torch.testing.assert_close(layer(x), told[primitive.name].expand_as(x), rtol=0, atol=1e-12)
    minus = GraphLayer([("sqrt", "x")], C).double()
    torch.testing.assert_close(minus(-x), -(x + 1e-5).sqrt(), rtol=0, atol=1e-12)
    assert layers.VECTORS == VECTORS


def test_statistics_are_computed_in_float32() -> None:
    layer = GraphLayer(EVONORMS["evonorm_b0"], C)
    x = images().float() * 1000
    half = layer(x.half())
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), layer(x), rtol=2e-3, atol=2e-3)


def test_running_statistics_are_calibrated_as_those_of_batch_norm() -> None:
    layer = GraphLayer(EVONORMS["evonorm_b1"], C).double()
    layer(100 * images())
    batches = [images(seed=seed) for seed in range(4)]
    calibrate.recalibrate(layer, batches)
    (found,) = layer.moments.values()
    wanted = torch.stack([batch.var((0, 2, 3), correction=0) for batch in batches]).mean(0)
    torch.testing.assert_close(found.running_var, wanted)


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([("cube", "x")], "node 0 is 'cube': choose one of add, mul, max"),
        ([("std_cw", "x")], "node 0 is 'std_cw': choose one of add"),
        ([("neg", "y")], "node 0 reads 'y': choose of x, zero, one, v0, v1 and the nodes before it"),
        ([("neg", 0)], "node 0 reads 0: choose of x, zero"),
    ],
)
def test_what_is_no_layer_is_said_in_one_line(nodes: Any, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        GraphLayer(nodes, C)
    assert said in str(caught.value)


@pytest.mark.parametrize("norm", EVONORMS)
def test_ready_made_models_take_them_in_place_of_batch_norm_and_activation(norm: str) -> None:
    x = torch.randn(4, 1, 8, 8)
    first = mobilenet.build(digits_space().smallest(), norm=norm)
    second = rexnet.build(ReXNetSpace().smallest(), norm=norm)
    for model in (first, second):
        assert model(x).shape == (4, 10)
        assert not any(isinstance(module, nn.ReLU | nn.SiLU | nn.ReLU6) for module in model.modules())
        model(x).sum().backward()
        assert all(p.grad is not None for name, p in model.named_parameters() if name.endswith("gamma"))
    names = [name for name, module in first.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert names and all(name.endswith("project_norm") for name in names), "what no activation follows stays"
    for build in (mobilenet.build, rexnet.build):
        with pytest.raises(ValueError, match=r"norm='evonorm': choose one of batch, evonorm_b0, evonorm_b1"):
            build((digits_space() if build is mobilenet.build else ReXNetSpace()).smallest(), norm="evonorm")


class Net(Space):
    layer = LayerSpace()
    width = choice(4, 8)


def build(arch: Any) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, arch.width, 3), GraphLayer(arch.layer, arch.width), nn.Flatten(), nn.Linear(36 * arch.width, 10)
    )


def test_networks_of_a_supernet_share_vectors_by_name() -> None:
    supernet, x = Supernet(Net(), build), torch.randn(3, 1, 8, 8)
    archs = [
        Net().architecture({"width": width, "layer": LayerSpace().write(text)})
        for width, text in ((8, "mul(x, sigmoid(mul(v1, x)))"), (4, "max(x, mul(v1, std_bwh(x)))"))
    ]
    for arch in archs:
        subnet, extracted = supernet.subnet(arch).eval(), supernet.extract(arch).eval()
        torch.testing.assert_close(subnet(x), extracted(x), rtol=0, atol=1e-5)
    supernet.subnet(archs[0])(x).sum().backward()
    assert supernet.num_parameters == sum(p.numel() for p in build(archs[0]).parameters()), (
        "no more than one network of them"
    )


def test_a_layer_of_ones_own_goes_into_a_ready_made_model() -> None:
    own = partial(GraphLayer, LayerSpace().write("max(x, zero)"))
    plain = mobilenet.build(digits_space().smallest(), norm=own)
    assert plain(torch.randn(2, 1, 8, 8)).shape == (2, 10)
