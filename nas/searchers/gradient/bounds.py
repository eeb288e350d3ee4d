"""Bounds on expected costs, and a loss term that grows until they hold; `projection` is the alternative.

The expected cost of a bound is a differentiable function of the learned distribution: probabilities by path, or a
mixture made of them. The cost of a mixture differs from that of the architecture derived from it: check the latter, and
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

GROWTH = 4.0  # factor of a bound's weight if the miss has hardly decreased
IMPROVED = 0.5  # share of the previous miss above which it has hardly decreased
HEAVIEST = 1e8  # largest weight: beyond it, rounding in the penalty hides all other terms
Learnt = TypeVar("Learnt")
"""The argument of costs: probabilities by path, or a mixture."""


@dataclass(frozen=True)
class Bound(Generic[Learnt]):
    """lower <= cost <= upper; one of them may be omitted.

    Raises:
        NasError: the bounds are NaN or contradict each other, or both are missing.
    """

    cost: Callable[[Learnt], Tensor]
    """Returns a scalar with a graph."""
    upper: float = math.inf
    lower: float = -math.inf
    name: str = "cost"
    """The name in error messages."""

    def __post_init__(self) -> None:
        if not self.lower <= self.upper or not self.sides:
            raise NasError(
                f"{self.name} is bounded by {self.lower:g} <= {self.name} <= {self.upper:g}: give a lower bound, an "
                "upper one, or both with lower <= upper"
            )

    @property
    def sides(self) -> tuple[tuple[float, float], ...]:
        """The direction (1 for upper, -1 for lower) and the value of each given bound."""
        both = ((1.0, self.upper), (-1.0, self.lower))
        return tuple((sign, value) for sign, value in both if math.isfinite(value))


def excess(bounds: Sequence[Bound[Learnt]], learnt: Learnt) -> Tensor:
    """Return (num_sides,) relative misses of each side of each bound; above 0 where the bound is broken."""
    found = []
    for bound in bounds:
        cost = bound.cost(learnt)
        found += [sign * (cost - value) / (abs(value) or 1.0) for sign, value in bound.sides]
    return torch.stack(found)


# --- a term of the loss ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AugmentedLagrangian:
    """Multipliers for the sides of bounds: one element per side, in the order of `excess`.

    They are updated with the excess now and then (Hestenes 1969, Powell 1969; for inequalities Rockafellar 1973); the
    bounds may change in between. `state` returns plain numbers for JSON, and `AugmentedLagrangian.restored` reads them.
    """

    multipliers: tuple[float, ...]
    weights: tuple[float, ...]
    """Of the squared excess; a weight grows while its side is missed and the miss does not decrease."""
    missed: tuple[float, ...]
    """The excess at the last update."""

    @classmethod
    def start(cls, num_sides: int, weight: float = 1.0) -> AugmentedLagrangian:
        """Initial multipliers of 0; the term is `weight` / 2 times the squared excess."""
        return cls((0.0,) * num_sides, (weight,) * num_sides, (math.inf,) * num_sides)

    def term(self, excess: Tensor) -> Tensor:
        """Return the term to add to the loss: a scalar with the graph of the excess, at most 0 if all sides hold."""
        multipliers, weights = (excess.new_tensor(values) for values in (self.multipliers, self.weights))
        pressed = (multipliers + weights * excess).clamp_min(0)
        return ((pressed.square() - multipliers.square()) / (2 * weights)).sum()

    def updated(self, excess: Tensor) -> AugmentedLagrangian:
        """Update multipliers with the excess; where it has hardly decreased since the last update, raise the weight."""
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
        """Return the state for JSON; None stands for infinity."""
        return {name: [v if math.isfinite(v) else None for v in values] for name, values in asdict(self).items()}

    @classmethod
    def restored(cls, state: Mapping[str, Sequence[float | None]]) -> AugmentedLagrangian:
        """Return the multipliers of a `state`."""
        return cls(**{name: tuple(math.inf if v is None else v for v in values) for name, values in state.items()})
