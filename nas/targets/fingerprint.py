"""The fingerprint of a machine, as JSON: what its latencies depend on besides the network."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch

_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def machine() -> dict[str, Any]:
    """Return this machine's processor, system and Python version, and the frequency governor if it is known."""
    governor = _read(_GOVERNOR).strip()
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "system": f"{platform.system()} {platform.machine()} {' '.join(platform.libc_ver())}".strip(),
        "python": platform.python_version(),
        **({"governor": governor} if governor else {}),
    }


def pytorch() -> dict[str, Any]:
    """Return PyTorch's version and the vector instructions that it uses."""
    return {"torch": torch.__version__, "capability": torch.backends.cpu.get_cpu_capability()}


def processor() -> str:
    """Return the processor's model from the system (the board's model on ARM), otherwise from Python."""
    lines = [line.partition(":") for line in _read(Path("/proc/cpuinfo")).splitlines()]
    told = {name.strip(): value.strip() for name, _, value in reversed(lines)}
    return told.get("model name") or told.get("Model") or platform.processor() or platform.machine()


def usable_cores() -> int | None:
    """Return the number of cores that this process may use, which a container or a batch system may restrict."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count()


def load() -> float | None:
    """Return the load average of the last minute; None if the system does not report it."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
