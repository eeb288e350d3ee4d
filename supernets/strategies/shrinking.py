"""Delayed shrinking: the full network alone for half of the training, then the sandwich rule with a warm-up."""

from dataclasses import dataclass
from typing import ClassVar

from supernets.losses import at_temperature, soft_cross_entropy
from supernets.steps import Course, Distil, Pass, Step, Strategy, StrategyError
from supernets.strategies.sandwich import check, sandwich


@dataclass(frozen=True)
class DelayedShrinking(Strategy):
    """The full network first, then, with growing weight, smaller networks that imitate it (DepS, 2024).

    The weight of subnets makes their effective learning rate grow linearly from 0, at `start` - `ramp`, to the rate of
    the schedule at `start`; afterwards the weight is 1. The full network's schedule continues without interruption.
    """

    name: ClassVar[str] = "deps"

    start: float = 0.5
    """Share of the steps after which subnets have full weight."""
    ramp: float = 0.05
    """Share of the steps, before `start`, over which their weight grows."""
    num_random: int = 2
    temperature: float = 1.0
    sample: str = "networks"

    def __post_init__(self) -> None:
        if not 0 <= self.start < 1:
            raise StrategyError(f"start = {self.start}: it must be a share of the steps, 0 or more and below 1")
        if not 0 <= self.ramp <= self.start:
            raise StrategyError(f"ramp = {self.ramp}: it ends at start = {self.start}, so it is between 0 and that")
        check(self.num_random, self.temperature, self.sample)

    @property
    def compares_logits(self) -> bool:
        return True

    def step(self, course: Course, index: int) -> Step:
        weight = self.weight(course, index)
        if weight == 0:
            return Step((Pass(course.space.largest()),))
        distil = Distil(at_temperature(soft_cross_entropy, self.temperature))
        return sandwich(course, index, self.num_random, self.sample, weight, distil)

    def weight(self, course: Course, index: int) -> float:
        """Return the weight of subnets in a step; weight times learning rate is linear during the ramp."""
        start, ramp = round(self.start * course.steps), round(self.ramp * course.steps)
        if index >= start:
            return 1.0
        if index <= start - ramp:
            return 0.0
        return (index - (start - ramp)) / ramp * course.rate(start) / course.rate(index)
