"""Candidates ranked by a model before evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from nas.records import Evaluation
from nas.searchers._belief import GROWTH, LEARNT_FROM, Belief, Manners
from nas.searchers._candidates import Feasible
from nas.searchers._costs import Costs, Known
from nas.searchers._history import History
from nas.searchers._pool import Pool
from nas.searchers._process import readings
from search_spaces import Architecture, Space


class Promise:
    """Chooses the most promising networks of a pool with models fitted to the history.

    Args:
        startup: number of successful evaluations from which the models are used.
        memory: most evaluations that the models are fitted to.
        learnt_from, growth: see `Manners`.
    """

    def __init__(
        self,
        space: Space,
        history: History,
        feasible: Feasible,
        costs: Costs | None,
        startup: int,
        memory: int,
        learnt_from: int = LEARNT_FROM,
        growth: float = GROWTH,
    ) -> None:
        self._space = space
        self._history = history
        self._feasible = feasible
        self._startup = startup
        self._memory = memory
        aims = [part.aim for part in history.parts]
        self._costs = Known(space, costs, [n for a in aims for n in (*a.objectives, *(m.metric for m in a.limits))])
        self._readings = readings(space)
        self._manners = Manners(space, self._readings, startup, learnt_from, growth)
        self._known: set[bytes] = set()

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Exclude these from the candidates."""
        self._known.update(row.tobytes() for row in self._space.codes([e.arch for e in evaluations]))

    def best(
        self,
        n: int,
        tries: int,
        ranked: Sequence[Evaluation],
        rng: np.random.Generator,
        fill: Callable[[Pool], None],
    ) -> list[Architecture]:
        """Return up to n feasible networks of the pool that `fill` fills; test the feasibility of at most `tries`.

        Args:
            ranked: all successful evaluations, best first.
        """
        with threadpool_limits(1):  # matrices are small: more threads gain nothing, and cost much on a busy machine
            pool = Pool(self._belief(ranked), self._known, rng)
            fill(pool)
            chosen = pool.choose(n, tries, self._passing, len(self._history)) if len(pool) else []
        archs = self._space.decode(pool.codes[chosen]) if chosen else []
        if archs:
            how = dict.fromkeys((arch.digest for arch in archs), "candidate of the model")
            self._history.lineage.take(how, pool.codes[chosen])
        return archs

    def _belief(self, ranked: Sequence[Evaluation]) -> Belief:
        return Belief(
            self._space,
            self._readings[0],
            self._manners,
            self._history,
            ranked,
            self._costs,
            self._startup,
            self._memory,
        )

    def _passing(self, codes: np.ndarray) -> np.ndarray:
        return np.asarray(self._feasible(self._space.decode(codes)), dtype=bool)
