"""Softmax temperatures: schedules over the progress of a search, and the temperature for a given entropy."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence

HIGHEST = 1e9  # highest temperature tried, as a multiple of the range of scores

Schedule = Callable[[float, float, float], float]
"""A function of the start value, the end value and the progress in [0, 1]."""


def constant(start: float, end: float, progress: float) -> float:
    """The start value throughout."""
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
    """The entropy of softmax(scores / temperature), in nats; plain floats are faster than arrays for few options."""
    largest = max(scores)
    relative = [(score - largest) / temperature for score in scores]
    weights = [math.exp(exponent) for exponent in relative]
    total = math.fsum(weights)
    # sum of p (log total - exponent): avoids the logarithm of a probability of 0
    return math.log(total) - math.fsum(map(operator.mul, weights, relative)) / total


def temperature_for(scores: Sequence[float], entropy: float, lowest: float) -> float:
    """Return the temperature, at least `lowest`, at which softmax(scores / temperature) has this entropy in nats.

    The entropy increases with the temperature, so bisection finds it to the last digit. If the entropy is out of range,
    the nearest temperature is returned: `lowest` if the scores are all equal or the entropy is too high even there, and
    a very high temperature for an entropy of log(len(scores)) or more.
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
