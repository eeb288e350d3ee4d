"""One search for twelve devices compared with a search for each, on published tables.

NAS-Bench-201, error on CIFAR-100 after 200 epochs, and the latency of twelve devices. One study with a target per
device has 300 evaluations in total; separate searches have 25 each, the same total, or 300 each, twelve times as many.
The score is the hypervolume of each device's front as a share of that of its true front, as in
`benchmarks.search_tables`. With "known" latencies, searches know them before evaluation, as from a perfect predictor;
otherwise they learn them from their evaluations.

    python -m benchmarks.many_targets DATA_FOLDER [--seeds 5] [--processes 1] [--report]

Finished rows are appended to benchmarks/results/many_targets.jsonl; the script resumes from there.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")  # before numpy is imported

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.report import machine, markdown
from benchmarks.rows import append, missing, read
from benchmarks.search_tables.problems import CIFAR100, Problem, cells
from benchmarks.work import done, exit_status, reporting
from nas.objectives.aims import for_targets, latency
from nas.records import Evaluation
from nas.searchers import SurrogateSearch
from search_spaces import Architecture

RESULTS = Path("benchmarks/results/many_targets.jsonl")
DEVICES = (
    *("1080ti_1", "1080ti_256", "2080ti_1", "2080ti_32", "2080ti_256", "titanx_32", "titanx_256"),
    *("gold_6240", "silver_4114", "pixel3", "samsung_a50", "essential_ph_1"),
)
TOGETHER = "together"
BATCH = 10
IN_ALL = 300


@dataclass(frozen=True)
class Job:
    """One study for all devices, or for a single device."""

    devices: str
    """The one, or `TOGETHER`."""
    evaluations: int
    known: bool
    seed: int


@dataclass(frozen=True)
class Outcome:
    error: str
    shares: tuple[float, ...] = ()
    """Of each device that it was for."""
    seconds: float = 0.0
    """For asking and telling."""


def run(job: Job, folder: Path) -> Outcome:
    """Return the outcome, or the error."""
    try:
        names = DEVICES if job.devices == TOGETHER else (job.devices,)
        return _searched(job, {name: cells(folder, CIFAR100, name) for name in names})
    except Exception as error:  # of one run, while others go on
        return died(f"{type(error).__name__}: {error}")


def died(reason: str) -> Outcome:
    return Outcome(reason)


def _searched(job: Job, problems: Mapping[str, Problem]) -> Outcome:
    first = next(iter(problems.values()))

    def costs(archs: Sequence[Architecture]) -> dict[str, np.ndarray]:
        return {latency(name): problem(archs)[:, 1] for name, problem in problems.items()}

    aims = for_targets(["error"], [], {name: () for name in problems})
    objectives = ["error", *map(latency, problems)]
    searcher = SurrogateSearch(first.space, objectives, aims=aims, costs=costs if job.known else None)
    archs: list[Architecture] = []
    began = time.perf_counter()
    while len(archs) < job.evaluations:
        new = searcher.ask(min(BATCH, job.evaluations - len(archs)), np.random.default_rng([job.seed, len(archs)]))
        told = costs(new) | {"error": first(new)[:, 0]}
        rows = [{name: float(values[i]) for name, values in told.items()} for i in range(len(new))]
        searcher.tell([Evaluation(arch, row) for arch, row in zip(new, rows, strict=True)])
        archs += new
    seconds = time.perf_counter() - began
    shares = tuple(round(problem.share(problem(archs)), 5) for problem in problems.values())
    return Outcome("", shares, round(seconds, 2))


def report(rows: Mapping[Job, Outcome]) -> str:
    ways = (
        (f"one study, {IN_ALL} evaluations in all", TOGETHER, IN_ALL),
        (f"{len(DEVICES)} searches of {IN_ALL // len(DEVICES)}", "", IN_ALL // len(DEVICES)),
        (f"{len(DEVICES)} searches of {IN_ALL}", "", IN_ALL),
    )
    body = []
    for known in (True, False):
        for title, devices, evaluations in ways:
            by_seed: dict[int, list[float]] = {}
            seconds: dict[int, float] = {}
            for job, outcome in rows.items():
                alike = (job.devices == TOGETHER) == (devices == TOGETHER)
                if alike and (job.evaluations, job.known) == (evaluations, known) and not outcome.error:
                    by_seed.setdefault(job.seed, []).extend(outcome.shares)
                    seconds[job.seed] = seconds.get(job.seed, 0.0) + outcome.seconds
            whole = [shares for shares in by_seed.values() if len(shares) == len(DEVICES)]
            if not whole:
                continue
            low, middle, high = np.quantile([np.mean(shares) for shares in whole], [0.25, 0.5, 0.75])
            worst = np.median([min(shares) for shares in whole])
            took = np.median([seconds[seed] for seed, shares in by_seed.items() if len(shares) == len(DEVICES)])
            paid = evaluations if devices == TOGETHER else evaluations * len(DEVICES)
            cells_ = [title, "known" if known else "learnt", str(paid), str(len(whole))]
            body.append([*cells_, f"{middle:.3f} [{low:.3f}, {high:.3f}]", f"{worst:.3f}", f"{took:.0f}"])
    header = ["search", "latencies", "evaluations", "seeds", "mean over devices [quartiles]", "worst device", "s"]
    return (
        f"# One search for {len(DEVICES)} devices\n\n"
        f"{machine('cpu', 1)}; written by `python -m benchmarks.many_targets DATA_FOLDER`. NAS-Bench-201, CIFAR-100 "
        f"after 200 epochs; {', '.join(DEVICES)}. Share of the true hypervolume, medians over seeds of the mean and of "
        "the worst device; seconds are the searchers' time, over all searches together.\n\n" + markdown(header, body)
    )


def _jobs(seeds: int) -> list[Job]:
    """All jobs of one seed before the next seed; the most informative first."""
    return [
        Job(devices, evaluations, known, seed)
        for seed in range(seeds)
        for known in (True, False)
        for devices, evaluations in (
            (TOGETHER, IN_ALL),
            *((device, IN_ALL // len(DEVICES)) for device in DEVICES),
            *((device, IN_ALL) for device in DEVICES),
        )
    ]


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.many_targets", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", type=Path, metavar="DATA_FOLDER", help="where the published tables lie")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--rows", type=Path, default=RESULTS, help=f"the file of results; default {RESULTS}")
    parser.add_argument("--report", action="store_true", help="only write the report")
    return exit_status(partial(_main, parser.parse_args(words)))


def _main(given: argparse.Namespace) -> None:
    if not given.report:
        cells(given.tables, CIFAR100, DEVICES[0])  # what is missing is said before anything is run
        todo = missing(_jobs(given.seeds), read(given.rows, Job, Outcome))
        with reporting("searches", len(todo)) as say:
            for job, outcome in done(todo, given.processes, partial(run, folder=given.tables), died):
                append(given.rows, job, outcome)
                told = outcome.error or f"{np.mean(outcome.shares):.3f}"
                say(f"{job.devices}, {job.evaluations}, known {job.known}, seed {job.seed}: {told}")
    given.rows.with_suffix(".md").write_text(report(read(given.rows, Job, Outcome)), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
