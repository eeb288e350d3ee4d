"""How often an architecture takes each option of the choices that have several positions."""

import numpy as np
import numpy.typing as npt

from nas.predictors.models import FloatArray, family
from search_spaces import Space


class OptionCounts:
    """Columns common to all positions of a choice, so that few measurements inform about every position."""

    def __init__(self, space: Space) -> None:
        families: dict[str, list[int]] = {}
        for index, slot in enumerate(space.slots):
            families.setdefault(family(slot), []).append(index)
        self._options = [
            (slots, code)
            for slots in families.values()
            if len(slots) > 1
            for code in range(len(space.slots[slots[0]].options))
        ]

    def __len__(self) -> int:
        """The number of columns."""
        return len(self._options)

    def of(self, codes: npt.NDArray[np.int16]) -> FloatArray:
        """Return (n, k) counts for codes (n, num_slots)."""
        counts = np.zeros((len(codes), len(self)))
        for column, (slots, code) in enumerate(self._options):
            counts[:, column] = (codes[:, slots] == code).sum(axis=1)
        return counts
