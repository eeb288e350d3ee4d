"""Two stages of learning a teacher's features: the largest network first, then one sampled network a step."""

from dataclasses import dataclass
from typing import ClassVar

from supernets.features import frame_loss
from supernets.steps import Course, Distil, Pass, Plan, Step, Strategy, StrategyError
from supernets.strategies.paths import UNIFORM


@dataclass(frozen=True)
class TwoStage(Strategy):
    """The largest network learns a frozen teacher's features, then one sampled network a step does (LightHuBERT,
    arXiv:2203.15610); the second stage begins with the weights of the first.

    The teacher is the one handed to `train`. Without one the largest network learns the task in the first stage, and a
    copy of it is the teacher of the second: of itself it could learn nothing in the first (ours).

    Features are what goes into the last layer, mapped to the teacher's width (`supernets.features`); the loss is L1
    and -log sigmoid(cosine) a position. The last layer itself learns from the task's loss, which is added (ours; the
    paper trains no classifier). Students and teacher see the same input: masking a student's, as the paper does with
    speech, is a matter of the data, and left out.
    """

    name: ClassVar[str] = "two-stage"

    first: float = 0.3
    """Share of the steps for the first stage; the paper's is not known."""
    task: float = 1.0
    """Factor of the task's loss beside that of the features; 0, where there is a teacher, leaves only them."""
    sample: str = "networks"
    """The sampled ones are uniform over networks, or over the options of one choice after the other (choices)."""

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
