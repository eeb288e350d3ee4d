"""Results in SQLite: what every database promises, and what a file can do wrong."""

import os
import shutil
import sqlite3
import sys
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import NasError
from nas.migrations import tables
from nas.storage import Repository
from search_spaces import Architecture
from tests.contracts.repository import STUDY, RepositoryContract, batch, evaluation, with_study


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/nas.db"


class TestSQLite(RepositoryContract):
    @pytest.fixture
    def url(self, tmp_path):
        return f"sqlite:///{tmp_path}/nas.db"


metrics = st.dictionaries(st.text(max_size=8), st.floats(allow_nan=False, allow_infinity=False), max_size=4)
failures = st.text(st.characters(), max_size=20)
outcomes = st.one_of(st.tuples(metrics, st.none()), st.tuples(st.just({}), failures))


@settings(max_examples=15)
@given(st.lists(outcomes, max_size=12), st.integers(1, 5), st.floats(0, 1e9), st.text(max_size=5))
def test_a_study_reads_as_it_was_written(outcomes, size, seconds, worker):
    written = [evaluation(i, metrics=m, error=e, seconds=seconds, worker=worker) for i, (m, e) in enumerate(outcomes)]
    with Repository("sqlite://") as repository:
        with_study(repository)
        for start in range(0, len(written), size):
            repository.append_evaluations("first", written[start : start + size], "w", "d")
        assert repository.evaluations("first") == written
        assert repository.num_evaluations() == {"first": len(written)}


def test_an_equal_evaluation_is_stored_once(url, tmp_path):
    with Repository(url) as repository:
        with_study(repository, "first", "second")
        for name in ("first", "second"):
            repository.append_evaluations(name, batch(0, 1), "w", "d")
    with closing(sqlite3.connect(tmp_path / "nas.db")) as connection:
        counts = [
            connection.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("architectures", "evaluations")
        ]
    assert counts == [2, 2]


# --- opening


def test_durability_is_as_stated(url):
    for level, number in (("NORMAL", 1), ("FULL", 2)):
        with Repository(url, synchronous=level) as repository, repository._engine.connect() as connection:
            pragmas = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("synchronous", "journal_mode")
            ]
        assert pragmas == [number, "wal"]
    with pytest.raises(NasError, match="synchronous is 'OFF'; it is 'NORMAL' or 'FULL'"):
        Repository(url, synchronous="OFF")


def test_a_reader_sees_what_a_writer_commits(url):
    with Repository(url) as writer, Repository(url, read_only=True) as reader:
        with_study(writer)
        assert reader.evaluations("first") == []
        writer.append_evaluations("first", batch(0), "w", "d")
        assert reader.evaluations("first") == batch(0)
        writer.append_evaluations("first", batch(1, 2), "w", "d")
        assert reader.evaluations("first") == batch(0, 1, 2)
        with pytest.raises(NasError, match="was opened read-only; open it with read_only=False"):
            reader.append_evaluations("first", batch(3), "w", "d")


def test_a_reader_works_after_the_writer_has_gone(url):
    with Repository(url) as writer:
        with_study(writer).append_evaluations("first", batch(0), "w", "d")
    with Repository(url, read_only=True) as reader:
        assert reader.evaluations("first") == batch(0)


def test_a_reader_creates_nothing(url, tmp_path):
    with pytest.raises(NasError, match=r"nas.db does not exist: correct the URL"):
        Repository(url, read_only=True)
    (tmp_path / "nas.db").touch()
    with pytest.raises(NasError, match="holds no results; start a study on it first"):
        Repository(url, read_only=True)
    assert os.listdir(tmp_path) == ["nas.db"] and (tmp_path / "nas.db").stat().st_size == 0


def test_names_with_spaces_and_signs(tmp_path):
    url = f"sqlite:///{tmp_path}/ü b#%.db"
    with Repository(url) as writer:
        with_study(writer)
    with Repository(url, read_only=True) as reader:
        assert reader.studies() == [STUDY]
    assert (tmp_path / "ü b#%.db").exists()


def test_a_text_file_is_no_database(url, tmp_path):
    (tmp_path / "nas.db").write_text("this is not a database, but a long enough text to be read as a header" * 20)
    with pytest.raises(NasError, match=r"file is not a database; .*nas.db is some other file: name another one"):
        Repository(url)


def test_the_database_of_another_program_is_left_alone(url, tmp_path):
    with closing(sqlite3.connect(tmp_path / "nas.db")) as connection:
        connection.execute("CREATE TABLE trials (id)")
    for call in (Repository, Repository.upgrade):
        with pytest.raises(NasError, match=r"holds tables of another program \(trials\); name another database"):
            call(url)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nas.db", "'nas.db' is not a database URL; write it like sqlite:///nas.db"),
        ("", "'' is not a database URL"),
        ("postgresql+psycopg://host:port/x", "is not a database URL"),
        ("mysql://host/x", "names the database 'mysql'; results are kept in sqlite"),
        ("unknown://host/x", "names a database that is not known here; results are kept in sqlite"),
        ("postgresql+pg8000://host/x", "names the driver 'pg8000'"),
    ],
)
def test_urls_are_checked(url, message):
    with pytest.raises(NasError, match=message):
        Repository(url)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(NasError, match=r"the folder .*/absent does not exist: create it"):
        Repository(f"sqlite:///{tmp_path}/absent/nas.db")
    with pytest.raises(NasError, match="is a folder: name a file in it"):
        Repository(f"sqlite:///{tmp_path}")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_a_folder_without_permission(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(NasError, match="you may not write to"):
        Repository(f"sqlite:///{folder}/nas.db")


def test_a_missing_driver_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(
        NasError, match=r"postgresql\+psycopg://nas:\*\*\*@127.0.0.1/x needs .* pip install nas\[postgresql\]"
    ):
        Repository("postgresql://nas:secret@127.0.0.1/x")


def test_a_server_that_does_not_answer():
    pytest.importorskip("psycopg")
    with pytest.raises(NasError, match="see that the server runs") as caught:
        Repository("postgresql+psycopg://nas:secret@127.0.0.1:9/x")
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


# --- versions


def set_version(path, version):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE nas_version SET version_num = ?", [version])


def test_another_version_is_refused_with_the_remedy(url, tmp_path):
    with Repository(url) as repository:
        assert repository.version() == tables.VERSION
    set_version(tmp_path / "nas.db", "0000")
    with pytest.raises(
        NasError,
        match="is of version 0000 and this package works with "
        rf"{tables.VERSION}; run: nas storage upgrade --storage sql",
    ):
        Repository(url)
    set_version(tmp_path / "nas.db", "9999")
    for call in (Repository, Repository.upgrade):
        with pytest.raises(
            NasError, match=rf"is of version 9999, newer than {tables.VERSION}.*; run: pip install --upgrade nas"
        ):
            call(url)


def test_upgrading_the_newest_changes_nothing(url, tmp_path):
    assert Repository.upgrade(url) == (None, tables.VERSION)
    with Repository(url) as repository:
        with_study(repository)
    assert Repository.upgrade(url) == (tables.VERSION, tables.VERSION)
    with Repository(url) as repository:
        assert repository.studies() == [STUDY]


def test_a_copy_of_the_file_is_the_database(url, tmp_path):
    with Repository(url) as repository:
        with_study(repository).append_evaluations("first", batch(0), "w", "d")
    shutil.copy(tmp_path / "nas.db", tmp_path / "copy.db")
    with Repository(f"sqlite:///{tmp_path}/copy.db") as copy:
        assert copy.evaluations("first") == batch(0)
        assert isinstance(copy.evaluations("first")[0].arch, Architecture)
