"""The parts of the benchmark: each is measured in rounds, in which all contenders take turns."""

from __future__ import annotations

import os
import platform
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import optuna
import sqlalchemy as sa

from benchmarks.postgresql import Server, missing
from benchmarks.storage import contenders
from benchmarks.storage.contenders import Contender
from benchmarks.storage.writers import WRITERS, written

Row = dict[str, Any]


def alone(rounds: int, folder: Path) -> list[Row]:
    """One process: ours and Optuna's."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with _servers() as servers:
        return _in_turns(contenders.against_optuna(folder, servers), rounds)


def schema(rounds: int, folder: Path) -> list[Row]:
    """One process: what an evaluation costs beside a bare row."""
    return _in_turns(contenders.of_the_schema(folder), rounds)


def writers(rounds: int, folder: Path, evaluations: int = 10_000) -> list[Row]:
    """Eight processes at once, `evaluations` in all; one round for twenty of the others."""
    rows = []
    with _servers() as servers:
        for number in range(max(1, rounds // 20)):
            for waits in (True, False):
                places = {"SQLite": f"sqlite:///{folder}/writers-{waits}-{number}.db"}
                if waits in servers:
                    places["PostgreSQL"] = contenders.new_database(servers[waits], f"writers_{number}")
                for database, url in places.items():
                    found = written(url, WRITERS, evaluations // WRITERS, waits=waits)
                    rows.append(
                        {"database": database, "waits": waits, "errors": found.errors}
                        | {"rate": len(found.seconds) / found.wall_s, "count": len(found.seconds)}
                        | {f"p{share:g}": found.ms(share / 100) for share in (50, 90, 99, 99.9, 100)}
                    )
    return rows


PARTS: dict[str, Callable[[int, Path], list[Row]]] = {"alone": alone, "schema": schema, "writers": writers}


def measured(part: str, rounds: int, directory: Path | None) -> Row:
    """The figures of a part, with the machine that they are of."""
    with tempfile.TemporaryDirectory(dir=directory) as name:
        load, began = os.getloadavg()[0], time.monotonic()
        rows = PARTS[part](rounds, Path(name))
        sync = fsync_ms(Path(name))
    versions = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, Optuna {optuna.__version__}"
    machine = f"{os.cpu_count()} cores, load {load:.1f} before; fsync of 4 KiB {sync:.2f} ms; {versions}"
    return {"part": part, "machine": machine, "took_s": round(time.monotonic() - began), "rounds": rounds, "rows": rows}


def fsync_ms(folder: Path) -> float:
    """What it costs to make 4 KiB durable on this disk, the floor of any commit that survives a power cut."""
    times = []
    with (folder / "fsync").open("wb") as file:
        for _ in range(50):
            file.write(bytes(4096))
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return median(times) * 1e3


def _in_turns(those: Sequence[Contender], rounds: int) -> list[Row]:
    """Milliseconds an evaluation, of every contender in every round."""
    for one in those:
        one.store(one.num)  # first uses prepare statements
    times: list[list[float]] = [[] for _ in those]
    for number in range(rounds):
        for place in range(len(those)):
            at = (place + number) % len(those)  # nobody is always the one after the slowest
            times[at].append(1e3 * those[at].store(those[at].num) / those[at].num)
    return [
        {"database": one.database, "waits": one.waits, "way": one.way, "ms": took}
        for one, took in zip(those, times, strict=True)
    ]


@contextmanager
def _servers() -> Iterator[dict[bool, str]]:
    """By whether it waits for the disk, the URL of a PostgreSQL server; none where it is not installed."""
    if lacking := missing():
        print(f"PostgreSQL is left out: this machine {lacking}")
        yield {}
        return
    with ExitStack() as stack:
        found = {}
        for waits in (True, False):
            server = stack.enter_context(Server.throw_away(waits_for_disk=True))
            found[waits] = server.url
            if not waits:
                _lets_commits_go_on(server.url)
        yield found


def _lets_commits_go_on(server: str) -> None:
    """As SQLite's NORMAL: the last commits may be lost in a power cut, and nothing is damaged."""
    engine = sa.create_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("ALTER SYSTEM SET synchronous_commit = off")
        connection.exec_driver_sql("SELECT pg_reload_conf()")
    engine.dispose()
