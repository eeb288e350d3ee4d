"""The text task: the next character of the King James Bible, and 96 small transformers.

    characters (N, T) int -> embeddings (N, T, width) -> blocks -> logits of the next character (N, T, 78)

Pre-norm, tied embeddings, heads of 8 features, no biases but in the norms. Four choices are sizes. The fifth is how a
network knows the order of characters: by the causal mask alone; by features shifted from the character before;
by scores that fall with the distance; or by learned positions. It takes hardly a parameter, and asks other work of the
same weights. (Rotary positions were tried: within so few steps some seeds learn to look back and some do not.)

Each of the three places where it acts is a `one_of`, as a relaxation needs it. What these give can be mixed: their
scores are finite, and the causal mask comes after them, for a share of 0 of a score of -inf would be no number.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.truth.task import TruthTask
from nas.data import bible
from search_spaces import Space, choice
from supernets.structure import OneOf, one_of, stack
from supernets.tasks import LanguageModelling
from supernets.training import TrainingConfig

CONTEXT = 32
HEAD_SIZE = 8
WIDTHS = (16, 24, 32)


class TextSpace(Space):
    """4 x 3 x 2^3 = 96 networks, of 2,112 to 20,224 parameters."""

    width = choice(*WIDTHS)
    depth = choice(1, 2)
    heads = choice(1, 4)
    ratio = choice(0.5, 2.0)
    order = choice("none", "shift", "distance", "learned")


class Positions(nn.Module):
    """Adds to a character (N, T, width) what was learned for its place."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(CONTEXT, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table.weight[: x.shape[1]]


class Shift(nn.Module):
    """The features from `start` on are those of the character before: (N, T, width), of zeros for the first one."""

    def __init__(self, start: int) -> None:
        super().__init__()
        self.start = start

    def forward(self, x: Tensor) -> Tensor:
        here, before = x.tensor_split((self.start,), -1)
        return torch.cat((here, F.pad(before[:, :-1], (0, 0, 1, 0))), -1)


class Falling(nn.Module):
    """Minus the distance, times 2^-i in head i (arXiv:2108.12409): (heads, T, T) for an input (N, T, width).

    There slopes also depend on the number of heads; here a head keeps its own whatever heads come after it.
    """

    scores: Tensor

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        position = torch.arange(CONTEXT)
        distance = (position[:, None] - position).float()
        slopes = 2.0 ** -torch.arange(num_heads)
        self.register_buffer("scores", -slopes[:, None, None] * distance, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.scores[:, : x.shape[1], : x.shape[1]]


class Level(nn.Module):
    """Nothing is added: zeros (1, T, T) for an input (N, T, width)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(1, x.shape[1], x.shape[1])


def positions(order: str, width: int) -> OneOf:
    """Learned, or none."""
    learned = order == "learned"
    return one_of("learned" if learned else "none", {"learned": partial(Positions, width), "none": nn.Identity})


def shift(order: str, width: int) -> OneOf:
    """The second half of the features shifted, or none.

    Each width has an operation of its own: in a mixture of widths each is to shift its own half.
    """
    options: dict[str, Callable[[], nn.Module]] = {f"shift{w}": partial(Shift, w // 2) for w in WIDTHS}
    return one_of(f"shift{width}" if order == "shift" else "plain", {**options, "plain": nn.Identity})


def scores(order: str, num_heads: int) -> OneOf:
    """What is added to the scores of attention: falling with the distance, or nothing."""
    falls = order == "distance"
    return one_of("falling" if falls else "level", {"falling": partial(Falling, num_heads), "level": Level})


class Block(nn.Module):
    """Causal self-attention, then a hidden layer with GELU, each added to its input."""

    causal: Tensor

    def __init__(self, width: int, heads: int, hidden: int, order: str) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.shift = shift(order, width)
        self.query = nn.Linear(width, heads * HEAD_SIZE, bias=False)
        self.key = nn.Linear(width, heads * HEAD_SIZE, bias=False)
        self.value = nn.Linear(width, heads * HEAD_SIZE, bias=False)
        self.out = nn.Linear(heads * HEAD_SIZE, width, bias=False)
        self.scores = scores(order, heads)
        self.register_buffer("causal", torch.full((CONTEXT, CONTEXT), -torch.inf).triu(1), persistent=False)
        self.mlp_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.attention_norm(x))
        y: Tensor = x + self.down(F.gelu(self.up(self.mlp_norm(x))))
        return y

    def attend(self, x: Tensor) -> Tensor:
        size = x.shape[1]
        mask = self.scores(x) + self.causal[:size, :size]
        x = self.shift(x)
        # (N, T, heads * size) -> (N, heads, T, size) and back
        q, k, v = (
            layer(x).unflatten(-1, (-1, HEAD_SIZE)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        out: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return out


class Network(nn.Module):
    """The network of an architecture of TextSpace."""

    def __init__(self, arch: Any, vocab: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab, arch.width)
        self.positions = positions(arch.order, arch.width)
        hidden = round(arch.width * arch.ratio)
        self.blocks = stack(Block(arch.width, arch.heads, hidden, arch.order) for _ in range(arch.depth))
        self.norm = nn.LayerNorm(arch.width)
        self.apply(_initialise)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.blocks(self.positions(self.tokens(tokens)))
        return F.linear(self.norm(x), self.tokens.weight)


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
