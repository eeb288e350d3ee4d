"""What a network begins with of its parent: some of the blocks (TinyCLIP, arXiv:2309.12314), under which names.

The leading channels and heads of the blocks are what a supernet gives its smaller networks anyway.
"""

from __future__ import annotations

import re
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


def renamed(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """A state dict under other names: ``init=`` where `one_of` holds what the parent has without alternatives.

        init = renamed(parent.state_dict(), {"*.attn.": "*.attn.full."})  # layers.3.attn.q is layers.3.attn.full.q

    Each key is how names begin, ``*`` standing for any text, and what takes the place of that, with the same text for
    each ``*``. The first that fits a name counts; other names stay.

    Raises:
        SupernetError: a key fits no name or has another number of ``*`` than its value, or two names become one.
    """
    for old, new in names.items():
        if old.count("*") != new.count("*"):
            raise SupernetError(f"renamed: {old!r} and {new!r} differ in the number of '*', which stand for the same")
        if not any(_beginning(old).match(name) for name in state):
            raise SupernetError(f"renamed: no name begins like {old!r}: they are like {next(iter(state), '')!r}")
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        to = next((_renamed(name, old, new) for old, new in names.items() if _beginning(old).match(name)), name)
        if to in found:
            raise SupernetError(f"renamed: two names become {to!r}: give values that leave them apart")
        found[to] = tensor
    return found


def _beginning(pattern: str) -> re.Pattern[str]:
    return re.compile("(.*?)".join(map(re.escape, pattern.split("*"))))


def _renamed(name: str, old: str, new: str) -> str:
    match = _beginning(old).match(name)
    assert match is not None
    texts = [*match.groups(), ""]
    return "".join(part + text for part, text in zip(new.split("*"), texts, strict=True)) + name[match.end() :]
