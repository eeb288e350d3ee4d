"""Kills the processes of a local Ray cluster after its driver was killed; they would stay for a minute.

This script runs as its own process, `watchdog.py DRIVER MARK`, outlives the driver, and imports only Python's standard
library. It identifies the cluster's processes by the mark in their environment, in Linux's /proc. Ray's agents
overwrite their environment with a title a second after they start, so the script records marked processes while the
driver lives.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

_LOOK_S = 0.5
_QUIET = 6
"""Consecutive scans that must find nothing: the environment of a starting process cannot be read yet."""


def main(driver: int, mark: str) -> None:
    """Wait until the parent process ends, then kill all marked processes."""
    family = Family(mark)
    while os.getppid() == driver:
        family.look()
        time.sleep(_LOOK_S)
    quiet = 0
    while quiet < _QUIET:
        processes = family.look()
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        quiet = 0 if processes else quiet + 1
        time.sleep(_LOOK_S)


class Family:
    """Processes with a mark, as in "NAME=value", in their environment, now or in an earlier scan."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._known: dict[int, str] = {}  # start time by process id, since ids are reused

    def look(self) -> list[int]:
        """Scan the processes; return the ids of those that still run."""
        self._known |= {process: _started(process) for process in marked(self._mark)}
        self._known = {process: began for process, began in self._known.items() if began and _started(process) == began}
        return list(self._known)


def _started(process: int) -> str:
    """Return when a process started, in clock ticks since boot; empty if it has ended."""
    try:
        state, *fields = Path("/proc", str(process), "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state == "Z" else fields[18]


def marked(mark: str) -> list[int]:
    """Return the ids of processes with the mark in their current environment."""
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # the process has ended or belongs to another user
            if mark.encode() in Path("/proc", process, "environ").read_bytes().split(b"\0"):
                found.append(int(process))
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
