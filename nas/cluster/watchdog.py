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


def main(driver: int, mark: str) -> None:
    """Waits until the process that started this one is no more, then kills all that carries the mark."""
    while os.getppid() == driver:
        time.sleep(_LOOK_S)
    while processes := marked(mark):  # more may have been about to start
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(_LOOK_S)


def marked(mark: str) -> list[int]:
    """Processes with the mark, as in "NAME=value", in their environment."""
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if mark.encode() in file.read_bytes().split(b"\0"):
                found.append(int(file.parent.name))
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
