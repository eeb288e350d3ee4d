"""A database that does not answer for a while: what runs waits, goes on, and has done everything exactly once."""

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import exc

from benchmarks.postgresql import Server
from nas.commands.session import run_workflow
from nas.errors import NasError
from nas.migrations import opening
from nas.run import RunError
from nas.storage import Repository, evaluations
from search_spaces import Architecture
from tests.contracts.repository import batch, with_study
from tests.nas.command import variant
from tests.nas.postgresql import throw_away
from tests.nas.test_study import evaluate, found, study


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(opening, "_BUSY_SECONDS", 0.05)
    return f"sqlite:///{tmp_path}/nas.db"


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_a_locked_file_is_waited_for_in_two_lines(url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Repository(url) as repository, closing(sqlite3.connect(tmp_path / "nas.db", check_same_thread=False)) as other:
        with_study(repository)
        other.execute("BEGIN EXCLUSIVE")
        threading.Timer(1.0, other.rollback).start()
        repository.append_evaluations("first", batch(0, 1), "w", "d")
        assert repository.evaluations("first") == batch(0, 1)
    waiting, answered = told(caplog)
    assert "database is locked" in waiting and waiting.endswith("; waiting up to 300 s for it, nothing is lost")
    assert answered == f"{url} answers again after 1 s" or "answers again after" in answered


def test_after_a_bounded_time_one_line_says_how_to_resume(url: str, tmp_path: Path) -> None:
    with Repository(url, patience=0.5) as repository, closing(sqlite3.connect(tmp_path / "nas.db")) as other:
        one = study(repository)

        def locked(arch: Architecture) -> dict[str, float]:
            if len(one.evaluations) == 3:
                other.execute("BEGIN EXCLUSIVE")
            return evaluate(arch)

        one.evaluate = locked
        began = time.monotonic()
        with pytest.raises(NasError, match=r"locked.*\(waited 0.5 s\); .* give the same command again") as caught:
            one.run(12)
        assert "\n" not in str(caught.value)
        assert time.monotonic() - began < 5, "what is said on the way out is not waited for"
        other.rollback()
        assert len(repository.evaluations("s")) == 3
        study(repository).run(12)
        assert len(repository.evaluations("s")) == 12


def test_a_reader_does_not_wait(url: str, tmp_path: Path) -> None:
    with Repository(url) as repository:
        with_study(repository)
    with Repository(url, read_only=True) as reader:
        (tmp_path / "nas.db").unlink()
        reader.close()
        with pytest.raises(NasError, match="does not exist: correct the URL"):
            reader.studies()


def test_a_commit_whose_answer_is_lost_is_not_stored_twice(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = evaluations.Evaluations._store
    lost = iter([True, False, True])

    def unanswered(self: Repository, *arguments: object) -> None:
        stored(self, *arguments)  # type: ignore[arg-type]
        if next(lost, False):
            raise exc.OperationalError("COMMIT", {}, sqlite3.OperationalError("database is locked"))

    monkeypatch.setattr(evaluations.Evaluations, "_store", unanswered)
    with Repository(url) as repository:
        with_study(repository).store_evaluations("first", {0: batch(0)[0], 2: batch(2)[0]}, "w", "d")
        repository.append_evaluations("first", batch(3), "w", "d")
        assert repository.placed_evaluations("first") == {0: batch(0)[0], 2: batch(2)[0], 3: batch(3)[0]}
        with repository._reading() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM evaluations").scalar() == 3


# --- a server


@pytest.fixture
def server() -> Iterator[Server]:
    with throw_away() as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "down_s"), [("fast", 2), ("immediate", 30)])
def test_a_server_that_is_down_in_the_middle_of_a_search(
    server: Server, mode: str, down_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []

    def slow(arch: Architecture) -> dict[str, float]:
        calls.append(arch.digest)
        if len(calls) == 15:
            server.stop(mode)
            threading.Timer(down_s, server.start).start()
        return evaluate(arch)

    with Repository("sqlite://") as repository:
        whole = study(repository)
        whole.run(30)
    with Repository(f"{server.url}/postgres") as repository:
        front = study(repository, run=slow).run(30)
        assert found(repository.evaluations("s")) == found(whole.evaluations)
        assert found(front) == found(whole.front())
        assert len(calls) == 30, "nothing was evaluated twice"
        with repository._reading() as connection:
            rows = connection.exec_driver_sql("SELECT count(*), max(attempt) FROM evaluations").one()
        assert tuple(rows) == (30, 0)
        assert repository.study("s").status == "finished"
    lines = told(caplog)
    assert len(lines) == 2 and "waiting up to 300 s" in lines[0] and "answers again after" in lines[1]


def test_how_long_a_run_waits_is_said_by_the_run(tmp_path: Path) -> None:
    path = variant(tmp_path, "patience_s=7.5")
    with run_workflow(path, lambda run: run, f"sqlite:///{tmp_path}/nas.db", tmp_path) as workflow:
        assert workflow.repository.patience == 7.5
    with pytest.raises(RunError, match=r"patience_s = -1: it must be a number of seconds"):
        replace(workflow.run, patience_s=-1)
