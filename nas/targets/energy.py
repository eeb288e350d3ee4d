"""What a pass costs in energy, by the machine's own counters: RAPL of Intel and AMD processors, NVML of NVIDIA GPUs.

A counter is of the whole package or board: what else runs on it is counted too, and so is what it takes when idle.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nas.targets.measuring import Clock

POWERCAP = Path("/sys/class/powercap")


class Counter(Protocol):
    """Energy since some moment."""

    @property
    def span_s(self) -> float:
        """Shortest time over which a difference means something: many of the counter's own updates."""
        ...

    def used_mj(self, before: Any, after: Any) -> float:
        """Millijoules between two readings."""
        ...

    def read(self) -> Any: ...


@dataclass(frozen=True)
class RAPL:
    """The packages of a processor, by the files of Linux' powercap; see `rapl`."""

    packages: tuple[Path, ...]
    ranges_uj: tuple[int, ...]
    """Where each counter begins again at 0."""
    span_s = 0.1  # the counters move about every millisecond

    def read(self) -> tuple[int, ...]:
        return tuple(_number(package / "energy_uj") for package in self.packages)

    def used_mj(self, before: tuple[int, ...], after: tuple[int, ...]) -> float:
        pairs = zip(before, after, self.ranges_uj, strict=True)
        return sum(b - a if b >= a else b - a + whole for a, b, whole in pairs) / 1e3


def rapl(root: Path = POWERCAP) -> RAPL | None:
    """The counters of this machine's processor; None where there are none or they may not be read, as by most users."""
    packages = [path for path in sorted(root.glob("intel-rapl:*")) if path.name.count(":") == 1]
    try:
        found = RAPL(tuple(packages), tuple(_number(path / "max_energy_range_uj") for path in packages))
        found.read()
    except (OSError, ValueError):
        return None
    return found if packages else None


@dataclass(frozen=True)
class NVML:
    """One NVIDIA GPU; see `nvml`."""

    module: Any
    handle: Any
    span_s = 0.5  # some boards move their counter ten times a second

    def read(self) -> int:
        return int(self.module.nvmlDeviceGetTotalEnergyConsumption(self.handle))

    def used_mj(self, before: int, after: int) -> float:
        return float(after - before)


def nvml(uuid: str) -> NVML | None:
    """The counter of a GPU; None where the module `pynvml` is not installed or the GPU has none."""
    try:
        module = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        module.nvmlInit()
        found = NVML(module, module.nvmlDeviceGetHandleByUUID(uuid))
        found.read()
    except module.NVMLError:
        return None
    return found


def energy_mj(run: Callable[[], object], counter: Counter | None, clock: Clock) -> float | None:
    """Millijoules of one pass, over as many as the counter needs; None without a counter."""
    if counter is None:
        return None
    passes, start, before = 0, clock(), counter.read()
    while passes == 0 or clock() - start < counter.span_s:
        run()
        passes += 1
    return counter.used_mj(before, counter.read()) / passes


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))
