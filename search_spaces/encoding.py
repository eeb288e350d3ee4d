"""Architectures as rows of numbers, for predictors and kernels.

A slot of numbers becomes its value between 0 (smallest option) and 1 (largest), any other slot one column an option.
A slot that is not always active has all zeros where it is not, and a slot of numbers a second column that tells. The
columns depend on the declaration only, so a space and its narrowings encode alike, and different networks differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from search_spaces.errors import SpaceError
from search_spaces.layout import Layout, Slot
from search_spaces.values import show

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Features:
    """The columns of all slots: `tables[slot][code + 1]` is what a code contributes at `starts[slot]`."""

    names: tuple[str, ...]
    tables: tuple[FloatArray, ...]
    starts: tuple[int, ...]

    @classmethod
    def of(cls, slots: Sequence[Slot]) -> "Features":
        columns = [_columns(slot) for slot in slots]
        widths = [table.shape[1] for _, table in columns]
        starts = tuple(int(start) for start in np.cumsum([0, *widths[:-1]]))
        return cls(tuple(name for names, _ in columns for name in names), tuple(t for _, t in columns), starts)

    def encode(self, codes: npt.NDArray[Any]) -> FloatArray:
        """(n, num_slots) codes to (n, num_features) float32."""
        features = np.empty((len(codes), len(self.names)), dtype=np.float32)
        for slot, (table, start) in enumerate(zip(self.tables, self.starts, strict=True)):
            if table.shape[1]:
                features[:, start : start + table.shape[1]] = table[codes[:, slot] + 1]
        return features


def _columns(slot: Slot) -> tuple[tuple[str, ...], FloatArray]:
    """Names and table (options + 1, columns); its first row is for an inactive slot."""
    num_options = len(slot.options)
    active = np.ones((num_options + 1, 1), dtype=np.float32)
    active[0] = 0
    always = not slot.conditions
    if num_options == 1:
        return ((), active[:, :0]) if always else ((f"{slot.path} active",), active)
    if slot.numeric:
        value = np.concatenate([[0], _scaled(slot.options)]).astype(np.float32)[:, None]
        if always:
            return (slot.path,), value
        return (slot.path, f"{slot.path} active"), np.concatenate([value, active], axis=1)
    one_hot = np.concatenate([np.zeros((1, num_options)), np.eye(num_options)]).astype(np.float32)
    return tuple(f"{slot.path}={show(option)}" for option in slot.options), one_hot


def _scaled(options: Sequence[int | float]) -> FloatArray:
    """Options between 0 and 1 by value; by rank where float32 could not tell the values apart."""
    low, high = min(options), max(options)
    try:
        scaled = np.array([(option - low) / (high - low) for option in options], dtype=np.float32)
    except OverflowError:
        scaled = np.zeros(len(options), dtype=np.float32)
    if np.all(np.isfinite(scaled)) and len(np.unique(scaled)) == len(options):
        return scaled
    ranks = {option: rank for rank, option in enumerate(sorted(options))}
    return np.array([ranks[option] / (len(options) - 1) for option in options], dtype=np.float32)


def check_codes(layout: Layout, codes: Any) -> npt.NDArray[np.int16]:
    """Codes as an (n, num_slots) array of which every row is a network of the declaration; SpaceError otherwise."""
    array = np.asarray(codes)
    if array.ndim != 2 or array.shape[1] != len(layout.slots) or not np.issubdtype(array.dtype, np.integer):
        shape = f"{array.dtype} of shape {array.shape}"
        raise SpaceError(
            f"codes are {shape}; they are integers of shape (n, {len(layout.slots)}), as space.codes gives"
        )
    for index, slot in enumerate(layout.slots):
        active = np.ones(len(array), dtype=np.bool_)
        for parent, allowed in slot.conditions:
            active &= np.isin(array[:, parent], list(allowed))
        column = array[:, index]
        wrong = np.flatnonzero((column < -1) | (column >= len(slot.options)) | ((column >= 0) != active))
        if len(wrong):
            state = "active" if active[wrong[0]] else "not active"
            raise SpaceError(
                f"codes[{wrong[0]}]: {slot.path} is {state} there but has the code {column[wrong[0]]}; "
                f"codes are -1 where a choice is not active, otherwise 0 to {len(slot.options) - 1}"
            )
    return array.astype(np.int16, copy=False)
