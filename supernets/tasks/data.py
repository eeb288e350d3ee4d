"""The data of a task as checked tensors: what users hand us is examined here, once, and trusted afterwards."""

from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from supernets.errors import SupernetError

Array = Tensor | npt.NDArray[Any]
T = TypeVar("T")


class TaskError(SupernetError):
    """The data of a task is not what it must be."""


class Batch(NamedTuple):
    """Some examples. Being a tuple of tensors, the training loop can move it to a device."""

    inputs: Tensor
    targets: Tensor


def at_least_one(name: str, value: int) -> int:
    if value < 1:
        raise TaskError(f"{name} = {value}: it must be at least 1")
    return value


def labelled(split: str, pair: tuple[Array, Array], dtype: torch.dtype) -> Batch:
    """Inputs (n x ...) and their labels (n,)."""
    inputs, labels = _paired(split, pair, "labels")
    if labels.dim() != 1 or not _is_integer(labels):
        raise TaskError(
            f"the {split} labels are {labels.dtype} of shape {tuple(labels.shape)}: give one integer an example, (n,)"
        )
    _check_lengths(split, inputs, labels, "label")
    return Batch(_finite(f"the {split} inputs", inputs, dtype), labels.long())


def measured(split: str, pair: tuple[Array, Array], dtype: torch.dtype) -> Batch:
    """Inputs (n x ...) and their targets as floating point numbers (n x k)."""
    inputs, targets = _paired(split, pair, "targets")
    if targets.dim() not in (1, 2) or targets.is_complex() or targets.dtype == torch.bool:
        raise TaskError(
            f"the {split} targets are {targets.dtype} of shape {tuple(targets.shape)}: give numbers, (n,) or (n, k)"
        )
    _check_lengths(split, inputs, targets, "target")
    rows = (targets[:, None] if targets.dim() == 1 else targets).to(dtype)
    return Batch(_finite(f"the {split} inputs", inputs, dtype), _finite(f"the {split} targets", rows, dtype))


def _paired(split: str, pair: tuple[Array, Array], seconds: str) -> tuple[Tensor, Tensor]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise TaskError(f"{split} is {type(pair).__name__}: give a pair of inputs and {seconds}")
    inputs, others = _tensor(f"the {split} inputs", pair[0]), _tensor(f"the {split} {seconds}", pair[1])
    if inputs.dim() < 2:
        raise TaskError(f"the {split} inputs have shape {tuple(inputs.shape)}: give one row an example, (n, ...)")
    return inputs, others


def _check_lengths(split: str, inputs: Tensor, others: Tensor, one: str) -> None:
    if len(inputs) != len(others):
        raise TaskError(f"{split} has {len(inputs)} inputs and {len(others)} {one}s: give one {one} an input")
    if len(others) == 0:
        raise TaskError(f"{split} is empty: give at least one example")


def _finite(what: str, values: Tensor, dtype: torch.dtype) -> Tensor:
    """The values as they are, or, of floating point numbers, as those of a type."""
    if not values.is_floating_point():
        return values
    if not values.isfinite().all():
        row = int((~values.flatten(1).isfinite().all(1)).nonzero()[0])
        raise TaskError(f"{what} are not finite (first in example {row}): remove NaN and infinity")
    return values.to(dtype)


def tokens_of(split: str, given: Array, context: int) -> Tensor:
    tokens = _tensor(f"the {split} tokens", given)
    if tokens.dim() != 1 or not _is_integer(tokens):
        raise TaskError(
            f"the {split} tokens are {tokens.dtype} of shape {tuple(tokens.shape)}: give integers in one row, (n,)"
        )
    if len(tokens) <= context:
        raise TaskError(f"{split} has {len(tokens)} tokens: with context = {context} give at least {context + 1}")
    return tokens.long()


def _tensor(what: str, value: Array) -> Tensor:
    try:
        # Read-only arrays are copied, for torch warns of them; nothing here writes.
        writeable = not isinstance(value, np.ndarray) or value.flags.writeable
        return torch.as_tensor(value if writeable else np.array(value)).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TaskError(f"{what} are no tensor ({error}): give a NumPy array or a tensor of numbers") from error


def _is_integer(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)


def check_range(what: str, values: Tensor, size: int, setting: str) -> None:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= size:
        value = low if low < 0 else high
        raise TaskError(f"{what} have {value}: with {setting} = {size} they must be from 0 to {size - 1}")


def check_shape(what: str, values: Tensor, train: Tensor) -> None:
    if values.shape[1:] != train.shape[1:]:
        raise TaskError(
            f"{what} have shape {tuple(values.shape[1:])} each, those of train {tuple(train.shape[1:])}: "
            "make them alike"
        )


def split_named(splits: dict[str, T], name: str) -> T:
    if name not in splits:
        raise TaskError(f"there is no split {name!r}: choose one of {', '.join(splits)}, or give the task that data")
    return splits[name]
