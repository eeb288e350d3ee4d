"""Checks limits before evaluation, on metrics that can be predicted from an architecture."""

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nas.objectives.limits import Limit
from search_spaces import Architecture

Predict = Callable[[Sequence[Architecture]], Mapping[str, np.ndarray]]
"""Returns cheap metrics, each (n,): counted (`params`, `macs`) or predicted (`latency_ms@cpu`)."""


class Screen:
    """Decides which architectures keep all limits of an aim by prediction; records the nearest value to each limit.

    With `bound`, upper limits are checked on upper bounds of the metrics instead of predictions.
    """

    def __init__(self, limits: Sequence[Sequence[Limit]], predict: Predict, bound: Predict | None = None) -> None:
        self.limits = [tuple(own) for own in limits]
        """The limits of each aim; an architecture that keeps those of one aim is worth an evaluation."""
        self.predict = predict
        self.bound = bound or predict
        self._seen = 0
        self._passed: dict[Limit, int] = {}
        self._nearest: dict[Limit, float] = {}

    def __call__(self, archs: Sequence[Architecture]) -> np.ndarray:
        """Return (n,) bool: which architectures are worth an evaluation."""
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
        """Report how many architectures were tried and, for each limit, how many kept it and the nearest value."""
        rows = [f"{self._passed[limit]} keep {limit}, nearest {self._nearest[limit]:g}" for limit in self._nearest]
        return f"of {self._seen} architectures tried " + "; ".join(rows)
