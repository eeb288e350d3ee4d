"""Importance sampling: architectures and examples with larger gradients are sampled more often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from search_spaces import Architecture
from supernets.steps import Course, Feedback, Pass, Plan, Step, Strategy, StrategyError, Watched
from supernets.tasks import batch_indices

Numbers = npt.NDArray[np.float64]


def mixture(norms: Numbers, share: float) -> Numbers:
    """Return share * norms / sum(norms) + (1 - share) / n; uniform if all norms are 0."""
    total = norms.sum()
    if not total > 0:
        return np.full(len(norms), 1 / len(norms))
    return np.asarray(share * norms / total + (1 - share) / len(norms))


@dataclass(frozen=True)
class ImportanceSampling(Strategy):
    """One path per step, with options and examples drawn in proportion to their gradients (PA&DA, arXiv:2302.14772).

    Each distribution mixes gradient norms with weight tau and a uniform distribution with weight 1 - tau. It changes
    once per epoch; tau = (epochs done) / (epochs) grows from 0 to at most 1 - `floor`.

    *Paths.* The paper has one distribution over operators, shared by all edges. In a general space each slot has its
    own (ours), and `Space.sample` draws an architecture slot by slot under the constraints. In a step, the score of a
    used option is the sum of the gradient norms, before clipping, of the parameters in this step whose shape or
    presence depends on its slot. With one operator per slot this is the paper's norm of its weight and bias; an option
    without parameters has score 0. The running value is the mean of the previous value and the new one, and restarts in
    every epoch with the first one. Options that were not drawn in an epoch keep their value; those never drawn have the
    mean of their slot.

    *Examples.* d is the norm of the gradient of an example's loss with respect to the network's outputs. Batches are
    drawn from the mixture of d, with replacement. Examples that were not drawn keep their d; those never drawn have the
    mean. While the mixture is uniform, as in the first epoch, examples come in permutations, so each gets its d.

    With tau = 0, the architectures equal those of ``uniform(over=choices)`` with the same seed, and the examples equal
    those of `batch_indices`, bit for bit.
    """

    name: ClassVar[str] = "pada"

    paths: bool = True
    """Whether to draw architectures by importance; if False, as ``uniform(over=choices)`` does."""
    data: bool = True
    """Whether to draw examples by importance; if False, in the default order of the training loop."""
    reweight: bool = False
    """Whether to divide each loss by its probability relative to uniform sampling, which makes gradients unbiased; the
    paper does not. For architectures, uniform means slot by slot; under constraints too wide to solve exactly, the
    weights hold up to a constant factor."""
    floor: float = 0.1
    """Least weight of the uniform distribution; at 0, options without parameters would no longer be drawn."""

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= 1:
            raise StrategyError(f"floor = {self.floor}: it is a share of the uniform distribution, from 0 to 1")

    def plan(self, course: Course) -> Plan:
        return _Sampling(self, course)


class _Sampling(Plan):
    def __init__(self, strategy: ImportanceSampling, course: Course) -> None:
        self._strategy = strategy
        self._course = course
        self._options = _Options(course) if strategy.paths else None
        self._examples = _Examples(course.task.num_train) if strategy.data else None
        watched: dict[Watched, bool] = {"gradients": strategy.paths, "outputs": strategy.data}
        self._watch = frozenset(what for what, wanted in watched.items() if wanted)
        self._epoch = 0

    def step(self, index: int) -> Step:
        self._turn(index // self._course.steps_per_epoch)
        rng = self._course.rng(index)
        space, weights = self._course.space, {} if self._options is None else self._options.weights()
        arch = space.sample(rng, weights=weights)
        path_weight, examples, example_weights = 1.0, None, None
        if self._strategy.reweight and self._options is not None:
            path_weight = space.probability(arch) / space.probability(arch, weights=weights)
        if self._examples is not None:
            chosen = self._examples.draw(index, self._course, rng)
            examples = tuple(chosen.tolist())
            if self._strategy.reweight:
                example_weights = tuple(self._examples.weights(chosen).tolist())
        return Step(
            (Pass(arch, weight=path_weight),), examples=examples, example_weights=example_weights, watch=self._watch
        )

    def _turn(self, epoch: int) -> None:
        """Update the distributions at the start of a new epoch."""
        if epoch == self._epoch:
            return
        self._epoch = epoch
        epochs = max(1, -(-self._course.steps // self._course.steps_per_epoch))
        share = min(epoch / epochs, 1 - self._strategy.floor)
        if self._options is not None:
            self._options.turn(share)
        if self._examples is not None:
            self._examples.turn(share)

    def observe(self, feedback: Feedback) -> None:
        if not feedback.finite:
            return
        if self._options is not None:
            self._options.observe(feedback.step.passes[0].arch, feedback.gradients)
        if self._examples is not None and feedback.step.examples is not None:
            self._examples.observe(feedback.step.examples, feedback.outputs[0])

    def state(self) -> dict[str, Tensor]:
        known = {"options": self._options, "examples": self._examples}
        return {"epoch": torch.tensor(self._epoch)} | {
            f"{kind}.{name}": torch.from_numpy(getattr(one, name).copy())
            for kind, one in known.items()
            if one is not None
            for name in one.kept
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._epoch = int(state["epoch"])
        for kind, one in (("options", self._options), ("examples", self._examples)):
            if one is not None:
                for name in one.kept:
                    setattr(one, name, state[f"{kind}.{name}"].numpy().copy())


class _Options:
    """Statistics of the options of every slot, in consecutive rows."""

    kept = ("norms", "heard", "chances")

    def __init__(self, course: Course) -> None:
        self._space = course.space
        slots = self._space.slots
        self._starts = np.cumsum([0, *(len(slot.options) for slot in slots)])
        index = {slot.path: number for number, slot in enumerate(slots)}
        self._moving: dict[
            str, list[int]
        ] = {}  # a parameter's name, with the slots on which its shape or presence depends
        for row in course.supernet.coverage().rows:
            moving = dict.fromkeys([*row.present, *(path for paths in row.axes.values() for path in paths)])
            self._moving[row.name] = [index[path] for path in moving]
        self.norms = np.full(self._starts[-1], np.nan)
        self.heard = np.zeros(self._starts[-1], dtype=np.bool_)  # in this epoch
        self.chances = np.ones(self._starts[-1])

    def weights(self) -> dict[str, Numbers]:
        return {slot.path: self.chances[self._rows(number)] for number, slot in enumerate(self._space.slots)}

    def _rows(self, number: int) -> slice:
        return slice(int(self._starts[number]), int(self._starts[number + 1]))

    def turn(self, share: float) -> None:
        for number in range(len(self._space.slots)):
            rows = self._rows(number)
            self.chances[rows] = mixture(_filled(self.norms[rows]), share)
        self.heard[:] = False

    def observe(self, arch: Architecture, gradients: Mapping[str, float]) -> None:
        sums = np.zeros(len(self._space.slots))
        for name, norm in gradients.items():
            # a sharing's further copies of a tensor are called "name@1"
            sums[self._moving.get(name.partition("@")[0], [])] += norm
        codes = self._space.codes([arch])[0]
        active = np.flatnonzero(codes >= 0)
        rows = self._starts[active] + codes[active]
        self.norms[rows] = np.where(self.heard[rows], (self.norms[rows] + sums[active]) / 2, sums[active])
        self.heard[rows] = True


class _Examples:
    """Statistics of the training examples."""

    kept = ("norms", "chances")

    def __init__(self, num_train: int) -> None:
        self.norms = np.full(num_train, np.nan)
        self.chances = np.full(num_train, 1 / num_train)

    def turn(self, share: float) -> None:
        self.chances = mixture(_filled(self.norms), share)

    def draw(self, index: int, course: Course, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        if np.all(self.chances == self.chances[0]):
            return batch_indices(len(self.chances), course.task.batch_size, index, course.seed).numpy()
        return rng.choice(len(self.chances), course.task.batch_size, p=self.chances)

    def weights(self, chosen: npt.NDArray[np.int64]) -> Numbers:
        """Return the ratios of uniform probability to the probability under this distribution."""
        return 1 / (len(self.chances) * self.chances[chosen])

    def observe(self, examples: tuple[int, ...], norms: Numbers) -> None:
        self.norms[list(examples)] = norms


def _filled(norms: Numbers) -> Numbers:
    """Return the norms, with unknown values replaced by the mean of the known ones."""
    known = ~np.isnan(norms)
    return np.where(known, norms, norms[known].mean() if known.any() else 0.0)
