"""Weights that are computed from others, and layers wrapped by adapters, in a supernet."""

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from search_spaces import Architecture, Space, choice
from supernets import Supernet
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
    with torch.no_grad():
        stored.add_(2.0)  # one singular value far above the others, so that the power method has converged
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


@pytest.mark.parametrize("way", list(SPECTRAL))
def test_a_spectral_norm_is_not_relaxed(way: str) -> None:
    net = Supernet(Wide(), linear(SPECTRAL[way]))
    with pytest.raises(RelaxationError, match=r"spectral norm of 2 is another in each network.*search in another way"):
        net.relax(Mixture(net.space))


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
