"""Initial weights from a parent: select some of its blocks (TinyCLIP, arXiv:2309.12314), and rename parameters.

A supernet already gives its smaller networks the leading channels and heads of each block.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from supernets.errors import SupernetError


def evenly(blocks: int, kept: int) -> list[int]:
    """Return the indices of ``kept`` of ``blocks`` blocks, evenly spaced from the first: floor(i * blocks / kept).

    12 to 6 gives 0, 2, 4, 6, 8, 10, as published. The published rule rounds the step down before it multiplies, so
    12 to 5 would give 0, 2, 4, 6, 8 and none of the last third; this function gives 0, 2, 4, 7, 9.

    Raises:
        SupernetError: ``kept`` is not from 1 to ``blocks``.
    """
    if not 1 <= kept <= blocks:
        raise SupernetError(f"kept = {kept} of {blocks} blocks: it must be from 1 to {blocks}")
    return [i * blocks // kept for i in range(kept)]


def with_blocks(state: Mapping[str, Tensor], kept: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Return a state dict with only some blocks below each prefix, renumbered: ``init=`` of a shallower supernet.

        state = with_blocks(parent.state_dict(), {"encoder.layer": evenly(12, 6)})

    Raises:
        SupernetError: a prefix has no numbered blocks, or lacks one of these.
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
    """Return a state dict with renamed entries: ``init=`` where `one_of` adds alternatives to a module of the parent.

        init = renamed(parent.state_dict(), {"*.attn.": "*.attn.full."})  # layers.3.attn.q is layers.3.attn.full.q

    Each key is a prefix of names, in which ``*`` stands for any text; its value replaces the prefix and repeats the
    text of each ``*``. The first key that matches a name applies; other names stay.

    Raises:
        SupernetError: a key matches no name or has another number of ``*`` than its value, or two names become one.
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
