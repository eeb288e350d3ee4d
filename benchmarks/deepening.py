"""The savings of raising Hyperband's largest budget over a run from scratch, for the three ways to reuse the past.

Configurations have a hidden quality, uniform in [0, 1]; an evaluation at a budget adds normal noise. Two objectives
bracket realistic ones: "unrelated", where one budget says nothing about the next, and "converging", where the noise
decreases with the square root of the budget. A run goes up to a budget R and is then raised to eta R. Its cost is the
sum of the budgets of all its evaluations, in full or, if trainings resume from checkpoints, only the additional ones.

    python -m benchmarks.deepening [--seeds 200]
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median, quantiles

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.report import machine, markdown
from nas.fidelity import REUSES, Hyperband, Outcome, cost, cost_going_on
from search_spaces import Architecture

RESULTS = Path("benchmarks/results/deepening.md")
RAISES = ((2, 16), (3, 27))
HEADER = (
    "eta",
    "raised",
    "objective",
    "reuse",
    "saved, mean",
    "median (quartiles)",
    "where trainings go on",
    "same rungs as from scratch",
)


def draw(rng: np.random.Generator) -> Architecture:
    return Architecture("Point", {"quality": float(rng.random()), "number": int(rng.integers(2**40))})


def unrelated(config: Architecture, budget: int) -> dict[str, float]:
    return {"error": float(np.random.default_rng([config.number, budget]).random())}


def converging(config: Architecture, budget: int) -> dict[str, float]:
    noise = np.random.default_rng([config.number, budget]).standard_normal()
    return {"error": config.quality + 0.3 * float(noise) / budget**0.5}


OBJECTIVES = {"unrelated": unrelated, "converging": converging}


@dataclass
class Subject:
    """One way to reuse the past, and its result for each seed."""

    eta: int
    largest: int
    objective: str
    reuse: str
    saved: list[float] = field(default_factory=list)
    """Per cent of the cost of a run from scratch."""
    saved_going_on: list[float] = field(default_factory=list)
    same: int = 0

    def search(self, seed: int) -> Hyperband:
        return Hyperband(draw, OBJECTIVES[self.objective], "error", eta=self.eta, reuse=self.reuse, seed=seed)

    def observe(self, seed: int) -> None:
        raised, scratch, aim = self.search(seed), self.search(seed), self.eta * self.largest
        raised.run(self.largest)
        again, anew = raised.run(aim), scratch.run(aim)
        self.saved.append(_saved(cost(again.paid), cost(anew.paid)))
        going_on = cost_going_on(raised.ledger.trials, run=aim), cost_going_on(scratch.ledger.trials)
        self.saved_going_on.append(_saved(*going_on))
        self.same += _sets(again) == _sets(anew)

    def row(self) -> list[str]:
        return [
            str(self.eta),
            f"{self.largest} to {self.eta * self.largest}",
            self.objective,
            self.reuse,
            f"{fmean(self.saved):.1f} %",
            _spread(self.saved),
            _spread(self.saved_going_on),
            f"{self.same} of {len(self.saved)}",
        ]


def _saved(paid: int, anew: int) -> float:
    return 100 * (1 - paid / anew)


def _sets(outcome: Outcome) -> list[list[frozenset[Architecture]]]:
    return [[frozenset(rung.members) for rung in bracket.rungs] for bracket in outcome.brackets]


def _spread(values: Sequence[float]) -> str:
    low, _, high = quantiles(values, n=4)
    return f"{median(values):.1f} % ({low:.1f}-{high:.1f})"


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(words)
    subjects = [Subject(*raised, objective, reuse) for raised in RAISES for objective in OBJECTIVES for reuse in REUSES]
    for seed in track(range(given.seeds), "seeds", console=Console(stderr=True)):
        for subject in subjects:
            subject.observe(seed)
    rows = [subject.row() for subject in subjects]
    table = Table(*HEADER)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    given.out.write_text(
        "# Raising the largest budget of Hyperband\n\n"
        f"{machine('cpu', 1)}. Savings of the second run over a run from scratch at the larger budget, over "
        f"{given.seeds} seeds: in full, and if trainings resume from their checkpoints. Unrelated: one budget says "
        "nothing about the next; converging: noise decreases with the square root of the budget.\n\n"
        + markdown(HEADER, rows)
        + "\nMade by `python -m benchmarks.deepening`.\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
