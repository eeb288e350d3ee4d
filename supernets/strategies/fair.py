"""Strict fairness: every step trains every option of every choice equally often."""

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar, Literal, cast, get_args

import numpy as np

from search_spaces import Space
from supernets.steps import Course, Pass, Step, Strategy, StrategyError
from supernets.strategies.wishes import granted, offered

Batches = Literal["shared", "own"]


@dataclass(frozen=True)
class Fair(Strategy):
    """As many paths per step as a choice has options, none with a common option (FairNAS, arXiv:1907.01845).

    In each choice, a path takes a random option among those that the step has used least. If all choices have K
    options, each option is in exactly one of the K paths; with m < K options, each is in K / m paths, rounded up or
    down. The choice with the most options determines the number of paths, and so the cost of a step.

    For a choice that is not always active (such as blocks beyond a depth), options are equally frequent among the paths
    in which it is active. Constraints take precedence: the nearest allowed path replaces a forbidden one, and later
    paths compensate as far as possible.
    """

    name: ClassVar[str] = "fair"

    rounds: int = 1
    """Rounds of such paths per step, whose gradients add up; more rounds mean fewer steps for equal passes (ours)."""
    batches: str = "shared"
    """shared: all paths of a step use the same batch; own: each path has its own batch (ours)."""

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise StrategyError(f"rounds = {self.rounds}: a step needs 1 or more")
        if self.batches not in get_args(Batches):
            raise StrategyError(f"batches = {self.batches!r}: batches are {' or '.join(get_args(Batches))}")

    def step(self, course: Course, index: int) -> Step:
        rng = course.rng(index)
        passes = tuple(one for _ in range(self.rounds) for one in _round(course.space, rng))
        return Step(passes, batches=cast(Batches, self.batches))


def _round(space: Space, rng: np.random.Generator) -> list[Pass]:
    """Return paths that together use every option as equally often as possible."""
    options = offered(space)
    taken: list[Counter[int]] = [Counter() for _ in options]
    passes = []
    for _ in range(max(map(len, options))):
        wish = [_rarest(codes, counts, rng) for codes, counts in zip(options, taken, strict=True)]
        passes.append(Pass(granted(space, wish)))
        for counts, code in zip(taken, space.codes([passes[-1].arch])[0].tolist(), strict=True):
            counts[code] += 1
    return passes


def _rarest(codes: tuple[int, ...], counts: Counter[int], rng: np.random.Generator) -> int:
    """Return a random code among the least used; 0 for a slot that is active in no network."""
    least = min((counts[code] for code in codes), default=0)
    rare = [code for code in codes if counts[code] == least] or [0]
    return rare[int(rng.integers(len(rare)))]
