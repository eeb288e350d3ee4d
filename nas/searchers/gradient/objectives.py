"""Several objectives combined into one number to minimise.

Each objective is normalised by its range over some architectures of the space, so a preference states how much of one
range to trade for a share of another. The result has the unit of the loss: with one objective it is the loss.
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
"""Random architectures that determine the ranges of costs, besides the smallest and the largest."""
NUM_FEW = 6
"""The same for the loss, which takes one forward pass each."""
LEAST_SPREAD = 0.02
"""Smallest width of a range, as a share of its values: untrained weights make all architectures equally bad."""
BLEND = 0.05
"""Weight of the sum added to the maximum, so that a Chebyshev optimum is never dominated."""


@dataclass(frozen=True)
class Range:
    """The lowest and the highest value of an objective over some architectures."""

    low: float
    high: float

    @property
    def width(self) -> float:
        """The width, above 0 even if all values are equal."""
        return max(self.high - self.low, LEAST_SPREAD * max(abs(self.low), abs(self.high))) or 1.0

    def normalised(self, value: Tensor) -> Tensor:
        """Map the lowest value to 0 and the highest to 1."""
        return (value - self.low) / self.width

    @classmethod
    def of(cls, name: str, values: Sequence[float]) -> Range:
        """Return the range of values; raise GradientSearchError if one is not finite."""
        wrong = [value for value in values if not np.isfinite(value)]
        if wrong:
            raise GradientSearchError(
                f"{name} of an architecture of the space is {wrong[0]}: costs and losses must be finite, so check the "
                "cost function or look for NaN in the data"
            )
        return cls(min(values), max(values))


def sample(space: Space, seed: int, num: int = NUM_SAMPLED) -> list[Architecture]:
    """Return the smallest, the largest and `num` random architectures."""
    rng = np.random.default_rng([seed, 0, 6])
    return [space.smallest(), space.largest(), *(space.sample(rng) for _ in range(num))]


def linear(values: Tensor, preference: Tensor) -> Tensor:
    """Return the sum weighted by the preference: it reaches the convex part of a front."""
    return (values * preference).sum()


def chebyshev(values: Tensor, preference: Tensor) -> Tensor:
    """Return the largest weighted value plus a little of their sum: it also reaches the concave parts of a front."""
    weighted = values * preference
    return weighted.max() + BLEND * weighted.sum()


SCALARISATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"linear": linear, "chebyshev": chebyshev}
"""From normalised objectives (n,) and a preference (n,) to a scalar."""


class ExpectedCost(Protocol):
    """The cost of a network, in expectation and exactly: a `supernets.relaxation.Cost`."""

    def __call__(self, mixture: Mixture) -> Tensor:
        """Return the expected cost, a scalar with a graph to the probabilities."""
        ...

    def of(self, arch: Architecture) -> float:
        """Return the cost of one architecture."""
        ...


class Objectives:
    """Combines several objectives into one number, weighted by a condition's preference.

    Args:
        names: costs that are objectives or limited; others are ignored.

    Raises:
        GradientSearchError: a cost is not finite.
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
        """Determine the range of the loss on the first call."""
        if self.loss_range is None:
            self.loss_range = Range.of("the loss", losses(self._few))

    def unit(self, condition: Condition) -> float:
        """The regulariser's factor: 1, or with costs the range of the loss, which is small for a trained supernet."""
        return self.loss_range.width if self.loss_range is not None and condition.objectives[1:] else 1.0

    def total(self, loss: Tensor, learnt: Mixture, condition: Condition) -> Tensor:
        """Return the combined objective in units of the loss; equal preferences give the loss plus scaled costs."""
        names = condition.objectives[1:]
        if not names:
            return loss
        assert self.loss_range is not None
        costs = [self.ranges[name].normalised(self.costs[name](learnt)).to(loss) for name in names]
        values = torch.stack([self.loss_range.normalised(loss), *costs])
        preference = torch.tensor(condition.preference).to(values)
        return self.loss_range.width * len(values) * self._scalarise(values, preference)
