"""Cheap metrics of any network, looked up by codes and computed once per network."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from search_spaces import Architecture, Space

FloatArray = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int16]
Costs = Callable[[Sequence[Architecture]], Mapping[str, np.ndarray]]
"""Metrics by name, each (n,) for n architectures; the names are the same in every call."""


class Known:
    """The `wanted` metrics that `costs` computes, cached."""

    def __init__(self, space: Space, costs: Costs | None, wanted: Sequence[str]) -> None:
        self._space = space
        self._costs = costs
        there = set(costs([space.smallest()])) if costs is not None else set()
        self.names = tuple(name for name in dict.fromkeys(wanted) if name in there)
        self._rows: dict[bytes, int] = {}
        self._values: FloatArray = np.zeros((0, len(self.names)))

    def __call__(self, name: str, codes: Codes) -> FloatArray:
        """Return (n,) values for networks (n, num_slots)."""
        keys = [row.tobytes() for row in codes]
        new = {key: i for i, key in enumerate(keys) if key not in self._rows}
        if new and self._costs is not None:
            told = self._costs(self._space.decode(codes[list(new.values())]))
            values = np.stack([np.asarray(told[known], dtype=float) for known in self.names], axis=1)
            self._rows |= {key: number for number, key in enumerate(new, start=len(self._rows))}
            self._values = np.concatenate([self._values, values])
        found: FloatArray = self._values[[self._rows[key] for key in keys], self.names.index(name)]
        return found
