"""Several models, with a table, learnt in training, that assigns architectures to models in equal shares.

Balanced Mixture of SuperNets (arXiv:2306.11982). The table holds the score of each group of architectures in each
model. A softmax of growing sharpness turns it into probabilities of models. Scaling the models' columns keeps their
loads equal, so that the first model with a small lead does not take over.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from search_spaces import Architecture, Space, SpaceError
from search_spaces.narrowing import Closed
from supernets.layout import Shape
from supernets.sharing.base import Ground, Sharing, Weights
from supernets.sharing.copies import Copies, SharingError, check_models, slots_named
from supernets.steps import Course, Feedback, Pass, Plan, Step

TABLE = "@assignment"
BALANCE = "@balance"

MAX_ROWS = 10_000
MAX_ROUNDS = 1_000
SHARPEST = 100.0
MEMORY = 0.9  # weight of the old value of a cell when a new score arrives
NUM_PERIODS = 100  # least number of times that training balances the columns

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Balanced(Sharing):
    """Independent models, to which groups of architectures are assigned by their scores on validation batches.

    A group contains the architectures with equal values of the choices in `by`. Each pass of a step draws its model;
    afterwards the group's cell of the table becomes 0.9 of itself plus 0.1 of the score. All cells start at 1, the best
    score, so that training tries all models. Outside training, an architecture uses its likeliest model at full
    sharpness, the first one on ties.

    A cell is informative only after about ten passes. If the space has many architectures for the length of the
    training, group them by the one or two choices that conflict most.
    """

    name: ClassVar[str] = "balanced"

    models: int = 4
    by: tuple[str, ...] = ()
    """The choices whose options define a group: ``by=depth+width``; empty: every architecture is its own group."""

    def __post_init__(self) -> None:
        check_models(self.models)

    def bind(self, ground: Ground) -> Weights:
        return BalancedWeights(ground, self)

    def num_elements(self, shapes: Mapping[str, Shape]) -> int:
        return self.models * super().num_elements(shapes)


# --- balancing ------------------------------------------------------------------------------------------------------


def scalings(logits: FloatArray, tolerance: float = 1e-4) -> FloatArray:
    """Return offsets (M,) to subtract from the columns of logits (A, M), which equalise the softmax's column means.

    The method is Sinkhorn scaling, until the Kullback-Leibler divergence of the column means from the uniform
    distribution is at most the tolerance (or after `MAX_ROUNDS` rounds). It works on logarithms, because at full
    sharpness the probabilities underflow.
    """
    num_rows, num_columns = logits.shape
    found = np.zeros(num_columns)
    for _ in range(MAX_ROUNDS):
        scaled = logits - found
        means = _logsumexp(scaled - _logsumexp(scaled, axis=1)[:, None], axis=0) - math.log(num_rows)
        divergence = float(np.sum(np.exp(means) * (means + math.log(num_columns))))
        if abs(divergence) <= tolerance:
            break
        found += means
    return found


def probabilities(logits: FloatArray, scaling: FloatArray) -> FloatArray:
    """Return the row-wise softmax of scaled logits, (A, M) or (M,)."""
    scaled = logits - scaling
    raised = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    found: FloatArray = raised / raised.sum(axis=-1, keepdims=True)
    return found


def _logsumexp(values: FloatArray, axis: int) -> FloatArray:
    most = values.max(axis=axis, keepdims=True)
    total: FloatArray = np.log(np.exp(values - most).sum(axis=axis)) + most.squeeze(axis)
    return total


def sharpness(share: float) -> float:
    """Return the factor of the table after a share of the steps; it grows from 1 to 100."""
    return 1 + (SHARPEST - 1) * share


# --- which model ----------------------------------------------------------------------------------------------------


class BalancedWeights(Copies):
    """Whole models, the table of scores, and the current scaling of its columns."""

    def __init__(self, ground: Ground, method: Balanced) -> None:
        super().__init__(ground, method.models, ground.initialise)
        named = [slot for path in method.by for slot in slots_named(self.space, path)]
        self._slots = sorted(set(named)) if named else list(range(len(self.space.slots)))
        self._rows = {codes: row for row, codes in enumerate(_groups(self.space, self._slots, bool(named)))}
        self.store.buffers[TABLE] = torch.ones(len(self._rows), self.num_models, dtype=torch.float64)
        self.store.buffers[BALANCE] = torch.tensor([1.0] + [0.0] * self.num_models, dtype=torch.float64)

    def row(self, arch: Architecture) -> int:
        """Return the table row of an architecture's group."""
        return self._rows[tuple(self.space.codes([arch])[0, self._slots].tolist())]

    def balance(self, sharp: float) -> None:
        """Recompute the scaling of the columns for this sharpness."""
        scaling = scalings(sharp * self.store.buffers[TABLE].cpu().numpy())
        self.store.buffers[BALANCE].copy_(torch.tensor([sharp, *scaling], dtype=torch.float64))

    def probabilities(self, row: int) -> FloatArray:
        """Return the probabilities of the models for a group, (M,), from the current table and the last scaling."""
        sharp, *scaling = self.store.buffers[BALANCE].tolist()
        return probabilities(sharp * self.store.buffers[TABLE][row].cpu().numpy(), np.array(scaling))

    def learn(self, row: int, model: int, score: float) -> None:
        cell = self.store.buffers[TABLE][row, model]
        cell.mul_(MEMORY).add_((1 - MEMORY) * score)

    def route(self, arch: Architecture) -> int:
        return int(self.probabilities(self.row(arch)).argmax())

    def accompany(self, plan: Plan, course: Course) -> Plan:
        return _Balancing(plan, course, self)


def _groups(space: Space, slots: list[int], named: bool) -> list[tuple[int, ...]]:
    """Return the combinations of codes that these slots have in the networks of a space.

    For a space too large to enumerate, return all combinations that the conditions of the choices allow.
    """
    num_networks = _count(space)
    if num_networks is not None and num_networks <= MAX_ROWS:
        codes = space.codes(space.enumerate())[:, slots]
        return [tuple(row) for row in np.unique(codes, axis=0).tolist()]
    if not named:
        there = "more than can be counted" if num_networks is None else f"{num_networks:,}"
        raise SharingError(
            f"{space.name} has {there} networks, and the table of balanced has a row for each, {MAX_ROWS:,} at most: "
            "name choices to group them by, as in balanced(by=depth+width)"
        )
    return _combinations(space, slots)


def _combinations(space: Space, slots: list[int]) -> list[tuple[int, ...]]:
    choices = [(-1,) * bool(space.slots[s].conditions) + tuple(range(len(space.slots[s].options))) for s in slots]
    number = math.prod(map(len, choices))
    if number > MAX_ROWS:
        paths = "+".join(space.slots[slot].path for slot in slots)
        raise SharingError(
            f"by = {paths}: these choices have {number:,} combinations, and the table of balanced {MAX_ROWS:,} rows at "
            "most: name fewer"
        )
    return [codes for codes in product(*choices) if _consistent(space, dict(zip(slots, codes, strict=True)))]


def _consistent(space: Space, codes: Mapping[int, int]) -> bool:
    """Return whether exactly the choices whose conditions hold are active, judged by these codes."""
    for slot, code in codes.items():
        conditions = space.slots[slot].conditions
        known = [codes[parent] in allowed for parent, allowed in conditions if parent in codes]
        if not all(known) if code >= 0 else all(known) and len(known) == len(conditions):
            return False
    return True


def _count(space: Space) -> int | None:
    try:
        return space.count()
    except SpaceError:  # constraints that read too many choices
        return None


# --- training -------------------------------------------------------------------------------------------------------


class _Balancing(Plan):
    """Wraps a plan and draws a model for each of its passes."""

    def __init__(self, inner: Plan, course: Course, weights: BalancedWeights) -> None:
        self._inner = inner
        self._course = course
        self._weights = weights
        self._period = max(1, min(course.steps_per_epoch, course.steps // NUM_PERIODS))

    def step(self, index: int) -> Step:
        if index % self._period == 0:
            self._weights.balance(sharpness(index / self._course.steps))
        step = self._inner.step(index)
        # a separate random stream, so that a single model trains exactly as plain weights do
        rng = np.random.default_rng([self._course.seed, index, 3])
        return replace(step, passes=tuple(self._routed(one, rng) for one in step.passes), watch=step.watch | {"valid"})

    def observe(self, feedback: Feedback) -> None:
        for one, score in zip(feedback.step.passes, feedback.valid, strict=True):
            if math.isfinite(score) and one.route is not None:
                self._weights.learn(self._weights.row(one.arch), one.route, score)
        if feedback.index + 1 == self._course.steps:
            self._weights.balance(SHARPEST)
        self._inner.observe(feedback)

    def state(self) -> dict[str, Tensor]:
        return self._inner.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._inner.restore(state)

    @property
    def closed(self) -> tuple[Closed, ...]:
        return self._inner.closed

    def _routed(self, one: Pass, rng: np.random.Generator) -> Pass:
        if one.route is not None:
            return one
        shares = self._weights.probabilities(self._weights.row(one.arch))
        return replace(one, route=int(rng.choice(len(shares), p=shares)))
