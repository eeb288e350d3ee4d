"""A search over two numbers whose process may be killed: the command that the tests start, and what it leaves."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from nas.execution import faults
from nas.execution.cluster.watchdog import Family
from nas.execution.executors import Executor, InProcess
from nas.execution.processes import ProcessExecutor
from nas.storage import Repository
from nas.study import Study
from search_spaces import Architecture
from tests.contracts.executor import Pair

EVALUATIONS = 32
MARK = "NAS_TEST_FAULT"


def metrics(folder: Path, arch: Architecture) -> dict[str, float]:
    """Tells a file beside the database which networks are evaluated, for each the same every time."""
    with (folder / "evaluated").open("a") as file:
        file.write(f"{arch.digest}\n")
    time.sleep(0.02 * (1 + arch.a % 3))
    if arch.a == arch.b:
        raise ValueError("equal")
    return {"error": (arch.a - 5) ** 2 / (1 + arch.b), "cost": float(arch.b)}


def executor(kind: str) -> Executor:
    if kind == "ray":
        from nas.execution.cluster import RayExecutor

        return RayExecutor("local", 2)
    return InProcess() if kind == "here" else ProcessExecutor(2)


def main(folder: Path, kind: str) -> None:
    faults.arm()
    with opened(folder) as repository, executor(kind) as chosen:
        evaluate = partial(metrics, folder)
        study = Study("faults", Pair(), evaluate, ("error", "cost"), repository, executor=chosen, seed=3, batch=8)
        study.run(EVALUATIONS)


def opened(folder: Path, *, read_only: bool = False) -> Repository:
    return Repository(f"sqlite:///{folder / 'nas.db'}", read_only=read_only)


def started(folder: Path, kind: str, mark: str, **environment: str) -> subprocess.Popen[bytes]:
    """The search in a process of its own; it and all its children carry `mark`."""
    code = (
        "import sys, pathlib; from tests.faults.fault_search import main; main(pathlib.Path(sys.argv[1]), sys.argv[2])"
    )
    path = os.pathsep.join(os.path.abspath(place) for place in sys.path)
    with (folder / "log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-c", code, str(folder), kind],
            env={**os.environ, "PYTHONPATH": path, MARK: mark, **environment},
            stdout=log,
            stderr=log,
        )


def stored(folder: Path) -> list[tuple[str, dict[str, float], str | None, float]]:
    """What the database holds of the search, in order; nothing before there is one."""
    if not (folder / "nas.db").exists():
        return []
    with opened(folder) as repository:
        if "faults" not in repository.num_evaluations():
            return []
        found = repository.evaluations("faults")
        return [(e.arch.digest, e.metrics, e.error, e.seconds) for e in found]


def evaluated(folder: Path) -> list[str]:
    """Digests in the order in which evaluations began."""
    return (folder / "evaluated").read_text().split() if (folder / "evaluated").exists() else []


def front(folder: Path) -> Any:
    with opened(folder, read_only=True) as repository:
        assert repository.study("faults").status == "finished"
        study = [(e.arch.digest, e.metrics, e.error) for e in repository.evaluations("faults")]
    return study


def require_no_orphan(family: Family) -> None:
    """Waits until no process of a search is left; they may take a moment to see that the driver is gone."""
    begin = time.monotonic()
    while left := family.look():
        assert time.monotonic() - begin < 30, f"processes of a killed search are left: {list(map(command_of, left))}"
        time.sleep(0.05)


def command_of(process: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return "one that has ended since"
