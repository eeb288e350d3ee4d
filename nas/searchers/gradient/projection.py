"""Projects architecture parameters onto bounds with the least change.

After RC-DARTS, which alternates ordinary gradient steps with projections onto the bounds. The alternation, the bounded
problem and separate cells for each depth are published; formulas and algorithm are ours.

Separate cells for early, middle and late layers are part of the declaration: a space with one choice per stage (`per=`)
learns each stage separately and counts its cost at its own resolution. This file needs no case for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import nnls
from torch import Tensor

from nas.errors import NasError
from nas.searchers.gradient.bounds import Bound, excess

TOLERANCE = 1e-9  # largest relative miss at which a bound counts as kept
COARSE = 1e-6  # the same for float32 parameters
ROUNDS = 300
MEMORY = 10  # earlier rounds in the non-monotone line search
MAX_HALVINGS = 40
REACH = 20.0  # longest step in any parameter: a softmax is flat beyond
CURVATURES = (0.1, 1e6)
INSIDE = 1e-3  # relative distance within the bounds that a restart aims for
NEAR = 1e-7  # a side whose relative distance is smaller counts as active
NEGLIGIBLE = 1e-12  # smallest gain of a round, as a share of the squared distance
DECISIVE = 100.0  # initial price of a miss, as a multiple of the squared distance: keeps the search within the bounds
SHRUNK = (0.5, 0.0)  # share of each choice's differences that restarts keep

Vector = npt.NDArray[np.float64]


def softmax(logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The learned probabilities of most methods, from logits by path."""
    return {path: vector.softmax(-1) for path, vector in logits.items()}


def project(
    logits: Mapping[str, Tensor],
    bounds: Sequence[Bound[Any]],
    learnt: Callable[[Mapping[str, Tensor]], Any] = softmax,
) -> dict[str, Tensor]:
    """Return the nearest parameters whose expected costs keep the bounds: least squared change over all choices.

    Parameters that keep the bounds to a relative 1e-9 (float32: 1e-6) are returned unchanged. Others move onto the
    bounds that they miss. With the softmax, the sum of each choice's parameters stays, since no cost depends on it. The
    problem is not convex: the result is the optimum that descent from the parameters reaches. If the parameters are so
    decided that costs have no slope, descent restarts from less decided parameters that keep the bounds. Computed in
    float64.

    Args:
        learnt: maps parameters by path to the argument of costs.

    Raises:
        NasError: it finds no parameters that keep all bounds; the message names the bound that is missed most.
    """
    if not logits or not bounds:
        return dict(logits)
    problem = _Problem(logits, bounds, learnt)
    if problem.excess(problem.origin).max() <= problem.tolerance:
        return dict(logits)
    found, sure = problem.nearest(problem.origin)
    candidates = [found]
    if not (sure and problem.kept(found)):
        candidates += [problem.nearest(problem.within(problem.shrunk(share)))[0] for share in SHRUNK]
    kept = [point for point in candidates if problem.kept(point)]
    if not kept:
        raise problem.error()
    return problem.parameters(min(kept, key=problem.way))


class _Problem:
    """The parameters of all choices as one vector (n,), and the m sides of the bounds as functions of it."""

    def __init__(
        self,
        logits: Mapping[str, Tensor],
        bounds: Sequence[Bound[Any]],
        learnt: Callable[[Mapping[str, Tensor]], Any],
    ) -> None:
        self._logits, self._bounds, self._learnt = logits, bounds, learnt
        self._sizes = [len(vector) for vector in logits.values()]
        self.origin: Vector = torch.cat([vector.detach().cpu().double() for vector in logits.values()]).numpy()
        self.tolerance = TOLERANCE if all(one.dtype == torch.float64 for one in logits.values()) else COARSE

    def parameters(self, point: Vector) -> dict[str, Tensor]:
        """Return the parameters by path, with their original dtypes and devices."""
        parts = zip(self._logits.items(), self._split(torch.from_numpy(point)), strict=True)
        return {path: part.to(vector) for (path, vector), part in parts}

    def shrunk(self, share: float) -> Vector:
        """Return the origin with each choice's parameters moved towards their mean."""
        parts = self._split(torch.from_numpy(self.origin))
        shrunk: Vector = torch.cat([part.mean() + share * (part - part.mean()) for part in parts]).numpy()
        return shrunk

    def excess(self, point: Vector) -> Vector:
        """Return the excess of each side, (m,)."""
        with torch.no_grad():
            found: Vector = self._excess(torch.from_numpy(point)).numpy()
        return found

    def kept(self, point: Vector) -> bool:
        return bool(self.excess(point).max() <= TOLERANCE)

    def slopes(self, point: Vector) -> tuple[Vector, Vector]:
        """Return the excess of each side (m,), and its gradients (m, n)."""
        leaf = torch.from_numpy(point).clone().requires_grad_()
        values = self._excess(leaf)
        rows = [torch.autograd.grad(value, leaf, retain_graph=True)[0].numpy() for value in values]
        return values.detach().numpy(), np.stack(rows)

    def way(self, point: Vector) -> float:
        """Return the squared distance to the origin."""
        return float(np.square(point - self.origin).sum())

    def nearest(self, point: Vector) -> tuple[Vector, bool]:
        """Return the optimum that descent from a point reaches, and whether it converged.

        Sequential quadratic programming: each round finds the best point under the linearised bounds, with a scalar
        instead of the Lagrangian's Hessian (Barzilai and Borwein 1988), and goes as far towards it as decreases the sum
        of distance and misses, relative to the worst of the last rounds, as this scalar requires (Grippo et al. 1986).
        """
        price, curvature, sure, lately = DECISIVE * self.way(point), 1.0, False, list[float]()
        values, rows = self.slopes(point)
        for _ in range(ROUNDS):
            pull = point - self.origin
            found = _least_change(values - rows @ pull / curvature, rows)
            if found is None:
                break
            change, multipliers = found[0] - pull / curvature, curvature * found[1]
            price = max(price, 2 * float(multipliers.max()))
            gain = price * float(values.clip(0).sum()) - float(pull @ change)
            merit = partial(self._merit, price)
            lately = [*lately[1 - MEMORY :], merit(point)]
            level = len(lately) == MEMORY and max(lately) - min(lately) <= NEGLIGIBLE * max(lately)
            if level or gain <= NEGLIGIBLE * self.way(point):
                sure = True
                break
            ahead = self._step(point, change, merit, max(lately), gain)
            if ahead is None:
                break
            moved, before, point = ahead - point, rows, ahead
            values, rows = self.slopes(point)
            bent = float(moved @ (moved + (rows - before).T @ multipliers))
            curvature = float(np.clip(bent / (moved @ moved), *CURVATURES))
        return self._restored(point), sure

    def within(self, point: Vector) -> Vector:
        """Move a point to where the bounds hold, as far as steps onto the linearised bounds lead there."""
        for _ in range(ROUNDS):
            values, rows = self.slopes(point)
            missed = float(values.clip(0).sum())
            found = _least_change(values + INSIDE, rows)
            if missed == 0 or found is None:
                break
            ahead = self._step(point, found[0], self._missed, missed, missed)
            if ahead is None:
                break
            point = ahead
        return point

    def error(self) -> NasError:
        nearest = self.excess(self.within(self.shrunk(0.0)))
        sides = [(bound, sign, value) for bound in self._bounds for sign, value in bound.sides]
        bound, sign, value = sides[int(nearest.argmax())]
        cost = value + sign * float(nearest.max()) * (abs(value) or 1.0)
        word, remedy, options = ("<=", "raise", "cheaper") if sign > 0 else (">=", "lower", "costlier")
        others = " with the other bounds" if len(sides) > 1 else ""
        return NasError(
            f"no probabilities keep {bound.name} {word} {value:g}{others}, the nearest found is {cost:g}: {remedy} the "
            f"bound or give the space {options} options"
        )

    def _split(self, point: Tensor) -> tuple[Tensor, ...]:
        return torch.split(point, self._sizes)

    def _excess(self, point: Tensor) -> Tensor:
        by_path = dict(zip(self._logits, self._split(point), strict=True))
        return excess(self._bounds, self._learnt(by_path)).cpu().double()

    def _missed(self, point: Vector) -> float:
        return float(self.excess(point).clip(0).sum())

    def _merit(self, price: float, point: Vector) -> float:
        return self.way(point) / 2 + price * self._missed(point)

    @staticmethod
    def _step(
        point: Vector, change: Vector, value: Callable[[Vector], float], last: float, gain: float
    ) -> Vector | None:
        """Try the whole change (at most REACH), its half, ...; return the first point with a sufficient decrease."""
        share = min(1.0, REACH / float(np.abs(change).max()))
        for _ in range(MAX_HALVINGS):
            ahead: Vector = point + share * change
            if value(ahead) <= last - 1e-4 * share * gain:
                return ahead
            share /= 2
        return None

    def _restored(self, point: Vector) -> Vector:
        """Move onto the missed and active sides with the least change: Newton's method on their excess."""
        near = self.excess(point) > -NEAR
        best, least = point, math.inf
        for _ in range(20):
            values, rows = self.slopes(point)
            worst = float(np.abs(values[near]).max(initial=0.0))
            if not worst < least:
                break
            best, least = point, worst
            point = point - np.linalg.lstsq(rows[near], values[near])[0]
        return best


def _least_change(values: Vector, rows: Vector) -> tuple[Vector, Vector] | None:
    """Return the shortest s with values + rows @ s <= 0, and its multipliers; None if there is none.

    Solved by non-negative least squares (Lawson and Hanson 1974, chapter 23).
    """
    lengths = np.linalg.norm(rows, axis=1)
    if not np.all(lengths > 0) or not np.all(np.isfinite(lengths)):
        return None
    system = np.vstack([-(rows / lengths[:, None]).T, values / lengths])
    target = np.zeros(len(system))
    target[-1] = 1
    multipliers = nnls(system, target)[0]
    residual = system @ multipliers - target
    if residual[-1] > -1e-12:
        return None
    return -residual[:-1] / residual[-1], -multipliers / lengths / residual[-1]
