"""Networks as rows of zeros and ones, with one column per option of each choice, and sums over such rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search_spaces import Space

FloatArray = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int16]


class Columns:
    """The columns of a space: 1 where a network's choice takes the option; an inactive choice has only zeros."""

    def __init__(self, space: Space) -> None:
        pairs = [(slot, code) for slot, domain in enumerate(space.domains) for code in domain]
        self.slots, self.options = np.array(pairs, dtype=np.int64).T
        self._index = {pair: column for column, pair in enumerate(pairs)}

    def __len__(self) -> int:
        return len(self.slots)

    def __call__(self, codes: Codes) -> FloatArray:
        """Return (n, columns) rows for networks (n, num_slots)."""
        found: FloatArray = (np.asarray(codes)[:, self.slots] == self.options).astype(float)
        return found

    def at(self, slot: int, code: int) -> int:
        """The column of one option."""
        return self._index[slot, code]

    def of(self, slot: int) -> npt.NDArray[np.int64]:
        """The columns of one choice."""
        return np.flatnonzero(self.slots == slot)

    def codes(self, row: FloatArray, num_slots: int) -> Codes:
        """Return the (num_slots,) codes of one row."""
        found = np.full(num_slots, -1, dtype=np.int16)
        taken = row > 0.5
        found[self.slots[taken]] = self.options[taken]
        return found


@dataclass(frozen=True, eq=False)
class Table:
    """A metric that is a sum: a constant and a weight per column."""

    constant: float
    weights: FloatArray

    def __call__(self, rows: FloatArray) -> FloatArray:
        """Return (n,) values for rows (n, columns)."""
        found: FloatArray = self.constant + rows @ self.weights
        return found


def least_squares(rows: FloatArray, values: FloatArray) -> Table:
    """Fit a table to `values` (n,) at `rows` (n, columns); of several best fits, the one with the smallest weights."""
    middle, mean = rows.mean(axis=0), float(values.mean())
    weights = np.linalg.lstsq(rows - middle, values - mean, rcond=None)[0]
    return Table(mean - float(middle @ weights), weights)
