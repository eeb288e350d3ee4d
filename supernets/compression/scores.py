"""The importance scores by name; `score` parses one from text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from supernets.compression.importance import SCORES as IN_CLOSED_FORM
from supernets.compression.importance import Calibration, Score
from supernets.compression.learnt_gates import GateConfig, learn_gates
from supernets.compression.units import Group
from supernets.spelling import parse


@dataclass(frozen=True)
class LearntGates(Score):
    """The logits of gates, learnt while a growing share of parameters is closed (TinyCLIP, arXiv:2309.12314).

    Units over which a norm averages have no gates and keep their places.
    """

    sparsity: float = 0.5
    """Share of the gated parameters to close by the end: roughly the share that small networks drop."""
    steps: int = 200
    lr: float = 0.02
    name: ClassVar[str] = "gates"

    def __post_init__(self) -> None:
        self.config()

    def config(self, seed: int = 0) -> GateConfig:
        """Return the settings for learning these gates."""
        return GateConfig(sparsity=self.sparsity, steps=self.steps, lr=self.lr, seed=seed)

    def __call__(self, group: Group, calibration: Calibration) -> Tensor:
        if self not in calibration.learnt:  # once for all groups
            config = self.config(calibration.seed)
            calibration.learnt[self] = learn_gates(calibration.supernet, calibration.task, config)
        return calibration.learnt[self](group, calibration)


SCORES: dict[str, type[Score]] = {**IN_CLOSED_FORM, LearntGates.name: LearntGates}


def score(text: str) -> Score:
    """Return the score that a text names, such as ``taylor(batches=16)``.

    Raises:
        SpellingError: the text names no score or setting; the message lists the known ones.
    """
    return parse(text, SCORES, "importance score")
