"""Integer codes as steps from option to option: the unknowns of an additive table."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas.predictors.models.model import FloatArray
from search_spaces.layout import Slot


@dataclass(frozen=True)
class Steps:
    """The columns of all slots: `blocks[slot]` (options + 1, columns) is the row of each code + 1.

    `families` (p,): equal numbers mark the same step at different positions. `enlarging` (p,): steps that only enlarge
    a network.
    """

    blocks: tuple[FloatArray, ...]
    families: npt.NDArray[np.int64]
    enlarging: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, slots: Sequence[Slot]) -> "Steps":
        larger = [only_enlarges(index, slots) for index in range(len(slots))]
        blocks = tuple(_block(slot, by_size) for slot, by_size in zip(slots, larger, strict=True))
        names = [  # counted from the last option: the first option of an always active slot has no step
            f"{family(slot)} {step}"
            for slot, block in zip(slots, blocks, strict=True)
            for step in reversed(range(block.shape[1]))
        ]
        known = {name: number for number, name in enumerate(dict.fromkeys(names))}
        enlarging = [
            bool(slot.conditions) or by_size
            for slot, by_size, block in zip(slots, larger, blocks, strict=True)
            for _ in range(block.shape[1])
        ]
        return cls(
            blocks,
            np.array([known[name] for name in names], dtype=np.int64),
            np.array(enlarging, dtype=bool),
        )

    def rows(self, codes: npt.NDArray[np.int16]) -> FloatArray:
        """Return (n, p) rows for codes (n, num_slots)."""
        return np.hstack([block[codes[:, slot] + 1] for slot, block in enumerate(self.blocks)])

    def shared(self) -> FloatArray:
        """Return (p, k): sums over the steps of each family with several members."""
        families = [family for family in np.unique(self.families) if (self.families == family).sum() > 1]
        sums: FloatArray = (self.families[:, None] == np.array(families, dtype=np.int64)).astype(float)
        return sums

    def tables(self, weights: FloatArray) -> list[FloatArray]:
        """Return the cost of every option of every slot; the first entry is for an inactive slot."""
        parts = np.split(weights, np.cumsum([block.shape[1] for block in self.blocks])[:-1])
        return [block @ part for block, part in zip(self.blocks, parts, strict=True)]


def family(slot: Slot) -> str:
    """Return the choice to which a slot belongs: its path without positions, and its options."""
    return f"{re.sub(r'[.][0-9]+(?=[.]|$)', '', slot.path)} {slot.options}"


def only_enlarges(index: int, slots: Sequence[Slot]) -> bool:
    """Whether a larger option of a slot only adds to the network.

    Declarations list options from small to large, so the order is that of codes. A numeric choice whose larger options
    make another choice inactive does not only enlarge.
    """
    codes = range(len(slots[index].options))
    gates = [allowed for slot in slots for parent, allowed in slot.conditions if parent == index]
    return slots[index].numeric and all(allowed == set(codes[min(allowed) :]) for allowed in gates)


def _block(slot: Slot, by_size: bool) -> FloatArray:
    """Cumulative steps up to each option, or one column per option; the first row is for inactive slots."""
    num_options = len(slot.options)
    if by_size:
        block = np.tril(np.ones((num_options + 1, num_options + 1)))[:, 1:]
        return block if slot.conditions else block[:, 1:]
    return np.concatenate([np.zeros((1, num_options)), np.eye(num_options)])
