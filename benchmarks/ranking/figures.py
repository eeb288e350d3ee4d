"""From inherited metrics to figures, and from figures to the methods that rank best."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np
from scipy.stats import rankdata

from benchmarks.ranking.methods import ENTANGLED
from benchmarks.ranking.rows import Job, Outcome
from benchmarks.truths import Truth, Vector
from supernets import correlation
from supernets.errors import SupernetError
from supernets.ranking import regret

NUM_CHOSEN = 5
"""Networks that a search takes home, for its regret."""
NUM_DRAWS = 200


@dataclass(frozen=True)
class Figures:
    """How well one run ranks; the last three are in units of the metric."""

    tau: float
    """Kendall's tau-b."""
    rho: float
    """Spearman's."""
    regret: float
    """The best true value among the NUM_CHOSEN best by inherited rank, less the best of all."""
    gap: float
    """Mean of inherited less true metric."""
    absolute_gap: float
    """Mean distance of the two."""


def figures(truth: Truth, inherited: Iterable[float]) -> Figures:
    values, true, every = np.array(list(inherited)), truth.mean, correlation.whole(len(truth.archs))
    return Figures(
        tau=_tau(values, true),
        rho=float(np.nan_to_num(correlation.rhos(values, true, every)[0])),
        regret=regret(values, true, min(NUM_CHOSEN, len(true))),
        gap=float((values - true).mean()),
        absolute_gap=float(np.abs(values - true).mean()),
    )


def _tau(a: Vector, b: Vector) -> float:
    """0, as by chance, where all values of one are equal: a collapsed supernet orders nothing."""
    return float(np.nan_to_num(correlation.taus(a, b, correlation.whole(len(a)))[0]))


# --- what a tau means ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Floor:
    """What there is to be had on a task: the noise of its truth, and orders that cost nothing."""

    deviation: float
    """Standard deviation of the metric over trainings of one network."""
    repetition: float
    """Mean tau between two of the stand-alone trainings."""
    ceiling: float
    """The tau of a perfect predictor with the mean of the trainings."""
    params: float
    """The tau of more parameters first."""
    macs: float
    """The tau of more multiply-accumulates first."""


def floor(truth: Truth) -> Floor:
    num_trainings = truth.values.shape[1]
    pairs = [(i, j) for i in range(num_trainings) for j in range(i)]
    pooled = correlation.pooled_deviation(list(truth.values))
    deviation = pooled[0] if pooled else float("nan")
    return Floor(
        deviation=deviation,
        repetition=fmean(_tau(truth.values[:, i], truth.values[:, j]) for i, j in pairs),
        ceiling=tau_of_perfection(truth.mean, deviation / num_trainings**0.5),
        params=_tau(-truth.params, truth.mean),
        macs=_tau(-truth.macs, truth.mean),
    )


def tau_of_perfection(values: Vector, noise: float, seed: int = 0) -> float:
    """The tau to be expected between true values and what was measured of them with this noise.

    As in `correlation.tau_of_repetition`: what was measured, drawn towards its mean until its spread with noise added
    is the spread that was seen, stands for the truth; normal noise is added to it many times.
    """
    spread = float(values.var(ddof=1))
    true = (values - values.mean()) * max(0.0, 1 - noise**2 / spread) ** 0.5
    draws = true + noise * np.random.default_rng(seed).normal(size=(NUM_DRAWS, len(values)))
    return fmean(_tau(true, draw) for draw in draws)


# --- the best -----------------------------------------------------------------------------------------------------


class NothingBest(SupernetError):
    """No strategy has been run on every task."""


def rank_sums(truths: Mapping[str, Truth], rows: Mapping[Job, Outcome]) -> dict[str, float]:
    """Of each strategy with entangled weights the sum of its ranks by median tau over the tasks, the best first.

    Rank 1 is best; ties share their mean rank, and equal sums go by the mean of the medians. A strategy that failed
    every time on a task, or was not run on it, is left out.
    """
    taus: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for job, outcome in rows.items():
        if job.sharing == ENTANGLED and not outcome.error:
            taus[job.strategy][job.task].append(figures(truths[job.task], outcome.inherited).tau)
    medians = {name: [median(of[task]) for task in truths] for name, of in taus.items() if of.keys() >= truths.keys()}
    if not medians:
        return {}
    ranks = rankdata(-np.array(list(medians.values())), axis=0).sum(1)
    sums = dict(zip(medians, map(float, ranks), strict=True))
    return dict(sorted(sums.items(), key=lambda item: (item[1], -fmean(medians[item[0]]))))


def best_two(truths: Mapping[str, Truth], rows: Mapping[Job, Outcome]) -> tuple[str, ...]:
    """The two strategies with the lowest rank sums."""
    sums = rank_sums(truths, rows)
    if len(sums) < 2:
        raise NothingBest(f"{len(sums)} strategies have runs on every task: run stage 1 first, or give --best")
    return tuple(sums)[:2]
