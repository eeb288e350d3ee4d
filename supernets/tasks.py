"""What a user brings beside the model: data, a loss and a measure of quality.

Anything that satisfies `Task` can be trained and searched; `Classification` and `LanguageModelling` are two that do.
The batch of step k is a function of (seed, k): epochs are permutations from `default_rng([seed, epoch])`, laid end to
end and cut into batches, so every batch is full, each example comes once an epoch, and resuming at any step is exact.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from typing import Any, Protocol, TypeGuard, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernets._task_data import (
    Array,
    Batch,
    TaskError,
    at_least_one,
    check_range,
    check_shape,
    labelled,
    split_named,
    tokens_of,
)

__all__ = [
    "Augment",
    "Batch",
    "Classification",
    "LanguageModelling",
    "SamplingTask",
    "Task",
    "TaskError",
    "TeachingTask",
    "batch_indices",
    "evaluating",
    "teaches",
    "to_device",
]
Augment = Callable[[Tensor, torch.Generator], Tensor]
"""From a batch of inputs and a generator to inputs of the same shape; all its randomness comes from the generator."""

EVALUATION_BATCH = 256


class Task(Protocol):
    """Data, loss and evaluation. A task's own batches may be any tensor, or tuple, list or dict of tensors."""

    batch_size: int

    @property
    def name(self) -> str: ...

    @property
    def metric(self) -> str:
        """The key of `evaluate` that says how good a network is; lower is better."""
        ...

    @property
    def digest(self) -> str:
        """Names the data and the settings: two tasks with equal digests give equal results."""
        ...

    @property
    def num_train(self) -> int:
        """Training examples in an epoch."""
        ...

    def example(self, batch: int = 1) -> Tensor:
        """An input of `batch` examples, to trace or to measure with."""
        ...

    def batch(self, step: int, seed: int) -> Any:
        """The training batch of a step."""
        ...

    def outputs(self, module: nn.Module, batch: Any) -> Tensor:
        """What the loss reads and what distillation imitates: logits, one row an example (n x num_classes)."""
        ...

    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        """The training loss, a scalar."""
        ...

    def evaluate(self, module: nn.Module, split: str = "valid") -> dict[str, float]:
        """The metrics on the split "valid" or "test"; `evaluating` is the context to run the module in."""
        ...

    def calibration(self, n: int) -> Iterator[Tensor]:
        """The inputs of `n` fixed training batches, for batch-norm statistics."""
        ...


class SamplingTask(Task, Protocol):
    """What strategies that choose samples or look at validation need beside; both tasks here have it."""

    def select(self, indices: Sequence[int], step: int, seed: int) -> Any:
        """The batch of these training examples, numbered from 0 to `num_train` - 1."""
        ...

    def losses(self, outputs: Tensor, batch: Any) -> Tensor:
        """The loss of each example (batch_size,); their mean is `loss`."""
        ...

    def score(self, module: nn.Module, step: int, seed: int) -> float:
        """How good a network is on one batch of the validation split: in [0, 1], 1 is best.

        A task may offer that batch too, as ``held_out(step, seed)``: a gradient search of a supernet that is trained
        already then learns the architecture from it, and from training examples otherwise.
        """
        ...


class TeachingTask(Task, Protocol):
    """What the training loop asks of a task whose layers learn from a parent's; see `supernets.distillation`."""

    listens: bool
    """Whether layers learn at all."""

    def taught(
        self, module: nn.Module, batch: Any, project: Callable[[str, Tensor, Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The outputs, and a loss to be added to that of the task; `project` leads layers to the parent's width."""
        ...

    def widths(self, module: nn.Module, batch: Any) -> dict[str, tuple[Tensor, Tensor]]:
        """By the name that `project` is told, what a layer gives and what the parent's does, features last."""
        ...

    def check(self, module: nn.Module) -> None:
        """Raise where the largest network lacks a layer that is to learn."""
        ...


def teaches(task: Task) -> TypeGuard[TeachingTask]:
    """Whether layers learn from a parent's by this task."""
    return bool(getattr(task, "listens", False))


class Classification:
    """One of K classes for each input; the metric is the share of errors.

    Args:
        train, valid, test: pairs of inputs (n x ...) and integer labels (n,), NumPy arrays or tensors; test may be left
            out. Inputs are tensors of any shape a model takes: images, tables, token numbers.
        augment: changes the inputs of each training batch. The digest knows it by its name alone.
        num_classes: of the labels 0 ... num_classes - 1; None reads it off the training labels.
        dtype: of the inputs, where they are floating point numbers.

    Raises:
        TaskError: a split is empty or its lengths or shapes differ, inputs are not finite, labels are not integers or
            out of range.
    """

    metric = "error"

    def __init__(
        self,
        train: tuple[Array, Array],
        valid: tuple[Array, Array],
        test: tuple[Array, Array] | None = None,
        *,
        batch_size: int = 64,
        augment: Augment | None = None,
        num_classes: int | None = None,
        dtype: torch.dtype = torch.float32,
        name: str = "classification",
    ) -> None:
        self.name = name
        self.batch_size = at_least_one("batch_size", batch_size)
        self.augment = augment
        given = {"train": train, "valid": valid} | ({} if test is None else {"test": test})
        self.splits = {split: labelled(split, pair, dtype) for split, pair in given.items()}
        self.num_classes = num_classes or int(self.splits["train"].targets.max()) + 1
        for split, examples in self.splits.items():
            check_range(f"the {split} labels", examples.targets, self.num_classes, "num_classes")
            check_shape(split, examples.inputs, self.splits["train"].inputs)

    @cached_property
    def digest(self) -> str:
        tensors = [tensor for examples in self.splits.values() for tensor in examples]
        return _digest("classification", tensors, self.num_classes, self.batch_size, _callable_name(self.augment))

    @property
    def num_train(self) -> int:
        return len(self.splits["train"].targets)

    def example(self, batch: int = 1) -> Tensor:
        return _cycled(self.splits["train"].inputs, batch)

    def batch(self, step: int, seed: int) -> Batch:
        return self.select(batch_indices(self.num_train, self.batch_size, step, seed), step, seed)

    def select(self, indices: Sequence[int] | Tensor, step: int, seed: int) -> Batch:
        """The batch of these training examples, augmented as that of a step is."""
        train, chosen = self.splits["train"], torch.as_tensor(indices)
        inputs = train.inputs[chosen]
        if self.augment is not None:
            inputs = self.augment(inputs, _generator(step, seed))
        return Batch(inputs, train.targets[chosen])

    def outputs(self, module: nn.Module, batch: Batch) -> Tensor:
        """Logits (n x num_classes)."""
        logits: Tensor = module(batch.inputs)
        return logits

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(_full_precision(outputs), batch.targets)

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of each example (n,)."""
        return F.cross_entropy(_full_precision(outputs), batch.targets, reduction="none")

    def score(self, module: nn.Module, step: int, seed: int) -> float:
        """The share of a validation batch that is put into the right class."""
        return 1 - _evaluate(self, module, iter([self.held_out(step, seed)]))["error"]

    def held_out(self, step: int, seed: int) -> Batch:
        """The validation batch of a step, without augmentation."""
        valid = self.splits["valid"]
        indices = batch_indices(len(valid.targets), self.batch_size, step, seed)
        return Batch(valid.inputs[indices], valid.targets[indices])

    def evaluate(self, module: nn.Module, split: str = "valid") -> dict[str, float]:
        """`error`, the share of examples put into a wrong class, and `loss`, the mean cross-entropy in nats."""
        return _evaluate(self, module, self.batches(split))

    def batches(self, split: str) -> Iterator[Batch]:
        """All examples of a split, in the batches that evaluation reads."""
        examples = split_named(self.splits, split)
        return map(Batch, *(torch.split(tensor, EVALUATION_BATCH) for tensor in examples))

    def calibration(self, n: int) -> Iterator[Tensor]:
        inputs = self.splits["train"].inputs
        return (inputs[batch_indices(self.num_train, self.batch_size, step, seed=0)] for step in range(n))


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
        return _digest("language modelling", list(self.splits.values()), self.vocab, self.context, self.batch_size)

    @property
    def num_train(self) -> int:
        # One window fewer than fit: the room that is left lets every epoch begin elsewhere.
        return max(1, (len(self.splits["train"]) - 1) // self.context - 1)

    def example(self, batch: int = 1) -> Tensor:
        tokens = self.splits["train"][:-1]
        return _cycled(tokens[: len(tokens) // self.context * self.context].view(-1, self.context), batch)

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
        return F.cross_entropy(_full_precision(outputs), batch.targets.flatten())

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean cross-entropy of each window (n,)."""
        losses = F.cross_entropy(_full_precision(outputs), batch.targets.flatten(), reduction="none")
        return losses.view(batch.targets.shape).mean(1)

    def score(self, module: nn.Module, step: int, seed: int) -> float:
        """The geometric mean of the probabilities of the right tokens, over a batch of validation windows."""
        return math.exp(-_evaluate(self, module, iter([self.held_out(step, seed)]))["loss"])

    def held_out(self, step: int, seed: int) -> Batch:
        """Windows of the validation text; the batch of a step."""
        windows = (len(self.splits["valid"]) - 1) // self.context
        return self._windows("valid", batch_indices(windows, self.batch_size, step, seed) * self.context)

    def evaluate(self, module: nn.Module, split: str = "valid") -> dict[str, float]:
        """`loss` in nats a token, and `error`, the share of tokens of which another was thought likelier."""
        return _evaluate(self, module, self.batches(split))

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


Value = TypeVar("Value")


def to_device(value: Value, device: torch.device) -> Value:
    """A tensor, or tensors in (named) tuples, lists and dicts, on the device."""
    moved: Any = value
    if isinstance(value, Tensor):
        moved = value.to(device, non_blocking=True)
    elif isinstance(value, tuple) and hasattr(value, "_make"):
        moved = value._make(to_device(item, device) for item in value)
    elif isinstance(value, tuple | list):
        moved = type(value)(to_device(item, device) for item in value)
    elif isinstance(value, dict):
        moved = {key: to_device(item, device) for key, item in value.items()}
    return moved  # type: ignore[no-any-return]


def batch_indices(num_train: int, batch_size: int, step: int, seed: int) -> Tensor:
    """Which examples (batch_size,) make the batch of a step: permutations of epochs, end to end, cut into batches."""
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs = positions // num_train
    chosen = [
        _permutation(num_train, seed, int(epoch))[positions[epochs == epoch] % num_train] for epoch in np.unique(epochs)
    ]
    return torch.from_numpy(np.concatenate(chosen))


@contextmanager
def evaluating(module: nn.Module) -> Iterator[torch.device]:
    """Evaluation mode without gradients; every submodule's mode is restored. Yields the device of the module."""
    modes = {child: child.training for child in module.modules()}
    module.eval()
    tensors = (tensor for group in (module.parameters(), module.buffers()) for tensor in group)
    try:
        with torch.inference_mode():
            yield next((tensor.device for tensor in tensors), torch.device("cpu"))
    finally:
        for child, mode in modes.items():
            child.training = mode


def _evaluate(
    task: Classification | LanguageModelling, module: nn.Module, batches: Iterator[Batch]
) -> dict[str, float]:
    """`error` and `loss` over all rows of the outputs; both NaN where the loss is: a diverged network has no rank."""
    num_rows = num_errors = 0
    loss = 0.0
    with evaluating(module) as device:
        for batch in batches:
            batch = Batch(batch.inputs.to(device), batch.targets.to(device))
            outputs = task.outputs(module, batch)
            targets = batch.targets.flatten()
            num_rows += len(targets)
            num_errors += int((outputs.argmax(-1) != targets).sum())
            loss += float(task.loss(outputs, batch)) * len(targets)
    error = math.nan if math.isnan(loss) else num_errors / num_rows
    return {"error": error, "loss": loss / num_rows}


@lru_cache(maxsize=4)
def _permutation(n: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(n)


@lru_cache(maxsize=4)
def _start(room: int, seed: int, epoch: int) -> int:
    return int(np.random.default_rng([seed, epoch, 1]).integers(room + 1))


def _generator(step: int, seed: int) -> torch.Generator:
    entropy = np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(entropy >> np.uint64(1)))


def _full_precision(outputs: Tensor) -> Tensor:
    return outputs.to(torch.promote_types(outputs.dtype, torch.float32))


def _cycled(inputs: Tensor, n: int) -> Tensor:
    """The first n rows, beginning again where there are fewer."""
    return inputs[torch.arange(n) % len(inputs)]


def _callable_name(function: Callable[..., Any] | None) -> str:
    return "" if function is None else getattr(function, "__qualname__", type(function).__qualname__)


def _digest(kind: str, tensors: list[Tensor], *settings: Any) -> str:
    """16 hexadecimal digits of a hash of the settings and of every value of the data."""
    digest = hashlib.sha256(repr((kind, settings)).encode())
    for tensor in tensors:
        digest.update(repr((str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(np.ascontiguousarray(tensor.cpu().numpy()).data)
    return digest.hexdigest()[:16]
