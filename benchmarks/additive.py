"""How well single changes predict a front: additive search compared with the surrogate, on published tables.

    python -m benchmarks.additive DATA_FOLDER

Tables, problems and share of hypervolume are those of benchmarks.search_tables. The networks are trained from scratch,
so their choices interact: a hard case for a searcher that assumes small losses of a trained parent. No search knows a
cost before evaluation. Ranks are over uniformly drawn networks. Writes results/additive.md.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")  # before numpy is imported

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.report import machine
from benchmarks.search_tables.problems import Problem, load
from benchmarks.search_tables.rows import Job
from benchmarks.search_tables.run import OBJECTIVES, run
from nas.records import Evaluation
from nas.searchers import AdditiveSearch
from nas.searchers.exact.guess import judge, singles
from search_spaces import Architecture

RESULTS = Path("benchmarks/results/additive.md")
PROBLEMS = ("macro/flops", "accel/a100", "accel/zcu102", "nb201 c10/1080ti_1")
DRAWN = 300
SEEDS = {"additive": 3, "surrogate": 8, "evolution": 8}
"""Of additive search few: only the order of single changes and what fills batches is random."""


@dataclass(frozen=True)
class Told:
    """How well single changes alone predict a problem."""

    singles: int
    error_tau: float
    cost_tau: float
    seconds: float
    share: float
    """Of the hypervolume, that the networks of the front of sums have once they are evaluated."""
    front: int


def told(problem: Problem) -> Told:
    """Evaluate the front of sums, and how the sums rank other networks."""
    alone = _evaluated(problem, singles(problem.space))
    drawn = _evaluated(problem, problem.space.sample_many(DRAWN, np.random.default_rng(0), distinct=True))
    verdicts = judge(problem.space, OBJECTIVES, [*alone, *drawn])
    searcher = AdditiveSearch(problem.space, OBJECTIVES)
    searcher.tell(alone)
    began = time.perf_counter()
    found = [arch for arch, _ in searcher.fronts()[0]]
    seconds = time.perf_counter() - began
    values = problem([arch for arch in found if problem.feasible([arch])[0]])
    return Told(len(alone), verdicts["error"].tau, verdicts["cost"].tau, seconds, problem.share(values), len(found))


def _evaluated(problem: Problem, archs: Sequence[Architecture]) -> list[Evaluation]:
    rows = problem(archs).tolist()
    found = [dict(zip(OBJECTIVES, row, strict=True)) for row in rows]
    return [Evaluation(arch, row) for arch, row in zip(archs, found, strict=True)]


def shares(folder: Path, name: str, method: str) -> tuple[np.ndarray, float]:
    """(seeds, 2) hypervolume after 50 and 100 evaluations, and seconds of a search."""
    outcomes = [run(Job(name, method, 5, seed, 100), folder) for seed in range(SEEDS[method])]
    for outcome in outcomes:
        if outcome.error:
            raise SystemExit(f"{name}, {method}: {outcome.error}")
    return np.array([outcome.shares for outcome in outcomes]), float(np.mean([out.seconds for out in outcomes]))


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.additive", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", type=Path, metavar="DATA_FOLDER", help="where the published tables lie")
    folder = parser.parse_args().tables
    about, searched = [], []
    for name in PROBLEMS:
        found = told(load(name, folder))
        about.append(
            f"| {name} | {found.singles} | {found.error_tau:.2f} | {found.cost_tau:.2f} | {found.front} | "
            f"{found.seconds:.1f} | {found.share:.3f} |"
        )
        print(about[-1], file=sys.stderr)
        for method, seeds in SEEDS.items():
            values, seconds = shares(folder, name, method)
            low, high = values.min(axis=0), values.max(axis=0)
            cells = " | ".join(
                f"{m:.3f} [{a:.3f}, {b:.3f}]" for m, a, b in zip(np.median(values, axis=0), low, high, strict=True)
            )
            searched.append(f"| {name} | {method} | {seeds} | {cells} | {seconds:.0f} |")
            print(searched[-1], file=sys.stderr)
    RESULTS.write_text(_text(about, searched), encoding="utf-8")
    return 0


def _text(about: Sequence[str], searched: Sequence[str]) -> str:
    return "\n".join(
        [
            "# Additive search on published tables\n",
            f"{machine()}; written by `python -m benchmarks.additive DATA_FOLDER`.\n",
            "The tables contain networks trained from scratch, whose choices interact; additive search is made for "
            "trained parents that lose little. Shares of hypervolume are those of "
            "[search_tables.md](search_tables.md).\n",
            "## Predictions from single changes alone\n",
            f"Kendall's tau of their sums with the tables on {DRAWN} networks drawn uniformly; the front of sums (16 "
            "networks), the time to solve it, and its share of the true hypervolume after evaluation.\n",
            "| problem | single changes | tau, error | tau, cost | networks | seconds | share |",
            "| --- | --- | --- | --- | --- | --- | --- |",
            *about,
            "\n## Searches\n",
            "Share after so many evaluations, including single changes: median [range] over seeds; seconds of the "
            "search itself.\n",
            "| problem | search | seeds | 50 | 100 | seconds |",
            "| --- | --- | --- | --- | --- | --- |",
            *searched,
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
