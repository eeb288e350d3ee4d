"""Several processes that write to one database at once, as fast as they can, and how long each commit took."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas.records import Evaluation, SpaceRecord, StudyRecord
from nas.storage import Repository
from search_spaces import Architecture

WRITERS = 8
_DEADLINE_S = 600.0


@dataclass(frozen=True)
class Written:
    """What came of it."""

    seconds: list[float]
    """Of every commit of every process."""
    wall_s: float
    errors: list[str]
    """What processes said that ended badly, or warned of."""

    def ms(self, share: float) -> float:
        """The time within which so many commits were done, as .99 for 99 of 100."""
        return 1e3 * float(np.quantile(self.seconds, share))


def written(url: str, num_processes: int, each: int, *, waits: bool = False) -> Written:
    """Has processes write evaluations, one a commit, each to a study of its own; they begin together.

    Args:
        waits: whether SQLite waits for the disk; PostgreSQL has its own settings.
    """
    names = [f"study {number}" for number in range(num_processes)]
    with Repository(url) as repository:
        repository.add_space(SpaceRecord("space", "Net", {}))
        for name in names:
            repository.create_study(StudyRecord(name, "space", None, ("error",), (), "random", 0))
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-m", __name__, url, str(each), "FULL" if waits else "NORMAL"]
    processes = [subprocess.Popen([*command, name], text=True, **pipes) for name in names]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        began = time.perf_counter()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        said = [process.communicate(timeout=_DEADLINE_S) for process in processes]
        wall_s = time.perf_counter() - began
    finally:
        for process in processes:
            process.kill()
    errors = [
        err or f"ended with {p.returncode}" for p, (_, err) in zip(processes, said, strict=True) if err or p.returncode
    ]
    return Written([float(word) for out, _ in said for word in out.split()], wall_s, errors)


def main(url: str, each: str, synchronous: str, name: str) -> None:
    """A process: says that it is ready, waits for a line, writes, and says how long each commit took."""
    texts = (json.dumps({"is": "Net", "of": name, "width": width}) for width in range(int(each)))
    found = [Evaluation(arch, {"error": 0.5}) for arch in map(Architecture.from_json, texts) if arch.digest]
    took = []
    level: Any = synchronous
    with Repository(url, synchronous=level) as repository, repository.driving(name):
        print("ready", flush=True)
        sys.stdin.readline()
        for position, one in enumerate(found):
            began = time.perf_counter()
            repository.store_evaluations(name, {position: one}, "weights", "data")
            took.append(time.perf_counter() - began)
    print(*took)


if __name__ == "__main__":
    main(*sys.argv[1:])
