"""Random numbers as a function of (seed, step, what for), so that a search can go on from any step."""

from __future__ import annotations

import numpy as np
import torch

_STREAMS = ("initial", "weights", "architecture", "dropout", "conditions", "networks", "selection")
_FIRST = 16  # numbers below it belong to the batches of tasks


def entropy(seed: int, step: int, stream: str) -> int:
    """A seed of its own for each use of random numbers in each step."""
    state = np.random.SeedSequence([seed, step, _FIRST + _STREAMS.index(stream)]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def generator(seed: int, step: int, stream: str) -> torch.Generator:
    """Torch's, for the noise of a method."""
    return torch.Generator().manual_seed(entropy(seed, step, stream))


def rng(seed: int, step: int, stream: str) -> np.random.Generator:
    """NumPy's, for spaces and distributions."""
    return np.random.default_rng(entropy(seed, step, stream))
