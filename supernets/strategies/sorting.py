"""Sorted networks: a chain of networks, each a part of the next."""

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
    """A network drawn from a chain of nested ones for each of a step's batches (SortedNet, arXiv:2309.00255).

    Every network of the chain is a part of the next: it has no choice active that the next has not, and none with a
    larger option. The last is the largest of the space. Network k of n takes in every choice the option whose rank is
    proportional to k; choices whose options are not all numbers have no order of parts, and keep the largest network's.
    Constraints can bend the chain, or leave it shorter than asked for.

    All other networks of the space are never trained: search it afterwards for the best of the chain only. With
    ``chains=random`` (ours) each step draws the ranks, rising along the chain, of each choice on its own, so that every
    network whose choices of words are the largest's is trained some time.
    """

    name: ClassVar[str] = "sorted"

    num_networks: int = 4
    """Largest length of the chain; 1 is the largest network alone."""
    accumulate: int = 4
    """Batches a step, each with a network of its own; their gradients are averaged."""
    power: float = 0.0
    """Network k of the chain is drawn with a probability in proportion to k ** power: 0 is uniform.

    Weights that only large networks have are trained less often than those of all; a power above 0 makes up for it.
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
    """At most `n` networks of a space, smallest first, each a part of the next."""
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
    """From the largest network down, each a proper part of the one before; for ranks with no such, there is none."""
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
    """Return the wish for a slot beneath a network that has `above` there."""
    if above < 0:
        return codes[rank] if codes else 0
    return min(codes[rank], above) if numeric else above


def _is_part(space: Space, arch: Architecture, whole: Architecture) -> bool:
    """Return whether a network is part of another, by their choices."""
    inner, outer = space.codes([arch, whole]).tolist()
    return all(
        own < 0 or own == other or (slot.numeric and own < other)
        for slot, own, other in zip(space.slots, inner, outer, strict=True)
    )


def _beneath(space: Space, codes: Sequence[int]) -> Space:
    """The networks that have no larger option than these codes; other choices than those of sizes are fixed."""
    return keeping(
        space,
        [
            range(len(slot.options)) if code < 0 else range(code + 1) if slot.numeric else [code]
            for slot, code in zip(space.slots, codes, strict=True)
        ],
    )
