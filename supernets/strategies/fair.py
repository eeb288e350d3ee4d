"""Strict fairness: every step trains every option of every choice equally often."""

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from supernets.strategies.steps import Course, Pass, Step, Strategy
from supernets.strategies.wishes import granted, offered


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

    def step(self, course: Course, index: int) -> Step:
        space, rng = course.space, course.rng(index)
        options = offered(space)
        taken: list[Counter[int]] = [Counter() for _ in options]
        passes = []
        for _ in range(max(map(len, options))):
            wish = [_rarest(codes, counts, rng) for codes, counts in zip(options, taken, strict=True)]
            passes.append(Pass(granted(space, wish)))
            for counts, code in zip(taken, space.codes([passes[-1].arch])[0].tolist(), strict=True):
                counts[code] += 1
        return Step(tuple(passes))


def _rarest(codes: tuple[int, ...], counts: Counter[int], rng: np.random.Generator) -> int:
    """One of the codes counted least, at random; 0 where a slot has none, for no network has it active."""
    least = min((counts[code] for code in codes), default=0)
    rare = [code for code in codes if counts[code] == least] or [0]
    return rare[int(rng.integers(len(rare)))]
