"""A network made ready to be timed, and put back as it was."""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nas.targets.target import Inputs, TargetError
from supernets.views import shared_views, tensors

if TYPE_CHECKING:
    from search_spaces import Architecture, Space

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class AnyNetwork:
    """A target that measures whatever it is given, and so knows of no architectures beforehand."""

    def known(self, space: Space) -> Sequence[Architecture] | None:
        return None


def check_precision(precision: str) -> None:
    """TargetError unless it is one of `PRECISIONS`."""
    if precision not in PRECISIONS:
        raise TargetError(f"precision={precision!r} is unknown: choose one of {', '.join(PRECISIONS)}")


def check_threads(threads: int) -> None:
    """TargetError for less than one."""
    if threads < 1:
        raise TargetError(f"threads={threads}: give 1 or more")


def as_inputs(example: Tensor | Inputs) -> Inputs:
    """The arguments of `forward`."""
    return (example,) if isinstance(example, Tensor) else tuple(example)


def check(module: nn.Module, inputs: Inputs) -> None:
    """TargetError for weights that are views into larger ones, as a subnet's are, and for tensors not on the CPU."""
    views = shared_views(module)
    if views:
        raise TargetError(
            f"{views[0]!r} is a view of a larger tensor, so a latency would include slicing: measure what "
            "supernet.extract(arch) returns"
        )
    for name, tensor in [*tensors(module).items(), *((f"input {i}", tensor) for i, tensor in enumerate(inputs))]:
        if tensor.device.type != "cpu":
            raise TargetError(f"{name!r} is on {tensor.device}, targets take networks on cpu: move it with .to('cpu')")


def converted(module: nn.Module, inputs: Inputs, precision: str, device: str = "cpu") -> tuple[nn.Module, Inputs]:
    """The network and its inputs in a precision on a device: copies, or as they are where nothing has to change."""
    dtype = PRECISIONS[precision]
    there = tuple(x.to(device, dtype if x.is_floating_point() else None) for x in inputs)
    held = tensors(module).values()
    if device == "cpu" and all(x.dtype == dtype or not x.is_floating_point() for x in held):
        return module, there
    return copy.deepcopy(module).to(device, dtype), there


def num_bytes(module: nn.Module, inputs: Inputs) -> int:
    """Of weights, buffers and inputs, tied ones once."""
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors(module).values()}
    return sum(storages.values()) + sum(x.numel() * x.element_size() for x in inputs)


def shown_inputs(inputs: Inputs) -> dict[str, Any]:
    """Shapes, types and batch size, as they stand in the conditions of a measurement."""
    return {
        "shapes": [list(tensor.shape) for tensor in inputs],
        "dtypes": [str(tensor.dtype).removeprefix("torch.") for tensor in inputs],
        "batch": inputs[0].shape[0] if inputs and inputs[0].ndim else 1,
    }


@contextmanager
def evaluating(module: nn.Module, threads: int) -> Iterator[None]:
    """Evaluation and inference mode, so many threads, no garbage collection; all of it put back afterwards."""
    training = {part: part.training for part in module.modules()}
    threads_before, collecting = torch.get_num_threads(), gc.isenabled()
    try:
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
