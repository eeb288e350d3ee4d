"""Checks database URLs and shows them without secrets.

A valid URL is shown without its password, and only with settings whose values cannot be secrets. Messages about an
invalid URL repeat only known words, since any part of it may belong to a password.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus, unquote

import sqlalchemy as sa
from sqlalchemy import exc

from nas.errors import NasError

EXAMPLES = "sqlite:///nas.db or postgresql+psycopg://user@host/database"
_SQLITE = ("sqlite", "sqlite+pysqlite")
_POSTGRESQL = ("postgres", "postgresql", "postgresql+psycopg")
_OTHERS = frozenset({"mysql", "mariadb", "oracle", "mssql", "duckdb", "cockroachdb", "redshift", "snowflake"})
_OTHER_DRIVERS = frozenset({"psycopg2", "psycopg2cffi", "psycopg_async", "asyncpg", "pg8000", "aiosqlite"})
_HIDDEN = "***"

# The settings of libpq that a URL may have; those with a pattern are shown if their value matches it.
_SETTINGS: dict[str, str] = {
    "sslmode": "disable|allow|prefer|require|verify-ca|verify-full",
    "connect_timeout": r"\d{1,5}",
    "port": r"\d{1,5}",
    "host": r"/[\w./-]{1,200}",  # the folder of a socket
    **dict.fromkeys(
        """
        password passfile sslpassword sslkey sslcert sslrootcert sslcrl sslcrldir sslcompression sslsni sslnegotiation
        sslcertmode ssl_min_protocol_version ssl_max_protocol_version hostaddr user dbname client_encoding options
        application_name fallback_application_name keepalives keepalives_idle keepalives_interval keepalives_count
        tcp_user_timeout target_session_attrs channel_binding require_auth gssencmode krbsrvname gsslib gssdelegation
        load_balance_hosts requirepeer service
        """.split(),  # noqa: SIM905 - shorter than a list
        "",
    ),
}


def parsed(url: str) -> sa.URL:
    """Return the checked URL; `postgres://` and `postgresql://` select the psycopg driver.

    Raises:
        NasError: it is malformed, or its database or driver is not supported.
    """
    found = _made(url)
    if found is None:
        raise NasError(f"{_repeated(url)} is not a database URL; write it like {EXAMPLES}")
    backend, _, driver = found.drivername.partition("+")
    if backend not in ("sqlite", "postgres", "postgresql"):
        named = f"the database {backend!r}" if backend in _OTHERS else "a database that is not known here"
        raise NasError(f"the URL names {named}; results are kept in {EXAMPLES}")
    if found.drivername not in _SQLITE + _POSTGRESQL:
        named = f"the driver {driver!r}" if driver in _OTHER_DRIVERS else "a driver that is not known here"
        raise NasError(f"the URL names {named}; write it like {EXAMPLES}")
    wrong = _wrong_in_sqlite(found, url) if backend == "sqlite" else _wrong_in_postgresql(found, url)
    if wrong or _unprintable(url) or _unprintable(unquote(url)):
        raise NasError(f"the URL of {backend} {wrong or 'holds a character that cannot be printed: leave it out'}")
    return found if backend == "sqlite" else found.set(drivername="postgresql+psycopg")


def shown(url: sa.URL) -> str:
    """Return the URL without its password and without settings that may contain a secret."""
    query = {name: value for name, value in url.query.items() if not _is_hidden(name, value)}
    text = url.set(query=query).render_as_string(hide_password=True)
    return text if len(query) == len(url.query) else f"{text}{'&' if query else '?'}{_HIDDEN}"


def cleaned(error: BaseException, url: sa.URL) -> None:
    """Remove what `shown` hides from the messages of an error and its causes, where a driver may repeat it."""
    hidden = sorted(_secrets(url), key=len, reverse=True)
    for one in _chain(error):
        one.args = tuple(_without(hidden, part) if isinstance(part, str) else part for part in one.args)


def _made(url: str) -> sa.URL | None:
    try:
        return sa.make_url(url)
    except (exc.ArgumentError, ValueError, AttributeError):  # their messages repeat a part of it
        return None


def _repeated(url: str) -> str:
    """Return the text if it is a plain path, which helps to correct it; else a placeholder."""
    if isinstance(url, str) and re.fullmatch(r"[\w./\\ -]{0,200}", url):
        return repr(url)
    return "what was given (it may hold a password and is not repeated)"


def _wrong_in_sqlite(url: sa.URL, text: str) -> str | None:
    if url.host or url.username or url.password or url.port:
        return "names a host, which that database has not: write sqlite:/// and the path of a file"
    if url.query:
        return "has settings after '?', of which there are none: leave them out"
    if re.search("://.*:.*@", text, re.DOTALL):
        return "has ':' and '@' in its path, as if it held a password: name a file without them"
    return None


def _wrong_in_postgresql(url: sa.URL, text: str) -> str | None:
    if text.count("@") > 1:
        return "has more than one '@': write %40 for those within the user, the password or a setting"
    if url.host and not re.fullmatch(r"[\w.-]+|[0-9a-fA-F:.]+", url.host):
        return "names no host: write letters, digits, dots and dashes, or an IPv6 address in brackets"
    if set(url.database or "") & set("@:/?#"):
        return "has one of @ : / ? # in the name of its database: write postgresql://user:password@host/database"
    unknown = [name for name in url.query if name not in _SETTINGS]
    if unknown:
        return "has a setting after '?' that libpq does not know: write one that it does, as in ?sslmode=require"
    return None


def _unprintable(text: str) -> bool:
    return not text.isprintable()


def _is_hidden(name: str, value: str | tuple[str, ...]) -> bool:
    return not isinstance(value, str) or not re.fullmatch(_SETTINGS.get(name, ""), value)


def _secrets(url: sa.URL) -> Iterator[str]:
    """Yield the hidden texts, as they are and as quoted in a URL."""
    for value in (url.password, *(v for name, v in url.query.items() if _is_hidden(name, v))):
        for text in (value,) if isinstance(value, str) else value or ():
            yield from (form for form in (text, quote(text), quote(text, safe=""), quote_plus(text)) if form)


def _without(hidden: list[str], text: str) -> str:
    for secret in hidden:
        text = text.replace(secret, _HIDDEN)
    return text


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, its causes and contexts, and errors wrapped by SQLAlchemy, each once."""
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        todo += [one.__cause__, one.__context__, getattr(one, "orig", None)]
