"""Random numbers as a function of (seed, step, stream), so that a search can resume from any step."""

from __future__ import annotations

import numpy as np
import torch

_STREAMS = ("initial", "weights", "architecture", "dropout", "conditions", "networks", "selection")
_FIRST = 16  # lower numbers belong to the batches of tasks


def entropy(seed: int, step: int, stream: str) -> int:
    """Return a separate seed for each stream in each step."""
    state = np.random.SeedSequence([seed, step, _FIRST + _STREAMS.index(stream)]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def generator(seed: int, step: int, stream: str) -> torch.Generator:
    """Return a torch generator, for the noise of a method."""
    return torch.Generator().manual_seed(entropy(seed, step, stream))


def rng(seed: int, step: int, stream: str) -> np.random.Generator:
    """Return a NumPy generator, for spaces and distributions."""
    return np.random.default_rng(entropy(seed, step, stream))
