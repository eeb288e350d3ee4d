"""Writers of one SQLite file take turns: who waits tries sooner and sooner, who had to wait lets others go first."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nas.errors import NasError
from nas.migrations import opening
from nas.storage import Repository
from tests.contracts.repository import batch, with_study


class Clock:
    """Time that passes in sleep alone; `sleeps` are the waits, and `at` tells what to do after so many."""

    def __init__(self) -> None:
        self.now, self.sleeps = 0.0, list[float]()
        self.at: dict[int, sqlite3.Connection] = {}

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.sleeps.append(seconds)
        if holder := self.at.pop(len(self.sleeps), None):
            holder.rollback()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(opening, "time", clock)
    monkeypatch.setattr(opening.random, "uniform", lambda low, high: (low + high) / 2)
    return clock


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Another writer of the same file, in its transaction once it has begun one."""
    with closing(sqlite3.connect(tmp_path / "nas.db", isolation_level=None)) as connection:
        yield connection


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with Repository(f"sqlite:///{tmp_path}/nas.db", patience=0) as repository:
        yield with_study(repository)


def test_who_waits_tries_sooner_and_sooner_and_then_lets_others_go_first(
    repository: Repository, holder: sqlite3.Connection, clock: Clock
) -> None:
    holder.execute("BEGIN IMMEDIATE")
    clock.at[100] = holder
    repository.store_evaluations("first", {0: batch(0)[0]}, "w", "d")
    assert len(clock.sleeps) == 100
    first, last = clock.sleeps[0], clock.sleeps[-1]
    assert clock.sleeps == sorted(clock.sleeps, reverse=True)
    assert last == first / opening._HURRY, "but not more and more often without end"

    repository.store_evaluations("first", {1: batch(1)[0]}, "w", "d")
    assert len(clock.sleeps) == 101, "a turn is left to others, who were there a moment ago"
    clock.now += 1.0
    repository.store_evaluations("first", {2: batch(2)[0]}, "w", "d")
    assert len(clock.sleeps) == 101, "nobody has been there for long"
    assert repository.evaluations("first") == batch(0, 1, 2)


def test_who_waits_too_long_says_so(repository: Repository, holder: sqlite3.Connection, clock: Clock) -> None:
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(NasError, match="database is locked; another process has been writing for 30 seconds"):
        repository.store_evaluations("first", {0: batch(0)[0]}, "w", "d")
    assert 30 <= clock.now < 31
