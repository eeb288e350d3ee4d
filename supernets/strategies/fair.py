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
    """As many paths a step as a choice has options, which share no option (FairNAS, arXiv:1907.01845).

    Each path takes in each choice, at random, one of the options that this step took least often. So where all choices
    have K options, each is in exactly one of the K paths; of m < K options each is in K / m paths, rounded up or down.
    The number of paths is that of the choice with the most options, and so is the cost of a step.

    Of a choice that is not always active (the blocks beyond a depth), the options are as often taken as each other in
    the paths where it is. Constraints come first: a path that they forbid gives way to the nearest that they allow, and
    the paths after it make up for that as far as they can.
    """

    name: ClassVar[str] = "fair"

    rounds: int = 1
    """So many rounds of such paths are summed in a step; more are fewer steps for the same passes (ours)."""
    batches: str = "shared"
    """All paths of a step see the same batch (shared), or each one of its own (own; ours)."""

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
    """Paths that together take every option as often as they can."""
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
    """One of the codes counted least, at random; 0 where a slot has none, for no network has it active."""
    least = min((counts[code] for code in codes), default=0)
    rare = [code for code in codes if counts[code] == least] or [0]
    return rare[int(rng.integers(len(rare)))]
