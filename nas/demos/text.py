"""The King James Bible by characters: small convolutional language models for this machine's processor.

    characters (N, T) -> embeddings (N, T, width) -> blocks -> logits of the next character (N, T, vocab)

Which characters a block reads costs next to nothing and decides much; its hidden layer costs most and decides little.
Size does not tell that, trained networks do.
"""

from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from nas.data import bible
from nas.run import Run
from search_spaces import Space, choice
from supernets.structure import OneOf, one_of, stack
from supernets.tasks import LanguageModelling
from supernets.training import TrainingConfig

CONTEXT = 64
READS = {"last_three": (4, 1), "last": (2, 1), "second_last": (2, 2), "third_last": (2, 3)}
"""The characters that a block reads beside the present one: taps of a filter, and how far apart they are."""


class Models(Space):
    """144 language models."""

    width = choice(32, 48, 64, 96)
    depth = choice(1, 2, 4)
    reads = choice(*READS)
    ratio = choice(1, 2, 4)  # of the hidden layer's width


class LookBack(nn.Module):
    """Each feature (N, T, width) as a weighted sum of its own present and earlier values."""

    def __init__(self, width: int, taps: int, apart: int) -> None:
        super().__init__()
        self.before = (taps - 1) * apart
        self.filter = nn.Conv1d(width, width, taps, dilation=apart, groups=width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.filter(F.pad(x.mT, (self.before, 0)))
        return y.mT


def look_back(reads: str, width: int) -> OneOf:
    """A filter for each way to read, so that none has to serve two."""
    options = {name: partial(LookBack, width, *how) for name, how in READS.items()}
    return one_of(reads, options)


class Block(nn.Module):
    """Filters over characters, then a hidden layer over features, each added to its input."""

    def __init__(self, width: int, reads: str, hidden: int) -> None:
        super().__init__()
        self.look_back = nn.Sequential(nn.LayerNorm(width), look_back(reads, width))
        self.hidden = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.look_back(x)
        y: Tensor = x + self.hidden(x)
        return y


class Model(nn.Module):
    """The language model of an architecture; embeddings are also the weights of its output."""

    def __init__(self, arch: Any, vocab: int) -> None:
        super().__init__()
        self.characters = nn.Embedding(vocab, arch.width)
        nn.init.normal_(self.characters.weight, std=0.05)
        self.blocks = stack(Block(arch.width, arch.reads, arch.width * arch.ratio) for _ in range(arch.depth))
        self.norm = nn.LayerNorm(arch.width)

    def forward(self, characters: Tensor) -> Tensor:
        features = self.norm(self.blocks(self.characters(characters)))
        return F.linear(features, self.characters.weight)


data = bible(valid=0.003, test=0.003)
run = Run(
    name="bible",
    space=Models(),
    build=partial(Model, vocab=len(data.vocabulary)),
    task=LanguageModelling(data.train, data.valid, data.test, context=CONTEXT, batch_size=8, name=data.name),
    objectives=("loss", "latency_ms@cpu"),
    training=TrainingConfig(steps=5000, lr=1e-2, strategy="fair", precision="fp32", evaluate_every=0),
    evaluations=80,
    batch=16,
    measured=40,
    latency_batch=4,
    trust=0.25,
    trust_networks=24,
)
