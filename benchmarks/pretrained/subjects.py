"""What is compressed: a trained model, its space, data to judge by, and how peers are told of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.pretrained import encoder, images, peers, sentences, text
from benchmarks.pretrained.retrieval import SCALE, Retrieval
from search_spaces import Space
from supernets.skeleton import Build
from supernets.tasks import Task, to_device


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
    """Metrics of the report, the searched one first."""
    imitate: Callable[[Tensor, Tensor], Tensor]
    """Distillation loss of outputs, given the parent's."""
    labels: float = 0.5
    """Share of the task's own loss in the common training of all contenders; the rest imitates the parent."""
    heads: Callable[[nn.Module], dict[nn.Module, int]] = _none
    prepare: Callable[[nn.Module], None] = _nothing
    settle: Callable[[nn.Module], None] = _nothing
    rows: int = 16
    """Batch size for measuring latency."""
    searchable: bool = True
    """Whether FastNAS supports it; it reports that BERT has no configurable hyperparameters."""
    ignored: Callable[[nn.Module], list[nn.Module]] = field(default=lambda model: [])

    @property
    def device(self) -> torch.device:
        """The device of the parent and of all contenders."""
        return next(self.parent.parameters()).device

    def batch(self, step: int) -> Any:
        return to_device(self.task.batch(step, 0), self.device)

    def distilled(self, model: nn.Module, step: int) -> Tensor:
        """Return the loss of one step of the common training of all contenders."""
        batch = self.batch(step)
        with torch.no_grad():
            wanted = self.task.outputs(self.parent, batch)
        found = self.task.outputs(model, batch)
        own = self.task.loss(found, batch) if self.labels else found.new_zeros(())
        return self.labels * own + (1 - self.labels) * self.imitate(found, wanted)

    def scores(self, model: nn.Module) -> dict[str, float]:
        """Return scores on the test split, which no selection used."""
        return {name: self.task.evaluate(model, "test")[name] for name in self.shown}


def minilm(folder: Path, device: str) -> Subject:
    parent = encoder.parent().to(device)
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


def language(folder: Path, device: str, scale: text.Scale = text.SMALL, name: str = "text") -> Subject:
    task = scale.task()
    parent = scale.trained(task, folder / name, device).eval()
    return Subject(
        "GPT, King James Bible",
        scale.space,
        scale.build,
        task,
        parent,
        scale.lr / 2,
        ("loss", "error"),
        _divergence,
        rows=scale.rows,
        heads=peers.gpt_heads,
        prepare=peers.prepare_gpt,
        settle=peers.settle_gpt,
    )


def pictures(folder: Path, device: str) -> Subject:
    task = images.task()
    parent = images.trained(task, folder / "images").eval().to(device)
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


SUBJECTS: Mapping[str, Callable[[Path, str], Subject]] = {
    "minilm": minilm,
    "text": language,
    "large-text": partial(language, scale=text.LARGE, name="large-text"),
    "images": pictures,
}


def _divergence(found: Tensor, wanted: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence from the parent's class probabilities."""
    return F.kl_div(found.log_softmax(-1), wanted.log_softmax(-1), reduction="batchmean", log_target=True)


def _affinity(found: Tensor, wanted: Tensor) -> Tensor:
    """That of what the parent finds alike among the sentences of a batch (affinity mimicking, arXiv:2309.12314)."""
    rows = []
    for embeddings in (found, wanted):
        unit = F.normalize(embeddings.float(), dim=-1)
        others = ~torch.eye(len(unit), dtype=torch.bool, device=unit.device)
        rows.append((SCALE * unit @ unit.T)[others].view(len(unit), -1))
    return _divergence(*rows)
