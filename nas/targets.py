"""Hardware that networks are measured on: latency as a median with its spread and the conditions it holds under."""

from __future__ import annotations

import gc
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from nas.errors import NasError
from nas.records import Measurement, TargetRecord
from supernets.views import shared_views, tensors

if TYPE_CHECKING:
    from search_spaces import Architecture

Inputs = tuple[Tensor, ...]


class TargetError(NasError):
    """A module that this target cannot measure, or a target that cannot be set up; the message says what to change."""


@dataclass(frozen=True)
class LatencyResult:
    """How long one forward pass took: median and interquartile range over `repeats`, in milliseconds."""

    median_ms: float
    iqr_ms: float
    repeats: int
    conditions: dict[str, Any] = field(default_factory=dict)
    """JSON: shapes and types of the input, threads, whether the median settled, load of the machine."""

    def measurement(self, arch: Architecture, target: str) -> Measurement:
        """This result as the record that is stored."""
        return Measurement(
            arch.digest, arch.json(), target, self.median_ms, self.iqr_ms, self.repeats, dict(self.conditions)
        )


class Target(Protocol):
    """A device: `measure` runs an extracted network on an example with its batch axis; `describe` is JSON."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...

    def describe(self) -> dict[str, Any]: ...

    def measure(self, module: nn.Module, example: Tensor | Inputs) -> LatencyResult: ...


def target_record(target: Target) -> TargetRecord:
    """The target with its fingerprint as the record that is stored."""
    return TargetRecord(target.name, target.kind, target.describe())


@dataclass(frozen=True)
class CPUTarget:
    """This machine's processor: repeats a forward pass until the median is known well enough or time is up.

    The median's uncertainty is half the notch of a box plot, 1.57 IQR / sqrt(n) (McGill, Tukey and Larsen, 1978), which
    a few interrupted passes do not move. Raises TargetError for settings out of range.
    """

    name: str = "cpu"
    threads: int = 1
    uncertainty: float = 0.02
    """Stop once the median's uncertainty is at most this share of it."""
    budget_s: float = 1.0
    """Stop after this time, warm-up included, though never before `min_repeats`."""
    min_repeats: int = 10
    max_repeats: int = 1000
    warmup: int = 3
    """Passes at least before the first that counts; a tenth of the budget goes into them where they are short."""
    clock: Callable[[], float] = time.perf_counter
    """Seconds, of any origin."""

    kind = "cpu"

    def __post_init__(self) -> None:
        if self.threads < 1 or self.warmup < 0 or not 2 <= self.min_repeats <= self.max_repeats:
            raise TargetError(
                f"target {self.name!r} has threads={self.threads}, warmup={self.warmup}, repeats {self.min_repeats} to "
                f"{self.max_repeats}: give 1 thread or more, no negative warm-up, 2 or more repeats in ascending order"
            )

    def describe(self) -> dict[str, Any]:
        """The fingerprint of the machine: latencies of equal fingerprints can be compared."""
        return {
            "processor": _processor(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "cores": os.cpu_count(),
            "usable_cores": _usable_cores(),
            "threads": self.threads,
            "platform": platform.platform(),
            "python": platform.python_version(),
            "torch": torch.__version__,
        }

    def measure(self, module: nn.Module, example: Tensor | Inputs) -> LatencyResult:
        """Time forward passes of `module`, in evaluation and inference mode, on `example` as it is.

        The module, the number of threads and the garbage collector are left as they were found.

        Raises:
            TargetError: weights are views into larger ones, as a subnet's are: the time would include the slicing; or
                weights or inputs are on another device.
        """
        inputs = (example,) if isinstance(example, Tensor) else tuple(example)
        _check(module, inputs)
        load = _load()
        with _prepared(module, self.threads), torch.inference_mode():
            start = self.clock()
            warmup = self._warm_up(module, inputs, start)
            times = self._times(module, inputs, start)
        low, middle, high = quantiles(times, n=4, method="inclusive")
        conditions = {
            "shapes": [list(tensor.shape) for tensor in inputs],
            "dtypes": [str(tensor.dtype).removeprefix("torch.") for tensor in inputs],
            "threads": self.threads,
            "warmup": warmup,
            "settled": self._settled(times),
            "load": load,
        }
        return LatencyResult(middle * 1e3, (high - low) * 1e3, len(times), conditions)

    def _warm_up(self, module: nn.Module, inputs: Inputs, start: float) -> int:
        """Fill caches and let kernels be chosen; returns the number of passes."""
        passes = 0
        while passes < self.warmup or (passes < 100 and self.clock() - start < self.budget_s / 10):
            module(*inputs)
            passes += 1
        return passes

    def _times(self, module: nn.Module, inputs: Inputs, start: float) -> list[float]:
        """Seconds of each pass."""
        times: list[float] = []
        while len(times) < self.max_repeats:
            before = self.clock()
            module(*inputs)
            after = self.clock()
            times.append(after - before)
            if len(times) >= self.min_repeats and (after - start >= self.budget_s or self._settled(times)):
                break
        return times

    def _settled(self, times: list[float]) -> bool:
        low, _, high = quantiles(times, n=4, method="inclusive")
        return 1.57 * (high - low) / math.sqrt(len(times)) <= self.uncertainty * median(times)


TARGETS: Mapping[str, Callable[..., Target]] = {"cpu": CPUTarget}


def _check(module: nn.Module, inputs: Inputs) -> None:
    views = shared_views(module)
    if views:
        raise TargetError(
            f"{views[0]!r} is a view of a larger tensor, so a latency would include slicing: measure what "
            "supernet.extract(arch) returns"
        )
    for name, tensor in [*tensors(module).items(), *((f"input {i}", tensor) for i, tensor in enumerate(inputs))]:
        if tensor.device.type != "cpu":
            raise TargetError(f"{name!r} is on {tensor.device}, this target measures on cpu: move it with .to('cpu')")


@contextmanager
def _prepared(module: nn.Module, threads: int) -> Iterator[None]:
    """Evaluation mode, so many threads, no garbage collection; all of it put back afterwards."""
    training = {part: part.training for part in module.modules()}
    threads_before, collecting = torch.get_num_threads(), gc.isenabled()
    try:
        module.eval()
        torch.set_num_threads(threads)
        gc.disable()
        yield
    finally:
        if collecting:
            gc.enable()
        torch.set_num_threads(threads_before)
        for part, flag in training.items():
            part.training = flag


def _processor() -> str:
    """The processor's model as the system tells it; what Python knows where there is no /proc."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _usable_cores() -> int | None:
    """Cores this process may use, which a container or a batch system restricts."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count()


def _load() -> float | None:
    """Processes that wanted to run, averaged over the last minute."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None
