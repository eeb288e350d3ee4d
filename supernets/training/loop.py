"""A training as the resumable loop runs it: steps of a plan, curves, and the state that checkpoints hold."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from search_spaces import Architecture
from supernets import resumable
from supernets.averaging import Average
from supernets.checkpoints import Checkpoint
from supernets.features import FeatureHeads
from supernets.optim import OptimizerConfig
from supernets.resumable import MAX_SKIPPED_IN_A_ROW, Skipped, due, shapes, under
from supernets.steps import Feedback, Plan, Step
from supernets.tasks import Task, to_device
from supernets.teams import ALONE, Team
from supernets.trainable import Alone, Trainable
from supernets.training.config import TrainingConfig, TrainingError, learning_rate
from supernets.training.kept import KeptNetworks
from supernets.training.passes import Passes, batch_norm_buffers
from supernets.training.result import CurvePoint, OnCurve, TrainingResult

logger = logging.getLogger(__name__)


@dataclass
class Loop:
    """One training, from its newest checkpoint to its end: see `supernets.resumable.Training`."""

    trained: Trainable
    task: Task
    config: TrainingConfig
    precision: str
    plan: Plan
    watched: tuple[str, ...]
    score: Callable[[str], float]
    """The metric of what is watched."""
    identity: dict[str, str]
    on_curve: OnCurve | None
    settle: Callable[[], object] = lambda: None
    """Calibrates batch norm after weights were averaged; supernets calibrate anyway."""
    largest: Architecture = Alone.arch
    teacher: nn.Module | None = None
    team: Team = ALONE
    losses: list[float] = field(default_factory=list)
    curve: list[CurvePoint] = field(default_factory=list)
    skipped: Skipped = field(default_factory=Skipped)

    def __post_init__(self) -> None:
        config, device = self.config, self.trained.device
        rule = OptimizerConfig(config.optimizer, config.lr, config.weight_decay)
        self.optimizer = self.trained.optimizer(rule)
        self.networks = KeptNetworks(self.trained)
        self.average = Average(config.average, config.steps)
        self.heads = FeatureHeads(device, rule, config.seed)  # made when a step first asks for them
        self.passes = Passes(
            self.trained, self.task, config.seed, self.precision, self.team, self.largest, self.heads, self.teacher
        )

    def run(self, directory: Path | str | None, title: str, progress: bool) -> TrainingResult:
        """Train to the end."""
        began = time.monotonic()
        with resumable.resumed(self, directory) as found:
            start = self._begin_together(found.step)
            with self.team.complete():
                resumable.run(self, start, directory, f"training {title}", progress=progress)
        return TrainingResult(
            steps=self.steps,
            losses=tuple(self.losses),
            curve=tuple(self.curve),
            skipped=self.skipped.total,
            precision=self.precision,
            resumed_from=start,
            rejected=tuple(found.rejected),
            seconds=time.monotonic() - began,
            closed=self.plan.closed,
        )

    def _begin_together(self, start: int) -> int:
        """Make all of a team begin as the first does; returns the step they begin with."""
        if self.team.alone:
            return start
        if self.team.first and start < self.steps:
            batch = to_device(self.task.batch(start, self.config.seed), self.trained.device)
            self.team.check(self.trained.subnet(self.largest), self.task, batch)
        with self.team.complete():
            found = self.team.hand_out(self.tensors(), resumable.meta(self), start)
        if not self.team.first:
            resumable.adopt(self, "the first training worker", found)
        return found.step

    # --- steps ------------------------------------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.config.steps

    @property
    def checkpoint_every(self) -> int:
        """Steps between checkpoints."""
        return self.config.checkpoint_every

    def is_over(self) -> bool:
        """No training ends early."""
        return False

    def take(self, index: int) -> float:
        """Take a step, and after the last one the average; returns the loss of the first pass."""
        self._step(index, self.plan.step(index))
        self.average.observe(index, self.trained.state_dict())
        if index + 1 == self.steps and self.average:
            self._take_average()
        return self.losses[-1]

    def _step(self, index: int, step: Step) -> None:
        """Sum the gradients of the passes and step once; leave everything as it was where they are not finite."""
        stream = [self.config.seed, index, 2, *([self.team.rank] if self.team.rank else [])]  # each drops its own
        torch.manual_seed(int(np.random.SeedSequence(stream).generate_state(1)[0]))
        if step.freeze is not None and (self.passes.teacher is None or self.passes.frozen is not None):
            self.passes.freeze(step.freeze)
        for name, parent in step.inherit:
            self.optimizer.inherit(name, parent)
        networks = [self.networks.at(one.arch, one.route) for one in step.passes]
        statistics = batch_norm_buffers(networks)
        ran = self.passes.backward(index, step, networks)
        losses = self.team.total(torch.stack([one.loss for one in ran])).tolist()
        self.team.sum_gradients(index, [*self.optimizer.touched(), *self.heads.touched()])
        self.losses.append(losses[0])
        gradients = self.optimizer.gradient_norms() if "gradients" in step.watch else {}
        if all(math.isfinite(loss) for loss in losses):
            rate = learning_rate(self.config, index) if step.lr is None else self.config.lr * step.lr
            norm = self.optimizer.step(lr=rate, clip=self.config.clip)
            if math.isfinite(norm):
                self.heads.step(lr=rate, clip=self.config.clip)
        else:
            self.optimizer.zero_grad()
            norm = math.nan
        finite = math.isfinite(norm)
        if not finite:
            self.heads.forget()
            for buffer, before in statistics:
                buffer.copy_(before)
        self._note(index, losses, finite)
        outputs = tuple(self.passes.output_gradients(one, step) for one in ran) if "outputs" in step.watch else ()
        valid = self.passes.valid(index, step, networks) if "valid" in step.watch else ()
        self.plan.observe(Feedback(index, step, tuple(losses), finite, gradients, outputs, valid))

    def _take_average(self) -> None:
        """The mean becomes the weights, and is forgotten: the last checkpoint need not hold it twice."""
        self.trained.load_state_dict(self.average.means(self.trained.state_dict()))
        self.average = Average(0.0, self.config.steps)
        self.settle()

    def _note(self, step: int, losses: list[float], finite: bool) -> None:
        """Count a step that was left out; TrainingError after too many in a row."""
        in_a_row = self.skipped.note("weights", finite)
        if finite:
            return
        what = "gradient" if all(math.isfinite(loss) for loss in losses) else "loss"
        logger.warning("step %d is left out: its %s is not finite", step, what)
        if in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise TrainingError(
                f"{in_a_row} steps in a row, up to step {step}, had no finite {what}: "
                f"lower the learning rate (lr = {self.config.lr}), use precision='fp32', or look for NaN in the data"
            )

    # --- curves -----------------------------------------------------------------------------------------------------

    def look(self, done: int) -> None:
        """Add points to the curves where they are due."""
        if self.team.first and due(done, self.steps, self.config.evaluate_every):
            self._evaluate(done)

    def _evaluate(self, done: int) -> None:
        since = self.curve[-1].step if self.curve else 0
        finite = [loss for loss in self.losses[since:done] if math.isfinite(loss)]
        points = [CurvePoint(done, "train", "loss", fmean(finite) if finite else math.nan)]
        values = {which: self._scored(which, done) for which in self.watched}
        points += [CurvePoint(done, w, self.task.metric, value) for w, value in values.items() if value is not None]
        self.curve += points
        if self.on_curve is not None:
            for point in points:
                self.on_curve(point)

    def _scored(self, which: str, done: int) -> float | None:
        """The metric of what is watched; None, a gap in the curve, if its evaluation raises."""
        try:
            return self.score(which)
        except Exception as error:  # of the user's task: training needs no curve, and a search records such failures
            message = " ".join(f"{type(error).__name__}: {error}".split())
            logger.warning("step %d: the curve has no point of %s, whose evaluation failed: %s", done, which, message)
            return None

    # --- checkpoints ------------------------------------------------------------------------------------------------

    def restore(self, found: Checkpoint) -> None:
        """Take over the state of a checkpoint."""
        self.trained.load_state_dict(under("weights.", found.tensors))
        self.optimizer.load_state_dict(under("optimizer.", found.tensors))
        self.plan.restore(under("plan.", found.tensors))
        self.average.restore(under("average.", found.tensors), self.trained.state_dict())
        if found.meta["frozen"] is not None:
            self.passes.frozen = Architecture.from_json(found.meta["frozen"])
            self.passes.teacher = self.trained.extract(self.passes.frozen).eval().requires_grad_(False)
            self.passes.teacher.load_state_dict(under("teacher.", found.tensors))
        self.heads.load_state_dict(under("head.", found.tensors))
        self.losses = found.tensors["losses"].tolist()
        self.curve = [CurvePoint(**point) for point in found.meta["curve"]]
        self.skipped.restore(found.meta)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that steps change."""
        parts = {
            "weights": self.trained.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "plan": self.plan.state(),
            "average": self.average.state(),
            "head": self.heads.state_dict(),
            "teacher": self.passes.frozen_state(),
        }
        named = {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}
        return {"losses": torch.tensor(self.losses, dtype=torch.float64), **named}

    def meta(self) -> dict[str, Any]:
        """Return as JSON what else they change."""
        frozen = self.passes.frozen
        return {
            "curve": [asdict(point) for point in self.curve],
            "frozen": None if frozen is None else frozen.json(),
            **self.skipped.meta(),
        }

    def settings(self) -> dict[str, Any]:
        """Return what must be equal to resume; how often the training is looked at or saved need not."""
        config = asdict(self.config) | {"precision": self.precision}
        del config["checkpoint_every"], config["evaluate_every"]
        return {
            **self.identity,
            "task": self.task.digest,
            "shapes": shapes(self.trained.state_dict()),
            "config": config,
        }
