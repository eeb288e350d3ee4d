"""Bounds on expected costs, and a term of the loss that grows until they hold; `projection` is the other way.

The expected cost of a bound is a function of what has been learnt: probabilities by path, or a mixture made of them. It
has to have a graph. What a mixture costs is not what the architecture derived from it costs: check that one, and
tighten the bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from nas.errors import NasError

GROWTH = 4.0  # of the weight of a bound that is missed hardly less than before
IMPROVED = 0.5  # of a miss, that is: what may be left of it
HEAVIEST = 1e8  # weight beyond which the penalty of a bound drowns everything in rounding
Learnt = TypeVar("Learnt")
"""What costs are functions of: probabilities by path, or a mixture."""


@dataclass(frozen=True)
class Bound(Generic[Learnt]):
    """lower <= cost <= upper; either may be left out.

    Raises:
        NasError: bounds that are no numbers, that exclude each other, or none.
    """

    cost: Callable[[Learnt], Tensor]
    """A scalar with a graph."""
    upper: float = math.inf
    lower: float = -math.inf
    name: str = "cost"
    """What errors call it."""

    def __post_init__(self) -> None:
        if not self.lower <= self.upper or not self.sides:
            raise NasError(
                f"{self.name} is to be from {self.lower:g} to {self.upper:g}: give a lower bound, an upper one, or "
                "both in this order"
            )

    @property
    def sides(self) -> tuple[tuple[float, float], ...]:
        """Of each bound there is its direction, 1 for the upper and -1 for the lower, and its value."""
        both = ((1.0, self.upper), (-1.0, self.lower))
        return tuple((sign, value) for sign, value in both if math.isfinite(value))


def excess(bounds: Sequence[Bound[Learnt]], learnt: Learnt) -> Tensor:
    """By how much each side of each bound is missed, as a share of its value: (num_sides,), above 0 where it is."""
    found = []
    for bound in bounds:
        cost = bound.cost(learnt)
        found += [sign * (cost - value) / (abs(value) or 1.0) for sign, value in bound.sides]
    return torch.stack(found)


# --- a term of the loss ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AugmentedLagrangian:
    """Multipliers of the sides of bounds, one of each list a side, in the order of `excess`.

    They are told the excess now and then (Hestenes 1969, Powell 1969; for inequalities Rockafellar 1973); the bounds
    may change in between. Plain numbers: `state` goes into JSON, and `AugmentedLagrangian.restored` takes it back.
    """

    multipliers: tuple[float, ...]
    weights: tuple[float, ...]
    """Of the squares; they grow while a side is missed and that does not become less."""
    missed: tuple[float, ...]
    """The excess last told."""

    @classmethod
    def start(cls, num_sides: int, weight: float = 1.0) -> AugmentedLagrangian:
        """Nothing missed so far; the loss is added `weight` / 2 times the squared excess."""
        return cls((0.0,) * num_sides, (weight,) * num_sides, (math.inf,) * num_sides)

    def term(self, excess: Tensor) -> Tensor:
        """What is added to the loss: a scalar, 0 or less where all sides are kept, with the graph of the excess."""
        multipliers, weights = (excess.new_tensor(values) for values in (self.multipliers, self.weights))
        pressed = (multipliers + weights * excess).clamp_min(0)
        return ((pressed.square() - multipliers.square()) / (2 * weights)).sum()

    def updated(self, excess: Tensor) -> AugmentedLagrangian:
        """Multipliers follow the excess; where it is hardly less than when last told, the weight grows as well."""
        multipliers, weights, missed = [], [], []
        for value, multiplier, weight, before in zip(
            excess.detach().double().tolist(), self.multipliers, self.weights, self.missed, strict=True
        ):
            multipliers.append(max(0.0, multiplier + weight * value))
            slow = value > 0 and value > IMPROVED * before
            weights.append(min(GROWTH * weight, HEAVIEST) if slow else weight)
            missed.append(value)
        return AugmentedLagrangian(tuple(multipliers), tuple(weights), tuple(missed))

    def state(self) -> dict[str, list[float | None]]:
        """For JSON, which has no infinity: None stands for it."""
        return {name: [v if math.isfinite(v) else None for v in values] for name, values in asdict(self).items()}

    @classmethod
    def restored(cls, state: Mapping[str, Sequence[float | None]]) -> AugmentedLagrangian:
        """From its `state`."""
        return cls(**{name: tuple(math.inf if v is None else v for v in values) for name, values in state.items()})
