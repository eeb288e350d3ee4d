"""The text task: the next character of the King James Bible, and 96 small transformers.

    characters (N, T) int -> embeddings (N, T, width) -> blocks -> logits of the next character (N, T, 78)

Pre-norm, tied embeddings, heads of 8 features, no biases but in the norms. Four choices are sizes. The fifth is how a
network knows the order of characters: by the causal mask alone; by features shifted from the character before;
by scores that fall with the distance; or by learned positions. It takes hardly a parameter, and asks other work of the
same weights. (Rotary positions were tried: within so few steps some seeds learn to look back and some do not.)
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.truth.task import TruthTask
from nas.data import bible
from search_spaces import Space, choice
from supernets.structure import stack
from supernets.tasks import LanguageModelling
from supernets.training import TrainingConfig

CONTEXT = 32
HEAD_SIZE = 8


class TextSpace(Space):
    """4 x 3 x 2^3 = 96 networks, of 2,112 to 20,224 parameters."""

    width = choice(16, 24, 32)
    depth = choice(1, 2)
    heads = choice(1, 4)
    ratio = choice(0.5, 2.0)
    order = choice("none", "shift", "distance", "learned")


def falling(num_heads: int) -> Tensor:
    """(heads, T, T) added to scores: minus the distance, times 2^-i in head i (arXiv:2108.12409), and causal.

    There slopes also depend on the number of heads; here a head keeps its own whatever heads come after it.
    """
    position = torch.arange(CONTEXT)
    distance = (position[:, None] - position).float()
    slopes = 2.0 ** -torch.arange(num_heads)
    return (-slopes[:, None, None] * distance).masked_fill(distance < 0, -torch.inf)


def shifted(x: Tensor) -> Tensor:
    """(N, T, width) with the second half of the features taken from the character before."""
    here, before = x.tensor_split((x.shape[-1] // 2,), -1)
    return torch.cat((here, F.pad(before[:, :-1], (0, 0, 1, 0))), -1)


class Block(nn.Module):
    """Causal self-attention, then a hidden layer with GELU, each added to its input."""

    bias: Tensor

    def __init__(self, width: int, heads: int, hidden: int, order: str) -> None:
        super().__init__()
        self.order = order
        self.attention_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, heads * HEAD_SIZE, bias=False)
        self.key = nn.Linear(width, heads * HEAD_SIZE, bias=False)
        self.value = nn.Linear(width, heads * HEAD_SIZE, bias=False)
        self.out = nn.Linear(heads * HEAD_SIZE, width, bias=False)
        if order == "distance":
            self.register_buffer("bias", falling(heads), persistent=False)
        self.mlp_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.attention_norm(x))
        y: Tensor = x + self.down(F.gelu(self.up(self.mlp_norm(x))))
        return y

    def attend(self, x: Tensor) -> Tensor:
        if self.order == "shift":
            x = shifted(x)
        # (N, T, heads * size) -> (N, heads, T, size) and back
        q, k, v = (
            layer(x).unflatten(-1, (-1, HEAD_SIZE)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        if self.order == "distance":
            size = x.shape[1]
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias[:, :size, :size])
        else:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return out


class Network(nn.Module):
    """The network of an architecture of TextSpace."""

    def __init__(self, arch: Any, vocab: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab, arch.width)
        self.positions = nn.Embedding(CONTEXT, arch.width) if arch.order == "learned" else None
        hidden = round(arch.width * arch.ratio)
        self.blocks = stack(Block(arch.width, arch.heads, hidden, arch.order) for _ in range(arch.depth))
        self.norm = nn.LayerNorm(arch.width)
        self.apply(_initialise)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens)
        if self.positions is not None:
            x = x + self.positions.weight[: tokens.shape[1]]
        return F.linear(self.norm(self.blocks(x)), self.tokens.weight)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.05)


def load() -> TruthTask:
    """The Bible, 4.25 million characters to learn from and 21,477 to be judged by.

    Raises:
        DataError: the package of the text is not installed.
    """
    data = bible(valid=0.005, test=0.005)
    return TruthTask(
        name="text",
        space=TextSpace(),
        build=partial(Network, vocab=len(data.vocabulary)),
        task=LanguageModelling(
            data.train, data.valid, data.test, context=CONTEXT, batch_size=16, vocab=len(data.vocabulary), name="bible"
        ),
        training=TrainingConfig(
            steps=400, lr=1e-2, weight_decay=0.01, precision="fp32", evaluate_every=0, checkpoint_every=0
        ),
        metric="loss",
    )
