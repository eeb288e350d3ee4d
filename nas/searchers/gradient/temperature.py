"""Temperatures of a softmax: schedules over the progress of a search, and the temperature that gives an entropy."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence

HIGHEST = 1e9  # of temperatures looked at, as a multiple of how far the scores are apart

Schedule = Callable[[float, float, float], float]
"""From the value at the start, the value at the end, and the progress in [0, 1]."""


def constant(start: float, end: float, progress: float) -> float:
    """The start throughout."""
    return start


def linear(start: float, end: float, progress: float) -> float:
    """Equal differences."""
    return start + (end - start) * progress


def exponential(start: float, end: float, progress: float) -> float:
    """Equal ratios: start * (end / start) ** progress; both above 0."""
    return float(start * (end / start) ** progress)


def cosine(start: float, end: float, progress: float) -> float:
    """Flat at both ends, steepest half-way."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


SCHEDULES: dict[str, Schedule] = {schedule.__name__: schedule for schedule in (constant, linear, exponential, cosine)}


def entropy_at(scores: Sequence[float], temperature: float) -> float:
    """Of softmax(scores / temperature), in nats; in plain floats, which for few options are faster than arrays."""
    largest = max(scores)
    relative = [(score - largest) / temperature for score in scores]
    weights = [math.exp(exponent) for exponent in relative]
    total = math.fsum(weights)
    # sum of p (log total - exponent): no logarithm of a probability that is 0
    return math.log(total) - math.fsum(map(operator.mul, weights, relative)) / total


def temperature_for(scores: Sequence[float], entropy: float, lowest: float) -> float:
    """The temperature, at least `lowest`, at which softmax(scores / temperature) has this entropy in nats.

    The entropy rises with the temperature, so bisection finds it to the last digit. Where the entropy cannot be had,
    the nearest is taken: `lowest` where the scores are all equal or even there too much is left of it, and a very
    high temperature for an entropy of log(len(scores)) or more.
    """
    low, high = lowest, max(lowest, HIGHEST * (max(scores) - min(scores)))
    if high == low or entropy_at(scores, low) >= entropy:
        return low
    if entropy_at(scores, high) <= entropy:
        return high
    while True:
        middle = math.sqrt(low) * math.sqrt(high)
        if not low < middle < high:
            return low
        if entropy_at(scores, middle) < entropy:
            low = middle
        else:
            high = middle
