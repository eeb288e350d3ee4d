"""The tensors of modules and of their outputs, and whether weights are a module's own or views of shared ones."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return all parameters and buffers by name, including tied names and non-persistent buffers."""
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Return a hash of named tensors in their order, as in a module's `state_dict().items()`: 16 hex digits."""
    sha = hashlib.sha256()
    for name, tensor in tensors:
        sha.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        sha.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:16]


def shared_views(module: nn.Module) -> list[str]:
    """Names of the tensors whose storage holds more than this module's tensors: views of something larger.

    Weights that a recurrent layer keeps in one flat storage are its own, because together they fill it.
    """
    used: dict[int, dict[tuple[int, int], int]] = {}
    for tensor in tensors(module).values():
        if not tensor.is_meta:
            pieces = used.setdefault(tensor.untyped_storage().data_ptr(), {})
            pieces[int(tensor.storage_offset()), tensor.numel()] = tensor.numel() * tensor.element_size()
    return [
        name
        for name, tensor in tensors(module).items()
        if not tensor.is_meta
        and tensor.untyped_storage().nbytes() > sum(used[tensor.untyped_storage().data_ptr()].values())
    ]


def leaves(output: Any) -> Iterator[Tensor]:
    """Yield the tensors of an output in order: a tensor, or nested mappings and sequences of tensors."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from leaves(value)
    elif isinstance(output, tuple | list):
        for value in output:
            yield from leaves(value)
