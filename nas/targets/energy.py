"""Energy of a pass from hardware counters: RAPL of Intel and AMD processors, NVML of NVIDIA GPUs.

A counter covers the whole package or board, so it includes other load and idle power.
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
    """A cumulative energy counter."""

    @property
    def span_s(self) -> float:
        """Shortest time over which a difference is meaningful: many updates of the counter."""
        ...

    def used_mj(self, before: Any, after: Any) -> float:
        """Return the millijoules between two readings."""
        ...

    def read(self) -> Any: ...


@dataclass(frozen=True)
class RAPL:
    """The packages of a processor, read from Linux powercap files; see `rapl`."""

    packages: tuple[Path, ...]
    ranges_uj: tuple[int, ...]
    """The value at which each counter wraps to 0."""
    span_s = 0.1  # the counters update about every millisecond

    def read(self) -> tuple[int, ...]:
        return tuple(_number(package / "energy_uj") for package in self.packages)

    def used_mj(self, before: tuple[int, ...], after: tuple[int, ...]) -> float:
        pairs = zip(before, after, self.ranges_uj, strict=True)
        return sum(b - a if b >= a else b - a + whole for a, b, whole in pairs) / 1e3


def rapl(root: Path = POWERCAP) -> RAPL | None:
    """Return the counters of this machine's processor; None if there are none or the user may not read them."""
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
    span_s = 0.5  # some boards update their counter ten times a second

    def read(self) -> int:
        return int(self.module.nvmlDeviceGetTotalEnergyConsumption(self.handle))

    def used_mj(self, before: int, after: int) -> float:
        return float(after - before)


def nvml(uuid: str) -> NVML | None:
    """Return the counter of a GPU; None if the module `pynvml` is not installed or the GPU has no counter."""
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
    """Return the millijoules of one pass, averaged over as many as the counter needs; None without a counter."""
    if counter is None:
        return None
    passes, start, before = 0, clock(), counter.read()
    while passes == 0 or clock() - start < counter.span_s:
        run()
        passes += 1
    return counter.used_mj(before, counter.read()) / passes


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))
