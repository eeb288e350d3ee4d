"""Make a truth table: train every architecture of a small space alone, with each seed.

    python -m benchmarks.truth image|text [--seeds 0 1] [--processes 2] [--out FOLDER]

A table grows line by line and goes on where it was stopped. Seconds are of processor time, one thread a training.
"""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.truth import TASKS, load
from benchmarks.truth.table import FOLDER, Row, append, begun, growing, spelled
from benchmarks.truth.task import TruthError, TruthTask
from nas.errors import NasError
from search_spaces import Architecture
from supernets.calibrate import NUM_BATCHES, recalibrate
from supernets.profile import profile_network
from supernets.skeleton import build_initialised
from supernets.training import train_network

Job = tuple[Architecture, int]


def measure(task: TruthTask, arch: Architecture, seed: int) -> Row:
    """Train one architecture alone and judge it as `supernets.ranking` does; the seed is of weights and of data."""
    began = time.process_time()
    module = build_initialised(task.build, arch, seed)
    train_network(module, task.task, replace(task.training, seed=seed), progress=False)
    recalibrate(module, task.task.calibration(NUM_BATCHES))
    metrics = task.task.evaluate(module)
    seconds = time.process_time() - began
    cost = profile_network(module, task.task.example())
    codes = spelled(task.space.codes([arch])[0])
    return Row(codes, arch.digest, seed, metrics["error"], metrics["loss"], cost.params, cost.macs, seconds)


def make(task: TruthTask, path: Path, seeds: Iterable[int], processes: int = 1) -> None:
    """Train what the table at `path` has not yet, and add it, in the order of the space."""
    done = {(row.digest, row.seed) for row in begun(path, task)}
    every = [(arch, seed) for arch in task.space.enumerate() for seed in seeds]
    jobs = [(arch, seed) for arch, seed in every if (arch.digest, seed) not in done]
    with growing(path) as file, _trained(task, jobs, processes) as rows:
        for row in _watched(rows, task.name, len(every) - len(jobs), len(every)):
            append(file, row)


@contextmanager
def _trained(task: TruthTask, jobs: list[Job], processes: int) -> Iterator[Iterable[Row]]:
    """The rows of the jobs, in order, as they come."""
    if processes == 1:
        yield (measure(task, *job) for job in jobs)
        return
    # Forked processes have the data, and all that is imported, from the start.
    with multiprocessing.get_context("fork").Pool(processes, _remember, (task,)) as pool:
        yield pool.imap(_measure_remembered, jobs)


_remembered: list[TruthTask] = []
"""Of a worker process: the task, which is too large to be sent with every job."""


def _remember(task: TruthTask) -> None:
    torch.set_num_threads(1)
    _remembered.append(task)


def _measure_remembered(job: Job) -> Row:
    return measure(_remembered[-1], *job)


def _watched(rows: Iterable[Row], title: str, done: int, total: int) -> Iterator[Row]:
    """The rows, with a bar where stderr is a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    began = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        shown = bar.add_task(f"truth of {title}", total=total, completed=done, rate="")
        for number, row in enumerate(rows, 1):
            yield row
            rate = 60 * number / max(time.monotonic() - began, 1e-9)
            bar.update(shown, completed=done + number, rate=f"{rate:.1f} trainings/min")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.truth", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", choices=list(TASKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--processes", type=int, default=1, help="trainings side by side, one thread each")
    parser.add_argument("--out", type=Path, default=FOLDER, help="where the table lies; beside the script if absent")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try:
        make(load(arguments.name), arguments.out / f"{arguments.name}.csv", arguments.seeds, arguments.processes)
    except (TruthError, NasError) as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
