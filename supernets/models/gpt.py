"""A GPT-like language model: causal pre-norm transformer, tied embeddings, separate q, k and v, fixed head size.

tokens (N, T) int -> embeddings (N, T, width) -> blocks -> logits of the next token (N, T, vocab)
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernets.structure import stack

NORMS: dict[str, Callable[[int], nn.Module]] = {"rms": nn.RMSNorm, "layer": nn.LayerNorm}
POSITIONS = ("rotary", "learned")


class Rotary(nn.Module):
    """Rotates pairs of features by angles that grow with the position (arXiv:2104.09864).

    The tables, `context` x `head_size / 2`, are constants in non-persistent buffers.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, context: int, head_size: int) -> None:
        super().__init__()
        frequencies = 10_000.0 ** (-torch.arange(0, head_size, 2) / head_size)
        angles = torch.outer(torch.arange(context), frequencies)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, heads, T, size)."""
        cos, sin = (table[: x.shape[-2]].to(x.dtype) for table in (self.cos, self.sin))
        a, b = x.chunk(2, dim=-1)
        return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


class Attention(nn.Module):
    """Causal self-attention; `rotary` rotates queries and keys (the identity with learned positions)."""

    def __init__(self, width: int, num_heads: int, head_size: int, rotary: nn.Module) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, num_heads * head_size, bias=False)
        self.key = nn.Linear(width, num_heads * head_size, bias=False)
        self.value = nn.Linear(width, num_heads * head_size, bias=False)
        self.out = nn.Linear(num_heads * head_size, width, bias=False)
        self.rotary = rotary

    def forward(self, x: Tensor) -> Tensor:
        # (N, T, heads * size) -> (N, heads, T, size) and back
        q, k, v = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        y = F.scaled_dot_product_attention(self.rotary(q), self.rotary(k), v, is_causal=True)
        out: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """Attention, then an MLP with one hidden layer and GELU, each with a residual connection."""

    def __init__(self, width: int, attention: Attention, hidden: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.attention_norm = norm(width)
        self.attention = attention
        self.mlp_norm = norm(width)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        y: Tensor = x + self.down(F.gelu(self.up(self.mlp_norm(x))))
        return y


class GPT(nn.Module):
    """Embeddings, blocks and the tied output of an architecture; see `build`."""

    def __init__(
        self, arch: Any, vocab: int, context: int, head_size: int, rotary: bool, norm: Callable[[int], nn.Module]
    ) -> None:
        super().__init__()
        self.context = context
        self.tokens = nn.Embedding(vocab, arch.width)
        self.positions = None if rotary else nn.Embedding(context, arch.width)

        def attention(heads: int) -> Attention:
            turn = Rotary(context, head_size) if rotary else nn.Identity()
            return Attention(arch.width, heads, head_size, turn)

        choices = zip(arch.heads, arch.ratio, strict=True)
        self.blocks = stack(
            Block(arch.width, attention(heads), round(arch.width * ratio), norm) for heads, ratio in choices
        )
        self.norm = norm(arch.width)
        self.apply(_initialise)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens)
        if self.positions is not None:
            x = x + self.positions.weight[: tokens.shape[1]]
        # The output reads the embedding directly instead of through a second name, so nothing needs to be kept tied.
        return F.linear(self.norm(self.blocks(x)), self.tokens.weight)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)


def build(
    arch: Any,
    *,
    vocab: int = 128,
    context: int = 64,
    head_size: int = 16,
    positions: str = "rotary",
    norm: str = "rms",
) -> GPT:
    """Return the network of `arch`, which has `width`, and per block `heads` and `ratio` (hidden over width of the
    MLP).

    Raises:
        ValueError: the positions or the norm are unknown, or the head size is odd with rotary positions.
    """
    if positions not in POSITIONS:
        raise ValueError(f"positions={positions!r}: choose one of {', '.join(POSITIONS)}")
    if norm not in NORMS:
        raise ValueError(f"norm={norm!r}: choose one of {', '.join(NORMS)}")
    if positions == "rotary" and head_size % 2:
        raise ValueError(f"head_size={head_size}: rotary positions turn pairs of features, choose an even size")
    return GPT(arch, vocab, context, head_size, positions == "rotary", NORMS[norm])
