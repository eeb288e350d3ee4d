"""Batch-norm statistics of one architecture, which shared weights cannot have: each mixture of widths has its own.

The shared running statistics are an average over whatever was trained last. Before a subnet is evaluated, its own are
computed from a few training batches, in tensors of its own: nothing shared is ever changed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from search_spaces import Architecture
from supernets.errors import SupernetError

if TYPE_CHECKING:
    from supernets.supernet import Supernet
    from supernets.tasks import Task

NUM_BATCHES = 8
"""Batches that statistics are computed from where nothing else is said."""


class CalibrationError(SupernetError):
    """There is nothing to compute statistics from."""


def has_batch_norm(module: nn.Module) -> bool:
    """Whether a module keeps running batch-norm statistics."""
    return any(True for _ in _batch_norms(module))


def recalibrate(module: nn.Module, batches: Iterable[Tensor]) -> nn.Module:
    """Give a module fresh batch-norm statistics, each the plain average over input batches; returns it in eval mode.

    The old statistics are replaced, not written to: they may be views of shared ones. Everything but batch norm runs
    as in evaluation, so dropout adds no noise. Without batch norm nothing runs at all.

    Raises CalibrationError where there is batch norm and no batch.
    """
    module.eval()
    norms = dict(_batch_norms(module))
    if not norms:
        return module
    momenta = {name: norm.momentum for name, norm in norms.items()}
    for norm in norms.values():
        for buffer in ("running_mean", "running_var", "num_batches_tracked"):
            setattr(norm, buffer, getattr(norm, buffer).clone())
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for the cumulative average
        norm.train()
    device = next(iter(norms.values())).running_mean.device  # type: ignore[union-attr]
    num_batches = 0
    try:
        with torch.no_grad():
            for num_batches, batch in enumerate(batches, 1):  # noqa: B007
                module(batch.to(device))
    finally:
        for name, norm in norms.items():
            norm.momentum = momenta[name]
        module.eval()
    if num_batches == 0:
        raise CalibrationError("no batch to compute batch-norm statistics from: give at least one training batch")
    return module


def calibrated(supernet: Supernet, arch: Architecture, batches: Iterable[Tensor]) -> nn.Module:
    """The subnet of `arch` in eval mode, with batch-norm statistics of its own where it has batch norm."""
    return recalibrate(supernet.subnet(arch), batches)


def evaluate(
    supernet: Supernet, arch: Architecture, task: Task, split: str = "valid", *, num_batches: int = NUM_BATCHES
) -> dict[str, float]:
    """The task's metrics of an architecture with its inherited, calibrated weights."""
    return task.evaluate(calibrated(supernet, arch, task.calibration(num_batches)), split)


class Calibrator:
    """Calibrated subnets of one supernet; the last statistics are kept for as long as the weights are the same."""

    def __init__(self, supernet: Supernet, batches: Sequence[Tensor], *, size: int = 256) -> None:
        self._supernet = supernet
        self._batches = batches
        self._size = size
        self._version = -1
        self._statistics: OrderedDict[str, dict[str, Tensor]] = OrderedDict()

    def __call__(self, arch: Architecture) -> nn.Module:
        """As `calibrated`, without running the batches again for an architecture seen before."""
        version = self._supernet.version
        if version != self._version:
            self._statistics.clear()
            self._version = version
        if arch.digest in self._statistics:
            self._statistics.move_to_end(arch.digest)
            return _with_statistics(self._supernet.subnet(arch), self._statistics[arch.digest])
        module = calibrated(self._supernet, arch, self._batches)
        self._statistics[arch.digest] = {
            f"{name}.{key}": buffer.clone()
            for name, norm in _batch_norms(module)
            for key, buffer in norm.named_buffers()
        }
        if len(self._statistics) > self._size:
            self._statistics.popitem(last=False)
        return module


def _batch_norms(module: nn.Module) -> Iterator[tuple[str, _BatchNorm]]:
    for name, child in module.named_modules():
        if isinstance(child, _BatchNorm) and child.running_mean is not None:
            yield name, child


def _with_statistics(module: nn.Module, statistics: dict[str, Tensor]) -> nn.Module:
    for name, buffer in statistics.items():
        owner, _, key = name.rpartition(".")
        setattr(module.get_submodule(owner), key, buffer.clone())
    return module.eval()
