"""Widths on a line compared with a free width per block, with equal numbers of evaluations.

Both spaces contain networks of six blocks that classify the image demo's rotated and noisy digits: in one, each block
has its own width; in the other, three numbers determine all widths (`search_spaces.rexnet`). One supernet is trained
over the free widths, which include every line. Random sampling and the default searcher search both spaces with its
weights for error against multiply-accumulates. The score is the hypervolume as a share of that of the front of
everything that any search here has evaluated, so one front judges both.

    python -m benchmarks.linear_widths [--seeds 8] [--steps 1000]
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")  # before numpy is imported

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.report import machine, markdown
from nas.demos import image
from nas.objectives import pareto
from nas.records import Evaluation
from nas.searchers import SEARCHERS
from nas.searchers.spelled import read
from nas.stages.evaluators import SubnetEvaluator
from search_spaces import Architecture, Space, choice, constraint, derive
from search_spaces.rexnet import linear_widths
from supernets import Supernet
from supernets.counting import Counts
from supernets.models import rexnet
from supernets.training import TrainingConfig, train

RESULTS = Path("benchmarks/results/linear_widths.md")
BUDGETS = (5, 10, 20, 40)
BATCH = 5
METHODS = ("random", "surrogate")
STAGES, STRIDES = (1, 2, 2, 1), (1, 2, 1, 2)
BLOCKS, WIDEST, DIVISOR = 6, 40, 4
BUILD = partial(rexnet.build, stem_stride=2, stages=STAGES, strides=STRIDES, gated_from=2)


class FreeWidths(Space):
    """A width for each block."""

    stem = choice(16)
    head = choice(128)
    widths = choice(*range(8, WIDEST + 1, DIVISOR), per=BLOCKS)


class LinearWidths(FreeWidths):
    """Three numbers for all widths; the widest is among the free ones."""

    start = choice(8, 12, 16, 20)
    slope = choice(0, 8, 16, 24, 32)
    multiplier = choice(1.0, 1.25, 1.5, 2.0)

    @derive
    def widths(start: int, slope: int, multiplier: float) -> list[int]:
        return linear_widths(start, slope, multiplier, BLOCKS, DIVISOR)

    @constraint
    def fits(widths: tuple[int, ...]) -> bool:
        return max(widths) <= WIDEST


class Values:
    """Error and multiply-accumulates of networks of either space, each evaluated once."""

    def __init__(self, steps: int) -> None:
        self.free = FreeWidths()
        self.task = image.run.task
        supernet = Supernet(self.free, BUILD, seed=0)
        train(supernet, self.task, TrainingConfig(steps=steps, evaluate_every=0, checkpoint_every=0))
        self.names = (self.task.metric, "macs")
        self._evaluate = SubnetEvaluator(supernet, self.task)
        self._counts = Counts(self.free, BUILD, self.task.example())
        self._found: dict[tuple[int, ...], float] = {}

    def __call__(self, archs: Sequence[Architecture]) -> np.ndarray:
        """(n, 2)."""
        for arch in archs:
            if arch.widths not in self._found:
                self._found[arch.widths] = self._evaluate(self._free(arch))[self.task.metric]
        return np.column_stack([[self._found[arch.widths] for arch in archs], self.costs(archs)["macs"]])

    def costs(self, archs: Sequence[Architecture]) -> dict[str, np.ndarray]:
        """The multiply-accumulates alone, which are known before evaluation."""
        return {"macs": self._counts([self._free(arch) for arch in archs])[:, 1].astype(float)}

    @property
    def all(self) -> np.ndarray:
        """(n, 2) values of every evaluated network."""
        rows = [{"stem": 16, "head": 128, "widths": widths} for widths in self._found]
        return self([self.free.architecture(row) for row in rows])

    def _free(self, arch: Architecture) -> Architecture:
        return self.free.architecture({"stem": arch.stem, "head": arch.head, "widths": arch.widths})


def search(space: Space, values: Values, method: str, seed: int) -> np.ndarray:
    """Return (evaluations, 2) values in the order in which a search proposed the networks."""
    kind, settings = read(method, SEARCHERS)
    searcher = kind(space, values.names, costs=values.costs, **settings)
    found = np.empty((0, 2))
    while len(found) < BUDGETS[-1]:
        new = searcher.ask(BATCH, np.random.default_rng([seed, len(found)]))
        got = values(new)
        rows = [dict(zip(values.names, row, strict=True)) for row in got.tolist()]
        searcher.tell([Evaluation(arch, row) for arch, row in zip(new, rows, strict=True)])
        found = np.concatenate([found, got])
    return found


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.linear_widths", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=1000, help="of the supernet's training")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(words)
    values, console = Values(given.steps), Console(stderr=True)
    jobs = [(title, method) for title in ("free", "linear") for method in METHODS]
    spaces = {"free": FreeWidths(), "linear": LinearWidths()}
    found = {
        (title, method): [search(spaces[title], values, method, seed) for seed in range(given.seeds)]
        for title, method in track(jobs, "searching", console=console)
    }
    every = values(list(spaces["linear"].enumerate()))
    corner = pareto.reference_point(values.all[pareto.non_dominated(values.all)])
    whole = pareto.hypervolume(values.all, corner)
    rows = []
    for (title, method), runs in found.items():
        shares = [[pareto.hypervolume(run[:budget], corner) / whole for budget in BUDGETS] for run in runs]
        low, middle, high = np.quantile(shares, [0.25, 0.5, 0.75], axis=0)
        cells = [f"{m:.3f} [{a:.3f}, {b:.3f}]" for a, m, b in zip(low, middle, high, strict=True)]
        rows.append([title, method, *cells])
    lines = {arch.widths for arch in spaces["linear"].enumerate()}
    given.out.write_text(
        "# Widths on a line compared with free widths\n\n"
        f"{machine('cpu', 1)}; written by `python -m benchmarks.linear_widths`. Six blocks of ReXNet on the image "
        f"demo's digits: {spaces['free'].count():,} networks of free widths; {spaces['linear'].count()} settings of "
        f"start, slope and multiplier, which give {len(lines)} distinct networks. One supernet of the free widths, "
        f"{given.steps} steps; inherited validation error against multiply-accumulates, batches of {BATCH}. "
        f"Share of the hypervolume of the front of all {len(values.all)} networks evaluated here, after so many "
        f"evaluations, median [quartiles] of {given.seeds} seeds. All lines together have a share of "
        f"{pareto.hypervolume(every, corner) / whole:.3f}, the maximum that a search of them can reach.\n\n"
        + markdown(["widths", "search", *map(str, BUDGETS)], rows),
        encoding="utf-8",
    )
    Console().print(given.out.read_text(encoding="utf-8"), markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
