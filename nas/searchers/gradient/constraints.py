"""Limits on costs: kept in expectation during a search, and exactly by the architecture derived at its end.

The expected cost of a distribution is not the cost of the architecture derived from it (RC-DARTS), so the latter is
checked at the end. If it breaks a limit, the bound on the expectation is tightened and the logits are projected again,
down to the cheapest known architectures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from nas.errors import NasError
from nas.objectives.limits import Limit
from nas.searchers.gradient.bounds import AugmentedLagrangian, Bound, excess
from nas.searchers.gradient.config import GradientConfig, GradientSearchError
from nas.searchers.gradient.logits import Condition, Logits
from nas.searchers.gradient.objectives import ExpectedCost, Objectives
from nas.searchers.gradient.projection import project
from nas.searchers.gradient.relaxed import Relaxed
from search_spaces import Architecture, Space
from supernets.relaxation import Mixture

Measured = Callable[[Architecture], Mapping[str, float]]
"""Returns the measured costs of an architecture."""

MET = 1e-3
"""Relative distance within which a cost counts as lying on its bound."""
NUM_UPDATES = 50
"""Number of updates of the multipliers during the architecture's steps."""
ENOUGH = 30
"""Most times that a bound is tightened, each time by a fifth of the way to the best known cost."""
TIGHTENING = 0.8
MARGIN = 1e-3
"""Distance kept from the best cost, as a share of worst - best: only probabilities of 0 and 1 reach the best itself."""
NUM_CLIMBED = 256
"""Mutants tried in the search for the best cost."""


@dataclass(frozen=True)
class Limited:
    """A limit on a cost, and the range of that cost."""

    limit: Limit
    cost: ExpectedCost
    unconstrained: float
    """The expected cost of the initial distribution."""
    worst: float
    best: float
    """The values furthest beyond and furthest within the limit, over some architectures of the space."""

    @property
    def sign(self) -> int:
        """1 for an upper limit, -1 for a lower one."""
        return sign(self.limit)

    def bound(self, value: float) -> Bound[Mixture]:
        """A bound of this value on the expected cost."""
        side = {"upper": value} if self.sign > 0 else {"lower": value}
        return Bound(self.cost, name=self.limit.metric, **side)

    def annealed(self, share: float) -> float:
        """Interpolate from the unconstrained cost, if that breaks the limit, to the limit (RC-DARTS)."""
        far = (self.unconstrained - self.limit.value) * self.sign > 0
        return self.limit.value + (1 - share) * (self.unconstrained - self.limit.value if far else 0.0)

    def tightened(self, times: int) -> float:
        """The limit moved towards the best value, but not quite to it."""
        room = (self.limit.value - self.best) * self.sign
        least = MARGIN * abs(self.worst - self.best)
        return self.best + max(TIGHTENING**times * room, least) * self.sign


def sign(limit: Limit) -> int:
    """1 for an upper limit, -1 for a lower one."""
    return 1 if limit.op in ("<=", "<") else -1


@dataclass(frozen=True)
class Kept:
    """A distribution after projection, so that the architecture derived from it keeps the limits."""

    mixture: Mixture
    arch: Architecture
    broken: tuple[str, ...]
    """One sentence for each limit that the architecture still breaks."""


class Constraints:
    """The limits of one search.

    Args:
        start: initial logits of the search.
    """

    def __init__(
        self,
        relaxed: Relaxed,
        config: GradientConfig,
        objectives: Objectives,
        limits: Sequence[Limit],
        start: Logits,
    ) -> None:
        self.limits = tuple(limits)
        self._relaxed, self._config = relaxed, config
        space, learnt = relaxed.supernet.space, relaxed.learnt({path: v.detach() for path, v in start.items()})
        self._limited = []
        for limit in limits:
            cost, values = objectives.costs[limit.metric], objectives.ranges[limit.metric]
            best = _best(space, cost, sign(limit), config.seed)
            worst = values.high if sign(limit) > 0 else values.low
            self._limited.append(Limited(limit, cost, float(cost(learnt)), worst, best))
        self._lagrangians = [AugmentedLagrangian.start(1) for _ in limits]

    # --- during the search

    def project(self, logits: Logits, condition: Condition, progress: float) -> Logits:
        """Return the nearest logits whose expected costs keep the current bounds."""
        if self._config.bounds != "projection":
            return logits
        return self._projected(logits, [one.bound(self._now(one, progress)) for one in self._of(condition).values()])

    def tangent(
        self, logits: Logits, gradients: Sequence[Tensor], condition: Condition, progress: float
    ) -> list[Tensor]:
        """Return the gradients of the logits without the components that lead beyond an active bound.

        Adam moves all coordinates equally, and a projection takes the same from all of them: together they would make
        no progress wherever all gradients lead beyond the bound, however unequal these are.
        """
        near = [one.bound(self._now(one, progress)) for one in self._of(condition).values()]
        if self._config.bounds != "projection" or not near:
            return list(gradients)
        leaves = {path: vector.detach().requires_grad_() for path, vector in logits.items()}
        values = excess(near, self._relaxed.learnt(leaves))
        rows = [
            torch.cat(torch.autograd.grad(value, list(leaves.values()), retain_graph=True)).double().numpy()
            for value in values
            if value > -MET
        ]
        if not rows:
            return list(gradients)
        flat = torch.cat(list(gradients)).double().numpy()
        normals = np.stack(rows, axis=1)
        # descent must stay in the cone that the bounds allow: Moreau's decomposition
        flat = flat + normals @ nnls(normals, -flat)[0]
        parts = torch.split(torch.from_numpy(flat), [len(vector) for vector in gradients])
        return [part.to(vector) for part, vector in zip(parts, gradients, strict=True)]

    def terms(self, learnt: Mixture, condition: Condition, progress: float) -> Tensor:
        """Return the augmented Lagrangian's term of the loss; 0 if projection keeps the limits."""
        if self._config.bounds != "lagrangian":
            return torch.zeros(())
        terms = [
            self._lagrangians[index].term(excess([one.bound(self._now(one, progress))], learnt))
            for index, one in self._of(condition).items()
        ]
        return torch.stack(terms).sum() if terms else torch.zeros(())

    def observe(self, learnt: Callable[[Condition], Mixture], watched: Sequence[Condition], step: int) -> None:
        """Update multipliers now and then with the worst excess under any of these conditions."""
        steps = step - self._config.first
        if self._config.bounds != "lagrangian" or steps % max(
            1, (self._config.steps - self._config.first) // NUM_UPDATES
        ):
            return
        progress = self._config.progress(step)
        for index, one in enumerate(self._limited):
            bound = one.bound(self._now(one, progress))
            found = [excess([bound], learnt(each)) for each in watched if index in self._of(each)]
            self._lagrangians[index] = self._lagrangians[index].updated(torch.stack(found).amax(0))

    def state(self) -> list[dict[str, Any]]:
        """The multipliers, as JSON."""
        return [dict(one.state()) for one in self._lagrangians]

    def restore(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Restore the multipliers."""
        self._lagrangians = [AugmentedLagrangian.restored(one) for one in state]

    def _now(self, one: Limited, progress: float) -> float:
        annealing = self._config.annealing
        return one.annealed(min(1.0, progress / annealing) if annealing else 1.0)

    def _projected(self, logits: Logits, bounds: Sequence[Bound[Mixture]]) -> Logits:
        with torch.enable_grad():
            return project(logits, bounds, self._relaxed.learnt)

    # --- at the end

    def require(self, logits: Logits, condition: Condition) -> None:
        """Raise GradientSearchError if no architecture is found that keeps the limits by computed costs."""
        broken = self.keep(logits, condition, None).broken
        if broken:
            raise GradientSearchError(broken[0])

    def keep(self, logits: Logits, condition: Condition, measured: Measured | None) -> Kept:
        """Derive an architecture; tighten bounds and project again until it keeps the limits.

        If none does, return the one that came nearest. Measured costs take precedence over computed ones.
        """
        limited = self._of(condition)
        times = dict.fromkeys(limited, 0)
        tried: list[tuple[float, Kept]] = []
        while True:
            try:
                logits = self._projected(logits, [one.bound(one.tightened(times[i])) for i, one in limited.items()])
            except NasError:  # no expectation keeps these bounds together: an earlier result is the nearest
                if tried:
                    break
            kept, missed = self._derived(logits, list(limited.values()), measured)
            tried.append((sum(missed), kept))
            slack = [i for i, miss in zip(limited, missed, strict=True) if miss > 0 and times[i] < ENOUGH]
            if not slack:
                break
            for index in slack:
                times[index] += 1
        return min(tried, key=lambda pair: pair[0])[1]

    def _derived(
        self, logits: Logits, limited: Sequence[Limited], measured: Measured | None
    ) -> tuple[Kept, list[float]]:
        """Derive the architecture of these logits, and by how much it misses each limit."""
        with torch.no_grad():
            mixture = self._relaxed.learnt(logits)
        arch = mixture.likeliest()
        found = {one.limit.metric: one.cost.of(arch) for one in limited}
        if measured is not None and limited:
            found |= measured(arch)
        missed = [one.limit.violation(found) for one in limited]
        broken = (_broken(one.limit, found) for one, miss in zip(limited, missed, strict=True) if miss > 0)
        return Kept(mixture, arch, tuple(broken)), missed

    def _of(self, condition: Condition) -> dict[int, Limited]:
        """The limits of a condition's target and those of all targets, by index."""
        return {index: one for index, one in enumerate(self._limited) if _applies(one.limit, condition)}


def _best(space: Space, cost: ExpectedCost, sign: int, seed: int) -> float:
    """Approximate the lowest cost (sign 1) or the highest (-1) by hill climbing with mutants of the best so far."""
    rng = np.random.default_rng([seed, 0, 7])
    best = min((space.smallest(), space.largest()), key=lambda arch: sign * cost.of(arch))
    least = sign * cost.of(best)
    for _ in range(NUM_CLIMBED):
        mutant = space.mutate(best, rng)
        if sign * cost.of(mutant) <= least:
            best, least = mutant, sign * cost.of(mutant)
    return sign * least


def _applies(limit: Limit, condition: Condition) -> bool:
    """Whether a limit applies: one on a target applies to that target only, or to all if no objective has a target."""
    _, at, target = limit.metric.partition("@")
    targets = {name.partition("@")[2] for name in condition.objectives} - {""}
    return not at or not targets or target in targets


def _broken(limit: Limit, found: Mapping[str, float]) -> str:
    return (
        f"the limit '{limit}' is not kept: the nearest found is {limit.metric} = {found[limit.metric]:g}; loosen the "
        "limit or widen the space"
    )
