"""Buffers whose values depend on the architecture: a relaxed module reads the expectation of their padded contents.

A model computes position tables and frequencies from a width, a number of heads or a length, so a smaller one need not
be a slice of the largest. Shapes do not determine the contents, so this module records them from built networks.
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
    """The distinct contents of each buffer, numbered in the order in which they were seen.

    Args:
        shared: names of buffers that all networks slice from a stored one, such as batch-norm statistics. Training
            changes them, so they are left alone.
    """

    def __init__(self, shared: Sequence[str]) -> None:
        self._shared = frozenset(shared)
        self._seen: dict[str, list[Tensor]] = {}

    def features(self, module: nn.Module) -> Iterator[tuple[Key, Hashable]]:
        """Yield the number of the content of each floating-point buffer."""
        for name, buffer in module.named_buffers(remove_duplicate=False):
            if buffer.is_floating_point() and name not in self._shared:
                yield ("buffer", name), self._number(name, buffer)

    def expected(self, name: str, table: Table, full: Tensor) -> Expectation | None:
        """Return the expectation of a buffer, in the shape of the largest network's buffer.

        Returns None if a content is larger than that or not finite, as in an attention mask.
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
    """The expectation of one buffer over its padded contents (num_contents, *shape)."""

    def __init__(self, chances: Callable[[Mixture], Tensor], contents: Tensor) -> None:
        self._chances, self._contents = chances, contents

    def over(self, mixture: Mixture, like: Tensor) -> Tensor:
        """Return the expectation over a mixture, with the dtype and device of another tensor."""
        return mixture.known(("buffer", self, like.dtype, like.device), lambda: self._made(mixture, like))

    def _made(self, mixture: Mixture, like: Tensor) -> Tensor:
        mean: Tensor = torch.tensordot(self._chances(mixture).to(like), self._contents.to(like), 1)
        return mean


def pad_buffers(own: nn.Module, expected: dict[str, Expectation], mixture: Mixture) -> None:
    """Make a module read these buffers as expectations, in the dtype and on the device of its own buffers."""
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
    """Return the content, padded with zeros at the end of each axis to the full shape."""
    missing = [size - own for own, size in zip(content.shape, full.shape, strict=True)]
    return F.pad(content, [size for more in reversed(missing) for size in (0, more)])
