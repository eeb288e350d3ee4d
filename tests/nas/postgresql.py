"""PostgreSQL as the tests start it; where it is missing they are skipped."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.postgresql import Server, missing


@contextmanager
def throw_away() -> Iterator[Server]:
    """A server of the test's own, which need not wait for the disk."""
    if lacking := missing():
        pytest.skip(lacking)
    with Server.throw_away() as server:
        yield server
