"""Progress reports: a function that receives the numbers of finished and of all parts."""

from collections.abc import Callable

Tick = Callable[[int, int], None]
"""Called with the number of finished parts and the number of all parts."""


def silent(done: int, total: int) -> None:
    """Report nothing."""
