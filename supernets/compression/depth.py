"""Choose the activations to drop so that a chain of convolutions meets a latency: two exact dynamic programmes.

The result is a set A of activations to keep and a set S of boundaries at which merged segments end, with A in S: two
convolutions without an activation between them may still be faster than the merged one (arXiv:2301.12187).

    T(i, j)        time of layers i+1 ... j merged into one convolution, where merging is possible
    I(i, j, u, v)  value of the network without the activations inside, with those at i and j kept (1) or not (0)

The first programme finds, for every stretch of layers, the fastest split into segments and the highest value, as a sum
over parts that share dropped activations:

    T_opt(i, j) = min over m of T_opt(i, m) + T(m, j)
    I_opt(i, j, u, v) = max over m of I_opt(i, m, u, 0) + I(m, j, 0, v)

The second programme chooses the activations to keep, with time in whole steps. It rounds times up so that the plan
meets its budget; with rounding down, each segment could exceed it by a step:

    D(t, j) = max over i of D(t - T_opt(i, j), i) + I_opt(i, j, 1, 1)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from supernets.compression.chain import Chain, padded
from supernets.errors import CompressionError

Span = tuple[int, int]
"""A stretch of layers: its first and last boundary."""
Case = tuple[int, int, int, int]
"""A stretch, and for each of its two ends whether the activation there is kept."""

STEPS = 2000
"""Default number of steps into which `solve` divides the time of the unchanged chain."""
_MOST_STEPS = 10_000_000


@dataclass(frozen=True)
class Tables:
    """Times and values of the stretches of a chain of `length` layers.

    `times` covers each single layer and every stretch that can be merged. `values` covers the possible cases: boundary
    0, the input, counts as kept (1); a boundary with an activation may be kept or not (0).

    Raises:
        CompressionError: a single layer has no time, a time is negative or not finite, or a value is NaN.
    """

    length: int
    times: Mapping[Span, float]
    values: Mapping[Case, float]

    def __post_init__(self) -> None:
        missing = [span for span in _spans(self.length, 1) if span not in self.times]
        if self.length < 1 or missing:
            raise CompressionError(
                f"a chain of {self.length} layers has no times for {missing}: measure each single layer"
            )
        wrong = next((s for s, time in self.times.items() if not (math.isfinite(time) and time >= 0)), None)
        if wrong is not None:
            raise CompressionError(
                f"layers {wrong} take {self.times[wrong]}: give times that are finite and not negative"
            )
        nan = next((case for case, value in self.values.items() if math.isnan(value)), None)
        if nan is not None:
            raise CompressionError(f"case {nan} is worth {self.values[nan]}: give a number, -inf for what cannot be")


@dataclass(frozen=True)
class Plan:
    """A solution: the `ends` of merged segments, and those among them whose activations are `kept`.

    `value` sums the values of the parts; `time` sums the times of the segments, in the unit of the tables.
    """

    kept: tuple[int, ...]
    ends: tuple[int, ...]
    value: float
    time: float


# --- the first programme ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stretches:
    """Optima of every stretch: the least time with its segment ends, and the highest value in each case."""

    times: dict[Span, float]
    ends: dict[Span, tuple[int, ...]]
    values: dict[Case, float]


def _stretches(tables: Tables) -> _Stretches:
    found = _Stretches({}, {}, {})
    for width in range(1, tables.length + 1):
        for begin, end in _spans(tables.length, width):
            splits = range(begin + 1, end)
            known: list[tuple[float, tuple[int, ...]]] = []
            known += [(tables.times[begin, end], (end,))] if (begin, end) in tables.times else []
            known += [
                (found.times[begin, m] + tables.times[m, end], (*found.ends[begin, m], end))
                for m in splits
                if (m, end) in tables.times
            ]
            found.times[begin, end], found.ends[begin, end] = min(known)
            for u, v in _KEPT:
                parts = [found.values[begin, m, u, 0] + tables.values.get((m, end, 0, v), -math.inf) for m in splits]
                found.values[begin, end, u, v] = max([tables.values.get((begin, end, u, v), -math.inf), *parts])
    return found


# --- the second programme -------------------------------------------------------------------------------------------


def solve(tables: Tables, budgets: Sequence[float], step: float | None = None) -> list[Plan]:
    """Return the plan of highest value for each budget; among equal values, the faster one.

    Args:
        budgets: upper bounds on the sum of the segments' times, in the unit of the tables; infinity means no bound.
        step: the length of a time step; a smaller one loses less to rounding. None divides the time of the unchanged
            chain into `STEPS` steps.

    Raises:
        CompressionError: `step` is not above 0 or makes too many steps, no plan meets a budget, or no plan has a value.
    """
    single = [tables.times[span] for span in _spans(tables.length, 1)]
    step = (math.fsum(single) / STEPS or 1.0) if step is None else step
    if not step > 0:
        raise CompressionError(f"step = {step}: time is counted in steps above 0")
    stretches = _stretches(tables)
    horizon = sum(_steps(time, step) for time in single)  # no stretch takes longer than its layers one by one
    if horizon > _MOST_STEPS:
        raise CompressionError(
            f"step = {step:g}: that makes {horizon:,} steps, and {_MOST_STEPS:,} are the most: take longer ones"
        )
    reached = _Reached(stretches, tables.length, step, horizon)
    if not reached.any():
        raise CompressionError(
            "no way to keep activations has a value: give values of at least each single layer's cases"
        )
    return [reached.plan(budget) for budget in budgets]


class _Reached:
    """D: the highest value in exactly t steps, up to each boundary whose activation is kept and up to the end."""

    def __init__(self, stretches: _Stretches, length: int, step: float, horizon: int) -> None:
        self._stretches = stretches
        self._length = length
        self._step = step
        self._steps = {span: _steps(time, step) for span, time in stretches.times.items()}
        start = np.full(horizon + 1, -np.inf)
        start[0] = 0.0
        self._best: dict[Span, npt.NDArray[np.float64]] = {(0, 1): start}
        """For each boundary, and whether its activation is kept: the best value per number of steps."""
        self._came: dict[Span, npt.NDArray[np.int64]] = {}
        for end in range(1, length + 1):
            for kept in (0, 1) if end == length else (1,):  # the first programme covers the dropped ones
                self._reach(end, kept)

    def _reach(self, end: int, kept: int) -> None:
        rows = np.full((end, len(self._best[0, 1])), -np.inf)
        for begin in range(end):
            value, steps = self._stretches.values[begin, end, 1, kept], self._steps[begin, end]
            if steps < rows.shape[1]:
                rows[begin, steps:] = self._best[begin, 1][: rows.shape[1] - steps] + value
        self._came[end, kept] = rows.argmax(0)
        self._best[end, kept] = rows.max(0)

    def any(self) -> bool:
        """Return whether any plan exists."""
        return any(bool((self._best[self._length, kept] > -np.inf).any()) for kept in (0, 1))

    def plan(self, budget: float) -> Plan:
        """Return the plan of highest value within the budget; among equal values, the faster one.

        Raises:
            CompressionError: the budget is NaN, or no plan meets it.
        """
        within = {kept: self._best[self._length, kept][: self._num_steps(budget) + 1] for kept in (0, 1)}
        found = [(float(row.max()), -int(row.argmax()), kept) for kept, row in within.items() if len(row)]
        value, steps, kept = max(found, default=(-math.inf, 0, 0))
        if value == -math.inf:
            fastest = self._stretches.times[0, self._length]
            raise CompressionError(
                f"nothing keeps a budget of {budget:g}: the fastest there is takes {fastest:g}, and times are rounded "
                f"up to steps of {self._step:g}; allow more time or take smaller steps"
            )
        return self._back(-steps, kept, value)

    def _num_steps(self, budget: float) -> int:
        """Return the whole steps within a budget, at most the horizon; -1 for a negative budget."""
        if math.isnan(budget):
            raise CompressionError(f"budget = {budget}: give a time, or infinity for none")
        horizon = len(self._best[0, 1]) - 1
        most = math.floor(max(-1.0, min(budget / self._step, horizon)))
        return max(-1, most if most * self._step <= budget else most - 1)  # the quotient may have been rounded up

    def _back(self, steps: int, kept: int, value: float) -> Plan:
        end, stays, ends, time = self._length, [self._length] if kept else [], [], 0.0
        while end:
            begin = int(self._came[end, kept][steps])
            ends.append(self._stretches.ends[begin, end])
            time += self._stretches.times[begin, end]
            steps -= self._steps[begin, end]
            stays += [begin] if begin else []
            end, kept = begin, 1
        return Plan(tuple(stays[::-1]), tuple(e for part in ends[::-1] for e in part), value, time)


def _steps(time: float, step: float) -> int:
    """Return the least number of steps that lasts at least that time."""
    steps = math.ceil(time / step)
    return steps if steps * step >= time else steps + 1


# --- measured on a network ------------------------------------------------------------------------------------------

Measure = Callable[[Sequence[nn.Module], Tensor], Sequence[float]]
"""Maps modules and their common input to latencies, as a `nas.targets.Target` measures them in the same rounds."""
Score = Callable[[Chain], float]
"""Returns the quality of a chain, higher is better: in its network, after a little training or without."""


@dataclass(frozen=True, eq=False)
class Compressed:
    """A plan and its chain, to be trained further; `network.merged()` then gives the shorter network."""

    plan: Plan
    network: Chain


def compress(
    chain: Chain,
    example: Tensor,
    measure: Measure,
    score: Score,
    budgets: Sequence[float],
    *,
    alpha: float = 1.0,
    step: float | None = None,
) -> list[Compressed]:
    """Return, for each budget, the chain of highest value within it. The original chain stays unchanged.

    Args:
        example, measure, score, alpha: see `times` and `values`.
        budgets: upper bounds on the sum of the segments' times, in the unit of `measure`.

    Raises:
        CompressionError: as `Tables` and `solve`.
    """
    known = times(chain, example, measure)
    plans = solve(Tables(len(chain.layers), known, values(chain, list(known), score, alpha)), budgets, step)
    return [Compressed(plan, chain.thinned(plan.ends, plan.kept)) for plan in plans]


def times(chain: Chain, example: Tensor, measure: Measure) -> dict[Span, float]:
    """Return T, the time of every stretch that can be merged.

    Each time includes the modules that follow the stretch, even an activation that a plan drops, so that sums of times
    are never too low. It excludes shortcuts that stay additions.

    Args:
        example: an input of the chain.
    """
    whole = chain.thinned(chain.boundaries, chain.boundaries).eval()
    with torch.no_grad():
        inputs = whole.values(example)
    found: dict[Span, float] = {}
    for begin, x in enumerate(inputs[:-1]):
        ends = [end for end in chain.boundaries if end > begin and chain.can_merge(begin, end)]
        merged = (whole.segment(begin, end).merged() for end in ends)
        modules = [
            nn.Sequential(padded(layer), *whole.layers[end - 1].after).eval()
            for layer, end in zip(merged, ends, strict=True)
        ]
        latencies = map(float, measure(modules, x))
        found |= {(begin, end): latency for end, latency in zip(ends, latencies, strict=True)}
    return found


def values(chain: Chain, spans: Sequence[Span], score: Score, alpha: float = 1.0) -> dict[Case, float]:
    """Return I, the score of the chain in each case minus `alpha` times that of the unchanged chain.

    In each case all other activations stay, and layers outside the stretch stay unmerged. With `alpha` = 1 a value is
    the gain or loss of the case. With a larger `alpha` and positive scores, such as accuracies, each segment carries a
    price, so plans have fewer segments than the budget allows.

    Args:
        spans: the stretches that can be merged.
    """
    scores: dict[tuple[tuple[int, ...], tuple[int, ...]], float] = {}

    def scored(ends: tuple[int, ...], kept: tuple[int, ...]) -> float:
        if (ends, kept) not in scores:
            scores[ends, kept] = float(score(chain.thinned(ends, kept)))
        return scores[ends, kept]

    def optional(boundary: int) -> tuple[int, ...]:
        """Return the possible states of a boundary: the input and modules that must stay are kept (1), a boundary
        without activation is not (0), any other may be either."""
        if boundary == 0 or chain.layers[boundary - 1].bars:
            return (1,)
        return (0, 1) if chain.layers[boundary - 1].after else (0,)

    every = tuple(chain.boundaries)
    base = scored(every, every)
    found = {}
    for begin, end in spans:
        ends = tuple(b for b in every if not begin < b < end)
        for u in optional(begin):
            for v in optional(end):
                left = {
                    boundary for boundary, kept in ((begin, u), (end, v)) if not kept and optional(boundary) != (0,)
                }
                found[begin, end, u, v] = scored(ends, tuple(b for b in ends if b not in left)) - alpha * base
    return found


_KEPT = ((0, 0), (0, 1), (1, 0), (1, 1))


def _spans(length: int, width: int) -> list[Span]:
    return [(begin, begin + width) for begin in range(length - width + 1)]
