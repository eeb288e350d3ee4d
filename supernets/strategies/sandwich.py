"""The sandwich rule: the largest network, the smallest and some between, in every step."""

from dataclasses import dataclass
from typing import ClassVar

from supernets.strategies.steps import Course, Distil, Pass, Step, Strategy, StrategyError


@dataclass(frozen=True)
class Sandwich(Strategy):
    """Largest, random ones and smallest (arXiv:1903.05134), distilled in place (BigNAS, arXiv:2003.11142).

    The largest network learns the task, the others its output on the same batch.
    """

    name: ClassVar[str] = "sandwich"

    num_random: int = 2

    def __post_init__(self) -> None:
        if self.num_random < 0:
            raise StrategyError(f"num_random = {self.num_random}: it must be 0 or more")

    def step(self, course: Course, index: int) -> Step:
        space, rng = course.space, course.rng(index)
        others = [*(space.sample(rng) for _ in range(self.num_random)), space.smallest()]
        return Step((Pass(space.largest()), *(Pass(arch, task=0.0, distil=Distil()) for arch in others)))
