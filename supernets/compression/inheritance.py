"""Manual inheritance of TinyCLIP (arXiv:2309.12314): which of a parent's blocks a shallower network begins with.

The leading channels and heads of the blocks are what a supernet gives its smaller networks anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from supernets.errors import SupernetError


def evenly(blocks: int, kept: int) -> list[int]:
    """The numbers of ``kept`` blocks of ``blocks``, spread evenly from the first: block i is floor(i * blocks / kept).

    12 to 6 gives 0, 2, 4, 6, 8, 10, as published. There the step is rounded down before it is multiplied, so 12 to 5
    gives 0, 2, 4, 6, 8 and nothing of the last third; here it is 0, 2, 4, 7, 9.

    Raises:
        SupernetError: fewer blocks than are to be kept, or none.
    """
    if not 1 <= kept <= blocks:
        raise SupernetError(f"kept = {kept} of {blocks} blocks: it must be from 1 to {blocks}")
    return [i * blocks // kept for i in range(kept)]


def with_blocks(state: Mapping[str, Tensor], kept: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """A state dict with some of the blocks below each prefix, numbered anew: ``init=`` of a shallower supernet.

        state = with_blocks(parent.state_dict(), {"encoder.layer": evenly(12, 6)})

    Raises:
        SupernetError: a prefix has no numbered blocks, or not those.
    """
    found = dict(state)
    for prefix, numbers in kept.items():
        blocks: dict[int, dict[str, Tensor]] = {}
        for name in list(found):
            digits, _, rest = name.removeprefix(f"{prefix}.").partition(".")
            if name.startswith(f"{prefix}.") and digits.isdigit():
                blocks.setdefault(int(digits), {})[rest] = found.pop(name)
        missing = [number for number in numbers if number not in blocks]
        if missing or not blocks:
            there = (
                f"it has {min(blocks)} to {max(blocks)}" if blocks else f"its names are like {next(iter(state), '')!r}"
            )
            wanted = f" {missing[0]}" if missing else "s"
            raise SupernetError(f"the state dict has no block{wanted} below {prefix!r}: {there}")
        for place, number in enumerate(numbers):
            found |= {f"{prefix}.{place}.{rest}": tensor for rest, tensor in blocks[number].items()}
    return found
