"""Sorted networks: a chain of nested networks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from search_spaces import Architecture, Space
from supernets.steps import Course, Pass, Step, Strategy, StrategyError
from supernets.strategies.wishes import granted, keeping, offered

CHAINS = ("fixed", "random")


@dataclass(frozen=True)
class Sorted(Strategy):
    """For each batch of a step, a network drawn from a chain of nested ones (SortedNet, arXiv:2309.00255).

    Every network of the chain is contained in the next: it has no further active choice, and no larger option. The last
    one is the largest of the space. In every choice, network k of n takes the option whose rank is proportional to k;
    choices with options that are not numbers have no such order, and keep the largest network's option. Constraints can
    change the chain or make it shorter.

    Training never reaches the other networks of the space, so a search should consider only the chain. With
    ``chains=random`` (ours), each step draws ascending ranks for each choice independently, so that over time training
    reaches every network that has the largest network's options in the non-numeric choices.
    """

    name: ClassVar[str] = "sorted"

    num_networks: int = 4
    """Greatest length of the chain; 1 means the largest network alone."""
    accumulate: int = 4
    """Batches per step, each with its own network; their gradients are averaged."""
    power: float = 0.0
    """The probability of network k of the chain is proportional to k ** power; 0 is uniform.

    Weights that only large networks use are trained less often; a power above 0 compensates for that.
    """
    chains: str = "fixed"

    def __post_init__(self) -> None:
        for name, least in (("num_networks", 1), ("accumulate", 1)):
            if getattr(self, name) < least:
                raise StrategyError(f"{name} = {getattr(self, name)}: it must be at least {least}")
        if not -100 <= self.power <= 100:
            raise StrategyError(f"power = {self.power}: it must be between -100 and 100; 0 draws uniformly")
        if self.chains not in CHAINS:
            raise StrategyError(f"chains = {self.chains!r}: chains are {' or '.join(CHAINS)}")

    def step(self, course: Course, index: int) -> Step:
        rng = course.rng(index)
        if self.chains == "fixed":
            networks = chain(course.space, self.num_networks)
        else:
            networks = _descending(course.space, _random_ranks(course.space, self.num_networks, rng))
        chances = np.arange(1, len(networks) + 1, dtype=np.float64) ** self.power
        drawn = rng.choice(len(networks), size=self.accumulate, p=chances / chances.sum())
        return Step(tuple(Pass(networks[k], weight=1 / self.accumulate) for k in drawn), batches="own")


@lru_cache(maxsize=64)
def chain(space: Space, n: int) -> tuple[Architecture, ...]:
    """Return at most `n` nested networks of a space, smallest first."""
    return _descending(space, _proportional_ranks(space, n))


Ranks = Iterator[npt.NDArray[np.int64]]  # for each network below the largest, largest first, the rank in each slot


def _proportional_ranks(space: Space, n: int) -> Ranks:
    top = np.array([len(codes) - 1 for codes in offered(space)])
    for level in range(n - 2, -1, -1):
        yield (2 * level * top + n - 1) // (2 * (n - 1))  # level / (n - 1) of the top rank, halves up


def _random_ranks(space: Space, n: int, rng: np.random.Generator) -> Ranks:
    sizes = np.array([max(1, len(codes)) for codes in offered(space)])
    drawn = np.sort(rng.integers(sizes, size=(n - 1, len(sizes))), axis=0)
    yield from drawn[::-1]


def _descending(space: Space, ranks: Ranks) -> tuple[Architecture, ...]:
    """Return nested networks, smallest first, built downwards from the largest; skip ranks without a proper part."""
    networks = [space.largest()]
    for each in ranks:
        above = space.codes(networks[-1:])[0].tolist()
        wish = [
            _code(codes, rank, code, slot.numeric)
            for slot, codes, rank, code in zip(space.slots, offered(space), each.tolist(), above, strict=True)
        ]
        below = granted(space, wish)
        if not _is_part(space, below, networks[-1]):
            below = granted(_beneath(space, above), wish)
        if below != networks[-1] and _is_part(space, below, networks[-1]):
            networks.append(below)
    return tuple(reversed(networks))


def _code(codes: tuple[int, ...], rank: int, above: int, numeric: bool) -> int:
    """Return the desired code of a slot, for a network within one that has code `above` there."""
    if above < 0:
        return codes[rank] if codes else 0
    return min(codes[rank], above) if numeric else above


def _is_part(space: Space, arch: Architecture, whole: Architecture) -> bool:
    """Return whether a network is contained in another, by their choices."""
    inner, outer = space.codes([arch, whole]).tolist()
    return all(
        own < 0 or own == other or (slot.numeric and own < other)
        for slot, own, other in zip(space.slots, inner, outer, strict=True)
    )


def _beneath(space: Space, codes: Sequence[int]) -> Space:
    """Return the space of networks with no larger option than these codes; non-numeric choices are fixed."""
    return keeping(
        space,
        [
            range(len(slot.options)) if code < 0 else range(code + 1) if slot.numeric else [code]
            for slot, code in zip(space.slots, codes, strict=True)
        ],
    )
