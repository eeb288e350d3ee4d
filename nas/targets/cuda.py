"""A CUDA device of this machine, by PyTorch; passes are timed on the device itself."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from nas.targets import fingerprint, networks
from nas.targets.energy import Counter, energy_mj, nvml
from nas.targets.measuring import Clock, Pass, Repeats, timed
from nas.targets.results import result
from nas.targets.settings import settings_of
from nas.targets.target import Inputs, LatencyResult, TargetError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from search_spaces import Architecture


@dataclass(frozen=True)
class CUDATarget(Repeats, networks.AnyNetwork):
    """One GPU, called from one thread of the processor. Networks and inputs come on the CPU and are copied there.

    A pass lasts from the event before its first kernel to the event after its last (`torch.cuda.Event`), so it includes
    the gaps in which the device waits for the processor, as it will in use.

    Raises:
        TargetError: settings out of range.
    """

    name: str = "cuda"
    index: int = 0
    """Which of the devices that PyTorch sees."""
    precision: str = "float32"
    """Of weights, inputs and arithmetic: float32, bfloat16 or float16."""
    clock: Clock = field(default=time.perf_counter, metadata={"setting": False})

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
        """The device and the machine that feeds it, precision, versions.

        Raises:
            TargetError: there is no such device.
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

    def measure(self, module: nn.Module, example: Tensor | Inputs, arch: Architecture | None = None) -> LatencyResult:
        """Time forward passes of a copy of `module`, in evaluation and inference mode.

        Raises:
            TargetError: there is no such device, or weights are views into larger ones.
        """
        device = self._device()
        given = networks.as_inputs(example)
        networks.check(module, given)
        load, before = fingerprint.load(), torch.cuda.memory_allocated(device)
        copied, inputs = networks.converted(module, given, self.precision, str(device))
        with networks.evaluating(copied, torch.get_num_threads()), torch.cuda.device(device):

            def run() -> None:
                copied(*inputs)

            def finished() -> None:
                run()
                torch.cuda.synchronize(device)

            times = timed(_on_device(run), self, self.clock)
            energy = energy_mj(finished, self._counter(device), self.clock)
            torch.cuda.reset_peak_memory_stats(device)
            finished()
        peak = torch.cuda.max_memory_allocated(device) - before
        return result(times, {**networks.shown_inputs(inputs), "load": load}, peak, energy)

    def _device(self) -> torch.device:
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if self.index >= found:
            remedy = (
                "choose another index" if found else "see that its driver and a CUDA build of PyTorch are installed"
            )
            raise TargetError(f"target {self.name!r} is CUDA device {self.index}, and there are {found}: {remedy}")
        return torch.device("cuda", self.index)

    @staticmethod
    def _counter(device: torch.device) -> Counter | None:
        return nvml(f"GPU-{torch.cuda.get_device_properties(device).uuid}")


def _on_device(run: Any) -> Pass:
    """Seconds of one pass between two events of the device."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]

    def once() -> float:
        begin.record()
        run()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3

    return once
