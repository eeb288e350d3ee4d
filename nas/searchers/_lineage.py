"""How the networks that a searcher asks for came to be: for people, no search depends on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nas.records import Origin
from search_spaces import Architecture


class Lineage:
    """Of the networks asked for last, by digest."""

    def __init__(self) -> None:
        self.origins: dict[str, Origin] = {}
        self._born: dict[str | bytes, Origin] = {}  # candidates too, most of which are never asked for

    def begin(self) -> None:
        """Another batch is asked for."""
        self.origins = {}
        self._born = {}

    def bear(self, children: Sequence[Architecture], how: str, parents: Sequence[Architecture]) -> None:
        """Candidates, each of one parent."""
        for child, parent in zip(children, parents, strict=True):
            self.bear_one(child.digest, how, (parent.digest,))

    def bear_one(self, child: str | bytes, how: str, parents: tuple[str, ...]) -> None:
        """One candidate, by its digest or the bytes of its codes; the first who bears it counts."""
        self._born.setdefault(child, Origin(how, tuple(dict.fromkeys(parents))))

    def take(self, asked: Mapping[str, str], codes: np.ndarray | None = None) -> None:
        """These are asked for, by digest, each with how it came to be where it has no parents; `codes` are theirs."""
        keys = asked if codes is None else [row.tobytes() for row in codes]
        for (digest, how), key in zip(asked.items(), keys, strict=True):
            self.origins[digest] = self._born.get(key) or Origin(how)
