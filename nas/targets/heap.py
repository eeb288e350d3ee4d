"""Memory that a process keeps, so that latencies do not depend on what it has run before."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt, in glibc's malloc.h."""
_KEPT = 1 << 30
_LARGEST = 32 << 20
"""Bytes; glibc takes no more for the second."""


@cache
def keep_memory() -> bool:
    """Has this process keep up to a gigabyte that it has freed; whether that is so now.

    glibc's malloc maps large blocks anew each time, and moves the size from which it does, and how much it keeps, by
    what was freed before. So a network pays for page faults in one process and not in another: of 30 networks measured
    twice in one process some were 1.4 times slower the second time, after others had run. With both sizes fixed none
    pay. Other allocators have no such call and are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST)) and bool(mallopt(_TRIM_THRESHOLD, _KEPT))
