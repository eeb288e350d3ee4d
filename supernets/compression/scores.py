"""The importance scores that have a name; `score` finds one by its text."""

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
    """The logits of gates that are learnt while a growing share of parameters is closed (TinyCLIP, arXiv:2309.12314).

    Of units that a norm averages over there are none: they keep their places.
    """

    sparsity: float = 0.5
    """Share of the gated parameters to be closed in the end: about what small networks leave out."""
    steps: int = 200
    lr: float = 0.02
    name: ClassVar[str] = "gates"

    def __post_init__(self) -> None:
        self.config()

    def config(self, seed: int = 0) -> GateConfig:
        """How these gates are learnt."""
        return GateConfig(sparsity=self.sparsity, steps=self.steps, lr=self.lr, seed=seed)

    def __call__(self, group: Group, calibration: Calibration) -> Tensor:
        if self not in calibration.learnt:  # once for all groups
            config = self.config(calibration.seed)
            calibration.learnt[self] = learn_gates(calibration.supernet, calibration.task, config)
        return calibration.learnt[self](group, calibration)


SCORES: dict[str, type[Score]] = {**IN_CLOSED_FORM, LearntGates.name: LearntGates}


def score(text: str) -> Score:
    """The score that a text names, such as ``taylor(batches=16)``.

    Raises:
        SpellingError: listing what there is.
    """
    return parse(text, SCORES, "importance score")
