"""Groups runs with equal settings, and finds the front of groups around which CARBS searches (arXiv:2306.08055).

Scores are noisy, so the best of many runs is often only lucky, and a front of single runs would consist of lucky runs.
Therefore a group of one run must beat the best run of the group before it, not its mean.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

Key = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Runs with the same settings; higher scores are better."""

    key: Key
    scores: tuple[float, ...]
    costs: tuple[float, ...]

    @property
    def score(self) -> float:
        return fmean(self.scores)

    @property
    def cost(self) -> float:
        return fmean(self.costs)

    @property
    def repeated(self) -> bool:
        return len(self.scores) > 1


def grouped(runs: Iterable[tuple[Key, float, float]]) -> list[Group]:
    """Return groups of (key, score, cost), in the order of their first runs."""
    found: dict[Key, list[tuple[float, float]]] = {}
    for key, score, cost in runs:
        found.setdefault(key, []).append((score, cost))
    return [Group(key, tuple(s for s, _ in some), tuple(c for _, c in some)) for key, some in found.items()]


def front(groups: Sequence[Group], quantile: float = 0.2, *, conservative: bool = True) -> list[Group]:
    """Return the front: starting with a cheap group, by mean cost, each group that is better than the one before.

    Args:
        quantile: of the groups' costs. The front starts with the best group up to it, preferably one with several runs,
            since noise decides which group is cheapest.
        conservative: whether a group of one run must beat the best run of the group before it, instead of its mean.
    """
    if not groups:
        return []
    limit = float(np.quantile([group.cost for group in groups], quantile))
    cheap = [group for group in groups if group.cost <= limit] or [min(groups, key=lambda group: group.cost)]
    chosen = [max([group for group in cheap if group.repeated] or cheap, key=lambda group: group.score)]
    for group in sorted(groups, key=lambda group: (group.cost, -group.score)):
        last = chosen[-1]
        bar = max(last.scores) if conservative and not group.repeated else last.score
        if group.cost >= chosen[0].cost and group.score > bar:
            chosen.append(group)
    return chosen


def least_sampled(groups: Sequence[Group], pending: Sequence[Key] = ()) -> Group:
    """Return the group with the fewest runs, including pending ones; the cheapest of several."""
    return min(groups, key=lambda group: (len(group.scores) + pending.count(group.key), group.cost))
