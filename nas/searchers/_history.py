"""What a searcher was told, and the order of preference among it."""

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
    """Every evaluation told, in order; all that a searcher may remember."""

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
        """Successful evaluations by preference, at most `count`; of several aims each has its say in turn.

        Args:
            niches: equally good ones by how few are in their direction (NSGA-III), not by crowding distance (NSGA-II).
            latest: only of so many that were told last.
        """
        count = len(self.succeeded) if count is None else count
        since = max(0, len(self.succeeded) - latest) if latest is not None else 0
        orders = [part.best_first(count, niches=niches, since=since) for part in self.parts]
        turns = itertools.chain.from_iterable(itertools.zip_longest(*orders))
        merged = dict.fromkeys(index for index in turns if index is not None)
        return [self.succeeded[index] for index in itertools.islice(merged, count)]


class Part:
    """How what succeeded serves one aim."""

    def __init__(self, aim: Aim) -> None:
        self.aim = aim
        self.values: np.ndarray = np.zeros((0, len(aim.objectives)))
        """(n, m) objectives."""
        self.excess: np.ndarray = np.zeros(0)
        """(n,) how far each is over the limits."""

    def add(self, evaluations: Sequence[Evaluation]) -> None:
        self.values = np.concatenate([self.values, objective_values(evaluations, self.aim.objectives)])
        self.excess = np.concatenate([self.excess, violations(evaluations, self.aim.limits)])

    def best_first(self, count: int, *, niches: bool = False, since: int = 0) -> list[int]:
        """Positions by constrained domination (Deb et al. 2002, section VI; doi:10.1109/4235.996017).

        What keeps the limits comes first, by rank of non-domination and then by crowding distance, lonely ones
        first, or by `niches`; then the rest by how far it is over its limits. Ties keep the order of telling.
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
    """(n, m) values to minimise."""
    values = [[evaluation.metrics[name] for name in objectives] for evaluation in evaluations]
    return np.array(values, dtype=float).reshape(len(values), len(objectives))


def violations(evaluations: Sequence[Evaluation], limits: Sequence[Limit]) -> np.ndarray:
    """(n,) how far each is over its limits: the sum of shares of the limit; 0 where all are kept."""
    return np.array([sum(limit.violation(evaluation.metrics) for limit in limits) for evaluation in evaluations], float)
