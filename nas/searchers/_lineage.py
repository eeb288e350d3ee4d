"""The origin of the networks that a searcher proposes; for display, no search depends on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nas.records import Origin
from search_spaces import Architecture


class Lineage:
    """The origins of the networks of the last `ask`, by digest."""

    def __init__(self) -> None:
        self.origins: dict[str, Origin] = {}
        self._born: dict[str | bytes, Origin] = {}  # all candidates, most of which are never proposed

    def begin(self) -> None:
        """Start a new batch."""
        self.origins = {}
        self._born = {}

    def bear(self, children: Sequence[Architecture], how: str, parents: Sequence[Architecture]) -> None:
        """Record candidates with one parent each."""
        for child, parent in zip(children, parents, strict=True):
            self.bear_one(child.digest, how, (parent.digest,))

    def bear_one(self, child: str | bytes, how: str, parents: tuple[str, ...]) -> None:
        """Record one candidate by its digest or the bytes of its codes; the first record counts."""
        self._born.setdefault(child, Origin(how, tuple(dict.fromkeys(parents))))

    def take(self, asked: Mapping[str, str], codes: np.ndarray | None = None) -> None:
        """Record proposed networks: digest to origin, for those without recorded parents; `codes` are theirs."""
        keys = asked if codes is None else [row.tobytes() for row in codes]
        for (digest, how), key in zip(asked.items(), keys, strict=True):
            self.origins[digest] = self._born.get(key) or Origin(how)
