"""Predictions for the networks of a space: metrics, and chances to keep the limits and to evaluate without error."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from nas.objectives import pareto
from nas.objectives.limits import Limit
from nas.records import Evaluation
from nas.searchers._costs import Known
from nas.searchers._history import History, Part
from nas.searchers._metrics import Manner, Metric, Told, manner
from nas.searchers._process import Codes, Differences, Process, prior_kernel
from nas.searchers._volume import Gains, beyond, reference
from search_spaces import Space

FloatArray = npt.NDArray[np.float64]

LEARNT_FROM = 150
GROWTH = 1.1
_LEAST_CHANCE = 0.05


class Manners:
    """Chooses how to model each metric, from a first part of all evaluations, and again as these grow.

    The part depends on the number of evaluations alone, so equal histories give equal decisions. The last decision is
    cached.

    Args:
        readings: distances between networks; each metric uses the one that predicts it best.
        startup: number of evaluations at the first decision.
        learnt_from: most evaluations that a decision uses: its time grows with their cube.
        growth: factor of evaluations after which to decide again.
    """

    def __init__(
        self,
        space: Space,
        readings: Sequence[Differences],
        startup: int,
        learnt_from: int = LEARNT_FROM,
        growth: float = GROWTH,
    ) -> None:
        self._space = space
        self._readings = readings
        self._startup = startup
        self._learnt_from = learnt_from
        self._growth = growth
        self._decided: tuple[int, dict[str, Manner]] = (0, {})

    def of(self, name: str, evaluations: Sequence[Evaluation], sign: float = 1.0) -> Manner:
        """The manner for the metric `name` times `sign`; `evaluations` are all successful ones."""
        num = self._num(len(evaluations))
        if self._decided[0] != num:
            self._decided = (num, {})
        key = f"{sign}{name}"
        if key not in self._decided[1]:
            some = [evaluations[i] for i in np.unique(np.linspace(0, num - 1, self._learnt_from).astype(int))]
            codes = self._space.codes([e.arch for e in some])
            values = sign * np.array([e.metrics[name] for e in some])
            self._decided[1][key] = manner(self._readings, codes, values)
        return self._decided[1][key]

    def _num(self, num: int) -> int:
        size = float(self._startup)
        while size * self._growth <= num:
            size *= self._growth
        return min(num, int(size))


class Belief:
    """Models of all metrics that a search needs, fitted to at most `memory` evaluations.

    Args:
        ranked: two or more successful evaluations, best first.
        known: metrics that need no model.
    """

    def __init__(
        self,
        space: Space,
        differences: Differences,
        manners: Manners,
        history: History,
        ranked: Sequence[Evaluation],
        known: Known,
        startup: int,
        memory: int,
    ) -> None:
        some = _remembered(ranked, memory)
        codes = space.codes([evaluation.arch for evaluation in some])
        self._failing = _failing(space, differences, history, codes)
        self._metrics: dict[tuple[str, float], Metric | Told] = {}

        def metric(name: str, sign: float = 1.0) -> Metric | Told:
            if (name, sign) not in self._metrics:
                self._metrics[name, sign] = made(name, sign)
            return self._metrics[name, sign]

        def made(name: str, sign: float) -> Metric | Told:
            if name in known.names:
                return Told(lambda codes: sign * known(name, codes))
            values = sign * np.array([evaluation.metrics[name] for evaluation in some])
            return Metric(codes, values, manners.of(name, history.succeeded, sign))

        names = list(dict.fromkeys(name for part in history.parts for name in part.aim.objectives))
        self._objectives = [metric(name) for name in names]
        self.aims = [AimBelief(part, names, metric, startup) for part in history.parts]

    @property
    def num_objectives(self) -> int:
        """Of all aims together."""
        return len(self._objectives)

    def expected(self, codes: Codes) -> tuple[FloatArray, FloatArray]:
        """Return (n, m) expected objectives and (levels, n, m) optimistic ones."""
        both = [metric.expected(codes) for metric in self._objectives]
        return np.stack([mean for mean, _ in both], axis=1), np.stack([hoped for _, hoped in both], axis=2)

    def chances(self, codes: Codes) -> FloatArray:
        """Return (n, aims) probabilities to succeed and to keep an aim's limits, treated as independent."""
        chances = np.ones((len(codes), len(self.aims)))
        if self._failing:
            chances *= np.clip(1 - self._failing.mean(codes), _LEAST_CHANCE, 1)[:, None]
        below: dict[int, dict[float, FloatArray]] = {}
        for column, aim in enumerate(self.aims):
            for metric, bound in aim.limits:
                seen = below.setdefault(id(metric), {})
                if bound not in seen:
                    seen[bound] = metric.chance_below(codes, bound)
                chances[:, column] *= seen[bound]
        return chances


class AimBelief:
    """The known values of one aim, and its reference point."""

    def __init__(
        self, part: Part, names: Sequence[str], metric: Callable[[str, float], Metric | Told], startup: int
    ) -> None:
        aim, values = part.aim, part.values
        self.columns = [names.index(name) for name in aim.objectives]
        self.limits = [(metric(limit.metric, _sign(limit)), _sign(limit) * limit.value) for limit in aim.limits]
        kept = values[part.excess == 0]
        told = [isinstance(metric(name, 1.0), Told) for name in aim.objectives]
        front = kept[pareto.non_dominated(kept)] if len(kept) else values
        self.known = kept
        self.reference = reference(front, values[:startup], len(values) / startup, told)
        self.beyond = beyond(self.reference, values[:startup], len(values) / startup)
        """The reference of bold proposals, which may lie beyond the ends of the known front."""
        span = self.reference - front.min(axis=0)
        self.unit = float(np.prod(np.where(span > 0, span, 1.0)))
        """The volume by which this aim's gains are divided."""

    def gains(self, rng: np.random.Generator, *, bold: bool) -> Gains:
        return Gains(self.known, self.beyond if bold else self.reference, rng)


def _failing(space: Space, differences: Differences, history: History, succeeded: Codes) -> Process | None:
    """A process of failures: 1 for the latest failed evaluations, at most as many as succeeded, 0 for the latter."""
    failed = space.codes([e.arch for e in history.evaluations if e.error is not None][-len(succeeded) :])
    if not len(failed):
        return None
    values = np.repeat([0.0, 1.0], [len(succeeded), len(failed)])
    kernel = prior_kernel(differences.num_rates)
    return Process(differences, np.concatenate([succeeded, failed]), values, kernel)


def _sign(limit: Limit) -> float:
    return 1.0 if limit.is_upper else -1.0


def _remembered(ranked: Sequence[Evaluation], memory: int) -> list[Evaluation]:
    """The best half of `memory`, and as many of the others, evenly spaced from good to bad."""
    if len(ranked) <= memory:
        return list(ranked)
    best, others = ranked[: memory // 2], ranked[memory // 2 :]
    return [*best, *(others[i] for i in np.linspace(0, len(others) - 1, memory - len(best)).astype(int))]
