"""Single paths: one sampled architecture per step."""

from dataclasses import dataclass
from typing import ClassVar

from supernets.steps import Course, Pass, Step, Strategy, StrategyError

UNIFORM = ("networks", "choices")


@dataclass(frozen=True)
class Uniform(Strategy):
    """One architecture a step, sampled uniformly (single path one-shot, arXiv:1904.00420)."""

    name: ClassVar[str] = "uniform"

    over: str = "networks"
    """networks: each network equally often; choices: each option equally often, choice by choice."""

    def __post_init__(self) -> None:
        if self.over not in UNIFORM:
            raise StrategyError(f"over = {self.over!r}: sampling is uniform over {' or '.join(UNIFORM)}")

    def step(self, course: Course, index: int) -> Step:
        return Step((Pass(course.space.sample(course.rng(index), uniform=self.over)),))  # type: ignore[arg-type]
