"""A clock that jumps by an hour, forward or back, while a search runs: only monotonic clocks decide what is waited for.

All that reads the time of day is patched in this process, and the database's clock with it; workers keep theirs, as
other machines of a cluster do.
"""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nas import records
from nas.errors import NasError
from nas.execution.processes import ProcessExecutor
from nas.migrations import opening
from nas.storage import Repository
from nas.study import Study
from search_spaces import Architecture
from tests.contracts.repository import batch, with_study
from tests.nas.test_study import evaluate, found, study

Found = list[tuple[str, dict[str, float], str | None]]
HOURS = pytest.mark.parametrize(
    "hours", [pytest.param(1, id="forward"), pytest.param(-1, id="back", marks=pytest.mark.slow)]
)


class WallClock:
    """The time of day, which may be set."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        self._time = time.time

    def jump(self, hours: float, *repositories: Repository) -> None:
        self.ahead_s += 3600 * hours
        for repository in repositories:
            repository._clock = repository._clock + 3600.0 * hours

    def time(self) -> float:
        return self._time() + self.ahead_s

    def now(self) -> str:
        return (datetime.now(UTC) + timedelta(seconds=self.ahead_s)).isoformat(timespec="seconds")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> WallClock:
    clock = WallClock()
    monkeypatch.setattr(time, "time", clock.time)
    monkeypatch.setattr(records, "now", clock.now)
    return clock


@pytest.fixture(scope="module")
def one_process() -> Iterator[ProcessExecutor]:
    with ProcessExecutor(1, timeout_s=1.5) as executor:
        yield executor


@pytest.fixture(scope="module")
def still(one_process: ProcessExecutor) -> Found:
    """What a search finds whose clock does not jump."""
    with Repository("sqlite://") as repository:
        one = study(repository, run=slow_or_hanging, executor=one_process)
        one.run(12)
        return found(one.evaluations)


class Brief(Repository):
    """Whoever drives is known to be silent after a moment."""

    def driving(self, study: str, seconds: float = 1.0) -> AbstractContextManager[None]:
        return super().driving(study, seconds)


def slow_or_hanging(arch: Architecture) -> dict[str, float]:
    """Some hang; the timeout is that of `one_process`."""
    if int(arch.digest, 16) % 7 == 0:
        time.sleep(600)
    return evaluate(arch)


@HOURS
def test_a_search_ends_as_one_whose_clock_did_not_jump(
    hours: float, clock: WallClock, still: Found, one_process: ProcessExecutor, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/nas.db"
    with Brief(url) as repository, Brief(url) as other:

        def after_a_batch(jumped: Study, _: object) -> None:
            clock.jump(hours, repository, other)
            with pytest.raises(NasError, match="study 's' is driven by process"):
                other.driving("s").__enter__()

        jumped = study(repository, run=slow_or_hanging, executor=one_process, on_batch=after_a_batch)
        jumped.run(12)
        assert found(jumped.evaluations) == still
        errors = [one.error or "" for one in jumped.evaluations if int(one.arch.digest, 16) % 7 == 0]
        assert errors and all(error.startswith("TimedOut: no result within 1.5 s") for error in errors)
        assert all(0 <= one.seconds < 60 for one in jumped.evaluations)
        assert repository.study("s").status == "finished"
        with other.driving("s"):  # at once, for it was given back
            assert other.study("s").status == "finished"


@HOURS
def test_an_outage_is_waited_for_as_long_as_it_was_said(
    hours: float, clock: WallClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "_BUSY_SECONDS", 0.05)
    path = tmp_path / "nas.db"
    with closing(sqlite3.connect(path, check_same_thread=False)) as holder:
        with Repository(f"sqlite:///{path}", patience=20.0) as repository:
            with_study(repository)
            holder.execute("BEGIN IMMEDIATE")
            threading.Timer(0.2, clock.jump, (hours,)).start()
            threading.Timer(0.7, holder.rollback).start()
            repository.append_evaluations("first", batch(0), "w", "d")
            assert repository.evaluations("first") == batch(0), "it did not give up when the clock went forward"
        with Repository(f"sqlite:///{path}", patience=0.5) as repository:
            holder.execute("BEGIN IMMEDIATE")
            threading.Timer(0.2, clock.jump, (hours,)).start()
            with pytest.raises(NasError, match=r"waited 0\.5 s"):  # nor does it wait for an hour when it went back
                repository.append_evaluations("first", batch(1), "w", "d")


@pytest.mark.parametrize("hours", [1, -1], ids=["forward", "back"])
def test_time_left_is_never_negative(hours: float, clock: WallClock) -> None:
    from dashboard import progress
    from tests.dashboard.test_progress import BEGUN, running

    shown = running(wanted=40)
    shown.table["_seconds"] = 8.0
    now = datetime.fromisoformat(BEGUN) + timedelta(hours=hours)
    left = progress.seconds_left(shown, now)
    assert left is not None and 0 <= left <= 2 * 30 * 8, "at most twice what the evaluations took"
