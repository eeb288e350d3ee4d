"""Whether a search has learnt anything: networks drawn from its distribution beside networks drawn at random.

Probabilities may look decided and prefer the wrong options, and a mixture may do well where its networks do not. What a
distribution is worth is how its networks do, with the weights there are, on examples that these have not seen.
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
"""Networks from the distribution, and as many at random."""
NUM_EXAMPLES = 256
"""Validation examples, or a few more to fill a batch: a few per cent of what a search of 2,000 steps runs."""


class Chance:
    """Scores of drawn and of random networks; each network is scored once."""

    def __init__(self, relaxed: Relaxed, seed: int) -> None:
        self._relaxed, self._seed = relaxed, seed
        self._known: dict[Architecture, float] = {}
        self.num_examples = relaxed.task.batch_size * math.ceil(NUM_EXAMPLES / relaxed.task.batch_size)

    def scores(self, mixture: Mixture) -> tuple[list[float], list[float]]:
        """Of networks drawn from a mixture, and of random ones, every choice uniform."""
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
    """How often one of the first is above one of the second, equal ones counting half (Mann and Whitney 1947)."""
    pairs = np.subtract.outer(np.array(learnt), np.array(random))
    return float((pairs > 0).mean() + (pairs == 0).mean() / 2)


def differ(scores: Sequence[float], num_examples: int) -> bool:
    """Whether scores in [0, 1] differ by more than the choice of so many examples explains (binomial)."""
    mean = float(np.mean(scores))
    return float(np.var(scores)) > mean * (1 - mean) / num_examples
