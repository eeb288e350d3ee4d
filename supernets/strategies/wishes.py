"""Build networks choice by choice, for strategies that select options themselves."""

from collections.abc import Collection, Sequence
from functools import lru_cache

from search_spaces import Architecture, Space


@lru_cache(maxsize=64)
def offered(space: Space) -> tuple[tuple[int, ...], ...]:
    """Return, for each slot, the ascending codes that it has in some network of the space, under its constraints."""
    codes = space.codes(arch for _, arch in space.variants())
    return tuple(tuple(sorted({int(code) for code in column} - {-1})) for column in codes.T)


def granted(space: Space, wish: Sequence[int]) -> Architecture:
    """Return the network with the desired code in each active slot, or the nearest one that constraints allow."""
    codes: list[int] = []
    for slot, code in zip(space.slots, wish, strict=True):
        codes.append(code if all(codes[parent] in allowed for parent, allowed in slot.conditions) else -1)
    (arch,) = space.decode([codes])
    return arch if arch in space else space.nearest(arch)


def keeping(space: Space, kept: Sequence[Collection[int]]) -> Space:
    """Return the space with only these codes in each slot; a slot with no codes, or all, stays unchanged."""
    options = {
        slot.path: [slot.options[code] for code in sorted(codes)]
        for slot, codes in zip(space.slots, kept, strict=True)
        if 0 < len(codes) < len(slot.options)
    }
    return space.where(**options)
