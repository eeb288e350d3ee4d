"""The repository on a PostgreSQL of its own, and the way from one version of the database to the next."""

import time
from contextlib import contextmanager
from itertools import count

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from nas.errors import NasError
from nas.migrations import opening, tables
from nas.storage import Repository
from nas.storage.copying import copy
from tests.contracts.repository import STUDY, RepositoryContract, batch, with_study
from tests.nas.postgresql import throw_away
from tests.nas.test_keeping import check_copies, content
from tests.nas.test_migrations import REVISIONS, check_upgrade

pytestmark = pytest.mark.slow


@contextmanager
def begun(url):
    """A transaction beside the repository's."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


@pytest.fixture(scope="session")
def server():
    """The URL of a throw-away PostgreSQL server, up to the name of the database."""
    with throw_away() as running:
        yield running.url


_numbers = count()


@pytest.fixture
def postgresql(server):
    """The URL of a new, empty database."""
    engine, name = sa.create_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT"), f"test_{next(_numbers)}"
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
        yield f"{server}/{name}"
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    engine.dispose()


class TestPostgreSQL(RepositoryContract):
    @pytest.fixture
    def url(self, postgresql):
        return postgresql

    def test_a_reader_never_writes(self, url):
        with pytest.raises(NasError, match="holds no results; start a study on it first"):
            Repository(url, read_only=True)
        with Repository(url) as writer, Repository(url, read_only=True) as reader:
            with_study(writer).append_evaluations("first", batch(0), "w", "d")
            assert reader.evaluations("first") == batch(0)
            with pytest.raises(NasError, match="was opened read-only"):
                reader.set_status("first", "x")
            with reader._engine.connect() as connection, pytest.raises(sa.exc.InternalError, match="read-only"):
                connection.execute(sa.delete(tables.studies))

    def test_the_short_form_of_the_url(self, url):
        with Repository(url.replace("+psycopg", "")) as repository:
            assert repository.version() == tables.VERSION

    def test_tables_of_others_are_tolerated_until_names_clash(self, url):
        with begun(url) as connection:
            connection.exec_driver_sql("CREATE TABLE invoices (id integer)")
        with Repository(url) as repository:
            assert repository.studies() == []

    def test_a_clash_of_names_is_refused(self, url):
        with begun(url) as connection:
            connection.exec_driver_sql("CREATE TABLE studies (id integer)")
        with pytest.raises(NasError, match=r"holds tables of another program \(studies\)"):
            Repository(url)

    def test_a_missing_database_is_named(self, server):
        with pytest.raises(NasError, match='database "absent" does not exist; see that the server runs') as caught:
            Repository(f"{server}/absent")
        assert "\n" not in str(caught.value)


def test_sqlite_is_copied_to_postgresql_and_back(postgresql, tmp_path):
    check_copies(f"sqlite:///{tmp_path}/here.db", postgresql)
    with Repository(postgresql) as source, Repository(f"sqlite:///{tmp_path}/back.db") as back:
        copy(source, back)
        assert content(back) == content(source)


# --- versions


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    return f"sqlite:///{tmp_path}/nas.db" if request.param == "sqlite" else request.getfixturevalue("postgresql")


def scripts():
    config = Config()
    config.set_main_option("script_location", "nas:migrations")
    return ScriptDirectory.from_config(config)


def test_new_databases_are_of_the_newest_version():
    assert scripts().get_heads() == [tables.VERSION]
    versions = [script.revision for script in scripts().walk_revisions()]
    assert versions == sorted(versions, reverse=True), "versions are compared as text"


def test_the_steps_lead_to_the_tables(url):
    with begun(url) as connection:
        opening._migrate(connection)
        context = MigrationContext.configure(
            connection, opts={"version_table": tables.version.name, "compare_server_default": True}
        )
        assert compare_metadata(context, tables.metadata) == []
    with Repository(url) as repository:
        with_study(repository).append_evaluations("first", batch(0), "w", "d")
        assert repository.evaluations("first") == batch(0)


def test_a_migrated_file_has_the_words_of_a_new_one(tmp_path):
    def schema(path):
        with begun(f"sqlite:///{path}") as connection:
            rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE name <> 'nas_version'").all()
        return {name: sorted((sql or "").replace(",", " ").replace('"', "").split()) for name, sql in rows}

    with begun(f"sqlite:///{tmp_path}/migrated.db") as connection:
        opening._migrate(connection)
    Repository(f"sqlite:///{tmp_path}/new.db").close()
    assert schema(tmp_path / "migrated.db") == schema(tmp_path / "new.db")


NEXT_VERSION = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "{next}", "{newest}"
branch_labels = depends_on = None

def upgrade():
    for name in ("studies", "architectures"):  # others refer to both, and SQLite can only copy and drop them
        with op.batch_alter_table(name) as table:
            table.add_column(sa.Column("note", sa.Text(), nullable=False, server_default=""))
    with op.batch_alter_table("studies") as studies:
        studies.alter_column("status", server_default="created")
    with op.batch_alter_table("architectures") as architectures:
        architectures.alter_column("json", server_default="")
    {more}
"""


NEWEST, NEXT = tables.VERSION, f"{int(tables.VERSION) + 1:04d}"


def write_next_version(folder, monkeypatch, more=""):
    (folder / "next.py").write_text(NEXT_VERSION.format(more=more, next=NEXT, newest=NEWEST))
    monkeypatch.setattr(tables, "VERSION", NEXT)
    monkeypatch.setattr(opening, "_VERSIONS", f"nas:migrations/versions\n{folder}")


@pytest.mark.parametrize("revision", REVISIONS)
def test_every_version_is_upgraded_with_its_data(postgresql, revision):
    check_upgrade(postgresql, revision)


def test_an_upgrade_keeps_every_row(url, tmp_path, monkeypatch):
    with Repository(url) as repository:
        with_study(repository).append_evaluations("first", batch(0, 1, 2), "w", "d")
    write_next_version(tmp_path, monkeypatch)
    with pytest.raises(
        NasError, match=f"version {NEWEST} and this package works with {NEXT}; run: nas storage upgrade "
    ):
        Repository(url)
    assert Repository.upgrade(url) == (NEWEST, NEXT)
    assert Repository.upgrade(url) == (NEXT, NEXT)
    with Repository(url) as repository:
        assert repository.studies() == [STUDY]
        assert repository.evaluations("first") == batch(0, 1, 2)
        repository.append_evaluations("first", batch(3), "w", "d")
    monkeypatch.undo()
    with pytest.raises(NasError, match=f"version {NEXT}, newer than {NEWEST}"):
        Repository(url)


def test_an_upgrade_that_fails_changes_nothing(url, tmp_path, monkeypatch):
    with Repository(url) as repository:
        with_study(repository).append_evaluations("first", batch(0, 1, 2), "w", "d")
    with monkeypatch.context() as patch:
        write_next_version(tmp_path, patch, more='op.execute("INSERT INTO nowhere VALUES (1)")')
        with pytest.raises(NasError, match="nowhere"):
            Repository.upgrade(url)
    with Repository(url) as repository:
        assert repository.version() == NEWEST
        assert repository.evaluations("first") == batch(0, 1, 2)


def test_a_long_study_is_written_and_read_in_seconds(url):
    with Repository(url) as repository:
        with_study(repository)
        started = time.perf_counter()
        for start in range(0, 1000, 100):
            repository.append_evaluations("first", batch(*range(start, start + 100)), "w", "d")
        assert len(repository.evaluations("first")) == 1000
        assert time.perf_counter() - started < 20
