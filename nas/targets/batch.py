"""Many networks measured one after the other, with an eye on the machine: it may become slower while one measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from nas.targets.comparing import ratio
from nas.targets.target import Inputs, LatencyResult, Target

if TYPE_CHECKING:
    from torch import Tensor, nn

    from search_spaces import Architecture


@dataclass
class Series:
    """Networks measured on one target, in as many calls as it takes; the first is measured again now and then.

    Where the machine has become slower or faster by more than the noise, those measured since the last look come a
    second time, with a note that says so; the next ones have it too, until the machine is as it was.
    """

    target: Target
    network: Callable[[Architecture], nn.Module]
    example: Tensor | Inputs
    every: int = 20
    """Networks after which the first is measured again."""
    _first: tuple[Architecture, LatencyResult] | None = field(default=None, init=False)
    _note: tuple[str, ...] = field(default=(), init=False)
    _since: list[tuple[Architecture, LatencyResult]] = field(default_factory=list, init=False)

    def measure(self, archs: Sequence[Architecture]) -> Iterator[tuple[Architecture, LatencyResult]]:
        """The latency of each network, as soon as it is there; some come twice, and the second time counts."""
        for arch in archs:
            found = _noted(self._measured(arch), self._note)
            self._first = self._first or (arch, found)
            self._since.append((arch, found))
            yield arch, found
            if len(self._since) == self.every:
                yield from self._look()

    def _look(self) -> Iterator[tuple[Architecture, LatencyResult]]:
        """Measures the first network again; yields what that casts a doubt on."""
        assert self._first is not None
        arch, then = self._first
        since, before, self._since = self._since, self._note, []
        seen = ratio([(then, self._measured(arch))])
        self._note = (f"the machine was {seen.text} than when it began",) if seen.changed else ()
        if self._note and not before:
            for arch, found in since:
                yield arch, _noted(found, self._note)

    def _measured(self, arch: Architecture) -> LatencyResult:
        return self.target.measure(self.network(arch), self.example, arch)


def _noted(found: LatencyResult, note: tuple[str, ...]) -> LatencyResult:
    return replace(found, notes=(*found.notes, *note)) if note else found
