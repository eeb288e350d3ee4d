"""Whether a search has learned anything: compares networks drawn from its distribution with random networks.

Probabilities may look decided and prefer the wrong options, and a mixture may score well although its networks do not.
The test of a distribution is how its networks score, with the current weights, on examples that these have not seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nas.searchers.gradient.relaxed import Relaxed
from nas.searchers.gradient.streams import rng
from search_spaces import Architecture
from supernets.relaxation import Mixture

NUM_DRAWN = 20
"""Number of networks from the distribution, and of random ones."""
NUM_EXAMPLES = 256
"""Validation examples, rounded up to whole batches: a few per cent of the passes of a search of 2,000 steps."""


class Chance:
    """Scores drawn and random networks, each network once."""

    def __init__(self, relaxed: Relaxed, seed: int) -> None:
        self._relaxed, self._seed = relaxed, seed
        self._known: dict[Architecture, float] = {}
        self.num_examples = relaxed.task.batch_size * math.ceil(NUM_EXAMPLES / relaxed.task.batch_size)

    def scores(self, mixture: Mixture) -> tuple[list[float], list[float]]:
        """Return the scores of networks drawn from a mixture, and of networks drawn uniformly in each choice."""
        space, numbers = self._relaxed.supernet.space, rng(self._seed, 0, "networks")
        random = space.sample_many(NUM_DRAWN, numbers, uniform="choices")
        drawn = space.sample_many(NUM_DRAWN, numbers, weights=mixture.weights())
        return [self._score(arch) for arch in drawn], [self._score(arch) for arch in random]

    def _score(self, arch: Architecture) -> float:
        if arch not in self._known:
            num_batches = self.num_examples // self._relaxed.task.batch_size
            self._known[arch] = self._relaxed.mean_score(arch, num_batches, self._seed)
        return self._known[arch]


def ahead(learnt: Sequence[float], random: Sequence[float]) -> float:
    """The share of pairs in which the first score is higher, ties counting half (Mann and Whitney 1947)."""
    pairs = np.subtract.outer(np.array(learnt), np.array(random))
    return float((pairs > 0).mean() + (pairs == 0).mean() / 2)


def differ(scores: Sequence[float], num_examples: int) -> bool:
    """Whether scores in [0, 1] differ by more than the sampling of `num_examples` explains (binomial variance)."""
    mean = float(np.mean(scores))
    return float(np.var(scores)) > mean * (1 - mean) / num_examples
