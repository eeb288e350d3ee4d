"""The evaluations that a searcher received, and their order of preference."""

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nas.objectives import pareto
from nas.objectives.aims import Aim
from nas.objectives.limits import Limit
from nas.records import Evaluation
from nas.searchers._lineage import Lineage
from nas.searchers._niches import directions, niched

_MOST_DIRECTIONS = 100


class History:
    """All evaluations in the order received: the only state that a searcher may keep."""

    def __init__(self, objectives: Sequence[str], limits: Sequence[Limit], aims: Sequence[Aim] = ()) -> None:
        self.objectives = tuple(objectives)
        self.limits = tuple(limits)
        self.evaluations: list[Evaluation] = []
        self.succeeded: list[Evaluation] = []
        self.digests: set[str] = set()
        self.lineage = Lineage()
        self.parts = [Part(aim) for aim in aims or (Aim(self.objectives, self.limits),)]

    def __len__(self) -> int:
        return len(self.evaluations)

    def add(self, evaluations: Sequence[Evaluation]) -> None:
        self.evaluations.extend(evaluations)
        self.digests.update(evaluation.arch.digest for evaluation in evaluations)
        new = [evaluation for evaluation in evaluations if evaluation.error is None]
        self.succeeded.extend(new)
        for part in self.parts:
            part.add(new)

    def best_first(
        self, count: int | None = None, *, niches: bool = False, latest: int | None = None
    ) -> list[Evaluation]:
        """Return up to `count` successful evaluations, best first; several aims take turns.

        Args:
            niches: order equal ranks by the least crowded direction (NSGA-III), not by crowding distance (NSGA-II).
            latest: consider only so many of the latest evaluations.
        """
        count = len(self.succeeded) if count is None else count
        since = max(0, len(self.succeeded) - latest) if latest is not None else 0
        orders = [part.best_first(count, niches=niches, since=since) for part in self.parts]
        turns = itertools.chain.from_iterable(itertools.zip_longest(*orders))
        merged = dict.fromkeys(index for index in turns if index is not None)
        return [self.succeeded[index] for index in itertools.islice(merged, count)]


class Part:
    """The successful evaluations from the point of view of one aim."""

    def __init__(self, aim: Aim) -> None:
        self.aim = aim
        self.values: np.ndarray = np.zeros((0, len(aim.objectives)))
        """(n, m) objectives."""
        self.excess: np.ndarray = np.zeros(0)
        """(n,) by how much each exceeds the limits."""

    def add(self, evaluations: Sequence[Evaluation]) -> None:
        self.values = np.concatenate([self.values, objective_values(evaluations, self.aim.objectives)])
        self.excess = np.concatenate([self.excess, violations(evaluations, self.aim.limits)])

    def best_first(self, count: int, *, niches: bool = False, since: int = 0) -> list[int]:
        """Return positions by constrained domination (Deb et al. 2002, section VI; doi:10.1109/4235.996017).

        Networks that keep the limits come first, by rank of non-domination and then by crowding distance, least
        crowded first, or by `niches`; the others follow by their excess. Ties keep the order of arrival.
        """
        kept = since + np.flatnonzero(self.excess[since:] == 0)
        levels = [kept[level] for level in pareto.levels(self.values[kept], count)]
        if niches:
            towards = directions(len(self.aim.objectives), min(count, _MOST_DIRECTIONS))
            order = niched(self.values, levels, towards)
        else:
            order = [i for front in levels for i in front[np.argsort(-self._crowding(front), kind="stable")].tolist()]
        if len(order) < count:
            over = since + np.flatnonzero(self.excess[since:] > 0)
            order.extend(over[np.argsort(self.excess[over], kind="stable")].tolist())
        return order[:count]

    def _crowding(self, front: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        return pareto.crowding(self.values[front])


def objective_values(evaluations: Sequence[Evaluation], objectives: Sequence[str]) -> np.ndarray:
    """Return (n, m) values to minimise."""
    values = [[evaluation.metrics[name] for name in objectives] for evaluation in evaluations]
    return np.array(values, dtype=float).reshape(len(values), len(objectives))


def violations(evaluations: Sequence[Evaluation], limits: Sequence[Limit]) -> np.ndarray:
    """Return (n,) how far each exceeds its limits: the sum of relative excesses; 0 if it keeps all."""
    return np.array([sum(limit.violation(evaluation.metrics) for limit in limits) for evaluation in evaluations], float)
