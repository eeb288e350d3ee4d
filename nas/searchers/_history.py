"""What a searcher was told, and the order of preference among it."""

from collections.abc import Sequence

import numpy as np

from nas import pareto
from nas.limits import Limit
from nas.records import Evaluation


class History:
    """Every evaluation told, in order; all that a searcher may remember."""

    def __init__(self, objectives: Sequence[str], limits: Sequence[Limit]) -> None:
        self.objectives = tuple(objectives)
        self.limits = tuple(limits)
        self.evaluations: list[Evaluation] = []
        self.digests: set[str] = set()

    def __len__(self) -> int:
        return len(self.evaluations)

    def add(self, evaluations: Sequence[Evaluation]) -> None:
        self.evaluations.extend(evaluations)
        self.digests.update(evaluation.arch.digest for evaluation in evaluations)

    def succeeded(self) -> list[Evaluation]:
        return [evaluation for evaluation in self.evaluations if evaluation.error is None]

    def best_first(self) -> list[Evaluation]:
        """Successful evaluations by constrained domination (Deb et al. 2002, section VI; doi:10.1109/4235.996017).

        What keeps the limits comes first, by rank of non-domination and then by crowding distance, lonely ones
        first; then the rest by how far it is over its limits. Ties keep the order of telling.
        """
        evaluations = self.succeeded()
        if not evaluations:
            return []
        excess = violations(evaluations, self.limits)
        rank = np.zeros(len(evaluations))
        crowding = np.zeros(len(evaluations))
        kept = np.flatnonzero(excess == 0)
        if len(kept):
            values = objective_values([evaluations[index] for index in kept], self.objectives)
            rank[kept] = pareto.ranks(values)
            for level in np.unique(rank[kept]):
                front = kept[rank[kept] == level]
                crowding[front] = pareto.crowding(values[rank[kept] == level])
        return [evaluations[index] for index in np.lexsort((-crowding, rank, excess))]


def objective_values(evaluations: Sequence[Evaluation], objectives: Sequence[str]) -> np.ndarray:
    """(n, m) values to minimise."""
    return np.array([[evaluation.metrics[name] for name in objectives] for evaluation in evaluations], dtype=float)


def violations(evaluations: Sequence[Evaluation], limits: Sequence[Limit]) -> np.ndarray:
    """(n,) how far each is over its limits: the sum of shares of the limit; 0 where all are kept."""
    return np.array([sum(limit.violation(evaluation.metrics) for limit in limits) for evaluation in evaluations], float)
