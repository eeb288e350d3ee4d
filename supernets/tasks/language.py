"""Text as numbers of its tokens: what comes next."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernets.tasks.batches import EVALUATION_BATCH, batch_indices, cycled, digest_of, full_precision
from supernets.tasks.counting import error_and_loss
from supernets.tasks.data import Array, Batch, at_least_one, check_range, split_named, tokens_of


class LanguageModelling:
    """The next token of a text; the metric is the mean loss a token, in nats.

    An example is a window of `context` tokens and the tokens that follow each of them. Windows of an epoch do not
    overlap, and each epoch lays them from another start. Evaluation reads every token of a split once, in windows.

    Args:
        train, valid, test: token numbers (n,), integer NumPy arrays or tensors; test may be left out.
        context: tokens in a window.
        vocab: tokens are 0 ... vocab - 1; None reads it off the training tokens.

    Raises:
        TaskError: tokens are not integers or out of range, or a split has no window of `context` tokens.
    """

    metric = "loss"

    def __init__(
        self,
        train: Array,
        valid: Array,
        test: Array | None = None,
        *,
        context: int = 64,
        batch_size: int = 32,
        vocab: int | None = None,
        name: str = "language modelling",
    ) -> None:
        self.name = name
        self.context = at_least_one("context", context)
        self.batch_size = at_least_one("batch_size", batch_size)
        given = {"train": train, "valid": valid} | ({} if test is None else {"test": test})
        self.splits = {split: tokens_of(split, tokens, context) for split, tokens in given.items()}
        self.vocab = vocab or int(self.splits["train"].max()) + 1
        for split, tokens in self.splits.items():
            check_range(f"the {split} tokens", tokens, self.vocab, "vocab")

    @cached_property
    def digest(self) -> str:
        return digest_of("language modelling", list(self.splits.values()), self.vocab, self.context, self.batch_size)

    @property
    def num_train(self) -> int:
        # One window fewer than fit: the room that is left lets every epoch begin elsewhere.
        return max(1, (len(self.splits["train"]) - 1) // self.context - 1)

    def example(self, batch: int = 1) -> Tensor:
        tokens = self.splits["train"][:-1]
        return cycled(tokens[: len(tokens) // self.context * self.context].view(-1, self.context), batch)

    def batch(self, step: int, seed: int) -> Batch:
        """Windows (batch_size x context) of tokens and of the tokens that follow them."""
        tokens, windows = self.splits["train"], self.num_train
        positions = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        room = len(tokens) - 1 - windows * self.context
        starts = [_start(room, seed, int(epoch)) for epoch in positions // windows]
        first = batch_indices(windows, self.batch_size, step, seed) * self.context + torch.tensor(starts)
        return self._windows("train", first)

    def select(self, indices: Sequence[int] | Tensor, step: int, seed: int) -> Batch:
        """These windows of the text, laid from its beginning."""
        return self._windows("train", torch.as_tensor(indices) * self.context)

    def _windows(self, split: str, first: Tensor) -> Batch:
        tokens = self.splits[split][first[:, None] + torch.arange(self.context + 1)]
        return Batch(tokens[:, :-1], tokens[:, 1:])

    def outputs(self, module: nn.Module, batch: Batch) -> Tensor:
        """Logits (n * context x vocab), a row a token."""
        logits: Tensor = module(batch.inputs)
        return logits.flatten(0, 1)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(full_precision(outputs), batch.targets.flatten())

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean cross-entropy of each window (n,)."""
        losses = F.cross_entropy(full_precision(outputs), batch.targets.flatten(), reduction="none")
        return losses.view(batch.targets.shape).mean(1)

    def score(self, module: nn.Module, step: int, seed: int) -> float:
        """The geometric mean of the probabilities of the right tokens, over a batch of validation windows."""
        return math.exp(-error_and_loss(self, module, iter([self.held_out(step, seed)]))["loss"])

    def held_out(self, step: int, seed: int) -> Batch:
        """Windows of the validation text; the batch of a step."""
        windows = (len(self.splits["valid"]) - 1) // self.context
        return self._windows("valid", batch_indices(windows, self.batch_size, step, seed) * self.context)

    def evaluate(self, module: nn.Module, split: str = "valid") -> dict[str, float]:
        """`loss` in nats a token, and `error`, the share of tokens of which another was thought likelier."""
        return error_and_loss(self, module, self.batches(split))

    def batches(self, split: str) -> Iterator[Batch]:
        """All tokens of a split, in the windows that evaluation reads."""
        tokens = split_named(self.splits, split)
        inputs, targets = tokens[:-1], tokens[1:]
        whole = len(inputs) // self.context * self.context
        rows = max(1, EVALUATION_BATCH * 16 // self.context)
        windows = [torch.split(x[:whole].view(-1, self.context), rows) for x in (inputs, targets)]
        rest = [Batch(inputs[None, whole:], targets[None, whole:])] if whole < len(inputs) else []
        return iter([*map(Batch, *windows), *rest])

    def calibration(self, n: int) -> Iterator[Tensor]:
        return (self.batch(step, seed=0).inputs for step in range(n))


@lru_cache(maxsize=4)
def _start(room: int, seed: int, epoch: int) -> int:
    return int(np.random.default_rng([seed, epoch, 1]).integers(room + 1))
