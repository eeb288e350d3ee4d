"""Limits checked before anything is evaluated, on what can be predicted of an architecture."""

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nas.objectives.limits import Limit
from search_spaces import Architecture

Predict = Callable[[Sequence[Architecture]], Mapping[str, np.ndarray]]
"""Metrics that cost next to nothing, each (n,): counted (`params`, `macs`) or predicted (`latency_ms@cpu`)."""


class Screen:
    """Says which architectures keep all limits of an aim as predicted, and remembers how near the best came to each.

    With `bound`, upper limits are checked on what metrics only seldom exceed.
    """

    def __init__(self, limits: Sequence[Sequence[Limit]], predict: Predict, bound: Predict | None = None) -> None:
        self.limits = [tuple(own) for own in limits]
        """Of each aim; what keeps those of one is worth an evaluation."""
        self.predict = predict
        self.bound = bound or predict
        self._seen = 0
        self._passed: dict[Limit, int] = {}
        self._nearest: dict[Limit, float] = {}

    def __call__(self, archs: Sequence[Architecture]) -> np.ndarray:
        """(n,) bool."""
        predicted, bounds = self.predict(archs), self.bound(archs)
        kept: dict[Limit, np.ndarray] = {}
        for limit in dict.fromkeys(itertools.chain.from_iterable(self.limits)):
            if limit.metric in predicted and len(archs):
                values = bounds if limit.is_upper else predicted
                kept[limit] = self._check(limit, np.asarray(values[limit.metric], dtype=float))
        self._seen += len(archs)
        keeps_all = np.ones((len(self.limits), len(archs)), dtype=bool)
        for row, own in zip(keeps_all, self.limits, strict=True):
            for limit in own:
                row &= kept.get(limit, True)
        return np.asarray(keeps_all.any(axis=0))

    def _check(self, limit: Limit, values: np.ndarray) -> np.ndarray:
        excess = np.array([limit.violation({limit.metric: value}) for value in values.tolist()])
        value = float(values[np.argmin(excess)])
        nearest = self._nearest.get(limit, value)
        self._nearest[limit] = min(nearest, value, key=lambda v: limit.violation({limit.metric: v}))
        keeps: np.ndarray = excess == 0
        self._passed[limit] = self._passed.get(limit, 0) + int(keeps.sum())
        return keeps

    def report(self) -> str:
        """How many were tried and, for each limit, how many kept it and the nearest value seen."""
        rows = [f"{self._passed[limit]} keep {limit}, nearest {self._nearest[limit]:g}" for limit in self._nearest]
        return f"of {self._seen} architectures tried " + "; ".join(rows)
