"""Distributions as a gradient search would learn them, of any space."""

from collections.abc import Sequence

import numpy as np

from nas.records import Distribution
from search_spaces import Space


def learnt(space: Space, seed: int = 0, label: str = "", concentration: float = 1.0) -> Distribution:
    """From uniform to random: the smaller `concentration`, the nearer to one architecture."""
    rng = np.random.default_rng(seed)
    rows = {slot.path: [_within(np.ones(len(slot.options)), kept)] for slot, kept in _slots(space)}
    for slot, kept in _slots(space):
        rows[slot.path].append(_within(rng.dirichlet([concentration] * len(slot.options)) + 1e-9, kept))
    end = {path: np.maximum(vectors[-1], 1e-12) for path, vectors in rows.items()}
    derived = space.likeliest(end).json()
    return Distribution("", "drnas", label, (0, 10), rows, derived)


def _slots(space: Space):
    return zip(space.slots, space.domains, strict=True)


def _within(vector: np.ndarray, kept: Sequence[int]) -> list[float]:
    """On the options that the space keeps."""
    mask = np.isin(np.arange(len(vector)), kept)
    return (vector * mask / (vector * mask).sum()).tolist()
