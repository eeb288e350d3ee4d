"""Models whose authors never heard of us: transformers' Llama and BERT, built from their configs, not annotated."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from search_spaces import Architecture, Space, choice
from supernets import Supernet

transformers = pytest.importorskip("transformers", reason="the extra is not installed: pip install nas[transformers]")

HEAD_SIZE = 8


class LlamaSpace(Space):
    width = choice(16, 24, 32)
    depth = choice(1, 2, 3)
    heads = choice(2, 4)
    groups = choice(1, 2)  # query heads a key-value head
    hidden = choice(24, 40)


class BertSpace(Space):
    width = choice(16, 24, 32)
    depth = choice(1, 2, 3)
    hidden = choice(24, 40)


def llama(arch: Architecture) -> nn.Module:
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=50,
            hidden_size=arch.width,
            intermediate_size=arch.hidden,
            num_hidden_layers=arch.depth,
            num_attention_heads=arch.heads,
            num_key_value_heads=arch.heads // arch.groups,
            head_dim=HEAD_SIZE,
            max_position_embeddings=32,
            tie_word_embeddings=True,
        )
    )


def bert(arch: Architecture) -> nn.Module:
    return transformers.BertModel(
        transformers.BertConfig(
            vocab_size=50,
            hidden_size=arch.width,
            intermediate_size=arch.hidden,
            num_hidden_layers=arch.depth,
            num_attention_heads=arch.width // HEAD_SIZE,
            max_position_embeddings=32,
        )
    )


MODELS = {"llama": (LlamaSpace(), llama), "bert": (BertSpace(), bert)}
SUPERNETS: dict[str, Supernet] = {}


def supernet(name: str) -> Supernet:
    if name not in SUPERNETS:
        space, build = MODELS[name]
        SUPERNETS[name] = Supernet(space, build)
    return SUPERNETS[name]


def tokens() -> torch.Tensor:
    return torch.randint(50, (2, 12), generator=torch.Generator().manual_seed(0))


def output(module: nn.Module) -> torch.Tensor:
    return module(tokens())[0]


@pytest.mark.parametrize("name", list(MODELS))
@given(seed=st.integers(0, 1000))
@settings(max_examples=8)
def test_subnet_equals_extracted_network_bit_for_bit(name: str, seed: int) -> None:
    arch = MODELS[name][0].sample(np.random.default_rng(seed))
    subnet, extracted = supernet(name).subnet(arch).eval(), supernet(name).extract(arch).eval()
    assert type(extracted).__module__.startswith("transformers.")
    with torch.no_grad():
        assert torch.equal(output(subnet), output(extracted))


@pytest.mark.parametrize("name", list(MODELS))
def test_gradients_of_a_subnet_are_the_extracted_networks(name: str) -> None:
    space, _ = MODELS[name]
    arch = space.sample(np.random.default_rng(4))
    net = supernet(name)
    subnet, extracted = net.subnet(arch).eval(), net.extract(arch).eval()
    output(subnet).square().mean().backward()
    output(extracted).square().mean().backward()
    gradients = net.gradients()
    for parameter_name, parameter in extracted.named_parameters():
        if parameter.grad is not None:
            box = tuple(slice(size) for size in parameter.shape)
            assert torch.allclose(gradients[parameter_name][box], parameter.grad, rtol=1e-4, atol=1e-6)
    net._store.zero_grad()


def test_coverage_needs_no_annotation() -> None:
    rows = {row.name: row for row in supernet("llama").coverage().rows}
    assert rows["model.layers.0.self_attn.k_proj.weight"].axes == {0: ("heads", "groups"), 1: ("width",)} or rows[
        "model.layers.0.self_attn.k_proj.weight"
    ].axes == {0: ("heads",), 1: ("width",)}
    assert rows["model.layers.2.mlp.down_proj.weight"].present == ("depth",)
