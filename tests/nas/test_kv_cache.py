"""Keys and values that are kept while a model generates: as many bytes as the model's own cache holds."""

from typing import Any

import pytest
import torch
from torch import nn

from search_spaces import Architecture, Space, choice
from supernets import Supernet
from supernets.errors import SupernetError
from supernets.kv_cache import InferenceMemory, kv_cache_bytes

transformers: Any = pytest.importorskip(
    "transformers", reason="the extra is not installed: pip install nas[transformers]"
)

import pretrained  # noqa: E402 - it needs transformers

DECODERS = ["gpt2", "llama", "qwen3", "mixtral", "qwen3_moe"]


@pytest.mark.parametrize("family", DECODERS)
def test_the_cache_of_a_decoder_is_as_large_as_is_said(family: str) -> None:
    model: Any = getattr(pretrained, family)().eval()
    tokens = torch.ones(3, 12, dtype=torch.long)
    with torch.no_grad():
        cache = model(tokens, use_cache=True).past_key_values
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert kv_cache_bytes(model, batch=3, length=12, value_bytes=4) == held


def test_an_encoder_keeps_nothing_where_only_the_decoder_is_named() -> None:
    model = pretrained.t5()
    decoder = kv_cache_bytes(model, 1, 1, 1, layers="decoder.*")
    assert decoder == 2 * 2 * 2 * 4 * 8  # layers, self- and cross-attention, keys and values, heads, features
    assert kv_cache_bytes(model, 1, 1, 1) > decoder


class Groups(Space):
    groups = choice(1, 2)


def build(arch: Architecture) -> nn.Module:
    config = {
        **pretrained.DECODER,
        "num_key_value_heads": arch.groups,
        "num_attention_heads": 2 * arch.groups,
        "head_dim": 8,
    }
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**config, tie_word_embeddings=True))  # type: ignore[no-any-return]


def test_memory_is_weights_and_cache_of_an_architecture() -> None:
    memory, cache = (InferenceMemory(build, batch=2, length=100, weights=weights) for weights in (True, False))
    for arch in (Groups().smallest(), Groups().largest()):
        assert cache(arch) == 3 * 2 * arch.groups * 8 * 2 * 100 * 2
        assert memory(arch) - cache(arch) == 2 * Supernet(Groups(), build).count_parameters(arch)


def test_what_has_no_attention_is_said_with_the_remedy() -> None:
    with pytest.raises(SupernetError, match=r"no attention with keys and values .*extra_costs="):
        kv_cache_bytes(nn.Linear(2, 2), 1, 1)
    with pytest.raises(SupernetError, match="length = 0: give a whole number"):
        InferenceMemory(build, length=0)
