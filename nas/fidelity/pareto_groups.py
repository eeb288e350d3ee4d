"""Runs with equal settings as groups, and the front of groups on which CARBS searches (arXiv:2306.08055).

Scores are noisy, so that the best of many is lucky more often than good. A front of single runs would be one of lucky
runs: here a run that stands alone must beat the best run of the group before it, not its mean.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

Key = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Runs of one setting; of scores the higher is better."""

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
    """Groups of (key, score, cost), in the order their first runs came."""
    found: dict[Key, list[tuple[float, float]]] = {}
    for key, score, cost in runs:
        found.setdefault(key, []).append((score, cost))
    return [Group(key, tuple(s for s, _ in some), tuple(c for _, c in some)) for key, some in found.items()]


def front(groups: Sequence[Group], quantile: float = 0.2, *, conservative: bool = True) -> list[Group]:
    """From the cheapest good group on, each that is better than the one before, by increasing mean cost.

    Args:
        quantile: of the groups' costs; the first is the best of those that cost no more, a repeated one where there is
            one. Below it noise decides what is cheapest.
        conservative: a group of one run must beat the best run of the last one; else its mean.
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
    """The one with the fewest runs, those that are pending counted too; of several the cheapest."""
    return min(groups, key=lambda group: (len(group.scores) + pending.count(group.key), group.cost))
