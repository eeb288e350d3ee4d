"""The time to read a study: its front in this process and by the command, and the start-up time of commands.

Databases of so many evaluations of a space of mobile networks, with four metrics, in SQLite. A front has two objectives
and one limit. Commands run in fresh processes, with the bytecode of all packages available. Processor seconds are
medians over the rounds; wall time is the best, because other load only adds to it.

    python -m benchmarks.reading [--rounds 7] [--sizes 10000 100000]
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")  # before numpy is imported

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console

from benchmarks.report import machine, markdown
from nas.records import Evaluation, SpaceRecord, StudyRecord
from nas.results import front
from nas.storage import Repository
from search_spaces.mobilenet import MobileNetSpace

RESULTS = Path("benchmarks/results/reading.md")
SPACE = MobileNetSpace()
PORTION = 5000


def fill(url: str, size: int) -> None:
    """Store a study whose front has some dozens of networks and of whose evaluations one in a hundred has failed."""
    rng = np.random.default_rng(0)
    archs = SPACE.sample_many(size, rng, uniform="choices", distinct=True)
    with Repository(url) as repository:
        repository.add_space(SpaceRecord(SPACE.digest, SPACE.name, SPACE.declaration()))
        limits = ("params <= 9e6",)
        repository.create_study(
            StudyRecord("study", SPACE.digest, None, ("error", "latency_ms@cpu"), limits, "random", 0)
        )
        for start in range(0, size, PORTION):
            found = []
            for arch in archs[start : start + PORTION]:
                cost = rng.uniform(1, 10)
                metrics = {"error": 1 / cost + rng.exponential(0.1), "latency_ms@cpu": cost, "params": cost * 1e6}
                metrics["macs"] = cost * 1e8
                failed = rng.uniform() < 0.01
                found.append(Evaluation(arch, {} if failed else metrics, "diverged" if failed else None, 1.0, "local"))
            repository.append_evaluations("study", found, "", "toy")


@dataclass(frozen=True)
class Taken:
    """Seconds of every round."""

    wall: list[float]
    processor: list[float]


def processor_seconds() -> float:
    """Processor seconds of this process and of those that it waited for."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def seconds(call: Callable[[], object], rounds: int) -> Taken:
    taken = Taken([], [])
    for _ in range(rounds):
        began, used = time.perf_counter(), processor_seconds()
        call()
        taken.wall.append(time.perf_counter() - began)
        taken.processor.append(processor_seconds() - used)
    return taken


def command(*arguments: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, "-m", "nas", *arguments], check=True, stdout=subprocess.DEVNULL)


def measured(rounds: int, sizes: Sequence[int], folder: Path) -> list[tuple[str, Taken]]:
    rows = [("nas --help", seconds(command("--help"), rounds))]
    for size in sizes:
        url = f"sqlite:///{folder / f'{size}.db'}"
        fill(url, size)
        with Repository(url, read_only=True) as repository:
            front.front(repository, "study")  # what is imported late is not counted
            rows.append((f"{size:,}: front, in process", seconds(lambda: front.front(repository, "study"), rounds)))
        for name in ("front study", "front study --json", "studies"):
            arguments = [*name.split(), "--storage", url]
            rows.append((f"{size:,}: nas {name}", seconds(command(*arguments), rounds)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measured(given.rounds, given.sizes, Path(folder))
    table = [[name, f"{median(taken.processor):.2f}", f"{min(taken.wall):.2f}"] for name, taken in rows]
    text = markdown(["what", "processor, s", "wall, s"], table)
    Console().print(text)
    told = (__doc__ or "").split("\n\n")[1].splitlines()
    load = f"{machine(threads=1)}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {given.rounds} rounds."
    RESULTS.write_text("\n".join(["# What reading a study costs", "", *told, "", load, "", text]), encoding="utf-8")


if __name__ == "__main__":
    main()
