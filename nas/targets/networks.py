"""Prepares networks for timing and restores them afterwards."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from nas.targets.heap import keep_memory
from nas.targets.target import Inputs, TargetError
from supernets.views import shared_views, tensors

if TYPE_CHECKING:
    from search_spaces import Architecture, Space

Prepared = TypeVar("Prepared")

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class AnyNetwork:
    """A target that measures any network, so it has no list of known architectures."""

    def known(self, space: Space) -> Sequence[Architecture] | None:
        return None


def check_precision(precision: str) -> None:
    """Raise TargetError unless the precision is one of `PRECISIONS`."""
    if precision not in PRECISIONS:
        raise TargetError(f"precision={precision!r} is unknown: choose one of {', '.join(PRECISIONS)}")


def check_threads(threads: int) -> None:
    """Raise TargetError for fewer than one thread."""
    if threads < 1:
        raise TargetError(f"threads={threads}: give 1 or more")


def as_inputs(example: Tensor | Inputs) -> Inputs:
    """Return the arguments of `forward` as a tuple."""
    return (example,) if isinstance(example, Tensor) else tuple(example)


def check_inputs(inputs: Inputs) -> None:
    """Raise TargetError for inputs that are not on the CPU."""
    _check_devices({f"input {i}": tensor for i, tensor in enumerate(inputs)})


def check(module: nn.Module) -> None:
    """Raise TargetError for weights that are views into larger ones, like a subnet's, or that are not on the CPU."""
    views = shared_views(module)
    if views:
        raise TargetError(
            f"{views[0]!r} is a view of a larger tensor, so the latency would include slicing: measure the network "
            "that supernet.extract(arch) returns"
        )
    _check_devices(tensors(module))


def _check_devices(named: Mapping[str, Tensor]) -> None:
    for name, tensor in named.items():
        if tensor.device.type != "cpu":
            raise TargetError(f"{name!r} is on {tensor.device}, but targets need it on cpu: move it with .to('cpu')")


def ready(module: nn.Module, precision: str, device: str = "cpu") -> nn.Module:
    """Return a network with a precision on a device: a copy, or the network itself if nothing changes.

    Raises:
        TargetError: its weights are views into larger ones, or are not on the CPU.
    """
    check(module)
    dtype = PRECISIONS[precision]
    held = tensors(module).values()
    if device == "cpu" and all(x.dtype == dtype or not x.is_floating_point() for x in held):
        return module
    return copy.deepcopy(module).to(device, dtype)


def inputs_in(inputs: Inputs, precision: str, device: str = "cpu") -> Inputs:
    """Return the inputs on a device, floating-point ones with a precision."""
    return tuple(x.to(device, PRECISIONS[precision] if x.is_floating_point() else None) for x in inputs)


def num_bytes(module: nn.Module, inputs: Inputs) -> int:
    """Return the bytes of weights, buffers and inputs, tied ones once."""
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors(module).values()}
    return sum(storages.values()) + sum(x.numel() * x.element_size() for x in inputs)


def shown_inputs(inputs: Inputs) -> dict[str, Any]:
    """Return shapes, types and batch size for the conditions of a measurement."""
    return {
        "shapes": [list(tensor.shape) for tensor in inputs],
        "dtypes": [str(tensor.dtype).removeprefix("torch.") for tensor in inputs],
        "batch": inputs[0].shape[0] if inputs and inputs[0].ndim else 1,
    }


def each(modules: Sequence[nn.Module], prepare: Callable[[nn.Module], Prepared]) -> list[Prepared]:
    """Prepare every network of a set; a TargetError gets the position of its network."""
    found = []
    for position, module in enumerate(modules):
        try:
            found.append(prepare(module))
        except TargetError as error:
            error.network = position
            raise
    return found


@contextmanager
def evaluating(modules: Sequence[nn.Module], threads: int) -> Iterator[None]:
    """Use evaluation and inference mode, `threads` threads and no garbage collection; restore all of it afterwards.

    The process keeps freed memory from then on: see `keep_memory`.
    """
    keep_memory()
    training = {part: part.training for module in modules for part in module.modules()}
    threads_before, collecting = torch.get_num_threads(), gc.isenabled()
    try:
        for module in modules:
            module.eval()
        torch.set_num_threads(threads)
        gc.disable()
        with torch.inference_mode():
            yield
    finally:
        if collecting:
            gc.enable()
        torch.set_num_threads(threads_before)
        for part, flag in training.items():
            part.training = flag
