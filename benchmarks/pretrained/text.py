"""Language models trained here on the King James Bible, 2.7 and 28 million parameters, as spaces of smaller ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from nas.data import bible
from search_spaces import Space, choice
from supernets.models import gpt
from supernets.tasks import LanguageModelling
from supernets.training import TrainingConfig, train_network

BLOCKS, LARGE_BLOCKS = 6, 9


class Models(Space):
    """Width of the residual stream, and heads and hidden units per block."""

    width = choice(96, 120, 144, 168, 192)
    heads = choice(2, 3, 4, 5, 6, per=BLOCKS)
    ratio = choice(1, 2, 3, 4, per=BLOCKS)


class LargeModels(Space):
    """The same choices with ten times the parameters."""

    width = choice(256, 320, 384, 448, 512)
    heads = choice(3, 4, 5, 6, 8, per=LARGE_BLOCKS)
    ratio = choice(1, 2, 3, 4, per=LARGE_BLOCKS)


@dataclass(frozen=True)
class Scale:
    """A space of language models, and the training of its largest network."""

    space: Space
    context: int
    head: int
    batch: int
    rows: int
    """Windows in the batch for measuring latency; with few, a GPU waits for its processor."""
    held_out: int
    """Number of characters for selecting networks, and as many for testing them."""
    steps: int
    lr: float
    precision: str

    @property
    def build(self) -> Callable[..., nn.Module]:
        return partial(gpt.build, vocab=78, context=self.context, head_size=self.head, positions="learned")

    def task(self) -> LanguageModelling:
        text = bible()
        splits = (text.train, text.valid[: self.held_out], text.test[: self.held_out])
        return LanguageModelling(
            *splits, context=self.context, batch_size=self.batch, vocab=len(text.vocabulary), name="bible"
        )

    def trained(self, task: LanguageModelling, folder: Path, device: str) -> nn.Module:
        """Return the largest network, trained alone; a finished training is reused from `folder`."""
        torch.manual_seed(0)
        model = self.build(self.space.largest()).to(device)
        config = TrainingConfig(steps=self.steps, lr=self.lr, precision=self.precision, evaluate_every=0)
        train_network(model, task, config, directory=folder / "parent")
        return model


SMALL = Scale(Models(), 64, 32, batch=16, rows=16, held_out=16_384, steps=2000, lr=2e-3, precision="fp32")
LARGE = Scale(LargeModels(), 128, 64, batch=64, rows=128, held_out=65_536, steps=2500, lr=1e-3, precision="auto")
