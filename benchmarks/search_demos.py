"""Searches on the demos' tasks: trained supernets, and all searchers over the same values of every network.

For each demo the supernet is trained or an existing one is used, a latency predictor is fitted, and every network of
the space is evaluated with inherited weights, so a search only looks up values and the true front is known. The score
is the hypervolume as a share of that of the true front, after so many evaluations.

    python -m benchmarks.search_demos [--seeds 5] [--runs FOLDER] [--storage URL]
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")  # before numpy is imported

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.report import machine, markdown
from nas.demos import image, text
from nas.objectives import pareto
from nas.records import Evaluation
from nas.run import Run
from nas.searchers import SEARCHERS
from nas.searchers.spelled import read
from nas.stages.evaluators import SubnetEvaluator
from nas.stages.predicting import latencies
from nas.stages.workflow import Workflow
from nas.storage import Repository
from search_spaces import Architecture, Space

RESULTS = Path("benchmarks/results/search_demos.md")
BUDGETS = (10, 20, 40, 80)
BATCH = 5
METHODS = ("random", "evolution", "evolution(selection=ageing)", "bayesian(startup=10)", "surrogate")
COST = "latency_ms@cpu"


class Table:
    """Every network of a space with its quality and predicted latency."""

    def __init__(self, space: Space, archs: Sequence[Architecture], values: np.ndarray, names: tuple[str, str]) -> None:
        self.space, self.names = space, names
        self._values = dict(zip(archs, values, strict=True))
        self._corner = pareto.reference_point(values[pareto.non_dominated(values)])
        self._volume = pareto.hypervolume(values, self._corner)

    def __call__(self, archs: Sequence[Architecture]) -> np.ndarray:
        """(n, 2)."""
        return np.array([self._values[arch] for arch in archs])

    def costs(self, archs: Sequence[Architecture]) -> dict[str, np.ndarray]:
        """The latency alone, which is known before evaluation."""
        return {self.names[1]: self(archs)[:, 1]}

    def share(self, archs: Sequence[Architecture]) -> float:
        return pareto.hypervolume(self(archs), self._corner) / self._volume


def table(run: Run, runs: Path, storage: str) -> Table:
    """Train, measure and evaluate, if not done before."""
    with Workflow(run, Repository(storage), runs / run.name) as workflow:
        latency = latencies(workflow)["cpu"]
        evaluate = SubnetEvaluator(workflow.supernet, run.task)
        archs = list(run.space.enumerate())
        bar = track(archs, f"evaluating all of {run.name}", console=Console(stderr=True))
        quality = [evaluate(arch)[run.task.metric] for arch in bar]
        values = np.column_stack([quality, latency.predict(archs)[0]])
    return Table(run.space, archs, values, (run.task.metric, COST))


def search(made: Table, method: str, seed: int) -> list[float]:
    """Return the shares after each budget."""
    kind, settings = read(method, SEARCHERS)
    searcher = kind(made.space, made.names, costs=made.costs, **settings)
    archs: list[Architecture] = []
    while len(archs) < BUDGETS[-1]:
        new = searcher.ask(BATCH, np.random.default_rng([seed, len(archs)]))
        rows = [dict(zip(made.names, row, strict=True)) for row in made(new).tolist()]
        searcher.tell([Evaluation(arch, row) for arch, row in zip(new, rows, strict=True)])
        archs += new
    return [made.share(archs[:budget]) for budget in BUDGETS]


def rows(title: str, made: Table, seeds: int) -> list[list[str]]:
    found = []
    for method in track(METHODS, title, console=Console(stderr=True)):
        shares = np.array([search(made, method, seed) for seed in range(seeds)])
        low, middle, high = np.quantile(shares, [0.25, 0.5, 0.75], axis=0)
        cells = [f"{m:.3f} [{a:.3f}, {b:.3f}]" for a, m, b in zip(low, middle, high, strict=True)]
        found.append([title, method, *cells])
    return found


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.search_demos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of checkpoints")
    parser.add_argument("--storage", default="sqlite:///search_demos.db")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(words)
    found: list[list[str]] = []
    for title, run in (("image", image.run), ("text", text.run)):
        found += rows(title, table(run, given.runs, given.storage), given.seeds)
    given.out.write_text(
        "# Searches on the demos' tasks\n\n"
        f"{machine('cpu', 1)}; written by `python -m benchmarks.search_demos`. {image.run.space.count()} networks of "
        f"the image demo, {text.run.space.count()} of the text demo, inherited quality against predicted latency, "
        f"batches of {BATCH}; share of the true hypervolume after so many evaluations, median [quartiles] of "
        f"{given.seeds} seeds.\n\n" + markdown(["task", "search", *map(str, BUDGETS)], found),
        encoding="utf-8",
    )
    Console().print(given.out.read_text(encoding="utf-8"), markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
