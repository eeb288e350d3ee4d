"""Many networks measured one after the other, with an eye on the machine: it may become slower while one measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nas.targets.comparing import ratio
from nas.targets.target import Inputs, LatencyResult, Target

if TYPE_CHECKING:
    from torch import Tensor, nn

    from search_spaces import Architecture

LOOK_EVERY = 20
"""Networks after which the first is measured again."""


def measure_all(
    target: Target,
    archs: Sequence[Architecture],
    network: Callable[[Architecture], nn.Module],
    example: Tensor | Inputs,
    every: int = LOOK_EVERY,
) -> Iterator[tuple[Architecture, LatencyResult]]:
    """The latency of each network, as soon as it is there.

    The first is measured again after every so many. Where the machine has become slower or faster by then, the last so
    many come a second time, with a note that says so; the next ones have it too, until the machine is as it was.
    """
    first: LatencyResult | None = None
    note: tuple[str, ...] = ()
    since: list[tuple[Architecture, LatencyResult]] = []
    for position, arch in enumerate(archs):
        found = _noted(target.measure(network(arch), example, arch), note)
        first = first or found
        since.append((arch, found))
        yield since[-1]
        if (position + 1) % every == 0 and len(archs) > 1:
            seen = ratio([(first, target.measure(network(archs[0]), example, archs[0]))])
            before, note = note, (f"the machine was {seen.text} than when this batch began",) if seen.changed else ()
            if note and not before:
                yield from ((arch, _noted(found, note)) for arch, found in since)
            since = []


def _noted(found: LatencyResult, note: tuple[str, ...]) -> LatencyResult:
    return replace(found, notes=(*found.notes, *note)) if note else found
