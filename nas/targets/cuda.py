"""A CUDA device of this machine, with PyTorch; passes are timed on the device itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from nas.targets import fingerprint, networks
from nas.targets.energy import Counter, energy_mj, nvml
from nas.targets.measuring import Clock, Pass, Repeats, in_rounds
from nas.targets.results import results
from nas.targets.settings import settings_of
from nas.targets.target import Inputs, LatencyResult, TargetError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from search_spaces import Architecture


@dataclass(frozen=True)
class CUDATarget(Repeats, networks.AnyNetwork):
    """One GPU, called from one thread of the processor. Networks and inputs are on the CPU and are copied to the GPU.

    A pass lasts from the event before its first kernel to the event after its last (`torch.cuda.Event`), so it includes
    the gaps in which the device waits for the processor, as in real use.

    Raises:
        TargetError: a setting is out of range.
    """

    name: str = "cuda"
    index: int = 0
    """Index of the device among those that PyTorch sees."""
    precision: str = "float32"
    """Of weights, inputs and arithmetic: float32, bfloat16 or float16."""
    clock: Clock = field(default=time.perf_counter, metadata={"setting": False})
    energy: Callable[[str], Counter | None] = field(default=nvml, metadata={"setting": False})
    """Returns the energy counter of the GPU with a UUID, or None."""

    kind = "cuda"

    def __post_init__(self) -> None:
        super().__post_init__()
        networks.check_precision(self.precision)
        if self.index < 0:
            raise TargetError(f"index={self.index}: give 0 for the first CUDA device, 1 for the second")

    @property
    def settings(self) -> dict[str, Any]:
        return settings_of(self)

    def describe(self) -> dict[str, Any]:
        """Return the device, its host machine, precision and versions.

        Raises:
            TargetError: the device does not exist.
        """
        device = self._device()
        properties = torch.cuda.get_device_properties(device)
        return {
            "device": properties.name,
            "memory_bytes": properties.total_memory,
            **fingerprint.machine(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
            "tf32": [torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32],
            "precision": self.precision,
        }

    def measure(
        self, modules: Sequence[nn.Module], example: Tensor | Inputs, archs: Sequence[Architecture] = ()
    ) -> list[LatencyResult]:
        """Time forward passes of copies of the networks, in evaluation and inference mode.

        Raises:
            TargetError: the device does not exist, weights are views into larger ones, or inputs are not on the CPU.
        """
        device = self._device()
        given, load = networks.as_inputs(example), fingerprint.load()
        networks.check_inputs(given)
        prepare = partial(networks.ready, precision=self.precision, device=str(device))
        copies, inputs = networks.each(modules, prepare), networks.inputs_in(given, self.precision, str(device))
        runs: list[Callable[[], object]] = [partial(copied, *inputs) for copied in copies]
        with networks.evaluating(copies, torch.get_num_threads()), torch.cuda.device(device):
            rounds = in_rounds([_on_device(run) for run in runs], self, self.clock)
            counter = self.energy(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
            energies = [energy_mj(partial(_finished, run, device), counter, self.clock) for run in runs]
            peaks = [
                _peak_bytes(run, device) + networks.num_bytes(m, inputs) for run, m in zip(runs, copies, strict=True)
            ]
        return results(rounds, {**networks.shown_inputs(inputs), "load": load}, peaks, energies)

    def _device(self) -> torch.device:
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if self.index >= found:
            remedy = (
                "choose another index" if found else "check that its driver and a CUDA build of PyTorch are installed"
            )
            raise TargetError(
                f"target {self.name!r} needs CUDA device {self.index}, but PyTorch finds {found} devices: {remedy}"
            )
        return torch.device("cuda", self.index)


def _on_device(run: Callable[[], object]) -> Pass:
    """A pass that returns the seconds between two events of the device."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]

    def once() -> float:
        begin.record()
        run()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3

    return once


def _finished(run: Callable[[], object], device: torch.device) -> None:
    """Run one pass and wait for the device."""
    run()
    torch.cuda.synchronize(device)


def _peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """Peak bytes that a pass allocates, without memory allocated before (other networks, weights, inputs)."""
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    _finished(run, device)
    return torch.cuda.max_memory_allocated(device) - before
