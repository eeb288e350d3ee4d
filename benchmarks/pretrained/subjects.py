"""What is compressed: a trained model, its space, data to judge by, and how peers are told of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.pretrained import encoder, images, peers, sentences, text
from benchmarks.pretrained.retrieval import SCALE, Retrieval
from search_spaces import Space
from supernets.skeleton import Build
from supernets.tasks import Task


def _none(model: nn.Module) -> dict[nn.Module, int]:
    return {}


def _nothing(model: nn.Module) -> None:
    pass


@dataclass(frozen=True)
class Subject:
    """One trained model and its task."""

    name: str
    space: Space
    build: Build
    task: Task
    parent: nn.Module
    lr: float
    shown: tuple[str, ...]
    """Metrics of a table, the one that is searched for first."""
    imitate: Callable[[Tensor, Tensor], Tensor]
    """The distillation loss of outputs given the parent's."""
    labels: float = 0.5
    """The share of the task's own loss in the training that every contender gets; the rest imitates the parent."""
    heads: Callable[[nn.Module], dict[nn.Module, int]] = _none
    prepare: Callable[[nn.Module], None] = _nothing
    settle: Callable[[nn.Module], None] = _nothing
    searchable: bool = True
    """Whether FastNAS takes it; of BERT it says that it has no configurable hyperparameters."""
    ignored: Callable[[nn.Module], list[nn.Module]] = field(default=lambda model: [])

    def distilled(self, model: nn.Module, step: int) -> Tensor:
        """The loss of one step of the training that every contender gets."""
        batch: Any = self.task.batch(step, 0)
        with torch.no_grad():
            wanted = self.task.outputs(self.parent, batch)
        found = self.task.outputs(model, batch)
        own = self.task.loss(found, batch) if self.labels else found.new_zeros(())
        return self.labels * own + (1 - self.labels) * self.imitate(found, wanted)

    def scores(self, model: nn.Module) -> dict[str, float]:
        """On the test split, which nothing was chosen by."""
        return {name: self.task.evaluate(model, "test")[name] for name in self.shown}


def minilm(folder: Path) -> Subject:
    parent = encoder.parent()
    task = Retrieval(encoder.tokenised(sentences.pairs()), parent)
    return Subject(
        "MiniLM, sentences",
        encoder.Encoders(),
        encoder.build,
        task,
        parent,
        3e-4,
        ("drift", "loss"),
        _affinity,
        labels=0.0,  # fidelity is what is asked for
        heads=peers.bert_heads,
        settle=peers.settle_bert,
        searchable=False,
    )


def language(folder: Path) -> Subject:
    task = text.task()
    parent = text.trained(task, folder / "text").eval()
    return Subject(
        "GPT, King James Bible",
        text.Models(),
        text.build,
        task,
        parent,
        1e-3,
        ("loss", "error"),
        _divergence,
        heads=peers.gpt_heads,
        prepare=peers.prepare_gpt,
        settle=peers.settle_gpt,
    )


def pictures(folder: Path) -> Subject:
    task = images.task()
    parent = images.trained(task, folder / "images").eval()
    return Subject(
        "ResNet, Fashion-MNIST",
        images.Networks(),
        images.build,
        task,
        parent,
        1e-3,
        ("error", "loss"),
        _divergence,
        ignored=lambda model: [list(model.modules())[-1]],
    )


SUBJECTS: Mapping[str, Callable[[Path], Subject]] = {"minilm": minilm, "text": language, "images": pictures}


def _divergence(found: Tensor, wanted: Tensor) -> Tensor:
    """The Kullback-Leibler divergence of the parent's classes."""
    return F.kl_div(found.log_softmax(-1), wanted.log_softmax(-1), reduction="batchmean", log_target=True)


def _affinity(found: Tensor, wanted: Tensor) -> Tensor:
    """That of what the parent finds alike among the sentences of a batch (affinity mimicking, arXiv:2309.12314)."""
    rows = []
    for embeddings in (found, wanted):
        unit = F.normalize(embeddings.float(), dim=-1)
        others = ~torch.eye(len(unit), dtype=torch.bool)
        rows.append((SCALE * unit @ unit.T)[others].view(len(unit), -1))
    return _divergence(*rows)
