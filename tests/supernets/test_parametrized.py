"""Weights that are computed from others, and layers wrapped by adapters, in a supernet."""

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from search_spaces import Architecture, Space, choice
from supernets import Supernet, SupernetError
from supernets.parametrized import singular_vectors
from supernets.relaxation.mixture import Mixture
from supernets.relaxation.tables import RelaxationError


class Wide(Space):
    width = choice(4, 6, 8)


def old(norm: Callable[[nn.Module], nn.Module]) -> Callable[[nn.Module], nn.Module]:
    def wrapped(module: nn.Module) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return norm(module)

    return wrapped


SPECTRAL = {"parametrized": parametrizations.spectral_norm, "hook": old(nn.utils.spectral_norm)}
WEIGHT = {"parametrized": parametrizations.weight_norm, "hook": old(nn.utils.weight_norm)}


def linear(wrap: Callable[[nn.Module], nn.Module]) -> Callable[[Architecture], nn.Module]:
    def build(arch: Architecture) -> nn.Module:
        return nn.Sequential(
            nn.Linear(5, arch.width), nn.ReLU(), wrap(nn.Linear(arch.width, arch.width)), nn.Linear(arch.width, 2)
        )

    return build


def conv(wrap: Callable[[nn.Module], nn.Module]) -> Callable[[Architecture], nn.Module]:
    def build(arch: Architecture) -> nn.Module:
        inner = wrap(nn.Conv1d(arch.width, arch.width, 3, padding=1))
        return nn.Sequential(nn.Unflatten(-1, (1, 5)), nn.Conv1d(1, arch.width, 1), inner, nn.Conv1d(arch.width, 2, 1))

    return build


def rows() -> Tensor:
    return torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("model", [linear, conv])
@pytest.mark.parametrize("way", list(SPECTRAL))
def test_each_network_has_the_spectral_norm_of_its_own_weights(way: str, model: Callable[..., object]) -> None:
    net = Supernet(Wide(), model(SPECTRAL[way]), dtype=torch.float64)  # type: ignore[arg-type]
    stored = next(value for name, value in net.state_dict().items() if "orig" in name)
    for arch in Wide().enumerate():
        n = arch.width
        subnet, extracted = net.subnet(arch).eval(), net.extract(arch).eval()
        assert torch.equal(subnet(rows()), extracted(rows()))
        subnet(rows())
        weight = extracted[2].weight
        own = stored[:n, :n] / torch.linalg.matrix_norm(stored[:n, :n].flatten(1), 2)
        assert torch.allclose(weight, own, rtol=1e-9, atol=1e-12)
        before = net.digest()
        subnet.train()(rows()).square().mean().backward()  # moves its own singular vectors
        assert net.digest() == before
    assert any("orig" in name for name in net.gradients())


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**16), st.booleans())
def test_singular_vectors_are_those_of_the_largest_singular_value(n: int, m: int, seed: int, low: bool) -> None:
    rng = torch.Generator().manual_seed(seed)
    matrix = torch.randn(n, m, generator=rng, dtype=torch.float64)
    if low:  # of rank 1, where the method has all there is after one step
        matrix = matrix[:, :1] @ matrix[:1]
    u, v = singular_vectors(matrix)
    norm = torch.linalg.matrix_norm(matrix, 2)
    assert torch.allclose(u @ matrix @ v, norm, rtol=1e-6)
    assert torch.allclose(torch.stack([u.norm(), v.norm()]), torch.ones(2, dtype=torch.float64))
    around = torch.nn.functional.pad(matrix, (0, 3, 0, 2))
    assert torch.allclose(singular_vectors(around)[0][:n].abs(), u.abs(), atol=1e-6)


def trained(build: Callable[[Architecture], nn.Module]) -> nn.Module:
    """The largest network, its weights and singular vectors moved by training."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = build(Wide().largest()).double()
        optimizer = torch.optim.SGD(module.parameters(), 0.01)
        for _ in range(60):
            optimizer.zero_grad()
            module(rows()).square().mean().backward()
            optimizer.step()
    return module.eval()


@pytest.mark.parametrize("model", [linear, conv])
@pytest.mark.parametrize("way", list(SPECTRAL))
def test_a_parent_with_spectral_norm_opens(way: str, model: Callable[..., object]) -> None:
    build: Callable[[Architecture], nn.Module] = model(SPECTRAL[way])  # type: ignore[assignment]
    parent = trained(build)
    for weights in (parent, parent.state_dict()):
        net = Supernet(Wide(), build, init=weights, dtype=torch.float64)
        assert net.opened is not None and not net.opened.initial and not net.opened.unused
        assert torch.allclose(net.extract(Wide().largest()).eval()(rows()), parent(rows()), rtol=1e-6, atol=1e-9)
    (share,) = net.opened.norms.values()
    assert share < 1e-3 and "norm found anew  " in net.opened.table()


@pytest.mark.parametrize("way", list(SPECTRAL))
def test_vectors_of_another_weight_are_refused(way: str) -> None:
    parent = trained(linear(SPECTRAL[way]))
    with torch.no_grad():
        for buffer in parent.buffers():
            buffer.copy_(F.normalize(torch.ones_like(buffer), dim=0))
    with pytest.raises(
        SupernetError, match=r"singular vectors .* are not those of 2\..*: the norm they give is .* away"
    ):
        Supernet(Wide(), linear(SPECTRAL[way]), init=parent)
    weights = {name: value for name, value in parent.state_dict().items() if name in dict(parent.named_parameters())}
    Supernet(Wide(), linear(SPECTRAL[way]), init=weights)  # each network finds its own, so none need be given


@pytest.mark.parametrize("model", [linear, conv])
@pytest.mark.parametrize("way", list(SPECTRAL))
def test_a_spectral_norm_is_relaxed(way: str, model: Callable[..., object]) -> None:
    """The weight of a mixture is the mixed one, divided by its own largest singular value."""
    net = Supernet(Wide(), model(SPECTRAL[way]), dtype=torch.float64)  # type: ignore[arg-type]
    net.check_relaxation(rows())
    stored = next(value for name, value in net.state_dict().items() if "orig" in name)
    chances = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64, requires_grad=True)
    relaxed = net.relax(Mixture(net.space, {"width": chances}))
    relaxed(rows())
    mixed = torch.zeros_like(stored)
    for chance, n in zip(chances, (4, 6, 8), strict=True):
        mixed[:n, :n] += chance * stored[:n, :n]
    wanted = mixed / torch.linalg.matrix_norm(mixed.flatten(1), 2)
    assert torch.allclose(relaxed[2].weight, wanted, rtol=1e-9, atol=1e-12)
    found, known = (torch.autograd.grad(one.sin().sum(), chances)[0] for one in (relaxed[2].weight, wanted))
    assert torch.allclose(found, known, rtol=1e-8, atol=1e-10)
    relaxed(rows()).square().mean().backward()
    assert all(bool(gradient.isfinite().all()) for gradient in net.gradients().values())


def test_a_search_step_under_autocast_finds_norms_in_full_precision() -> None:
    net = Supernet(Wide(), linear(parametrizations.spectral_norm))
    relaxed = net.relax(Mixture(net.space)).train()
    with torch.autocast("cpu", torch.bfloat16):
        relaxed(rows().float()).square().mean().backward()
    assert all(bool(gradient.isfinite().all()) for gradient in net.gradients().values())


@pytest.mark.parametrize("model", [linear, conv])
@pytest.mark.parametrize("way", list(WEIGHT))
def test_a_weight_norm_is_relaxed(way: str, model: Callable[..., object]) -> None:
    """Rows of absent channels are 0, not 0 / 0, and so are their gradients."""
    net = Supernet(Wide(), model(WEIGHT[way]), dtype=torch.float64)  # type: ignore[arg-type]
    net.check_relaxation(rows())
    mixture = Mixture(net.space)
    net.relax(mixture)(rows()).square().mean().backward()
    assert all(bool(gradient.isfinite().all()) for gradient in net.gradients().values())


def test_a_build_that_needs_values_is_given_them() -> None:
    net = Supernet(Wide(), linear(parametrizations.orthogonal), dtype=torch.float64)
    arch = Wide().smallest()
    extracted = net.extract(arch)
    assert torch.equal(net.subnet(arch)(rows()), extracted(rows()))
    assert torch.allclose(extracted[2].weight @ extracted[2].weight.T, torch.eye(4, dtype=torch.float64), atol=1e-5)


@pytest.mark.parametrize("way", ["matrix_exp", "cayley"])
def test_an_orthogonal_weight_is_relaxed_but_not_by_reflections(way: str) -> None:
    def orthogonal(module: nn.Module) -> nn.Module:
        return parametrizations.orthogonal(module, orthogonal_map=way)

    Supernet(Wide(), linear(orthogonal), dtype=torch.float64).check_relaxation(rows())
    net = Supernet(Wide(), linear(lambda module: parametrizations.orthogonal(module, orthogonal_map="householder")))
    with pytest.raises(RelaxationError, match=r"2\.weight is orthogonal by Householder.*whole numbers.*matrix_exp"):
        net.relax(Mixture(net.space))


def test_an_orthogonal_parent_opens_as_plain_weights() -> None:
    def plain(arch: Architecture) -> nn.Module:
        module = linear(parametrizations.orthogonal)(arch)
        parametrize.remove_parametrizations(module[2], "weight")
        return module

    parent = trained(linear(parametrizations.orthogonal))
    with pytest.raises(SupernetError, match=r"orthogonal weight 2\.weight is turned from .*remove_parametrizations"):
        Supernet(Wide(), linear(parametrizations.orthogonal), init=parent)
    with torch.no_grad():
        before = parent(rows())
    parametrize.remove_parametrizations(parent[2], "weight")
    net = Supernet(Wide(), plain, init=parent, dtype=torch.float64)
    assert torch.allclose(net.extract(Wide().largest())(rows()), before, rtol=1e-12)


def test_a_parametrized_lstm_keeps_its_gates_apart() -> None:
    def build(arch: Architecture) -> nn.Module:
        return parametrizations.weight_norm(nn.LSTMCell(3, arch.width), "weight_hh")

    net = Supernet(Wide(), build)
    name = "parametrizations.weight_hh.original1"
    narrow = net.extract(Wide().smallest()).get_parameter(name)
    assert torch.equal(narrow, net.state_dict()[name].view(4, 8, 8)[:, :4, :4].reshape(16, 4))


# --- adapters ------------------------------------------------------------------------------------------------------


class Lora(nn.Module):
    """As peft wraps a linear layer."""

    def __init__(self, base_layer: nn.Module, inputs: int, outputs: int, rank: int = 2) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.lora_A = nn.ModuleDict({"default": nn.Linear(inputs, rank, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(rank, outputs, bias=False)})
        self.lora_dropout = nn.ModuleDict({"default": nn.Identity()})
        self.scaling = {"default": 2.0}

    def forward(self, x: Tensor) -> Tensor:
        low = self.lora_A["default"](self.lora_dropout["default"](x))
        return self.base_layer(x) + self.lora_B["default"](low) * self.scaling["default"]


class Peft(nn.Module):
    """Adapters around some layers of a frozen model, under the names that peft gives."""

    def __init__(self, model: nn.Module, layers: tuple[str, ...]) -> None:
        super().__init__()
        model.requires_grad_(False)
        for owner in list(model.modules()):
            for name in set(layers) & set(owner._modules):
                layer = owner.get_submodule(name)
                conv1d = type(layer).__name__ == "Conv1D"
                ins, outs = layer.weight.shape if conv1d else reversed(layer.weight.shape)
                setattr(owner, name, Lora(layer, ins, outs))
        self.base_model = nn.Module()
        self.base_model.model = model

    def forward(self, ids: Tensor) -> Tensor:
        return self.base_model.model(ids)[0]


class Groups(Space):
    group = choice(1, 2)
    width = choice(16, 24)


def tokens() -> Tensor:
    return torch.randint(50, (2, 6), generator=torch.Generator().manual_seed(0))


def test_adapters_follow_the_heads_that_they_adapt() -> None:
    transformers = pytest.importorskip("transformers", reason="pip install nas[transformers] brings the models")

    def build(arch: Architecture) -> nn.Module:
        config = transformers.LlamaConfig(
            vocab_size=50, hidden_size=arch.width, intermediate_size=20, num_hidden_layers=1, head_dim=4,
            num_attention_heads=2 * arch.group, num_key_value_heads=2, max_position_embeddings=16,
        )  # fmt: skip
        return Peft(transformers.LlamaForCausalLM(config), ("q_proj", "o_proj"))

    net = Supernet(Groups(), build, example=tokens())
    prefix = "base_model.model.model.layers.0.self_attn."
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if "lora_B" in name:
                value.normal_(generator=torch.Generator().manual_seed(1))
    state = copy.copy(net.state_dict())
    arch = Groups().smallest()
    narrow = net.extract(arch).eval()
    kept = [*range(4), *range(8, 12)]  # the first query of each group
    for name, expected in {
        "q_proj.base_layer.weight": state[f"{prefix}q_proj.base_layer.weight"][kept][:, :16],
        "q_proj.lora_B.default.weight": state[f"{prefix}q_proj.lora_B.default.weight"][kept],
        "q_proj.lora_A.default.weight": state[f"{prefix}q_proj.lora_A.default.weight"][:, :16],
        "o_proj.base_layer.weight": state[f"{prefix}o_proj.base_layer.weight"][:16][:, kept],
        "o_proj.lora_A.default.weight": state[f"{prefix}o_proj.lora_A.default.weight"][:, kept],
    }.items():
        assert torch.equal(narrow.get_parameter(prefix + name), expected), name
    subnet = net.subnet(arch).eval()
    assert torch.allclose(subnet(tokens()), narrow(tokens()), rtol=1e-5, atol=1e-6)
    subnet(tokens()).square().mean().backward()
    assert {name.split(".")[-3] for name in net.gradients()} == {"lora_A", "lora_B"}


def test_adapters_around_gpt2s_transposed_layers() -> None:
    transformers = pytest.importorskip("transformers", reason="pip install nas[transformers] brings the models")

    def build(arch: Architecture) -> nn.Module:
        config = transformers.GPT2Config(
            vocab_size=50, n_positions=16, n_embd=arch.width, n_layer=1, n_head=arch.width // 8,
            bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        return Peft(transformers.GPT2Model(config), ("c_attn",))

    net = Supernet(Groups().at(group=2), build)
    name = "base_model.model.h.0.attn.c_attn."
    narrow, state = net.extract(net.space.smallest()), net.state_dict()
    kept = [part * 24 + feature for part in range(3) for feature in range(16)]
    weight = state[f"{name}base_layer.weight"]
    assert torch.equal(narrow.get_parameter(f"{name}base_layer.weight"), weight[:16][:, kept])
    lora = f"{name}lora_B.default.weight"
    assert torch.equal(narrow.get_parameter(lora), state[lora][kept])
    assert F.mse_loss(narrow.eval()(tokens()), net.subnet(net.space.smallest()).eval()(tokens())) < 1e-9


def test_a_model_with_adapters_opens_with_its_own_weights() -> None:
    def build(arch: Architecture) -> nn.Module:
        n = arch.width
        return nn.Sequential(Lora(nn.Linear(5, n), 5, n), Lora(nn.Linear(n, 2), n, 2))

    parent = build(Wide().largest())
    net = Supernet(Wide(), build, init=parent)
    assert torch.equal(net.extract(Wide().largest())(rows().float()), parent(rows().float()))
