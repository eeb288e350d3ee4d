"""Sentence retrieval as a task: find the other part of a sentence, and agree with a parent on what resembles what."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernets.tasks import batch_indices, evaluating

SCALE = 20.0
"""Of cosines before the softmax, as sentence encoders are trained with."""
JUDGED = 256
"""Pairs of a split that a network is judged by."""
_AT_ONCE = 128


class Pair(NamedTuple):
    """Token numbers of first and last parts of sentences (n x length each), padded with 0."""

    first: Tensor
    second: Tensor


class Retrieval:
    """Embeddings of parts of sentences: `loss` over the others of a batch, `error` of the best hit, and `drift`.

    `drift` is 1 less the correlation between a network's cosine similarities of all sentences and the parent's: 0 where
    it agrees with the parent on what resembles what, whatever the width of its embeddings.

    Args:
        splits: parts of sentences by split.
        parent: of which similarities are wanted.
    """

    metric = "drift"
    name = "sentence parts"

    def __init__(self, splits: dict[str, Pair], parent: nn.Module, batch_size: int = 16) -> None:
        self.splits = splits
        self.batch_size = batch_size
        self._similarities = {
            split: _similarities(embedded(parent, _judged(splits[split]))) for split in ("valid", "test")
        }

    @cached_property
    def digest(self) -> str:
        found = hashlib.sha256(f"retrieval {self.batch_size}".encode())
        for tensor in (*(t for pair in self.splits.values() for t in pair), *self._similarities.values()):
            found.update(np.ascontiguousarray(tensor.numpy()).data)
        return found.hexdigest()[:16]

    @property
    def num_train(self) -> int:
        return len(self.splits["train"].first)

    def example(self, batch: int = 1) -> Tensor:
        return self.splits["train"].first[:batch]

    def batch(self, step: int, seed: int) -> Pair:
        return self.select(batch_indices(self.num_train, self.batch_size, step, seed), step, seed)

    def select(self, indices: Sequence[int] | Tensor, step: int, seed: int) -> Pair:
        chosen = torch.as_tensor(indices)
        return Pair(*(half[chosen] for half in self.splits["train"]))

    def outputs(self, module: nn.Module, batch: Pair) -> Tensor:
        """Return embeddings (2n x width), of the first parts, then of the last."""
        found: Tensor = module(torch.cat(batch))
        return found

    def loss(self, outputs: Tensor, batch: Pair) -> Tensor:
        return self.losses(outputs, batch).mean()

    def losses(self, outputs: Tensor, batch: Pair) -> Tensor:
        """Return (n,) cross-entropies of finding each part among those of the other side, mean of both directions."""
        first, second = F.normalize(outputs.float(), dim=-1).chunk(2)
        scores = SCALE * first @ second.T
        right = torch.arange(len(first), device=scores.device)
        both = (F.cross_entropy(s, right, reduction="none") for s in (scores, scores.T))
        return sum(both, torch.zeros(len(first), device=scores.device)) / 2

    def evaluate(self, module: nn.Module, split: str = "valid") -> dict[str, float]:
        found = embedded(module, _judged(self.splits[split]))
        first, second = F.normalize(found, dim=-1).chunk(2)
        hit = (first @ second.T).argmax(1) == torch.arange(len(first))
        return {
            "drift": _drift(_similarities(found), self._similarities[split]),
            "loss": float(self.losses(found, _judged(self.splits[split])).mean()),
            "error": 1 - float(hit.float().mean()),
        }

    def calibration(self, n: int) -> Iterator[Tensor]:
        return (torch.cat(self.batch(step, seed=0)) for step in range(n))


def _judged(pair: Pair) -> Pair:
    return Pair(*(half[:JUDGED] for half in pair))


def embedded(module: nn.Module, pair: Pair) -> Tensor:
    """(2n x width) in parts, without gradients."""
    with evaluating(module):
        return torch.cat([module(part) for part in torch.cat(pair).split(_AT_ONCE)]).float().clone()


def _similarities(embeddings: Tensor) -> Tensor:
    """Return the cosine similarities of all pairs of different sentences."""
    unit = F.normalize(embeddings, dim=-1)
    rows, columns = torch.triu_indices(len(unit), len(unit), offset=1)
    return (unit @ unit.T)[rows, columns].clone()


def _drift(found: Tensor, wanted: Tensor) -> float:
    return 1 - float(torch.corrcoef(torch.stack([found, wanted]))[0, 1])
