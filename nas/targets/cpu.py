"""This machine's processor, with PyTorch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from nas.targets import fingerprint, networks
from nas.targets.energy import Counter, energy_mj, rapl
from nas.targets.measuring import Clock, Repeats, clocked, in_rounds
from nas.targets.memory import peak_bytes
from nas.targets.results import results
from nas.targets.settings import settings_of
from nas.targets.target import Inputs, LatencyResult

if TYPE_CHECKING:
    from torch import Tensor, nn

    from search_spaces import Architecture


@dataclass(frozen=True)
class CPUTarget(Repeats, networks.AnyNetwork):
    """This machine's processor: times networks in rounds until their ratios are precise enough or time is up.

    Raises:
        TargetError: a setting is out of range.
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

    def measure(
        self, modules: Sequence[nn.Module], example: Tensor | Inputs, archs: Sequence[Architecture] = ()
    ) -> list[LatencyResult]:
        """Time forward passes of each network on `example`, in evaluation and inference mode.

        The state of the networks, the number of threads and the garbage collector are restored afterwards.

        Raises:
            TargetError: weights are views into larger ones, like a subnet's, so that the time would include slicing; or
                weights or inputs are on another device.
        """
        given, load = networks.as_inputs(example), fingerprint.load()
        networks.check_inputs(given)
        ready = networks.each(modules, partial(networks.ready, precision=self.precision))
        with networks.evaluating(ready, self.threads):
            inputs = networks.inputs_in(given, self.precision)
            runs: list[Callable[[], object]] = [partial(module, *inputs) for module in ready]
            rounds = in_rounds([clocked(run, self.clock) for run in runs], self, self.clock)
            energies = [energy_mj(run, self.energy, self.clock) for run in runs]
            held = [peak_bytes(run) for run in runs]
        conditions = {**networks.shown_inputs(inputs), "threads": self.threads, "load": load}
        sizes = [networks.num_bytes(module, inputs) for module in ready]
        return results(rounds, conditions, [size + peak for size, peak in zip(sizes, held, strict=True)], energies)
