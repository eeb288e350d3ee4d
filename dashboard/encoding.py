"""Encodes architectures as rows of a table of choices, without their space's class, for neighbours and importances."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces import Architecture

ABSENT = -1
"""Code of a choice that is not active in a network."""


@dataclass(frozen=True)
class Encoded:
    """Encoded networks: `codes` is (n, p), the index of each value among the choice's `options`, or ABSENT."""

    places: NDArray[np.intp]
    """(n,) positions in the study."""
    names: tuple[str, ...]
    options: tuple[tuple[Any, ...], ...]
    """Values that occur, by choice; numbers ascending."""
    codes: NDArray[np.int16]

    def row(self, place: int) -> NDArray[np.int16] | None:
        """Return the codes of the network at a position of the study; None if it is not encoded."""
        found = np.flatnonzero(self.places == place)
        return self.codes[found[0]] if len(found) else None

    def open(self) -> "Encoded":
        """Return only the choices in which the networks differ."""
        kept = [index for index in range(len(self.names)) if np.ptp(self.codes[:, index])] if len(self.codes) else []
        names, options = [self.names[index] for index in kept], [self.options[index] for index in kept]
        return Encoded(self.places, tuple(names), tuple(options), self.codes[:, kept])

    def at(self, keep: NDArray[np.bool_]) -> "Encoded":
        """Return only the networks of a mask."""
        return Encoded(self.places[keep], self.names, self.options, self.codes[keep])


def encoded(archs: Sequence[Architecture], places: Sequence[int]) -> Encoded:
    """Encode the architectures at these positions of a study."""
    rows = [dict(chosen(arch)) for arch in archs]
    names = list(dict.fromkeys(name for row in rows for name in row))
    codes = np.full((len(rows), len(names)), ABSENT, dtype=np.int16)
    options = []
    for column, name in enumerate(names):
        known = _ordered({row[name] for row in rows if row.get(name) is not None})
        index = {value: code for code, value in enumerate(known)}
        codes[:, column] = [index.get(row.get(name), ABSENT) for row in rows]
        options.append(tuple(known))
    return Encoded(np.array(places, dtype=np.intp), tuple(names), tuple(options), codes)


def chosen(arch: Architecture) -> Iterator[tuple[str, Any]]:
    """Yield every chosen value with its path, such as `early.kernel.0`, and the kinds of nested networks."""
    for path, value in arch.leaves():
        if path != "is" and value != ():
            yield (f"{path.removesuffix('.is')}.kind" if path.endswith(".is") else path), value


def _ordered(known: set[Any]) -> list[Any]:
    return sorted(known, key=None if all(isinstance(value, int | float) for value in known) else str)


def neighbours(found: Encoded, place: int) -> list[tuple[int, str]]:
    """Return position and change of every network one change away from that at `place`: `early.kernel.0: 3 → 5`.

    Choices that a change of depth adds or removes count as part of it.
    """
    own = found.row(place)
    if own is None:
        return []
    differ = found.codes != own
    absent = (found.codes == ABSENT) | (own == ABSENT)
    changed, come = (differ & ~absent).sum(axis=1), (differ & absent).sum(axis=1)
    near = np.flatnonzero((changed == 1) | ((changed == 0) & (come > 0)))
    return [(int(found.places[row]), _change(found, own, found.codes[row])) for row in near]


def _change(found: Encoded, own: NDArray[np.int16], other: NDArray[np.int16]) -> str:
    both = np.flatnonzero((own != other) & (own != ABSENT) & (other != ABSENT))
    if len(both):
        index = int(both[0])
        before, after = found.options[index][own[index]], found.options[index][other[index]]
        return f"{found.names[index]}: {before} → {after}"
    index = int(np.flatnonzero(own != other)[0])
    return f"{found.names[index]} {'added' if own[index] == ABSENT else 'taken away'}"
