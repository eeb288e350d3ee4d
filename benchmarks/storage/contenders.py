"""Ways to store an evaluation: ours and Optuna's, on SQLite and PostgreSQL, waiting for the disk or not.

An evaluation is an architecture of ten choices with two metrics. The architectures know their digests, as they do once
a searcher has asked for them.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import sqlalchemy as sa

from nas.records import Evaluation, Life, Origin, SpaceRecord, StudyRecord
from nas.storage import Repository
from search_spaces import Architecture, Space, choice

BATCH = 100
OURS, HUNDREDS = "ours, one a commit", f"ours, {BATCH} a commit"
ASK_AND_TELL, ADD_TRIAL = "Optuna, ask and tell", "Optuna, add_trial"
AS_IT_COMES = "Optuna, ask and tell, rollback journal"
_NAME = "benchmark"


class Ten(Space):
    resolution = choice(128, 160, 192, 224)
    width = choice(16, 24, 32, 40)
    depth = choice(2, 3, 4)
    kernel = choice(3, 5, 7)
    expansion = choice(3, 4, 6)
    heads = choice(2, 3, 4, 6)
    ratio = choice(2, 3, 4)
    activation = choice("relu", "gelu", "silu")
    squeeze = choice(False, True)
    patch = choice(2, 4, 8)


OPTIONS: dict[str, list[Any]] = {slot.path: list(slot.options) for slot in Ten().slots}


@dataclass(frozen=True)
class Contender:
    """`store(n)` stores n evaluations and returns the seconds that took."""

    database: str
    waits: bool
    """For the disk, at every commit."""
    way: str
    store: Callable[[int], float]
    num: int
    """How many are stored at once in every round."""


def architectures(seed: int) -> Iterator[Architecture]:
    """Distinct architectures that have their JSON and digest ready."""
    rng = np.random.default_rng(seed)
    seen: set[Architecture] = set()
    while True:
        for arch in Ten().sample_many(1000, rng):
            if arch not in seen:
                seen.add(arch)
                assert arch.digest
                yield arch


def evaluations(seed: int) -> Iterator[Evaluation]:
    return (
        Evaluation(arch, {"error": 0.1 + 1e-6 * i, "params": 1e5 + i}, None, 0.5, "")
        for i, arch in enumerate(architectures(seed))
    )


# --- ours


def ours(
    url: str, *, waits: bool, at_once: int = 1, origins: bool = False, driven: bool = False
) -> Callable[[int], float]:
    """Stores `at_once` a commit.

    Args:
        origins: whether it is told how each architecture was proposed, as a search does.
        driven: whether the study's lease is held, as in a search.
    """
    repository = Repository(url, synchronous="FULL" if waits else "NORMAL")
    repository.add_space(SpaceRecord(Ten().digest, "Ten", {}))
    repository.create_study(StudyRecord(_NAME, Ten().digest, None, ("error", "params"), (), "random", 0))
    if driven:
        repository.driving(_NAME).__enter__()
    found, positions = evaluations(0), count()
    life = Life(origin=Origin("a mutation of two", ("0123456789abcdef", "fedcba9876543210")))

    def store(num: int) -> float:
        rows = {next(positions): next(found) for _ in range(num)}
        lives = dict.fromkeys(rows, life) if origins else None
        places = list(rows)
        began = time.perf_counter()
        for start in range(0, num, at_once):
            portion = {place: rows[place] for place in places[start : start + at_once]}
            repository.store_evaluations(_NAME, portion, "weights", "data", lives)
        return time.perf_counter() - began

    return store


def bare_row(path: Path, *, waits: bool) -> Callable[[int], float]:
    """The least that SQLite does: a row of the same content in one table, without any index, in a commit of its own."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {'FULL' if waits else 'NORMAL'}")
    connection.execute("CREATE TABLE evaluations (architecture, error, params, seconds)")
    found = evaluations(0)

    def store(num: int) -> float:
        rows = [(one.arch.json(), *one.metrics.values(), one.seconds) for one in (next(found) for _ in range(num))]
        began = time.perf_counter()
        for row in rows:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO evaluations VALUES (?, ?, ?, ?)", row)
            connection.execute("COMMIT")
        return time.perf_counter() - began

    return store


# --- Optuna's


def optuna_study(url: str, *, waits: bool) -> optuna.Study:
    """A study in `RDBStorage`, which waits for the disk at every commit or does not."""
    storage = optuna.storages.RDBStorage(url)
    if storage.engine.dialect.name == "sqlite":
        level = "FULL" if waits else "NORMAL"
        listener = lambda connection, _: connection.execute(f"PRAGMA synchronous = {level}").close()  # noqa: E731
        sa.event.listen(storage.engine, "connect", listener)
        storage.engine.dispose()  # connections of before know nothing of it
        with storage.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == (2 if waits else 1)
    return optuna.create_study(
        storage=storage, sampler=optuna.samplers.RandomSampler(seed=0), directions=["minimize", "minimize"]
    )


def ask_and_tell(study: optuna.Study) -> Callable[[int], float]:
    def store(num: int) -> float:
        began = time.perf_counter()
        for i in range(num):
            trial = study.ask()
            for name, options in OPTIONS.items():
                trial.suggest_categorical(name, options)
            study.tell(trial, (0.1 + 1e-6 * i, 1e5 + i))
        return time.perf_counter() - began

    return store


def add_trial(study: optuna.Study) -> Callable[[int], float]:
    distributions: dict[str, optuna.distributions.BaseDistribution] = {
        name: optuna.distributions.CategoricalDistribution(options) for name, options in OPTIONS.items()
    }
    found = evaluations(0)

    def store(num: int) -> float:
        rows = [next(found) for _ in range(num)]
        trials = [
            optuna.trial.create_trial(
                params={name: one.arch[name] for name in OPTIONS},
                distributions=distributions,
                values=tuple(one.metrics.values()),
            )
            for one in rows
        ]
        began = time.perf_counter()
        for trial in trials:
            study.add_trial(trial)
        return time.perf_counter() - began

    return store


def in_wal(path: Path) -> str:
    """The URL of an empty database whose journal is a write-ahead log, as ours is."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    return f"sqlite:///{path}"


# --- all of them


def against_optuna(folder: Path, servers: dict[bool, str]) -> list[Contender]:
    """Ours and Optuna's on SQLite and, by whether its server waits for the disk, on PostgreSQL.

    Args:
        servers: URLs up to the name of the database; both databases of each server are made here.
    """
    found = [
        Contender(
            "SQLite", True, AS_IT_COMES, ask_and_tell(optuna_study(f"sqlite:///{folder}/plain.db", waits=True)), 1
        )
    ]
    for waits in (True, False):
        name = "waits" if waits else "goes-on"
        found += _ways("SQLite", waits, [in_wal(folder / f"{name}-{number}.db") for number in range(4)])
    for waits, server in servers.items():
        found += _ways("PostgreSQL", waits, [new_database(server, f"storage_{number}") for number in range(4)])
    return found


def _ways(database: str, waits: bool, urls: list[str]) -> list[Contender]:
    def of(way: str, store: Callable[[int], float], num: int) -> Contender:
        return Contender(database, waits, way, store, num)

    return [
        of(OURS, ours(urls[0], waits=waits), 10),
        of(HUNDREDS, ours(urls[1], waits=waits, at_once=BATCH), BATCH),
        of(ASK_AND_TELL, ask_and_tell(optuna_study(urls[2], waits=waits)), 1),
        of(ADD_TRIAL, add_trial(optuna_study(urls[3], waits=waits)), 1),
    ]


def of_the_schema(folder: Path) -> list[Contender]:
    """What an evaluation costs on SQLite beside a bare row, and with what a search stores of it besides."""
    found = []
    for waits in (True, False):
        place = folder / ("waits" if waits else "goes-on")
        found += [
            Contender("SQLite", waits, way, store, 10)
            for way, store in {
                "a bare row": bare_row(place.with_suffix(".bare"), waits=waits),
                "an evaluation": ours(f"sqlite:///{place}-0.db", waits=waits),
                "with its origin": ours(f"sqlite:///{place}-1.db", waits=waits, origins=True),
                "as in a search: with its origin, the lease held": ours(
                    f"sqlite:///{place}-2.db", waits=waits, origins=True, driven=True
                ),
            }.items()
        ]
    return found


def new_database(server: str, name: str) -> str:
    engine = sa.create_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return f"{server}/{name}"
