"""What to train next: a strategy is a generator of steps, and one training loop runs them all.

A step is the architectures whose gradients one optimiser step sums, each with its weight and its loss. Strategies hold
no weights and see no data; the random numbers of step k come from `default_rng([seed, k])` alone, so a strategy
started at k yields exactly what one started at 0 yields from there on. A narrower space (`space.where(...)`) is again
a space, and phases of a training are strategies on narrower and wider ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np

from search_spaces import Architecture, Space
from supernets.errors import SupernetError


class StrategyError(SupernetError):
    """No strategy has that name."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward and backward pass: an architecture, how its loss is weighted, and what the loss is."""

    arch: Architecture
    weight: float = 1.0
    """Factor of this pass's loss in the sum of the step."""
    distil: bool = False
    """Loss against the detached output of the step's first pass on the same batch, rather than the task's loss."""


Step = tuple[Pass, ...]
"""Passes in the order they run; the first one never distils."""

Strategy = Callable[[Space, int, int], Iterator[Step]]
"""From a space, a seed and the number of the first step wanted to the steps from there on, without end."""


def uniform(space: Space, seed: int, start: int = 0) -> Iterator[Step]:
    """One architecture a step, each network of the space equally often (single path one-shot, arXiv:1904.00420)."""
    for step in count(start):
        yield (Pass(space.sample(np.random.default_rng([seed, step]))),)


def sandwich(space: Space, seed: int, start: int = 0, num_random: int = 2) -> Iterator[Step]:
    """Largest, `num_random` random ones and smallest (arXiv:1903.05134), distilled in place (BigNAS, arXiv:2003.11142).

    The largest network learns the task, the others its output on the same batch.
    """
    largest, smallest = Pass(space.largest()), Pass(space.smallest(), distil=True)
    for step in count(start):
        rng = np.random.default_rng([seed, step])
        yield (largest, *(Pass(space.sample(rng), distil=True) for _ in range(num_random)), smallest)


STRATEGIES: dict[str, Strategy] = {"uniform": uniform, "sandwich": sandwich}


def strategy(name: str) -> Strategy:
    """The strategy of that name. Raises StrategyError listing the names there are."""
    if name not in STRATEGIES:
        raise StrategyError(f"no training strategy is called {name!r}: choose one of {', '.join(STRATEGIES)}")
    return STRATEGIES[name]
