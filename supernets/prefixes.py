"""Subnets that begin alike share what they have computed: the same blocks on the same input are run once.

Wherever a subnet runs an `nn.Sequential` or a `stack`, what each block returned is kept under a key: what went in, and
for every block since, its weights, settings and statistics. Another subnet that comes with the same beginning goes on
from there. So a batch of subnets is a trie that is walked depth first if they come in an order in which neighbours
begin alike. Nothing is assumed of the model: what goes in is known by its bytes, copies are kept, and a block that
could do anything else than compute with its own tensors and plain settings is run each time, with those behind it.

A block in which batch norm computes statistics (see `calibrate`) also leaves these behind; they are kept with its
output.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from search_spaces import Architecture
from supernets import calibrate
from supernets.structure import Stack
from supernets.supernet import Supernet
from supernets.tasks import Task

MAX_BYTES = 1 << 30
_PLAIN = (bool, int, float, str, type(None), torch.dtype, torch.device)
_NO_SETTINGS = frozenset(nn.Module().__dict__) | {"forward", "_computed"}
_STOCHASTIC = (nn.modules.dropout._DropoutNd, nn.RReLU)

Key = Hashable


class NotShared(Exception):
    """A module has no reliable identity, so its results cannot be shared."""


@dataclass
class _Kept:
    """The output of a block, and the statistics after its run."""

    output: Tensor
    statistics: tuple[Tensor, ...]
    num_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.num_bytes = sum(x.numel() * x.element_size() for x in (self.output, *self.statistics))


class Activations:
    """A cache of block outputs with a limit in bytes; the least recently used entries go first."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self.run = self.spared = 0
        """Numbers of blocks that ran, and that the cache spared."""
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()

    def find(self, key: Key) -> _Kept | None:
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def keep(self, key: Key, output: Tensor, statistics: Sequence[Tensor]) -> None:
        """Store copies, because later modules may write into a block's output."""
        kept = _Kept(output.clone(), tuple(value.clone() for value in statistics))
        if kept.num_bytes > self.max_bytes:
            return
        self._kept[key] = kept
        self.num_bytes += kept.num_bytes
        while self.num_bytes > self.max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.num_bytes -= oldest.num_bytes

    def clear(self) -> None:
        self._kept.clear()
        self.num_bytes = 0


def share(module: nn.Module, activations: Activations) -> nn.Module:
    """Make a subnet use the cache wherever it runs blocks in sequence; return the module, changed in place.

    This applies to its stacks and the sequential modules around them, or to all sequential modules if it has no stack.
    """
    stacks = [path for path, part in module.named_modules() if isinstance(part, Stack)]
    for path, part in list(module.named_modules()):
        around = any(inner == path or inner.startswith(f"{path}." if path else "") for inner in stacks)
        if isinstance(part, nn.Sequential) and (around or not stacks):
            part.forward = MethodType(_forward(activations), part)  # type: ignore[method-assign]
    return module


def _forward(activations: Activations) -> Any:
    def forward(self: nn.Sequential, x: Any) -> Any:
        blocks = list(self)
        if torch.is_grad_enabled() or not isinstance(x, Tensor) or not blocks:
            for block in blocks:
                x = block(x)
            return x
        keys = list(_chain(_content(x), blocks))
        known = list(takewhile(lambda kept: kept is not None, map(activations.find, keys)))
        for block, kept in zip(blocks, known, strict=False):
            assert kept is not None
            _put(block, kept.statistics)
            x = kept.output
        x = x.clone() if known else x
        activations.spared += len(known)
        activations.run += len(blocks) - len(known)
        for number, block in enumerate(blocks[len(known) :], start=len(known)):
            x = block(x)
            if number < len(keys) and isinstance(x, Tensor):
                activations.keep(keys[number], x, _statistics(block))
        return x

    return forward


def _chain(key: Key, blocks: Sequence[nn.Module]) -> Iterator[Key]:
    """Yield the keys of the blocks' outputs, up to the first block without an identity."""
    for block in blocks:
        try:
            key = hashlib.blake2b(repr((key, _identity(block))).encode(), digest_size=16).digest()
        except NotShared:
            return
        yield key


def _identity(block: nn.Module) -> list[Any]:
    """Return everything on which a block's computation depends.

    Raises:
        NotShared: the block holds anything but tensors, modules and plain values, or draws random numbers.
    """
    found: list[Any] = []
    for path, part in block.named_modules():
        if part.training and isinstance(part, _STOCHASTIC):
            raise NotShared
        own = {name: value for name, value in part.__dict__.items() if name not in _NO_SETTINGS}
        if any(computed.function is not None for computed in part.__dict__.get("_computed", {}).values()):
            raise NotShared  # a weight that is computed at each read
        counting = isinstance(part, _BatchNorm) and part.training
        found.append((path, type(part).__qualname__, type(part).__module__, part.training, _plain(own)))
        found += [(name, _view(value)) for name, value in part._parameters.items() if value is not None]
        for name, value in part._buffers.items():
            if value is not None and (not counting or name == "num_batches_tracked"):
                found.append((name, hashlib.blake2b(_bytes(value), digest_size=16).hexdigest(), tuple(value.shape)))
        if part._forward_hooks or part._forward_pre_hooks or "parametrizations" in part._modules:
            raise NotShared
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, list | tuple | torch.Size):
        return [_plain(item) for item in value]
    if isinstance(value, FunctionType | BuiltinFunctionType) and "<" not in value.__qualname__:
        return value.__module__, value.__qualname__  # such as torch.nn.functional.gelu
    if isinstance(value, dict):
        return [(str(name), _plain(item)) for name, item in value.items()]
    raise NotShared


def _view(value: Tensor) -> tuple[Any, ...]:
    """Return which part of the shared weights a parameter is; the supernet's version covers their values."""
    return value.untyped_storage().data_ptr(), value.storage_offset(), tuple(value.shape), tuple(value.stride())


def _bytes(x: Tensor) -> bytes:
    held = x.detach().cpu().contiguous()
    return np.asarray(held.flatten().view(torch.uint8)).tobytes() if held.numel() else b""


def _content(x: Tensor) -> Key:
    return hashlib.blake2b(_bytes(x), digest_size=16).digest(), tuple(x.shape), tuple(x.stride()), str(x.dtype)


def _statistics(block: nn.Module) -> list[Tensor]:
    """Return the statistics that a run of the block changes."""
    norms = [part for part in block.modules() if part.training and isinstance(part, _BatchNorm)]
    return [value for norm in norms for value in norm._buffers.values() if value is not None]


def _put(block: nn.Module, statistics: Sequence[Tensor]) -> None:
    for value, known in zip(_statistics(block), statistics, strict=True):
        value.copy_(known)


# --- evaluating many ----------------------------------------------------------------------------------------------


class PrefixEvaluator:
    """The task's metrics of architectures with the supernet's weights, bitwise equal to `calibrate.evaluate`.

    Cached results persist between calls for as long as the weights stay the same.
    """

    def __init__(self, supernet: Supernet, task: Task, split: str = "valid", max_bytes: int = MAX_BYTES) -> None:
        self.supernet = supernet
        self.task = task
        self.split = split
        self.activations = Activations(max_bytes)
        self._version = supernet.version

    def __call__(self, arch: Architecture) -> dict[str, float]:
        if self.supernet.version != self._version:
            self.activations.clear()
            self._version = self.supernet.version
        module = share(self.supernet.subnet(arch), self.activations)
        calibrate.recalibrate(module, self.task.calibration(calibrate.NUM_BATCHES))
        return self.task.evaluate(module, self.split)

    def order(self, archs: Sequence[Architecture]) -> list[int]:
        """Return an order in which neighbours share prefixes: by the choices of all blocks, then block by block."""
        slots = self.supernet.space.slots
        numbers = [[int(part) for part in slot.path.split(".") if part.isdigit()] for slot in slots]
        columns = sorted(range(len(slots)), key=lambda column: (numbers[column], column))
        rows = self.supernet.space.codes(archs)[:, columns].tolist()
        return sorted(range(len(archs)), key=lambda position: rows[position])
