"""This machine's processor, by PyTorch."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nas.targets import fingerprint, networks
from nas.targets.energy import Counter, energy_mj, rapl
from nas.targets.measuring import Clock, Repeats, clocked, timed
from nas.targets.memory import peak_bytes
from nas.targets.results import result
from nas.targets.settings import settings_of
from nas.targets.target import Inputs, LatencyResult

if TYPE_CHECKING:
    from torch import Tensor, nn

    from search_spaces import Architecture


@dataclass(frozen=True)
class CPUTarget(Repeats, networks.AnyNetwork):
    """This machine's processor: repeats a forward pass until the median is known well enough or time is up.

    Raises:
        TargetError: settings out of range.
    """

    name: str = "cpu"
    threads: int = 1
    precision: str = "float32"
    """Of weights, inputs and arithmetic: float32, bfloat16 or float16."""
    clock: Clock = field(default=time.perf_counter, metadata={"setting": False})
    energy: Counter | None = field(default_factory=rapl, metadata={"setting": False})

    kind = "cpu"

    def __post_init__(self) -> None:
        super().__post_init__()
        networks.check_threads(self.threads)
        networks.check_precision(self.precision)

    @property
    def settings(self) -> dict[str, Any]:
        return settings_of(self)

    def describe(self) -> dict[str, Any]:
        """Processor, cores, system, threads, precision, versions."""
        return {
            **fingerprint.machine(),
            **fingerprint.pytorch(),
            "threads": self.threads,
            "precision": self.precision,
        }

    def measure(self, module: nn.Module, example: Tensor | Inputs, arch: Architecture | None = None) -> LatencyResult:
        """Time forward passes of `module`, in evaluation and inference mode, on `example` as it is.

        The module, the number of threads and the garbage collector are left as they were found.

        Raises:
            TargetError: weights are views into larger ones, as a subnet's are: the time would include the slicing; or
                weights or inputs are on another device.
        """
        given = networks.as_inputs(example)
        networks.check(module, given)
        module, inputs = networks.converted(module, given, self.precision)
        load = fingerprint.load()
        with networks.evaluating(module, self.threads):
            times = timed(clocked(lambda: module(*inputs), self.clock), self, self.clock)
            energy = energy_mj(lambda: module(*inputs), self.energy, self.clock)
            held = peak_bytes(lambda: module(*inputs))
        conditions = {**networks.shown_inputs(inputs), "threads": self.threads, "load": load}
        return result(times, conditions, networks.num_bytes(module, inputs) + held, energy)
