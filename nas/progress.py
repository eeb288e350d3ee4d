"""How work of many parts reports its progress: to a function that is called with how many of how many are done."""

from collections.abc import Callable

Tick = Callable[[int, int], None]
"""Called with the number of parts done and the number of all parts."""


def silent(done: int, total: int) -> None:
    """Report nothing."""
