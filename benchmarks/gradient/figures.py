"""What a run proposes, looked up in the truth; regrets are in units of the metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np

from benchmarks.gradient.rows import Job, Outcome
from benchmarks.ranking.rows import Job as Trained
from benchmarks.ranking.rows import Outcome as Ranked
from benchmarks.truths import Truth, Vector

NUM_DRAWS = 10_000


@dataclass(frozen=True)
class Figures:
    """The figures of one run."""

    regret: float
    """The true metric of the derived architecture minus the best of all."""
    rank: int
    """Rank of the derived architecture among all, from 1."""
    of_drawn: float
    """Regret of the drawn architecture with the best inherited metric."""
    expected: float
    """Mean regret over the distribution."""
    free: float
    entropy: float
    warned: bool
    collapsed: bool
    """Whether the derived architecture is worse than the median of the space."""


def figures(truth: Truth, outcome: Outcome) -> Figures:
    regrets = regret_of_each(truth)
    regret, chances = float(regrets[outcome.derived]), np.array(outcome.chances)
    chosen = outcome.drawn[int(np.argmin(outcome.inherited))]
    return Figures(
        regret=regret,
        rank=1 + int((regrets < regret).sum()),
        of_drawn=float(regrets[chosen]),
        expected=float(chances @ regrets / chances.sum()),
        free=outcome.free,
        entropy=outcome.entropy,
        warned=bool(outcome.warnings),
        collapsed=regret > float(np.median(regrets)),
    )


def regret_of_each(truth: Truth) -> Vector:
    """Return the (n,) regrets of all architectures."""
    regrets: Vector = truth.mean - truth.mean.min()
    return regrets


# --- what else the budget buys ------------------------------------------------------------------------------------


def random_search(truth: Truth, num: int, seed: int = 0) -> Vector:
    """Return (NUM_DRAWS,) regrets of the best of `num` different random networks, each trained once.

    One training selects the network; the mean over all trainings is its true metric.
    """
    rng = np.random.default_rng([seed, num])
    size, trainings = truth.values.shape
    num = min(num, size)
    regrets = regret_of_each(truth)
    found = np.empty(NUM_DRAWS)
    for index in range(NUM_DRAWS):
        chosen = rng.choice(size, num, replace=False)
        found[index] = regrets[chosen[np.argmin(truth.values[chosen, rng.integers(trainings)])]]
    return found


def ranked(truth: Truth, rows: Mapping[Trained, Ranked], strategy: str, budget: int) -> list[float]:
    """Return the regret, per seed, of the best network by inherited metrics of a supernet trained with this budget."""
    wanted = (truth.name, strategy, "entangled", budget, truth.digest)
    regrets = regret_of_each(truth)
    return [
        float(regrets[int(np.argmin(outcome.inherited))])
        for job, outcome in rows.items()
        if (job.task, job.strategy, job.sharing, job.budget, job.truth) == wanted and not outcome.error
    ]


# --- the best -----------------------------------------------------------------------------------------------------


def best(truth: Truth, rows: Mapping[Job, Outcome], num: int) -> list[str]:
    """Return the `num` methods with the lowest median regret over all runs; ties by median expected regret."""
    found: dict[str, list[Figures]] = {}
    for job, outcome in rows.items():
        if job.task == truth.name and not outcome.error:
            found.setdefault(job.method, []).append(figures(truth, outcome))

    def worth(method: str) -> tuple[float, float]:
        return median(one.regret for one in found[method]), median(one.expected for one in found[method])

    return sorted(found, key=worth)[:num]
