"""The benchmark of storage runs, waits for the disk where it says so, and compares within rounds."""

import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
import pytest

from benchmarks.storage import contenders, parts, report
from benchmarks.storage.writers import written
from nas.storage import Repository


@pytest.fixture(autouse=True)
def without_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "missing", lambda: "has none here")
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.mark.parametrize(("waits", "level"), [(True, 2), (False, 1)])
def test_optuna_waits_for_the_disk_as_it_is_told(waits: bool, level: int, tmp_path: Path) -> None:
    study = contenders.optuna_study(contenders.in_wal(tmp_path / "optuna.db"), waits=waits)
    with study._storage._backend.engine.connect() as connection:  # type: ignore[attr-defined]
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("synchronous", "journal_mode")]
    assert found == [level, "wal"]


def test_every_contender_stores_what_it_is_asked_to(tmp_path: Path) -> None:
    assert contenders.ours(f"sqlite:///{tmp_path}/ours.db", waits=True, at_once=3, origins=True)(7) > 0
    with Repository(f"sqlite:///{tmp_path}/ours.db", read_only=True) as repository:
        assert repository.num_evaluations() == {"benchmark": 7}
        life = repository.life("benchmark", 6)
    assert life.origin is not None and life.stored is not None
    study = contenders.optuna_study(f"sqlite:///{tmp_path}/optuna.db", waits=False)
    for store in (contenders.ask_and_tell(study), contenders.add_trial(study)):
        assert store(2) > 0
    assert [len(trial.params) for trial in study.trials] == [10] * 4
    contenders.bare_row(tmp_path / "bare.db", waits=False)(5)
    with closing(sqlite3.connect(tmp_path / "bare.db")) as connection:
        assert connection.execute("SELECT count(*) FROM evaluations").fetchone() == (5,)


@pytest.mark.slow
def test_the_report_holds_the_parts_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(parts.PARTS, "writers", lambda rounds, folder: parts.writers(rounds, folder, evaluations=80))
    measured = {name: parts.measured(name, 2, tmp_path) for name in ("schema", "writers")}
    text = report.text(measured)
    assert "| goes on | a bare row |" in text and "1.0 (1.0 to 1.0)" in text
    assert "Each writes 10 evaluations" in text and text.count("| SQLite |") == 2
    assert "Optuna" not in text.partition("; fsync")[0], "its part was not measured"


def test_ratios_are_those_of_rounds() -> None:
    assert report._ratio([2.0, 40.0, 6.0], [1.0, 20.0, 2.0]) == "2.0 (2.0 to 3.0)"


def test_a_writer_that_fails_is_told_of(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/nas.db"
    with Repository(url), closing(sqlite3.connect(tmp_path / "nas.db")) as connection:
        connection.execute("CREATE TRIGGER refuse BEFORE INSERT ON evaluations BEGIN SELECT RAISE(ABORT, 'no'); END")
    found = written(url, 2, 3)
    assert len(found.errors) == 2 and found.seconds == []
