"""The checks of `nas doctor`: whether this machine can do the work, and what would be slow and why."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from nas.errors import NasError
from nas.execution.executors import describe
from nas.storage import Repository

_PACKAGES = ("torch", "numpy", "sqlalchemy", "optuna", "scikit-learn")
_EXTRAS = {"ray": "ray", "psycopg": "postgresql", "onnxscript": "onnx", "transformers": "transformers"}
_LEAST_FREE = 200 * 2**20
_SLOW_SYNC_MS = 50.0


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    about: str
    state: Literal["ok", "slow", "broken"]
    text: str


def examine(storage: str, runs: Path, cluster: str | None) -> Iterator[Finding]:
    """Yield the findings one by one; a check that raises is "broken"."""
    checks: dict[str, Callable[[], Finding]] = {
        "versions": _versions,
        "extras": _extras,
        "threads": _threads,
        "load": _load,
        "GPU": _gpu,
        "database": partial(_database, storage),
        "disk": partial(_disk, runs),
        "cluster": partial(_cluster, cluster),
    }
    for about, check in checks.items():
        try:
            yield check()
        except NasError as error:
            yield Finding(about, "broken", str(error))
        except Exception as error:
            yield Finding(about, "broken", describe(error))


def _versions() -> Finding:
    found = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
    return Finding("versions", "ok", f"Python {platform.python_version()}, {', '.join(found)}")


def _extras() -> Finding:
    missing = [extra for module, extra in _EXTRAS.items() if importlib.util.find_spec(module) is None]
    left_out = (
        f"not installed: {', '.join(missing)}; as in pip install nas[{missing[0]}]" if missing else "all installed"
    )
    return Finding("extras", "ok", left_out)


def _threads() -> Finding:
    import torch

    processors, threads = len(_processors()), torch.get_num_threads()
    text = f"{threads} of PyTorch on {processors} processors"
    if threads > processors:
        return Finding("threads", "slow", f"{text}: they wait for one another; set OMP_NUM_THREADS={processors}")
    if threads > 1 and os.environ.get("OMP_WAIT_POLICY", "").upper() != "PASSIVE":
        return Finding("threads", "slow", f"{text}: those that wait keep processors busy; set OMP_WAIT_POLICY=PASSIVE")
    return Finding("threads", "ok", text)


def _processors() -> set[int] | range:
    """Return the processors that this process may use."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)


def _load() -> Finding:
    load, processors = os.getloadavg()[0], len(_processors())
    text = f"{load:.1f} on {processors} processors over the last minute"
    if load > processors:
        return Finding("load", "slow", f"{text}: others work here, and latencies measured now are theirs too")
    return Finding("load", "ok", text)


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        torch.ones(1, device="cuda").add(1).item()
        return Finding(
            "GPU", "ok", f"{torch.cuda.device_count()} of {name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        )
    if Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi"):
        why = "is built without CUDA" if torch.version.cuda is None else "cannot use it: see nvidia-smi"
        return Finding(
            "GPU", "slow", f"a GPU is there, and PyTorch {torch.__version__} {why}: work stays on the processor"
        )
    return Finding("GPU", "ok", "none: work stays on the processor")


def _database(storage: str) -> Finding:
    from nas.commands.session import shown

    place = storage.removeprefix("sqlite:///")
    if place != storage and not Path(place).exists():
        return Finding("database", "ok", f"{shown(storage)} is not there yet: the first search makes it")
    begin = time.monotonic()
    with Repository(storage, read_only=True) as repository:
        counts = repository.num_evaluations()
    took = 1e3 * (time.monotonic() - begin)
    return Finding(
        "database", "ok", f"{shown(storage)}: {len(counts)} studies, {sum(counts.values())} evaluations, {took:.0f} ms"
    )


def _disk(runs: Path) -> Finding:
    place = next(folder for folder in (runs.absolute(), *runs.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    text = f"{free / 2**30:.1f} GiB free at {runs}"
    if free < _LEAST_FREE:
        return Finding("disk", "broken", f"{text}: a checkpoint may not fit; make room")
    sync_ms = _sync_ms(place)
    text = f"{text}, {sync_ms:.1f} ms until a file is on it"
    if sync_ms > _SLOW_SYNC_MS:
        return Finding("disk", "slow", f"{text}: each evaluation and checkpoint waits for that; use a local disk")
    return Finding("disk", "ok", text)


def _sync_ms(place: Path) -> float:
    """Return the median of five times, in milliseconds, to write a small file to the disk."""
    found = []
    with tempfile.TemporaryFile(dir=place) as file:
        for _ in range(5):
            begin = time.perf_counter()
            file.write(b"." * 4096)
            file.flush()
            os.fsync(file.fileno())
            found.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(found)


def _cluster(address: str | None) -> Finding:
    if address is None:
        return Finding("cluster", "ok", "none was asked for: --cluster ADDRESS")
    from nas.execution.cluster.status import status

    found = status(address)
    free, total = found.free.get("CPU", 0), sum(node.resources.get("CPU", 0) for node in found.nodes)
    text = f"{len(found.nodes)} nodes at {found.address}, {free:g} of {total:g} CPUs free"
    return Finding(
        "cluster", "ok" if free >= 1 else "slow", text if free >= 1 else f"{text}: workers wait for others to end"
    )
