"""Opens, creates and upgrades the database of a URL; errors become one line."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import exc

from nas.errors import NasError
from nas.migrations import tables
from nas.migrations.address import cleaned
from nas.migrations.address import parsed as parsed
from nas.migrations.address import shown as shown

_BUSY_SECONDS = 30
_TURN_S = 0.0005, 0.003  # range of pauses between attempts to become the writer
_AGEING_S, _HURRY = 0.01, 4.0  # wait after which attempts are twice as frequent, and the largest such factor
_CROWDED_S = 0.05  # after waiting for a turn, time for which other writers are assumed to wait
_WAITED = "waited"
# These settings detect a vanished server within half a minute instead of hours.
_VANISHED: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
_VERSIONS = "nas:migrations/versions"
_CREATION_LOCK = 7237363  # any number, the same for every process of this package


def engine(url: sa.URL, *, read_only: bool, synchronous: str, foreign_keys: bool = True) -> sa.Engine:
    """Return an engine whose transactions start as readers, or as writers with the execution option `writes=True`."""
    if url.get_backend_name() == "sqlite":
        return _sqlite(url, read_only, synchronous, foreign_keys)
    try:
        options = {"options": "-c default_transaction_read_only=on"} if read_only else {}
        return sa.create_engine(url, connect_args=_VANISHED | options)
    except ModuleNotFoundError as error:
        raise NasError(f"{shown(url)} needs the driver {error.name}; pip install nas[postgresql]") from error
    except exc.ArgumentError:  # its message may repeat a setting
        pass
    raise NasError(f"{shown(url)}: its hosts and ports do not fit together; write as many ports as hosts")


def _sqlite(url: sa.URL, read_only: bool, synchronous: str, foreign_keys: bool) -> sa.Engine:
    arguments: dict[str, Any] = {"timeout": _BUSY_SECONDS, "check_same_thread": False}
    if _in_memory(url):
        result = sa.create_engine(url, connect_args=arguments, poolclass=sa.StaticPool)
    elif read_only:
        path = Path(url.database or "").absolute()
        uri = f"file:{quote(str(path))}?mode=ro"
        result = sa.create_engine(
            "sqlite://", creator=lambda: sqlite3.connect(uri, uri=True, **arguments), poolclass=sa.QueuePool
        )
    else:
        result = sa.create_engine(url, connect_args=arguments)

    def connected(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # `begun` starts transactions, not the driver
        connection.execute(f"PRAGMA foreign_keys = {int(foreign_keys)}")
        if not read_only:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {synchronous}")

    def begun(connection: sa.Connection) -> None:
        # A writer takes the lock first: after a read, its snapshot could be stale, and SQLite would not let it wait.
        if connection.get_execution_options().get("writes", False):
            _begin_to_write(connection)
        else:
            connection.exec_driver_sql("BEGIN")

    sa.event.listen(result, "connect", connected)
    sa.event.listen(result, "begin", begun)
    return result


def _begin_to_write(connection: sa.Connection) -> None:
    """Start a transaction as the only writer; wait for other writers fairly.

    SQLite's own wait sleeps for increasing times, up to 0.1 s, during which a process that writes repeatedly always
    comes first. Here pauses are short and random and become shorter with the time waited, and a writer that had to wait
    for its last turn lets others go first.
    """
    held = connection.connection.driver_connection
    assert isinstance(held, sqlite3.Connection)
    held.execute("PRAGMA busy_timeout = 0")
    if time.monotonic() - connection.info.get(_WAITED, -_CROWDED_S) < _CROWDED_S:
        time.sleep(random.uniform(*_TURN_S))
    began = time.monotonic()
    try:
        while (error := _tried(held)) is not None:
            waited = time.monotonic() - began
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or waited >= _BUSY_SECONDS:
                raise exc.DBAPIError.instance("BEGIN IMMEDIATE", (), error, sqlite3.Error) from error
            connection.info[_WAITED] = time.monotonic()
            time.sleep(random.uniform(*_TURN_S) / min(1 + waited / _AGEING_S, _HURRY))
    finally:
        held.execute(f"PRAGMA busy_timeout = {round(1e3 * _BUSY_SECONDS)}")


def _tried(held: sqlite3.Connection) -> sqlite3.OperationalError | None:
    """Try to start as the writer; return the error, None if it succeeded."""
    try:
        held.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        return error
    return None


def _in_memory(url: sa.URL) -> bool:
    return url.database in (None, "", ":memory:")


@contextmanager
def one_line_errors(url: sa.URL, foreign_key_remedy: str | None = None) -> Iterator[None]:
    """Turn errors of the database into NasErrors; for a broken reference, with `foreign_key_remedy`, if given."""
    try:
        yield
    except exc.DBAPIError as error:
        cleaned(error, url)
        if foreign_key_remedy and isinstance(error, exc.IntegrityError) and "foreign key" in str(error.orig).lower():
            raise NasError(foreign_key_remedy) from error
        raise NasError(f"{shown(url)}: {_reason(error)}; {_remedy(url, error)}") from error


def _reason(error: exc.DBAPIError) -> str:
    return (str(error.orig).strip().splitlines() or [type(error.orig).__name__])[0]


def _remedy(url: sa.URL, error: exc.DBAPIError) -> str:
    if url.get_backend_name() != "sqlite":
        return "see that the server runs and that the URL's user, password and database are right"
    return _sqlite_remedy(Path(url.database or ""), _reason(error))


def _sqlite_remedy(path: Path, reason: str) -> str:
    folder = path.absolute().parent
    if not folder.is_dir():
        return f"the folder {folder} does not exist: create it or correct the URL"
    if path.is_dir():
        return f"{path} is a folder: name a file in it"
    if "not a database" in reason:
        return f"{path} is some other file: name another one"
    if "malformed" in reason:
        return f"{path} is damaged: bring it back from a copy"
    if "locked" in reason:
        return f"another process has been writing for {_BUSY_SECONDS} seconds: try again when it is done"
    if "full" in reason:
        return f"make room on the disk of {folder}"
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        return f"you may not write to {path} or its folder: change the permissions or use a copy elsewhere"
    if not path.exists():
        return f"{path} does not exist: correct the URL"
    return f"see whether {path} and its disk are in order"


# --- versions


def stored_version(connection: sa.Connection) -> str | None:
    """Return the version of the database; None if it has no tables of this package."""
    if not sa.inspect(connection).has_table(tables.version.name):
        return None
    version: str | None = connection.execute(sa.select(tables.version.c.version_num)).scalar()
    return version


def check_version(url: sa.URL, version: str) -> None:
    """Raise NasError unless the database has this package's version."""
    if version < tables.VERSION:
        older = f"is of version {version} and this package works with {tables.VERSION}"
        raise NasError(f"{shown(url)} {older}; run: nas storage upgrade --storage {shown(url)}")
    if version > tables.VERSION:
        newer = f"is of version {version}, newer than {tables.VERSION}, the last this package knows"
        raise NasError(f"{shown(url)} {newer}; run: pip install --upgrade nas (nas storage upgrade cannot go back)")


def create(connection: sa.Connection, url: sa.URL) -> str:
    """Create the tables in an empty database, unless another process has done so; return the version."""
    if connection.dialect.name == "postgresql":  # in SQLite, this process is the only writer
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CREATION_LOCK)))
    version = stored_version(connection)
    if version is None:
        refuse_foreign_tables(connection, url)
        tables.metadata.create_all(connection, checkfirst=False)
        tables.version.create(connection, checkfirst=False)
        connection.execute(sa.insert(tables.version), [{"version_num": tables.VERSION}])
    return version or tables.VERSION


def refuse_foreign_tables(connection: sa.Connection, url: sa.URL) -> None:
    """Raise NasError if another program uses the database: for SQLite any table, on a server tables of our names."""
    there = set(sa.inspect(connection).get_table_names())
    clash = there if connection.dialect.name == "sqlite" else there & set(tables.metadata.tables)
    if clash:
        raise NasError(
            f"{shown(url)} holds tables of another program ({', '.join(sorted(clash))}); name another database"
        )


def upgrade(url: sa.URL) -> tuple[str | None, str]:
    """Upgrade a database to `tables.VERSION` in one transaction; return the versions before and after."""
    # SQLite alters a table by dropping the old copy, which would delete all rows that refer to it.
    opened = engine(url, read_only=False, synchronous="FULL", foreign_keys=False)
    try:
        with one_line_errors(url), opened.execution_options(writes=True).begin() as connection:
            before = stored_version(connection)
            if before is None:
                create(connection, url)
            elif before < tables.VERSION:
                _migrate(connection)
                _check_references(connection, url)
            else:
                check_version(url, before)
            return before, tables.VERSION
    finally:
        opened.dispose()


def _migrate(connection: sa.Connection) -> None:
    """Run Alembic's steps up to `tables.VERSION` in the caller's transaction."""
    from alembic import command  # takes 0.1 s, which only an upgrade should spend
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "nas:migrations")
    config.set_main_option("version_locations", _VERSIONS)
    config.set_main_option("path_separator", "newline")
    command.upgrade(config, tables.VERSION)


def _check_references(connection: sa.Connection, url: sa.URL) -> None:
    if connection.dialect.name == "sqlite" and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").all()):
        table = broken[0][0]
        raise NasError(f"{shown(url)} has rows in {table} that refer to nothing, so it was left as it was; use a copy")
