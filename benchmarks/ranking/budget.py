"""How many steps of a strategy make an equal budget: a step may be one pass early in a training and four later."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from supernets.errors import SupernetError
from supernets.strategies import Plan

LOOKS_BY_INTERPOLATION = 4


class BudgetError(SupernetError):
    """A budget that does not pay for one step."""


def count_passes(plan: Plan, steps: int) -> int:
    """Forward and backward passes of a training, without training: how many there are does not depend on feedback."""
    return sum(len(plan.step(index).passes) for index in range(steps))


def steps_within(passes: Callable[[int], int], budget: int) -> tuple[int, int]:
    """The most steps whose passes are no more than the budget, and their passes.

    By interpolation, which needs three looks where all steps have as many passes; after some looks every other one
    halves what is left, so that the search ends soon whatever the plan.
    """
    low, high = 0, budget + 1  # a step has a pass at least
    at_low, at_high = 0, passes(high)
    for look in count():
        if high - low <= 1:
            break
        halve = look > LOOKS_BY_INTERPOLATION and look % 2
        guess = (low + high) // 2 if halve else low + (budget - at_low) * (high - low) // (at_high - at_low)
        guess = min(max(guess, low + 1), high - 1)
        at_guess = passes(guess)
        if at_guess <= budget:
            low, at_low = guess, at_guess
        else:
            high, at_high = guess, at_guess
    if low == 0:
        raise BudgetError(
            f"a budget of {budget} passes does not pay for one step of {at_high}: give at least {at_high}"
        )
    return low, at_low
