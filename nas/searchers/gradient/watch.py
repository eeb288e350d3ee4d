"""Monitors a running search: learned distributions, derived architectures, and warnings."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nas.searchers.gradient import collapse
from nas.searchers.gradient.chance import Chance, ahead, differ
from nas.searchers.gradient.config import GradientConfig
from nas.searchers.gradient.constraints import Kept
from nas.searchers.gradient.history import History, moments
from nas.searchers.gradient.logits import Condition, Source
from nas.searchers.gradient.operations import parameter_free
from nas.searchers.gradient.relaxed import Relaxed
from search_spaces import Architecture
from supernets.relaxation import Mixture

logger = logging.getLogger(__name__)

NUM_CHECKS = 5
"""Number of checks for collapse and of comparisons between the mixture and the architecture derived from it."""


class Watch:
    """Records the distributions of these conditions.

    Attributes:
        warnings: lines for each distribution.
        scores: for each distribution, [step, score of the mixture, score of the derived architecture].
        stopped: whether a collapse has ended the search.
    """

    def __init__(self, relaxed: Relaxed, config: GradientConfig, source: Source, watched: Sequence[Condition]) -> None:
        self._relaxed, self._config, self._source, self._watched = relaxed, config, source, watched
        self.history = History(len(watched))
        self.warnings: list[list[str]] = [[] for _ in watched]
        self.scores: list[list[list[float]]] = [[] for _ in watched]
        self.stopped = False
        self._moments = moments(config.first, config.steps)
        self._checks = moments(config.first, config.steps, NUM_CHECKS) - {0, config.first, config.steps}
        self._parameter_free = parameter_free(relaxed.supernet)
        self._chance = Chance(relaxed, config.seed)

    @torch.no_grad()
    def look(self, done: int) -> None:
        """Record the distributions after `done` steps, if a record or check is due."""
        if done in self.history.steps or done not in self._moments | self._checks:
            return
        mixtures = [self._relaxed.learnt(self._source.logits(condition)) for condition in self._watched]
        if done in self._checks:
            for index, mixture in enumerate(mixtures):
                self._check(index, mixture, done)
        self.history.add(done, mixtures)

    def _check(self, index: int, mixture: Mixture, done: int) -> None:
        """Warn about collapse while the search can still stop; other symptoms may still disappear."""
        self._score(index, mixture, mixture.likeliest(), done)
        line = collapse.parameter_free_preferred(self._kept(mixture), self._operations(index))
        if line is not None:
            self.warn(index, f"after step {done} {line}")
            self.stopped = self._config.stop_on_collapse

    def finish(self, index: int, kept: Kept, *, limited: bool) -> None:
        """Warn about all symptoms of a distribution and its architecture at the end."""
        mixed, derived = self._score(index, kept.mixture, kept.arch, self.history.steps[-1])
        alone = not limited and not any(self._watched[index].preference[1:])
        learnt = self._learnt(kept.mixture) if alone else None  # with costs a network may rightly be worse
        symptoms = collapse.warnings(
            self._active(kept), self._operations(index), mixed=mixed, derived=derived, learnt=learnt
        )
        for line in (*kept.broken, *symptoms):
            self.warn(index, line)

    def _learnt(self, mixture: Mixture) -> float | None:
        """The share of pairs in which draws beat random networks; None if random networks do not differ."""
        drawn, random = self._chance.scores(mixture)
        return ahead(drawn, random) if differ(random, self._chance.num_examples) else None

    def warn(self, index: int, line: str) -> None:
        """Store a warning with its distribution, and log it."""
        label = self._watched[index].label
        self.warnings[index].append(line)
        logger.warning("%s", f"{label}: {line}" if label else line)

    def _score(self, index: int, mixture: Mixture, arch: Architecture, done: int) -> tuple[float, float]:
        found = self._relaxed.scores(mixture, arch, 0, self._config.seed)  # on the same batch each time
        self.scores[index].append([done, *found])
        return found

    def _kept(self, mixture: Mixture) -> dict[str, list[float]]:
        """Probabilities of the kept options."""
        return {path: mixture[path][list(kept)].tolist() for path, kept in self._relaxed.free.items()}

    def _active(self, kept: Kept) -> dict[str, list[float]]:
        """Probabilities of the choices that are active in the derived architecture: others need not be decided."""
        space = self._relaxed.supernet.space
        active = {slot.path for slot, code in zip(space.slots, space.codes([kept.arch])[0], strict=True) if code >= 0}
        return {path: vector for path, vector in self._kept(kept.mixture).items() if path in active}

    def _operations(self, index: int) -> dict[str, list[bool]]:
        """Which options have no parameters; empty if costs count more than the loss, which rightly favours these."""
        preference = self._watched[index].preference
        if preference[0] < sum(preference[1:]):
            return {}
        return {path: [free[code] for code in self._relaxed.free[path]] for path, free in self._parameter_free.items()}

    # --- checkpoints

    def state_dict(self) -> dict[str, Tensor]:
        """Return the recorded probabilities, flat."""
        return self.history.state_dict()

    def meta(self) -> dict[str, Any]:
        """Return the other state, as JSON."""
        return {"warnings": self.warnings, "scores": self.scores, "stopped": self.stopped}

    def load_state_dict(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Restore both."""
        self.history.load_state_dict(tensors)
        self.warnings, self.scores, self.stopped = meta["warnings"], meta["scores"], meta["stopped"]
