"""Batch-norm statistics for one architecture, which shared weights cannot provide: each subnet has its own.

The shared running statistics average over the subnets trained last. Before the evaluation of a subnet, calibration
computes statistics from a few training batches into separate tensors; shared ones never change.
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
"""Default number of batches for the statistics."""


class CalibrationError(SupernetError):
    """There are no batches to compute statistics from."""


def has_batch_norm(module: nn.Module) -> bool:
    """Return whether a module has running batch-norm statistics."""
    return any(True for _ in _batch_norms(module))


def recalibrate(module: nn.Module, batches: Iterable[Tensor]) -> nn.Module:
    """Recompute a module's batch-norm statistics as plain averages over input batches; return it in eval mode.

    New tensors replace the old statistics, which may be views of shared ones. Everything but batch norm runs in
    evaluation mode, so dropout adds no noise. A module without batch norm does not run at all.

    Raises:
        CalibrationError: there is batch norm but no batch.
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
    """Return the subnet of `arch` in eval mode, with its own batch-norm statistics if it has batch norm."""
    return recalibrate(supernet.subnet(arch), batches)


def evaluate(
    supernet: Supernet, arch: Architecture, task: Task, split: str = "valid", *, num_batches: int = NUM_BATCHES
) -> dict[str, float]:
    """Return the task's metrics of an architecture with inherited, calibrated weights."""
    return task.evaluate(calibrated(supernet, arch, task.calibration(num_batches)), split)


class Calibrator:
    """Calibrated subnets of one supernet, with a cache of recent statistics that changed weights invalidate."""

    def __init__(self, supernet: Supernet, batches: Sequence[Tensor], *, size: int = 256) -> None:
        self._supernet = supernet
        self._batches = batches
        self._size = size
        self._version = -1
        self._statistics: OrderedDict[str, dict[str, Tensor]] = OrderedDict()

    def __call__(self, arch: Architecture) -> nn.Module:
        """Return the calibrated subnet as `calibrated` does, with cached statistics if available."""
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
