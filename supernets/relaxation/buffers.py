"""Buffers whose values depend on the architecture: a relaxed module reads the expectation of their padded contents.

Position tables and frequencies are computed from a width, a number of heads or a length, so no smaller one need be a
part of the largest. Their contents cannot be told from shapes; networks are looked at, and what they hold is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernets.relaxation.mixture import Mixture
from supernets.relaxation.tables import Key, Table, chances_of


class Contents:
    """The distinct contents that buffers have had, numbered as they were seen.

    Args:
        shared: names of buffers that all networks slice from a stored one, as batch-norm statistics, which training
            changes: they are left as they are.
    """

    def __init__(self, shared: Sequence[str]) -> None:
        self._shared = frozenset(shared)
        self._seen: dict[str, list[Tensor]] = {}

    def features(self, module: nn.Module) -> Iterator[tuple[Key, Hashable]]:
        """The number of what each buffer of floats holds."""
        for name, buffer in module.named_buffers(remove_duplicate=False):
            if buffer.is_floating_point() and name not in self._shared:
                yield ("buffer", name), self._number(name, buffer)

    def expected(self, name: str, table: Table, full: Tensor) -> Expectation | None:
        """The expectation of a buffer, of the shape of the largest network's.

        None where there is none, because a content is larger or not finite (as a mask of attention).
        """
        numbers = tuple(dict.fromkeys(table.values))
        contents = [self._seen[name][number] for number in numbers]
        if not all(_fits(content, full) for content in contents):
            return None
        return Expectation(chances_of(table, numbers), torch.stack([_padded(content, full) for content in contents]))

    def _number(self, name: str, buffer: Tensor) -> int:
        seen = self._seen.setdefault(name, [])
        for number, content in enumerate(seen):
            if _same(content, buffer):
                return number
        seen.append(buffer.detach().clone())
        return len(seen) - 1


class Expectation:
    """Of one buffer: the probabilities of its padded contents (num_contents, *shape)."""

    def __init__(self, chances: Callable[[Mixture], Tensor], contents: Tensor) -> None:
        self._chances, self._contents = chances, contents

    def over(self, mixture: Mixture, like: Tensor) -> Tensor:
        """With the type and place of another tensor."""
        return mixture.known(("buffer", self, like.dtype, like.device), lambda: self._made(mixture, like))

    def _made(self, mixture: Mixture, like: Tensor) -> Tensor:
        mean: Tensor = torch.tensordot(self._chances(mixture).to(like), self._contents.to(like), 1)
        return mean


def pad_buffers(own: nn.Module, expected: dict[str, Expectation], mixture: Mixture) -> None:
    """Let a module read these buffers as expectations; what it holds itself tells their type and place."""
    own.__dict__.update(_expectations=expected, _mixture=mixture)
    own.__class__ = _reading(type(own), tuple(expected))  # type: ignore[arg-type] # classes are hashable


@cache
def _reading(owner: type[nn.Module], attributes: tuple[str, ...]) -> type[nn.Module]:
    def read(attribute: str) -> property:
        def expected(self: Any) -> Tensor:
            expectation: Expectation = self.__dict__["_expectations"][attribute]
            return expectation.over(self.__dict__["_mixture"], self._buffers[attribute])

        return property(expected)

    namespace: dict[str, Any] = {attribute: read(attribute) for attribute in attributes}
    return type(owner.__name__, (owner,), namespace | {"__module__": owner.__module__})


def _same(one: Tensor, other: Tensor) -> bool:
    alike = one.shape == other.shape and one.dtype == other.dtype
    return alike and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def _fits(content: Tensor, full: Tensor) -> bool:
    smaller = content.dim() == full.dim() and all(n <= m for n, m in zip(content.shape, full.shape, strict=True))
    return smaller and bool(content.isfinite().all())


def _padded(content: Tensor, full: Tensor) -> Tensor:
    """Zeros behind the content, up to the full shape."""
    missing = [size - own for own, size in zip(content.shape, full.shape, strict=True)]
    return F.pad(content, [size for more in reversed(missing) for size in (0, more)])
