"""A language model of 2.7 million parameters, trained here on the King James Bible, as a space of smaller ones."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from torch import nn

from nas.data import bible
from search_spaces import Space, choice
from supernets.models import gpt
from supernets.tasks import LanguageModelling
from supernets.training import TrainingConfig, train_network

CONTEXT, BLOCKS, HEAD = 64, 6, 32
VALIDATION = 16_384
"""Characters that networks are chosen by, and as many to judge them by."""


class Models(Space):
    """Width of the residual stream; heads and hidden layer of each block."""

    width = choice(96, 120, 144, 168, 192)
    heads = choice(2, 3, 4, 5, 6, per=BLOCKS)
    ratio = choice(1, 2, 3, 4, per=BLOCKS)


def task() -> LanguageModelling:
    text = bible()
    splits = (text.train, text.valid[:VALIDATION], text.test[:VALIDATION])
    return LanguageModelling(*splits, context=CONTEXT, batch_size=16, vocab=len(text.vocabulary), name="bible")


build = partial(gpt.build, vocab=78, context=CONTEXT, head_size=HEAD, positions="learned")


def trained(task: LanguageModelling, folder: Path, steps: int = 2000) -> nn.Module:
    """The largest network, trained alone; a finished training is found again in `folder`."""
    model = build(Models().largest())
    config = TrainingConfig(steps=steps, lr=2e-3, precision="fp32", evaluate_every=0)
    train_network(model, task, config, directory=folder / "parent")
    return model
