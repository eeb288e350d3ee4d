"""Which activations to leave out so that a chain of convolutions keeps a latency: two dynamic programmes, exactly.

What is chosen are activations to keep, A, and boundaries at which merged segments end, S, which holds A: without an
activation between them, two convolutions may still be faster than the one they make (arXiv:2301.12187).

    T(i, j)        the time of layers i+1 ... j as one convolution, where they can be
    I(i, j, u, v)  what a network is worth without the activations inside, and those at i and j kept (1) or not (0)

The first programme finds the fastest split of every stretch, and the most it is worth as a sum of parts whose common
activations are left out:

    T_opt(i, j) = min over m of T_opt(i, m) + T(m, j)
    I_opt(i, j, u, v) = max over m of I_opt(i, m, u, 0) + I(m, j, 0, v)

The second chooses the activations that stay, over time in whole steps. Times are rounded up, so that what is chosen
keeps its budget (rounded down, each segment might exceed it by a step):

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
"""A stretch of layers, from boundary to boundary."""
Case = tuple[int, int, int, int]
"""A stretch, and whether the activations at its ends are kept."""

STEPS = 2000
"""Into which the time of the unchanged chain is divided where nothing else is said."""
_MOST_STEPS = 10_000_000


@dataclass(frozen=True)
class Tables:
    """What is known of the stretches of a chain of `length` layers.

    `times` has each single layer and whatever else can be merged. `values` has the cases that can be: an activation is
    kept (1) at boundary 0, which is the input, and may be kept or not (0) where there is one.
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
    """What to keep: `ends` of merged segments, boundaries whose activations are `kept` among them.

    `value` is the sum of the parts, `time` that of the segments, in the unit of the tables.
    """

    kept: tuple[int, ...]
    ends: tuple[int, ...]
    value: float
    time: float


# --- the first programme ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stretches:
    """The best of every stretch: its time and the ends that give it, and what it is worth in each case."""

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


# --- the second ---------------------------------------------------------------------------------------------------


def solve(tables: Tables, budgets: Sequence[float], step: float | None = None) -> list[Plan]:
    """The plan of most value for each budget; of those with equal value the faster.

    Args:
        budgets: times that the sum of segments must not exceed, in the unit of the tables; infinity is none.
        step: of time, in which it is counted; a smaller one loses less by rounding. None takes so much that the
            unchanged chain has `STEPS`.

    Raises:
        CompressionError: nothing keeps a budget, or nothing at all is possible.
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
    """D: what is worth most in exactly t steps up to each boundary whose activation is kept, and at the end."""

    def __init__(self, stretches: _Stretches, length: int, step: float, horizon: int) -> None:
        self._stretches = stretches
        self._length = length
        self._step = step
        self._steps = {span: _steps(time, step) for span, time in stretches.times.items()}
        start = np.full(horizon + 1, -np.inf)
        start[0] = 0.0
        self._best: dict[Span, npt.NDArray[np.float64]] = {(0, 1): start}
        """By boundary, and whether its activation is kept."""
        self._came: dict[Span, npt.NDArray[np.int64]] = {}
        for end in range(1, length + 1):
            for kept in (0, 1) if end == length else (1,):  # the first programme has left out all others
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
        """Whether there is any plan at all."""
        return any(bool((self._best[self._length, kept] > -np.inf).any()) for kept in (0, 1))

    def plan(self, budget: float) -> Plan:
        """Of most value within the budget; of equal ones the faster, which comes first."""
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
        """Whole steps within a budget, -1 for none; no more than any plan takes."""
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
    """So many steps are at least that time."""
    steps = math.ceil(time / step)
    return steps if steps * step >= time else steps + 1


# --- of a network -------------------------------------------------------------------------------------------------

Measure = Callable[[Sequence[nn.Module], Tensor], Sequence[float]]
"""From modules and the input of each to their latencies, as a `nas.targets.Target` measures them in the same rounds."""
Score = Callable[[Chain], float]
"""How good a chain is, the more the better: in the network it is of, with a little training or without."""


@dataclass(frozen=True, eq=False)
class Compressed:
    """A plan and the chain it makes, ready to be trained on; `network.merged()` is then the short one."""

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
    """For each budget the chain that is worth most within it. The chain given stays as it is.

    Args:
        example, measure, score, alpha: see `times` and `values`.
        budgets: of the sum of the segments' times, in what `measure` gives.

    Raises:
        CompressionError: as `solve`.
    """
    known = times(chain, example, measure)
    plans = solve(Tables(len(chain.layers), known, values(chain, list(known), score, alpha)), budgets, step)
    return [Compressed(plan, chain.thinned(plan.ends, plan.kept)) for plan in plans]


def times(chain: Chain, example: Tensor, measure: Measure) -> dict[Span, float]:
    """T: of every stretch that can be merged, with what comes behind it, kept or not, so that no sum is too low.

    A shortcut that stays an addition is not counted.

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
    """I: the score of the chain in each case, less `alpha` times that of the unchanged chain.

    The other activations stay, and what is not inside the stretch is not merged. At `alpha` = 1 a case is worth what it
    loses or gains; above, where scores are positive as accuracies are, each segment has a price, and fewer are chosen
    than a budget asks for.

    Args:
        spans: the stretches that can be merged.
    """
    scores: dict[tuple[tuple[int, ...], tuple[int, ...]], float] = {}

    def scored(ends: tuple[int, ...], kept: tuple[int, ...]) -> float:
        if (ends, kept) not in scores:
            scores[ends, kept] = float(score(chain.thinned(ends, kept)))
        return scores[ends, kept]

    def optional(boundary: int) -> tuple[int, ...]:
        """Kept or not: the input is, what must stay is, and what is not there is not."""
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
