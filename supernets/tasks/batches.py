"""What tasks do alike: which examples make a batch, how a module is evaluated, what a digest is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

EVALUATION_BATCH = 256
Value = TypeVar("Value")


def mapped(value: Value, function: Callable[[Tensor], Tensor]) -> Value:
    """A tensor, or tensors in (named) tuples, lists and dicts, each as the function makes it."""
    found: Any = value
    if isinstance(value, Tensor):
        found = function(value)
    elif isinstance(value, tuple) and hasattr(value, "_make"):
        found = value._make(mapped(item, function) for item in value)
    elif isinstance(value, tuple | list):
        found = type(value)(mapped(item, function) for item in value)
    elif isinstance(value, dict):
        found = {key: mapped(item, function) for key, item in value.items()}
    return found  # type: ignore[no-any-return]


def to_device(value: Value, device: torch.device) -> Value:
    """What a batch is made of, on the device."""
    return mapped(value, lambda tensor: tensor.to(device, non_blocking=True))


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors that a batch is made of."""
    found: list[Tensor] = []
    mapped(value, lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
    return found


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


@lru_cache(maxsize=4)
def _permutation(n: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(n)


def generator(step: int, seed: int) -> torch.Generator:
    entropy = np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(entropy >> np.uint64(1)))


def full_precision(outputs: Tensor) -> Tensor:
    return outputs.to(torch.promote_types(outputs.dtype, torch.float32))


def cycled(inputs: Tensor, n: int) -> Tensor:
    """The first n rows, beginning again where there are fewer."""
    return inputs[torch.arange(n) % len(inputs)]


def callable_name(function: Callable[..., Any] | None) -> str:
    return "" if function is None else getattr(function, "__qualname__", type(function).__qualname__)


def digest_of(kind: str, tensors: list[Tensor], *settings: Any) -> str:
    """16 hexadecimal digits of a hash of the settings and of every value of the data."""
    digest = hashlib.sha256(repr((kind, settings)).encode())
    for tensor in tensors:
        digest.update(repr((str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(np.ascontiguousarray(tensor.cpu().numpy()).data)
    return digest.hexdigest()[:16]
