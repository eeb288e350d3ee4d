"""Two stages of feature distillation: the largest network first, then one sampled network per step."""

from dataclasses import dataclass
from typing import ClassVar

from supernets.features import frame_loss
from supernets.steps import Course, Distil, Pass, Plan, Step, Strategy, StrategyError
from supernets.strategies.paths import UNIFORM


@dataclass(frozen=True)
class TwoStage(Strategy):
    """The largest network learns a frozen teacher's features, then one sampled network per step does (LightHuBERT,
    arXiv:2203.15610); the second stage starts from the weights of the first.

    The teacher is the one passed to `train`. Without one, the largest network learns the task in the first stage, and a
    copy of it teaches in the second (ours).

    Features are the inputs of the last layer, mapped to the teacher's width (`supernets.features`); the loss per
    position is L1 plus -log sigmoid(cosine). The task's loss is added, so that the last layer learns too (ours; the
    paper trains no classifier). Students and teacher receive the same input: the paper masks the student's speech
    input, which is a matter of the data and omitted here.
    """

    name: ClassVar[str] = "two-stage"

    first: float = 0.3
    """Share of the steps for the first stage; the paper's value is unknown."""
    task: float = 1.0
    """Factor of the task's loss beside the feature loss; 0 trains on features alone, once there is a teacher."""
    sample: str = "networks"
    """networks: sampled networks are uniform over networks; choices: uniform over the options, choice by choice."""

    def __post_init__(self) -> None:
        if not 0 <= self.first <= 1:
            raise StrategyError(f"first = {self.first}: it is a share of the steps, from 0 to 1")
        if not self.task >= 0:
            raise StrategyError(f"task = {self.task}: it is a factor of a loss, 0 or more")
        if self.sample not in UNIFORM:
            raise StrategyError(f"sample = {self.sample!r}: sampling is uniform over {' or '.join(UNIFORM)}")

    def plan(self, course: Course) -> Plan:
        return _Stages(self, course)


class _Stages(Plan):
    def __init__(self, strategy: TwoStage, course: Course) -> None:
        self._strategy = strategy
        self._course = course
        self._second = round(strategy.first * course.steps)
        if not course.taught and self._second == 0:
            raise StrategyError(
                f"first = {strategy.first}: that is none of {course.steps} steps, and without a teacher the largest "
                "network has to learn the task first; give it more, or hand train(teacher=...) a trained network"
            )

    def step(self, index: int) -> Step:
        strategy, space = self._strategy, self._course.space
        if index < self._second and not self._course.taught:
            return Step((Pass(space.largest()),))
        if index < self._second:
            arch = space.largest()
        else:
            arch = space.sample(self._course.rng(index), uniform=strategy.sample)  # type: ignore[arg-type]
        imitate = Distil(frame_loss, teacher="frozen", what="features")
        freeze = space.largest() if index == self._second and not self._course.taught else None
        return Step((Pass(arch, task=strategy.task, distil=imitate),), freeze=freeze)
