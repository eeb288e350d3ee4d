"""Ends what a killed driver leaves behind of its local Ray cluster, which would stay for a minute.

A script of its own process, `watchdog.py DRIVER MARK`, which outlives the driver; it imports nothing but the library of
Python. The cluster's processes are those with the mark in their environment, which Linux tells of.
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
    while os.getppid() == driver:
        time.sleep(_LOOK_S)
    quiet = 0
    while quiet < _QUIET:
        processes = marked(mark)
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        quiet = 0 if processes else quiet + 1
        time.sleep(_LOOK_S)


def marked(mark: str) -> list[int]:
    """Processes with the mark, as in "NAME=value", in their environment."""
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if mark.encode() in Path("/proc", process, "environ").read_bytes().split(b"\0"):
                found.append(int(process))
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
