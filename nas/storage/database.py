"""Opens, upgrades and closes the database, and starts its transactions."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, Self

import sqlalchemy as sa
from sqlalchemy import exc

from nas.errors import NasError
from nas.migrations import DEFAULT_URL, opening
from nas.storage.patience import PATIENCE_S
from nas.storage.sealed import damaged


class Database:
    """A database in this package's version, with its transactions.

    It creates a missing database. Writers of different processes take turns; each waits up to 30 seconds.

    Args:
        url: SQLAlchemy URL. `sqlite://` is a database in memory, for one thread.
        read_only: open an existing database and never write, to read while a study runs.
        patience: seconds for which a call waits for a database that stops answering; read-only ones do not wait.
        synchronous: when SQLite waits for the disk; see `nas.storage`. PostgreSQL has its own settings.

    Raises:
        NasError: the database cannot be opened, or has a different version from this package.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        read_only: bool = False,
        synchronous: Literal["NORMAL", "FULL"] = "NORMAL",
        patience: float = PATIENCE_S,
    ) -> None:
        if synchronous not in ("NORMAL", "FULL"):
            raise NasError(f"synchronous is {synchronous!r}; it is 'NORMAL' or 'FULL'")
        self._url = opening.parsed(url)
        self.url = opening.shown(self._url)
        self.read_only = read_only
        self.patience = 0.0 if read_only else patience
        self.has_given_up = False
        self._in_memory = self._url.database in (None, "", ":memory:") and self._url.get_backend_name() == "sqlite"
        self._engine = opening.engine(self._url, read_only=read_only, synchronous=synchronous)
        self._inserter = _inserter(self._engine.dialect.name)
        self._writer = self._engine.execution_options(writes=True)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all connections; the next call opens new ones."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    # --- versions

    def version(self) -> str:
        """Return the version of the database, which is also this package's."""
        with self._reading() as connection:
            return opening.stored_version(connection) or ""

    @staticmethod
    def upgrade(url: str = DEFAULT_URL) -> tuple[str | None, str]:
        """Upgrade a database to this package's version, in one transaction; return the versions before and after.

        This creates a missing database and leaves a current one unchanged.

        Raises:
            NasError: the database cannot be opened, or a newer version of this package wrote it.
        """
        return opening.upgrade(opening.parsed(url))

    def _open(self) -> None:
        with self._reading() as connection:
            version = opening.stored_version(connection)
        if version is None and self.read_only:
            raise NasError(f"{self.url} holds no results; start a study on it first, or correct the URL")
        if version is None:
            with self._writing() as connection:
                version = opening.create(connection, self._url)
        opening.check_version(self._url, version)

    # --- transactions

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        try:
            with opening.one_line_errors(self._url), self._engine.begin() as connection:
                yield connection
        except UnicodeDecodeError:
            raise damaged("a text", self.url) from None

    @contextmanager
    def _writing(self, foreign_key_remedy: str | None = None) -> Iterator[sa.Connection]:
        with opening.one_line_errors(self._url, foreign_key_remedy), self._begin_write() as connection:
            yield connection

    @contextmanager
    def _begin_write(self) -> Iterator[sa.Connection]:
        if self.read_only:
            raise NasError(f"{self.url} was opened read-only; open it with read_only=False to write")
        with self._writer.begin() as connection:
            yield connection

    def _fetch(self, connection: sa.Connection, query: sa.Select[Any], parameters: dict[str, Any]) -> Sequence[Any]:
        """Return the driver's own rows, for large results: SQLAlchemy's rows take a third longer."""
        compiled = query.compile(dialect=connection.dialect)
        names = getattr(compiled, "positiontup", None)
        values = parameters if names is None else tuple(parameters[name] for name in names)
        cursor = connection.exec_driver_sql(str(compiled), values).cursor
        driver = connection.dialect.loaded_dbapi.Error
        try:
            return cursor.fetchall() if cursor else []
        except driver as error:
            raise exc.DBAPIError.instance(str(compiled), values, error, driver) from error

    def _insert_new(self, table: sa.Table, *key: str) -> sa.Insert:
        """Return an insertion that skips rows whose key exists."""
        insert = self._inserter(table)
        statement: sa.Insert = insert.on_conflict_do_nothing(index_elements=key or table.primary_key.columns.keys())
        return statement

    def _insert_or_update(self, table: sa.Table) -> sa.Insert:
        """Return an insertion that overwrites rows whose key exists."""
        insert = self._inserter(table)
        values = {column.name: insert.excluded[column.name] for column in table.columns if not column.primary_key}
        statement: sa.Insert = insert.on_conflict_do_update(
            index_elements=table.primary_key.columns.keys(), set_=values
        )
        return statement


def _inserter(dialect: str) -> Callable[[sa.Table], Any]:
    """Return the dialect's `insert`, which supports conflict clauses, without loading the other dialect."""
    if dialect == "sqlite":
        from sqlalchemy.dialects.sqlite import insert
    else:
        from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]
    return insert


class Prepared:
    """An insertion that is compiled once and that the driver runs directly.

    SQLAlchemy takes longer to process a row of parameters than SQLite takes to store it.
    """

    def __init__(self, statement: sa.Insert, columns: Sequence[str], dialect: sa.Dialect) -> None:
        compiled = statement.inline().compile(dialect=dialect, column_keys=list(columns))
        self._sql = str(compiled)
        self._names: list[str] | None = getattr(compiled, "positiontup", None)

    def __call__(self, connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
        if self._names is None:
            connection.exec_driver_sql(self._sql, list(rows))
        else:
            pick = operator.itemgetter(*self._names)
            connection.exec_driver_sql(self._sql, [pick(row) for row in rows])
