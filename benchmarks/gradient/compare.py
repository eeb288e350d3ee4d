"""What there is of a task: its runs by method and mode, and what else the budget buys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.gradient.figures import Figures, figures, random_search, ranked, regret_of_each
from benchmarks.gradient.methods import PILOT_SEED, STRATEGIES, STRATEGY
from benchmarks.gradient.rows import Job, Outcome, Rows
from benchmarks.ranking.rows import read as read_ranking
from benchmarks.truths import Truth, Vector

RANKING = Path(__file__).parents[1] / "results/ranking.jsonl"
RANDOM = (10, 12, 50)
"""Networks that a random search trains, beside as many as the budget pays for."""
SAME, LARGEST = ", the same budget", "the largest network"

Key = tuple[str, str]
"""A method and a mode."""


@dataclass(frozen=True)
class Run:
    """A row with a result, and its figures."""

    job: Job
    outcome: Outcome
    figures: Figures


@dataclass(frozen=True)
class Baseline:
    """A baseline with the same budget or another one."""

    name: str
    regrets: Vector
    """Regrets of draws, or of seeds."""
    seeds: int = 0
    """Number of seeds; 0 if regrets are draws from the truth."""


@dataclass(frozen=True)
class Compared:
    """The results of one task."""

    truth: Truth
    budget: int
    runs: dict[Key, list[Run]]
    baselines: list[Baseline]

    @property
    def trainings(self) -> float:
        """The budget in stand-alone trainings."""
        return self.budget / self.truth.training.steps

    @property
    def random(self) -> float:
        """Median regret of random search at this budget."""
        return float(np.median(next(line.regrets for line in self.baselines if line.name.endswith(SAME))))

    def regrets(self, key: Key) -> list[float]:
        return [run.figures.regret for run in self.runs[key]]

    def pooled(self, mode: str) -> list[Run]:
        return [run for (_, its), some in self.runs.items() if its == mode for run in some]


def compared(truth: Truth, rows: Rows, budget: int) -> Compared:
    """Return joint runs, then queried ones, each by median regret, without failures and the pilot."""
    runs: dict[Key, list[Run]] = {}
    for job, outcome in rows.items():
        if (job.task, job.budget) == (truth.name, budget) and job.seed != PILOT_SEED and not outcome.error:
            runs.setdefault((job.method, job.mode), []).append(Run(job, outcome, figures(truth, outcome)))

    def order(item: tuple[Key, list[Run]]) -> tuple[str, float, float]:
        regrets = [run.figures.regret for run in item[1]]
        return item[0][1], float(np.median(regrets)), float(np.mean(regrets))

    return Compared(truth, budget, dict(sorted(runs.items(), key=order)), baselines(truth, budget))


def baselines(truth: Truth, budget: int) -> list[Baseline]:
    """Return the baselines: random searches, rankings of all networks by a supernet, and no search."""
    regrets = regret_of_each(truth)
    paid = round(budget / truth.training.steps)
    found = [
        Baseline(f"random search, {num} trained{SAME * (num == paid)}", random_search(truth, num))
        for num in sorted({paid, *RANDOM})
    ]
    strategy, rows = STRATEGIES.get(truth.name, STRATEGY), read_ranking(RANKING)
    budgets = {job.budget for job in rows if job.task == truth.name and ranked(truth, rows, strategy, job.budget)}
    for passes in sorted(budgets):
        of_seeds = ranked(truth, rows, strategy, passes)
        name = f"supernet of {passes:,} passes by `{strategy}`, best of all by inherited metric"
        found.append(Baseline(name, np.array(of_seeds), len(of_seeds)))
    largest = regrets[truth.archs.index(truth.space.largest())]
    return [*found, Baseline(LARGEST, np.array([largest])), Baseline("one network at random", regrets)]
