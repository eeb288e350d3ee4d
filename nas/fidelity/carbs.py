"""CARBS: tunes the settings of trainings along the front of quality and cost (arXiv:2306.08055, section 3).

Most tuners seek the best setting at one cost. CARBS keeps the whole front, from cheap to expensive trainings, and tries
settings near it: knowledge from cheap trainings carries over to larger ones, and the search needs no bounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from nas.errors import NasError
from nas.fidelity._axes import Axes
from nas.fidelity._models import Models, Told
from nas.fidelity.pareto_groups import Group, Key, front, grouped, least_sampled
from nas.fidelity.variables import Variable

_PER_DIMENSION = 100  # candidates
_ENOUGH = 2  # fewest successful runs for models


class Carbs:
    """Suggests settings to train with (`ask`), and receives the results (`tell`).

    Suggestions depend on the seed, on the results so far, in order, and on pending suggestions. To restore a tuner,
    tell a new one the same results. A suggestion fits up to four Gaussian processes, which costs O(n^3): 0.05 s at 100
    runs, 1 s at 400.

    Args:
        variables: variables with distinct names.
        most_cost: settings with at least this predicted cost are avoided.
        startup: number of runs around the centre before models are used.
        again_every: every so many runs, repeat the setting on the front with the fewest runs, in case it was lucky; 0
            for never.
        bias: improvement over the front that suggestions aim for, in standard deviations of all scores. 1 explores more
            and finds the better front; if failures are expensive, 0 suggests half as many settings that fail.
        cost_quantile: see `pareto_groups.front`.

    Raises:
        NasError: a setting is invalid.
    """

    def __init__(
        self,
        variables: Sequence[Variable],
        *,
        seed: int = 0,
        most_cost: float = math.inf,
        startup: int = 4,
        again_every: int = 5,
        bias: float = 1.0,
        cost_quantile: float = 0.2,
    ) -> None:
        for name, value, holds, rule in (
            ("seed", seed, isinstance(seed, int) and seed >= 0, "a whole number, 0 or more"),
            ("most_cost", most_cost, most_cost > 0, "above 0; math.inf for no limit"),
            ("startup", startup, startup >= 1, "1 or more"),
            ("again_every", again_every, again_every == 0 or again_every >= 2, "0 for never, or 2 or more"),
            ("bias", bias, bias >= 0, "0 or more"),
            ("cost_quantile", cost_quantile, 0 <= cost_quantile <= 1, "from 0 to 1"),
        ):
            if not holds:
                raise NasError(f"{name} is {value}: it must be {rule}")
        self.axes = Axes(variables)
        self.seed, self.most_cost, self.startup, self.again_every = seed, most_cost, startup, again_every
        self.bias, self.cost_quantile = bias, cost_quantile
        self.told: list[Told] = []
        self.pending: list[Key] = []

    # -- the interface

    def ask(self) -> dict[str, float | int]:
        """Return settings by name; they are pending until `tell` receives their result."""
        number = len(self.told) + len(self.pending)
        rng = np.random.default_rng([self.seed, number, len(self.told)])
        key = self._next(number, rng)
        self.pending.append(key)
        return self.axes.settings(key)

    def tell(self, settings: Mapping[str, float], value: float | None, cost: float | None = None) -> None:
        """Record the result of a run, suggested by `ask` or not.

        Args:
            value: lower is better; None or a non-finite number if the run failed.
            cost: above 0, in any unit; ignored for a failed run.

        Raises:
            NasError: settings have wrong names or are out of bounds, or the cost is invalid.
        """
        key = self.axes.key(settings)
        failed = value is None or not math.isfinite(value)
        if not failed and (cost is None or not 0 < cost < math.inf):
            raise NasError(f"the cost is {cost} of a run that did not fail: it must be above 0 and finite")
        self.told.append(Told(key, None if failed else value, None if failed else cost))
        if key in self.pending:
            self.pending.remove(key)

    def front(self) -> list[tuple[dict[str, float | int], float, float]]:
        """Return settings, mean value and mean cost of the groups on the front, cheapest first."""
        return [(self.axes.settings(group.key), -group.score, group.cost) for group in self._front()]

    # -- suggestions

    def _next(self, number: int, rng: np.random.Generator) -> Key:
        chosen = self._front()
        num_passed = sum(run.value is not None for run in self.told)
        if number < self.startup or num_passed < _ENOUGH:
            return self.axes.near(self.axes.centre, 1, rng)[0]
        if self.again_every and (number + 1) % self.again_every == 0:
            return least_sampled(chosen, self.pending).key
        with threadpool_limits(1):  # matrices are small: more threads gain nothing
            models = self._models(chosen, rng)
            keys = self.axes.near(models.origins, _PER_DIMENSION * len(self.axes), rng)
            return keys[int(np.argmax(models.log_acquisition(self.axes.basic(keys), rng)))]

    def _models(self, chosen: Sequence[Group], rng: np.random.Generator) -> Models:
        return Models(self.axes, self.told, self.pending, chosen, rng, bias=self.bias, most_cost=self.most_cost)

    def _front(self) -> list[Group]:
        return front(self._groups(), self.cost_quantile)

    def _groups(self) -> list[Group]:
        """Return successful runs grouped by settings; the score is the negative value."""
        return grouped((run.key, -run.value, run.cost) for run in self.told if run.value is not None and run.cost)
