"""Networks put together choice by choice, for strategies that say themselves which options they want."""

from collections.abc import Collection, Sequence
from functools import lru_cache

from search_spaces import Architecture, Space


@lru_cache(maxsize=64)
def offered(space: Space) -> tuple[tuple[int, ...], ...]:
    """For each slot the codes, ascending, that it has in some network of the space, constraints considered."""
    codes = space.codes(arch for _, arch in space.variants())
    return tuple(tuple(sorted({int(code) for code in column} - {-1})) for column in codes.T)


def granted(space: Space, wish: Sequence[int]) -> Architecture:
    """The network with the wished code in each slot that is active in it, or the nearest that constraints allow."""
    codes: list[int] = []
    for slot, code in zip(space.slots, wish, strict=True):
        codes.append(code if all(codes[parent] in allowed for parent, allowed in slot.conditions) else -1)
    (arch,) = space.decode([codes])
    return arch if arch in space else space.nearest(arch)


def keeping(space: Space, kept: Sequence[Collection[int]]) -> Space:
    """The space with only these codes in each slot; where there are none, or all, the slot is left as it is."""
    options = {
        slot.path: [slot.options[code] for code in sorted(codes)]
        for slot, codes in zip(space.slots, kept, strict=True)
        if 0 < len(codes) < len(slot.options)
    }
    return space.where(**options)
