"""A secret in a database's URL is in no text that comes of it: messages, chained errors, representations, output."""

import logging
import sqlite3
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas.commands import session
from nas.errors import NasError
from nas.migrations import opening
from nas.storage import Repository
from tests.nas.command import Nas, caller

CLOSED = "127.0.0.1:9"  # a port where nobody listens
SHAPES = {
    "right": f"postgresql+psycopg://u:{{}}@{CLOSED}/db",
    "without a driver": f"postgresql://u:{{}}@{CLOSED}/db",
    "the old word": f"postgres://u:{{}}@{CLOSED}/db",
    "no user": f"postgresql://:{{}}@{CLOSED}/db",
    "unknown driver": "postgresql+pg8000://u:{}@h/db",
    "driver that nobody knows": "postgresql+{}://u:{}@h/db",
    "unknown database": "mysql://u:{}@h/db",
    "database that nobody knows": "{}://u:{}@h/db",
    "sqlite with a user": "sqlite://u:{}@h/db",
    "sqlite with a user in its path": "sqlite:///u:{}@h/db",
    "sqlite with a setting": "sqlite:///nas.db?password={}",
    "port of words": "postgresql://u:{}@h:port/db",
    "port is the secret": "postgresql://u@h:{}/db",
    "no slashes": "postgresql:u:{}@h/db",
    "one slash": "postgresql:/u:{}@h/db",
    "no scheme": "u:{}@h/db",
    "libpq's words": "host=h password={}",
    "at sign within": f"postgresql://u:x@{{}}@{CLOSED}/db",
    "at sign and slash within": "postgresql://u:x@{}/y@h/db",
    "at sign and question mark within": "postgresql://u:x@{}?y@h/db",
    "slash within": f"postgresql://u:x/{{}}@{CLOSED}/db",
    "in the database": "postgresql://h/db:{}@x",
    "after the database": "postgresql://h/u:{}@db",
    "in the host": "postgresql://u:x@h {}/db",
    "broken bracket": "postgresql://u:{}@[h/db",
    "null": "postgresql://u:{}%00@h/db",
    "line ends": "postgresql://u:{}\n@h/db",
    "line ends in the host": f"postgresql://u:{{}}@{CLOSED}\n/db",
    "half a letter": "postgresql://u:{}\udc80@h/db",
    **{
        f"setting {name}": f"postgresql://u@{CLOSED}/db?{name}={{}}"
        for name in ("password", "sslpassword", "sslmode", "port", "options", "service", "host", "plugin", "passwort")
    },
    "setting among others": f"postgresql://u@{CLOSED}/db?sslmode=disable&password={{}}&connect_timeout=1",
    "setting without a name": f"postgresql://u@{CLOSED}/db?={{}}",
    "setting without a value": f"postgresql://u@{CLOSED}/db?{{}}",
    "name of a setting": f"postgresql://u@{CLOSED}/db?{{}}=1",
    "after a hash": f"postgresql://u@{CLOSED}/db#{{}}",
}
# Letters that no message has in this order, and what passwords are made of besides.
secrets = st.builds(
    lambda head, middle, tail: f"qZ{head}{middle}{tail}xJ",
    st.text("abc0", min_size=2, max_size=4),
    st.text("!$&'()*+,;=:/?#[]@%. ~ü", max_size=4),
    st.text("abc0", min_size=2, max_size=4),
)


def places(url: str) -> Iterator[Callable[[], object]]:
    """All that is made of an address and may be printed, logged or stored."""
    yield lambda: Repository(url)
    yield lambda: Repository(url, read_only=True)
    yield lambda: Repository.upgrade(url)
    yield lambda: opening.shown(opening.parsed(url))
    yield lambda: session.places(url)


def texts(error: BaseException | None) -> Iterator[str]:
    """All that an error and those it came from say."""
    while error is not None:
        yield from (str(error), repr(error), repr(error.args), *traceback.format_exception(error))
        yield from texts(error.__cause__)
        error = error.__context__


def told(make: Callable[[], object]) -> Iterator[str]:
    try:
        made = make()
        yield from (str(made), repr(made))
        if isinstance(made, Repository):
            made.close()
    except NasError as error:
        assert "\n" not in str(error)
        yield from texts(error)


def holds(text: str, secret: str) -> bool:
    """Whether a text has the secret, also percent-encoded, or as much of it as its letters at the head or the tail."""
    return any(part in text for part in (secret, quote(secret), quote(secret, safe=""), secret[:4], secret[-4:]))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(secret=secrets, encoded=st.booleans())
def test_no_text_of_any_address_has_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str, secret: str, encoded: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    url = shape.replace("{}", quote(secret, safe="") if encoded else secret)
    for make in places(url):
        for text in told(make):
            assert not holds(text, secret), (url, text)


@pytest.fixture
def nas_(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Nas]:
    monkeypatch.chdir(tmp_path)
    level = logging.getLogger("nas").level
    yield caller(monkeypatch, capsys)
    logging.getLogger("nas").setLevel(level)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_command_prints_no_secret(nas_: Nas, monkeypatch: pytest.MonkeyPatch, shape: str) -> None:
    secret = "qZabc!0xJ"
    url = shape.replace("{}", secret)
    commands = [["studies", "--storage", url], [f"--storage={url}"], ["studies", url], ["front", url], [url]]
    commands += [["studies", f"--storagee={url}"], ["search", url], ["storage", "upgrade", "--storage", url]]
    for command in commands if "@" in url and "://" in url else commands[::7]:
        answer = nas_(*command)
        assert answer.status in (1, 2) and not holds(answer.out + answer.err, secret), answer
    monkeypatch.setenv("NAS_STORAGE", url.encode("utf-8", "surrogateescape").replace(b"\0", b"").decode("latin-1"))
    for command in (["studies"], ["studies", "--help"], ["storage", "upgrade"]):
        answer = nas_(*command)
        assert not holds(answer.out + answer.err, secret), answer
    with pytest.raises(NasError) as caught:
        nas_("--verbose", "studies", "--storage", url)
    assert not [text for text in texts(caught.value) if holds(text, secret)]


def test_a_url_elsewhere_is_told_its_place(nas_: Nas) -> None:
    answer = nas_("studies", "postgresql://u:secret@h/db")
    assert answer.err == (
        "error: a database URL stands where none is asked for; write it after --storage, or in NAS_STORAGE\n"
    )


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_the_words_for_postgresql_mean_its_driver(scheme: str) -> None:
    assert opening.parsed(f"{scheme}://u:p@h/db").drivername == "postgresql+psycopg"


@pytest.mark.parametrize(
    ("query", "rest"),
    [
        ("?sslmode=require", "?sslmode=require"),
        ("?host=/var/run/postgresql&connect_timeout=5", "?connect_timeout=5&host=%2Fvar%2Frun%2Fpostgresql"),
        ("?sslmode=require&sslpassword=x", "?sslmode=require&***"),
        ("?password=x", "?***"),
        ("?host=a&host=b", "?***"),
        ("", ""),
    ],
)
def test_settings_that_are_no_secrets_are_shown(query: str, rest: str) -> None:
    assert opening.shown(opening.parsed(f"postgresql://u:p@h/db{query}")) == f"postgresql+psycopg://u:***@h/db{rest}"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite://nas.db", "the URL of sqlite names a host, .*: write sqlite:/// and the path of a file"),
        ("sqlite:///nas.db?mode=ro", "the URL of sqlite has settings after '\\?', of which there are none"),
        ("postgresql://u:a@b@h/db", "has more than one '@': write %40"),
        ("postgresql://h/db?sslmod=require", "libpq does not know: write one that it does"),
    ],
)
def test_what_is_wrong_is_said_without_repeating_it(url: str, message: str) -> None:
    with pytest.raises(NasError, match=message):
        opening.parsed(url)


def test_a_file_named_like_an_address_is_left_alone(tmp_path: Path) -> None:
    place = tmp_path / "a@b, c d"
    place.mkdir()
    Repository(f"sqlite:///{place}/nas.db").close()
    with sqlite3.connect(place / "nas.db") as connection:
        assert connection.execute("select count(*) from studies").fetchone() == (0,)
    connection.close()
