"""The cost of one durable evaluation in our database and in Optuna's, on the same disk, in turns.

    python -m benchmarks.storage [--rounds 20] [--directory FOLDER]

An evaluation is an architecture of ten choices with two metrics. Ours uses `Repository.store_evaluations` with one
evaluation or one hundred per commit; the architectures have computed their digests, as after a searcher proposed them.
Optuna's uses `ask`, ten `suggest_categorical` and `tell` of a study with random sampling in `RDBStorage` and, as its
shortest way to store known results, `add_trial`. Every round runs all of them, so that other load slows all equally;
figures are medians of wall time over the rounds, with quartiles. Optuna waits for the disk at every commit, so its ways
(the faster of its journals for `ask` and `tell`) are compared with our ways that wait too; our default does not wait,
because a search evaluates again what a power cut has lost.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from rich.console import Console
from rich.table import Table

from nas.records import Evaluation, SpaceRecord, StudyRecord
from nas.storage import Repository
from search_spaces import Architecture, Space, choice

BATCH = 100
RESULTS = Path(__file__).parent / "results" / "storage.md"


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
class Way:
    """A way to store evaluations: `store(n)` makes n of them durable and returns the seconds."""

    name: str
    commits: str
    durability: str
    store: Callable[[int], float]
    num: int


@dataclass(frozen=True)
class Row:
    name: str
    commits: str
    durability: str
    median_ms: float
    quartiles_ms: tuple[float, float]
    num_timed: int


def architectures(seed: int) -> Iterator[Architecture]:
    """Distinct architectures with precomputed JSON and digest."""
    rng = np.random.default_rng(seed)
    seen: set[Architecture] = set()
    while True:
        for arch in Ten().sample_many(1000, rng):
            if arch not in seen:
                seen.add(arch)
                assert arch.digest
                yield arch


def ours(url: str, synchronous: Literal["NORMAL", "FULL"], archs: Iterator[Architecture]) -> Callable[[int], float]:
    repository = Repository(url, synchronous=synchronous)
    space = Ten()
    repository.add_space(SpaceRecord(space.digest, space.name, {}))
    repository.create_study(StudyRecord("benchmark", space.digest, None, ("error", "params"), (), "random", 0))
    position = 0

    def store(num: int) -> float:
        nonlocal position
        evaluations = [
            Evaluation(next(archs), {"error": 0.1 + 1e-4 * i, "params": 1e5 + i}, None, 0.5, "") for i in range(num)
        ]
        started = time.perf_counter()
        repository.store_evaluations("benchmark", dict(enumerate(evaluations, start=position)), "weights", "data")
        taken = time.perf_counter() - started
        position += num
        return taken

    return store


def optuna_study(url: str) -> optuna.Study:
    return optuna.create_study(
        storage=optuna.storages.RDBStorage(url),
        sampler=optuna.samplers.RandomSampler(seed=0),
        directions=["minimize", "minimize"],
    )


def ask_and_tell(url: str) -> Callable[[int], float]:
    study = optuna_study(url)

    def store(num: int) -> float:
        started = time.perf_counter()
        for i in range(num):
            trial = study.ask()
            for name, options in OPTIONS.items():
                trial.suggest_categorical(name, options)
            study.tell(trial, (0.1 + 1e-4 * i, 1e5 + i))
        return time.perf_counter() - started

    return store


def add_trial(url: str, archs: Iterator[Architecture]) -> Callable[[int], float]:
    study = optuna_study(url)
    distributions: dict[str, optuna.distributions.BaseDistribution] = {
        name: optuna.distributions.CategoricalDistribution(options) for name, options in OPTIONS.items()
    }

    def store(num: int) -> float:
        params = [{name: next(archs)[name] for name in OPTIONS} for _ in range(num)]
        started = time.perf_counter()
        for i, values in enumerate(params):
            study.add_trial(
                optuna.trial.create_trial(params=values, distributions=distributions, values=(0.1 + 1e-4 * i, 1e5 + i))
            )
        return time.perf_counter() - started

    return store


def ways(folder: Path) -> list[Way]:
    def url(name: str) -> str:
        return f"sqlite:///{folder / name}.db"

    wal = folder / "optuna-wal.db"
    with closing(sqlite3.connect(wal)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    single, batches = "each", f"every {BATCH}"
    process, power = "WAL, NORMAL: process killed", "WAL, FULL: power cut"
    return [
        Way("ours", single, process, ours(url("ours-1-normal"), "NORMAL", architectures(1)), 1),
        Way("ours", single, power, ours(url("ours-1-full"), "FULL", architectures(2)), 1),
        Way("ours", batches, process, ours(url("ours-100-normal"), "NORMAL", architectures(3)), BATCH),
        Way("ours", batches, power, ours(url("ours-100-full"), "FULL", architectures(4)), BATCH),
        Way("Optuna, ask and tell", "many", "rollback journal, FULL: power cut", ask_and_tell(url("optuna")), 1),
        Way("Optuna, ask and tell", "many", power, ask_and_tell(f"sqlite:///{wal}"), 1),
        Way(
            "Optuna, add_trial", "few", "rollback journal, FULL: power cut", add_trial(url("add"), architectures(5)), 1
        ),
    ]


def measure(folder: Path, rounds: int) -> list[Row]:
    every = ways(folder)
    times: list[list[float]] = [[] for _ in every]
    for way in every:
        way.store(way.num)  # first uses prepare statements
    for _ in range(rounds):
        for way, taken in zip(every, times, strict=True):
            taken.extend(way.store(way.num) / way.num * 1e3 for _ in range(3))
    return [
        Row(w.name, w.commits, w.durability, statistics.median(t), _quartiles(t), w.num * len(t))
        for w, t in zip(every, times, strict=True)
    ]


def _quartiles(times: list[float]) -> tuple[float, float]:
    low, _, high = statistics.quantiles(times, n=4)
    return low, high


def fsync_ms(folder: Path) -> float:
    """Milliseconds to make 4 KiB durable on this disk: a lower bound for any commit that survives a power cut."""
    times = []
    with (folder / "fsync").open("wb") as file:
        for _ in range(50):
            file.write(bytes(4096))
            file.flush()
            started = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e3


def report(rows: list[Row], surroundings: str) -> str:
    """Return the rows as Markdown; ways that survive a power cut are compared with Optuna's, which do too."""
    asked, added = rows[5].median_ms, rows[6].median_ms
    lines = [
        "# What a durable evaluation costs",
        "",
        *(line.strip() for line in (__doc__ or "").strip().splitlines()[4:]),
        "",
        surroundings,
        "",
        "| storage | commits | survives | ms an evaluation | quartiles | against ask and tell | against add_trial |",
        "|---|---|---|--:|--:|--:|--:|",
    ]
    for row in rows:
        low, high = row.quartiles_ms
        lines.append(
            f"| {row.name} | {row.commits} | {row.durability} | {row.median_ms:.3f} | {low:.3f} to {high:.3f} "
            f"| {_times(row, asked)} | {_times(row, added)} |"
        )
    figures = json.dumps([asdict(row) for row in rows])
    return "\n".join([*lines, "", "The figures as JSON:", "", "```json", figures, "```", ""])


def _times(row: Row, other_ms: float) -> str:
    """How many times faster a way is; only equally durable ways are compared."""
    return f"{other_ms / row.median_ms:,.1f} x" if "FULL" in row.durability else "not as durable"


def show(rows: list[Row], surroundings: str) -> None:
    table = Table("storage", "commits", "survives", title="ms a durable evaluation", caption=surroundings)
    for heading in ("median", "quartiles", "against ask and tell"):
        table.add_column(heading, justify="right")
    for row in rows:
        low, high = row.quartiles_ms
        table.add_row(
            row.name,
            row.commits,
            row.durability,
            f"{row.median_ms:.3f}",
            f"{low:.3f} to {high:.3f}",
            _times(row, rows[5].median_ms),
        )
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="rounds, three timings of each way in every one")
    parser.add_argument(
        "--directory", type=Path, help="where the databases lie; the system's temporary folder if absent"
    )
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory(dir=arguments.directory) as name:
        rows, sync = measure(Path(name), arguments.rounds), fsync_ms(Path(name))
    surroundings = (
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; fsync of 4 KiB {sync:.2f} ms; Python "
        f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}, Optuna {optuna.__version__}; "
        f"{arguments.rounds} rounds."
    )
    show(rows, surroundings)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(report(rows, surroundings), encoding="utf-8")


if __name__ == "__main__":
    main()
