"""Tiny models of many families, of random weights, as functions that `nas propose` takes."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

transformers: Any = __import__("transformers")

ENCODER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
DECODER = {**ENCODER, "vocab_size": 30, "num_key_value_heads": 2, "max_position_embeddings": 16}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def gpt2() -> nn.Module:
    sizes = {"n_positions": 16, "n_embd": 32, "n_layer": 3, "n_head": 4}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=30, **sizes, **SPECIAL))


def llama() -> nn.Module:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**DECODER, tie_word_embeddings=True))


def qwen3() -> nn.Module:
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**DECODER, head_dim=8))


def bert() -> nn.Module:
    return transformers.BertForMaskedLM(transformers.BertConfig(**ENCODER, vocab_size=30, max_position_embeddings=16))


def t5() -> nn.Module:
    sizes = {"vocab_size": 30, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    return transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes, decoder_start_token_id=0))


def vit() -> nn.Module:
    return transformers.ViTForImageClassification(transformers.ViTConfig(**ENCODER, image_size=16, patch_size=8))


def whisper() -> nn.Module:
    sides = {f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in WHISPER.items()}
    shape = {"vocab_size": 30, "d_model": 32, "num_mel_bins": 8, "max_source_positions": 10, "max_target_positions": 16}
    config = transformers.WhisperConfig(**sides, **shape, **SPECIAL, decoder_start_token_id=1)
    return transformers.WhisperForConditionalGeneration(config)


WHISPER = {"layers": 2, "attention_heads": 4, "ffn_dim": 48}


def hubert() -> nn.Module:
    front = {"conv_dim": (16, 16), "conv_stride": (5, 2), "conv_kernel": (10, 3)}
    positions = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4}
    return transformers.HubertModel(transformers.HubertConfig(**ENCODER, **front, **positions))


def mixtral() -> nn.Module:
    routed = {"num_local_experts": 4, "num_experts_per_tok": 2}
    return transformers.MixtralForCausalLM(transformers.MixtralConfig(**DECODER, **routed))


def qwen3_moe() -> nn.Module:
    routed = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "head_dim": 8}
    return transformers.Qwen3MoeForCausalLM(transformers.Qwen3MoeConfig(**DECODER, **routed))


def resnet() -> nn.Module:
    sizes = {"embedding_size": 16, "hidden_sizes": [16, 32, 48], "depths": [1, 2, 2]}
    return transformers.ResNetForImageClassification(transformers.ResNetConfig(**sizes, layer_type="basic"))


def bottleneck() -> nn.Module:
    sizes = {"embedding_size": 16, "hidden_sizes": [32, 64], "depths": [1, 2]}
    return transformers.ResNetForImageClassification(transformers.ResNetConfig(**sizes))


def convnext() -> nn.Module:
    sizes = {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 3, 1], "image_size": 32}
    return transformers.ConvNextForImageClassification(transformers.ConvNextConfig(**sizes))


def deepseek() -> nn.Module:
    """Latent attention, experts in groups, and a first block without them."""
    latent = {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8}
    routed = {"n_routed_experts": 8, "n_group": 2, "topk_group": 1, "num_experts_per_tok": 2}
    shape = {**DECODER, "num_key_value_heads": 4, "moe_intermediate_size": 16, "first_k_dense_replace": 1}
    return transformers.DeepseekV3ForCausalLM(transformers.DeepseekV3Config(**shape, **latent, **routed))


def regnet() -> nn.Module:
    """Convolutions in groups, whose kernels some narrower stages would make larger."""
    sizes = {"embedding_size": 8, "hidden_sizes": [16, 32, 48], "depths": [1, 2, 1], "groups_width": 8}
    return transformers.RegNetForImageClassification(transformers.RegNetConfig(**sizes))


def phi3() -> nn.Module:
    """Queries, keys and values in one matrix, of which keys and values are fewer."""
    return transformers.Phi3ForCausalLM(transformers.Phi3Config(**DECODER, **SPECIAL))


def falcon() -> nn.Module:
    """One key for all queries, behind them."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 30}
    return transformers.FalconForCausalLM(transformers.FalconConfig(**sizes, bos_token_id=1, eos_token_id=2))


def grouped_falcon() -> nn.Module:
    """Each group of queries with its key and value."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "num_kv_heads": 2, "vocab_size": 30}
    config = transformers.FalconConfig(**sizes, new_decoder_architecture=True, bos_token_id=1, eos_token_id=2)
    return transformers.FalconForCausalLM(config)


def bigcode() -> nn.Module:
    sizes = {"n_positions": 16, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_inner": 48}
    return transformers.GPTBigCodeForCausalLM(transformers.GPTBigCodeConfig(vocab_size=30, **sizes, **SPECIAL))


def mamba2() -> nn.Module:
    """State spaces: five parts in one projection, two of which belong to no head."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "state_size": 4, "head_dim": 8, "num_heads": 8, "n_groups": 1}
    return transformers.Mamba2ForCausalLM(transformers.Mamba2Config(vocab_size=30, **sizes, **SPECIAL))


def gemma3() -> nn.Module:
    return transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**DECODER, head_dim=8))


def swin() -> nn.Module:
    """Attention in windows, in stages that double one width."""
    sizes = {"embed_dim": 16, "depths": [2, 3], "num_heads": [2, 4], "window_size": 4}
    return transformers.SwinForImageClassification(transformers.SwinConfig(image_size=32, patch_size=2, **sizes))


def mistral() -> nn.Module:
    return transformers.MistralForCausalLM(transformers.MistralConfig(**DECODER, head_dim=8))


def distilbert() -> nn.Module:
    sizes = {"dim": 32, "hidden_dim": 48, "n_layers": 3, "n_heads": 4}
    config = transformers.DistilBertConfig(vocab_size=30, max_position_embeddings=16, **sizes)
    return transformers.DistilBertForMaskedLM(config)


def plain(width: int = 16, depth: int = 2, classes: int = 3) -> nn.Module:
    """No model of transformers: its sizes are arguments."""
    blocks = nn.Sequential(*(nn.Sequential(nn.Linear(width, width), nn.GELU()) for _ in range(depth)))
    parts = {"stem": nn.Linear(8, width), "blocks": blocks, "head": nn.Linear(width, classes)}
    return nn.Sequential(OrderedDict(parts))


def fixed() -> nn.Module:
    return nn.Linear(4, 4)


def nothing() -> None:
    return None


def tokens() -> Tensor:
    return torch.randint(3, 30, (2, 12), generator=torch.Generator().manual_seed(0))


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


ONE_OF_A_KIND = {"gpt2", "llama", "bert", "vit", "whisper", "mixtral", "resnet", "phi3", "plain"}
"""Fused, grouped, bidirectional and image attention, encoder and decoder, experts, convolutions, and none of these."""


def one_of_a_kind(families: Iterable[str]) -> list[Any]:
    """Parameters of a test: one family of each kind, and the others where slow tests run."""
    return [name if name in ONE_OF_A_KIND else pytest.param(name, marks=pytest.mark.slow) for name in families]


EXAMPLES: dict[str, Callable[[], tuple[Tensor, ...]]] = {
    **dict.fromkeys(["gpt2", "llama", "qwen3", "bert", "mixtral", "qwen3_moe", "deepseek"], lambda: (tokens(),)),
    **dict.fromkeys(["phi3", "falcon", "grouped_falcon", "bigcode", "mamba2"], lambda: (tokens(),)),
    **dict.fromkeys(["gemma3", "mistral", "distilbert"], lambda: (tokens(),)),
    "t5": lambda: (tokens(), tokens()[:, :5]),
    "vit": lambda: (noise(2, 3, 16, 16),),
    "whisper": lambda: (noise(2, 8, 20), tokens()[:, :5]),
    "hubert": lambda: (noise(2, 200),),
    **dict.fromkeys(["resnet", "bottleneck", "regnet", "convnext", "swin"], lambda: (noise(2, 3, 32, 32),)),
    "plain": lambda: (noise(5, 8),),
}
