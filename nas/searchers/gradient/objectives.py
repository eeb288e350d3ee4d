"""Several objectives as one number that gradients lead down.

Each is normalised by the range it has over some architectures of the space, so that a preference says what a network
gives up of one range for a share of another. The number is in units of the loss: with one objective it is the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from nas.searchers.gradient.config import GradientSearchError
from nas.searchers.gradient.logits import Condition
from search_spaces import Architecture, Space
from supernets.relaxation import Mixture

NUM_SAMPLED = 126
"""Random architectures that ranges of costs are read off, beside the smallest and the largest."""
NUM_FEW = 6
"""Likewise of the loss, for which each is run once."""
LEAST_SPREAD = 0.02
"""Of a range, as a share of its values: untrained weights make all architectures equally bad."""
BLEND = 0.05
"""What the sum adds to the maximum, so that a Chebyshev optimum is never dominated."""


@dataclass(frozen=True)
class Range:
    """The lowest and the highest value an objective has over some architectures."""

    low: float
    high: float

    @property
    def width(self) -> float:
        """Above 0, also where all values are equal."""
        return max(self.high - self.low, LEAST_SPREAD * max(abs(self.low), abs(self.high))) or 1.0

    def normalised(self, value: Tensor) -> Tensor:
        """0 at the lowest value and 1 at the highest."""
        return (value - self.low) / self.width

    @classmethod
    def of(cls, name: str, values: Sequence[float]) -> Range:
        """Raises GradientSearchError where a value is not finite."""
        wrong = [value for value in values if not np.isfinite(value)]
        if wrong:
            raise GradientSearchError(
                f"{name} of an architecture of the space is {wrong[0]}: give finite costs and data"
            )
        return cls(min(values), max(values))


def sample(space: Space, seed: int, num: int = NUM_SAMPLED) -> list[Architecture]:
    """The smallest, the largest and `num` random architectures."""
    rng = np.random.default_rng([seed, 0, 6])
    return [space.smallest(), space.largest(), *(space.sample(rng) for _ in range(num))]


def linear(values: Tensor, preference: Tensor) -> Tensor:
    """The mean weighted by the preference: reaches the convex part of a front."""
    return (values * preference).sum()


def chebyshev(values: Tensor, preference: Tensor) -> Tensor:
    """The largest weighted value and a little of their sum: reaches the concave parts of a front too."""
    weighted = values * preference
    return weighted.max() + BLEND * weighted.sum()


SCALARISATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"linear": linear, "chebyshev": chebyshev}
"""From normalised objectives (n,) and a preference (n,) to a scalar."""


class ExpectedCost(Protocol):
    """What a network costs, in expectation and exactly: a `supernets.relaxation.Cost`."""

    def __call__(self, mixture: Mixture) -> Tensor:
        """A scalar with a graph to the probabilities."""
        ...

    def of(self, arch: Architecture) -> float:
        """Of one architecture."""
        ...


class Objectives:
    """One number in place of several objectives, as a condition prefers them.

    Args:
        names: the costs that are objectives or limited; the others are left aside.

    Raises:
        GradientSearchError: a cost that is not finite.
    """

    def __init__(
        self,
        space: Space,
        costs: Mapping[str, ExpectedCost],
        names: Sequence[str],
        *,
        scalarisation: str = "linear",
        seed: int = 0,
    ) -> None:
        archs = sample(space, seed)
        self.costs = {name: costs[name] for name in dict.fromkeys(names)}
        self.ranges = {name: Range.of(name, [cost.of(arch) for arch in archs]) for name, cost in self.costs.items()}
        self.loss_range: Range | None = None
        self._few = archs[: 2 + NUM_FEW]
        self._scalarise = SCALARISATIONS[scalarisation]

    def measure(self, losses: Callable[[list[Architecture]], list[float]]) -> None:
        """Find the range of the loss, the first time it is called."""
        if self.loss_range is None:
            self.loss_range = Range.of("the loss", losses(self._few))

    def unit(self, condition: Condition) -> float:
        """What a regulariser counts by: beside costs, the range of the loss, which a trained supernet makes small."""
        return self.loss_range.width if self.loss_range is not None and condition.objectives[1:] else 1.0

    def total(self, loss: Tensor, learnt: Mixture, condition: Condition) -> Tensor:
        """In units of the loss; with equal preferences the loss itself plus the costs."""
        names = condition.objectives[1:]
        if not names:
            return loss
        assert self.loss_range is not None
        costs = [self.ranges[name].normalised(self.costs[name](learnt)).to(loss) for name in names]
        values = torch.stack([self.loss_range.normalised(loss), *costs])
        preference = torch.tensor(condition.preference).to(values)
        return self.loss_range.width * len(values) * self._scalarise(values, preference)
