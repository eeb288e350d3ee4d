"""Ends what a killed driver leaves behind of its local Ray cluster, which would stay for a minute.

A script of its own process, `watchdog.py DRIVER MARK`, which outlives the driver; it imports nothing but the library of
Python. The cluster's processes are those with the mark in their environment, which Linux tells of. Ray's agents write
their title over it a second after they have started, so who carries the mark is noted as long as the driver lives.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

_LOOK_S = 0.5
_QUIET = 6
"""Looks in a row that must find nothing: of a process that is just being started the environment cannot be read."""


def main(driver: int, mark: str) -> None:
    """Waits until the process that started this one is no more, then kills all that carries the mark."""
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
    """Processes that carry a mark, as in "NAME=value", in their environment, or did so in an earlier look."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._known: dict[int, str] = {}  # and when each started, for numbers are given again

    def look(self) -> list[int]:
        """Those that there are now."""
        self._known |= {process: _started(process) for process in marked(self._mark)}
        self._known = {process: began for process, began in self._known.items() if began and _started(process) == began}
        return list(self._known)


def _started(process: int) -> str:
    """When a process was started, in the system's own unit; empty for one that has ended."""
    try:
        state, *fields = Path("/proc", str(process), "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state == "Z" else fields[18]


def marked(mark: str) -> list[int]:
    """Processes with the mark in their environment now."""
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if mark.encode() in Path("/proc", process, "environ").read_bytes().split(b"\0"):
                found.append(int(process))
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
