"""The sandwich rule: every step trains the largest network, the smallest, and random ones."""

import math
from dataclasses import dataclass
from typing import ClassVar

from supernets.losses import adaptive_alpha_divergence, at_temperature, soft_cross_entropy
from supernets.steps import Course, Distil, Pass, Step, Strategy, StrategyError
from supernets.strategies.paths import UNIFORM

IMITATIONS = {"kl": soft_cross_entropy, "alpha": adaptive_alpha_divergence}


@dataclass(frozen=True)
class Sandwich(Strategy):
    """Largest, random and smallest networks (arXiv:1903.05134), with in-place distillation (BigNAS, arXiv:2003.11142).

    The largest network learns the task; the others learn its output on the same batch.
    """

    name: ClassVar[str] = "sandwich"

    num_random: int = 2
    distil: str = "kl"
    """kl; alpha: the adaptive alpha-divergence (AlphaNet, arXiv:2102.07954); none: every network learns the task."""
    temperature: float = 1.0
    """Softens both distributions; the loss has its square as a factor. With alpha, values other than 1 are ours."""
    sample: str = "networks"
    """networks: random networks are uniform over networks; choices: uniform over the options, choice by choice."""

    def __post_init__(self) -> None:
        if self.distil not in (*IMITATIONS, "none"):
            raise StrategyError(f"distil = {self.distil!r}: choose {', '.join(IMITATIONS)} or none")
        if self.distil == "none" and self.temperature != 1:
            raise StrategyError(
                f"temperature = {self.temperature}: with distil = none it softens nothing, leave it out"
            )
        check(self.num_random, self.temperature, self.sample)

    @property
    def compares_logits(self) -> bool:
        return self.distil != "none"

    def step(self, course: Course, index: int) -> Step:
        if self.distil == "none":
            return sandwich(course, index, self.num_random, self.sample, 1.0, None)
        loss = at_temperature(IMITATIONS[self.distil], self.temperature)
        return sandwich(course, index, self.num_random, self.sample, 1.0, Distil(loss))


def sandwich(course: Course, index: int, num_random: int, sample: str, weight: float, distil: Distil | None) -> Step:
    """Return a step in which the largest network learns the task, and the others distil or learn it, with a weight."""
    space, rng = course.space, course.rng(index)
    others = [*(space.sample(rng, uniform=sample) for _ in range(num_random)), space.smallest()]  # type: ignore[arg-type]
    task = 1.0 if distil is None else 0.0
    return Step((Pass(space.largest()), *(Pass(arch, weight, task, distil) for arch in others)))


def check(num_random: int, temperature: float, sample: str) -> None:
    """Check settings that several strategies share.

    Raises:
        StrategyError: a setting is invalid.
    """
    if num_random < 0:
        raise StrategyError(f"num_random = {num_random}: it must be 0 or more")
    if not 0 < temperature < math.inf:
        raise StrategyError(f"temperature = {temperature}: it must be above 0 and finite")
    if sample not in UNIFORM:
        raise StrategyError(f"sample = {sample!r}: sampling is uniform over {' or '.join(UNIFORM)}")
