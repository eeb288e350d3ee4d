"""The one training loop: supernets by any strategy, and single networks, which are supernets of one architecture.

The loop owns backward, precision, clipping, the learning rate, in-place distillation, curves, checkpoints and progress.
What happens in step k depends on the weights, the optimiser and (seed, k) alone: a training killed anywhere and started
again in the same directory goes on from its newest valid checkpoint and ends with the same bits as one never stopped.
(On a GPU as far as its kernels are deterministic.) Several processes may train together: see `supernets.teams`.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from itertools import repeat
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from search_spaces import Architecture, Space
from search_spaces.narrowing import Closed, narrowed
from supernets import calibrate, checkpoints
from supernets.averaging import Average
from supernets.errors import SupernetError
from supernets.features import FeatureHeads, listening
from supernets.learners import Alone, Learner
from supernets.occupied import occupied
from supernets.optim import OPTIMIZERS, OptimizerConfig
from supernets.progress import Interruption, reporting
from supernets.scaling import scaling
from supernets.spelling import spell
from supernets.strategies import Course, Distil, Feedback, Pass, Plan, Step, Strategy, strategy
from supernets.supernet import Supernet
from supernets.tasks import SamplingTask, Task, TeachingTask, evaluating, teaches, to_device
from supernets.tasks.batches import full_precision
from supernets.teams import ALONE, Part, Team
from supernets.views import digest

logger = logging.getLogger(__name__)

MAX_SKIPPED_IN_A_ROW = 20
NUM_RANDOM_WATCHED = 3
NUM_BATCHES_FOR_A_SCORE = 1
NUM_KEPT_MODULES = 8192  # of networks bound before, about 5 kB each


class TrainingError(SupernetError):
    """A setting that cannot be, or a training that came to nothing."""


# --- settings -----------------------------------------------------------------------------------------------------


def _cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))


SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": _cosine,
    "linear": lambda share: 1 - share,
    "constant": lambda share: 1.0,
}
"""From the share of the steps after warm-up, in [0, 1), to a factor of the learning rate."""

PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True)
class TrainingConfig:
    """How to train. Checked when it is made: TrainingError names the field, the value and what it may be."""

    steps: int = 2000
    """Optimiser steps; a step may sum the gradients of several architectures. 0 leaves the weights as they are."""
    optimizer: str = "adamw"
    """One of OPTIMIZERS."""
    lr: float = 3e-3
    """Highest learning rate."""
    weight_decay: float = 0.05
    warmup: float = 0.05
    """Share of the steps in which the learning rate grows linearly."""
    schedule: str = "cosine"
    """One of SCHEDULES: how the learning rate falls after warm-up."""
    scaling: str = "none"
    """One of SCALINGS: how the rate of a network that is trained alone follows its depth, kernels and connections; `lr`
    is that of the largest network. Supernets have one rate for all."""
    average: float = 0.0
    """Share of the steps, the last ones, over which the weights are averaged; the mean is what is left. 0: none."""
    clip: float = 1.0
    """Longest gradient; longer ones are scaled down to it. math.inf clips nothing."""
    precision: str = "auto"
    """fp32, bf16 (autocast; weights stay as they are), or auto: see `resolve_precision`."""
    strategy: str = "sandwich(distil=none)"
    """One of STRATEGIES, with settings where it has some: ``sandwich(num_random=1)``; single networks have none."""
    seed: int = 0
    """Of the order of architectures and data, and of dropout."""
    checkpoint_every: int = 500
    """Steps between checkpoints; 0: only at the end."""
    evaluate_every: int = 250
    """Steps between points of the curves; 0: only at the end."""

    def __post_init__(self) -> None:
        for name, known in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in known:
                raise TrainingError(f"{name} = {getattr(self, name)!r} is unknown: choose one of {', '.join(known)}")
        object.__setattr__(self, "strategy", spell(strategy(self.strategy)))  # one spelling, and an error early
        object.__setattr__(self, "scaling", spell(scaling(self.scaling)))
        for name, holds, rule in (
            ("steps", self.steps >= 0, "0 or more"),
            ("lr", 0 < self.lr < math.inf, "above 0 and finite, 3e-3 say"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more"),
            ("warmup", 0 <= self.warmup < 1, "a share of the steps, 0 or more and below 1"),
            ("average", 0 <= self.average <= 1, "a share of the steps, from 0 to 1; 0.25 say"),
            ("clip", self.clip > 0, "above 0; math.inf clips nothing"),
            ("seed", self.seed >= 0, "0 or more"),
            ("checkpoint_every", self.checkpoint_every >= 0, "0 (only at the end) or more"),
            ("evaluate_every", self.evaluate_every >= 0, "0 (only at the end) or more"),
        ):
            if not holds:
                raise TrainingError(f"{name} = {getattr(self, name)!r}: it must be {rule}")


def learning_rate(config: TrainingConfig, step: int) -> float:
    """The learning rate of step `step` of 0 ... steps - 1: linear warm-up, then the schedule; never 0."""
    warm = round(config.warmup * config.steps)
    if step < warm:
        return config.lr * (step + 1) / warm
    return config.lr * SCHEDULES[config.schedule]((step - warm) / (config.steps - warm))


def resolve_precision(precision: str, device: torch.device, module: nn.Module) -> str:
    """What "auto" means here: bf16 where it is native and pays, which on a CPU is for dense convolutions only: with
    depthwise ones a step took 2.7 times as long as in fp32.

    Modules whose parameters are not float32 keep their own precision.
    """
    if precision != "auto":
        return precision
    if any(parameter.dtype != torch.float32 for parameter in module.parameters()):
        return "fp32"
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    convolutions = [child for child in module.modules() if isinstance(child, nn.Conv2d | nn.Conv3d)]
    dense = bool(convolutions) and all(convolution.groups == 1 for convolution in convolutions)
    return "bf16" if device.type == "cpu" and native and dense else "fp32"


# --- what comes out -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The task's metric after `step` steps (or, of "train", the mean training loss since the last point)."""

    step: int
    which: str
    """Of a supernet "smallest", "random" or "largest", of a single module "network"; and of both "train"."""
    metric: str
    value: float


@dataclass(frozen=True)
class TrainingResult:
    """A finished training; the weights are in the supernet or the module that was trained."""

    steps: int
    losses: tuple[float, ...]
    """(steps,) loss of each step's first pass; of skipped steps what it was, finite or not."""
    curve: tuple[CurvePoint, ...]
    """Of the whole training, also of what was done before it was resumed."""
    skipped: int
    """Steps left out because a loss or a gradient was not finite."""
    precision: str
    resumed_from: int
    """The step of the checkpoint this run went on from; 0 where it began at the beginning."""
    rejected: tuple[str, ...]
    """Damaged checkpoints, and why."""
    seconds: float
    """Of this run."""
    closed: tuple[Closed, ...] = ()
    """Options that the strategy stopped training, and why: see `Strategy.narrows`."""

    def final(self, which: str) -> float:
        """The last value of one curve."""
        return next(point.value for point in reversed(self.curve) if point.which == which)


OnCurve = Callable[[CurvePoint], None]


def train(
    supernet: Supernet,
    task: Task,
    config: TrainingConfig | None = None,
    *,
    space: Space | None = None,
    directory: Path | str | None = None,
    on_curve: OnCurve | None = None,
    progress: bool = True,
    method: Strategy | None = None,
    teacher: nn.Module | None = None,
    origin: str = "",
    team: Team = ALONE,
) -> TrainingResult:
    """Train the shared weights, in place.

    Args:
        space: train only this narrower space; None is the supernet's.
        directory: for checkpoints; a training that was begun there with the same settings goes on. None writes none.
        on_curve: told each new point of the curves; after a kill, points since the last checkpoint come again, equal.
        progress: a bar on a terminal, log lines elsewhere.
        method: a strategy of one's own in place of the one that `config.strategy` names.
        teacher: a network to distil from, for strategies with a frozen teacher; they freeze none of their own then.
        origin: names what the weights begin as; a training that began otherwise does not go on.
        team: who trains together. The first has the directory, curve and progress, the others need none of these: they
            begin with its weights, and end with the same.

    Raises:
        TrainingError: too many steps in a row had no finite loss or gradient, or the task lacks what a strategy needs.
        CheckpointError: the directory holds the checkpoints of another training.
        TeamError: the task cannot be shared; LostError, which is one: another of the team is gone.
    """
    config = config or TrainingConfig()
    space = space or supernet.space
    chosen = method or strategy(config.strategy)
    chosen.check(task)

    def look(which: str, closed: Sequence[Closed] = ()) -> float:
        archs = WATCHED[which](narrowed(space, closed), config.seed)
        return fmean(calibrate.evaluate(supernet, arch, task)[task.metric] for arch in archs)

    if config.steps == 0:
        return _untrained(config, task, look, on_curve)

    def rate(step: int) -> float:
        return learning_rate(config, step) / config.lr

    largest = supernet.subnet(space.largest())
    if teaches(task):
        task.check(largest)
    course = Course(space, config.seed, config.steps, rate, supernet, task, teacher is not None)
    plan = supernet.weights.accompany(chosen.plan(course), course)
    loop = _Loop(
        learner=supernet,
        task=task,
        config=config,
        precision=resolve_precision(config.precision, supernet.device, largest),
        plan=plan,
        largest=space.largest(),
        watched=tuple(WATCHED),
        look=lambda which: look(which, plan.closed),
        identity={
            "space": space.digest,
            "sharing": spell(supernet.sharing),
            "method": "" if method is None else spell(method),
            "teacher": "" if teacher is None else digest(teacher.state_dict().items()),
            "origin": origin,
        },
        on_curve=on_curve,
        teacher=None if teacher is None else teacher.to(supernet.device).eval().requires_grad_(False),
        team=team,
    )
    return loop.run(directory, "supernet", progress)


def _untrained(
    config: TrainingConfig,
    task: Task,
    look: Callable[[str], float],
    on_curve: OnCurve | None,
) -> TrainingResult:
    """What a training of no steps comes to: the curves have one point, and there is nothing to keep."""
    curve = tuple(CurvePoint(0, which, task.metric, look(which)) for which in WATCHED)
    if on_curve is not None:
        for point in curve:
            on_curve(point)
    return TrainingResult(0, (), curve, 0, config.precision, 0, (), 0.0)


def train_network(
    module: nn.Module,
    task: Task,
    config: TrainingConfig | None = None,
    *,
    directory: Path | str | None = None,
    on_curve: OnCurve | None = None,
    progress: bool = True,
) -> TrainingResult:
    """Train or fine-tune one ordinary module, in place and by the same loop; it is left in eval mode.

    Arguments and errors are those of `train`.
    """
    config = config or TrainingConfig()
    alone = Alone(module)
    loop = _Loop(
        learner=alone,
        task=task,
        config=config,
        precision=resolve_precision(config.precision, alone.device, module),
        plan=_Itself(),
        watched=("network",),
        look=lambda which: task.evaluate(module.eval())[task.metric],
        identity={},
        on_curve=on_curve,
        settle=lambda: calibrate.recalibrate(module, task.calibration(calibrate.NUM_BATCHES)),
    )
    result = loop.run(directory, "network", progress)
    module.eval()
    return result


# --- the loop -----------------------------------------------------------------------------------------------------


class _Itself(Plan):
    """The same network in every step."""

    def step(self, index: int) -> Step:
        return Step((Pass(Alone.arch),))


@dataclass(frozen=True)
class _Said:
    """What a network makes of a batch; its features where they are wanted."""

    outputs: Tensor
    features: Tensor | None
    imitation: Tensor | None = None  # what its layers are to learn of a task's parent

    def detach(self) -> _Said:
        return _Said(self.outputs.detach(), None if self.features is None else self.features.detach())


@dataclass(frozen=True)
class _Ran:
    """A pass that was run: what feedback is measured on."""

    network: nn.Module
    outputs: Tensor
    batch: Any
    loss: Tensor


@dataclass
class _Loop:
    """One training, from its newest checkpoint to its end."""

    learner: Learner
    task: Task
    config: TrainingConfig
    precision: str
    plan: Plan
    watched: tuple[str, ...]
    look: Callable[[str], float]
    identity: dict[str, str]
    on_curve: OnCurve | None
    settle: Callable[[], object] = lambda: None  # batch norm after weights were averaged; supernets calibrate anyway
    largest: Architecture = Alone.arch
    teacher: nn.Module | None = None
    team: Team = ALONE
    frozen: Architecture | None = None  # of which the teacher is a copy, where a step froze one
    losses: list[float] = field(default_factory=list)
    curve: list[CurvePoint] = field(default_factory=list)
    skipped: int = 0
    skipped_in_a_row: int = 0

    def __post_init__(self) -> None:
        config = self.config
        self.rule = OptimizerConfig(config.optimizer, config.lr, config.weight_decay)
        self.optimizer = self.learner.optimizer(self.rule)
        self.networks = _Networks(self.learner)
        self.average = Average(config.average, config.steps)
        self.heads = FeatureHeads(self.learner.device, self.rule, config.seed)  # made when a step first asks for them

    def run(self, directory: Path | str | None, title: str, progress: bool) -> TrainingResult:
        with nullcontext() if directory is None else occupied(directory):
            return self._run(directory, title, progress)

    def _run(self, directory: Path | str | None, title: str, progress: bool) -> TrainingResult:
        began = time.monotonic()
        start, rejected = (0, []) if directory is None else self._resume(directory)
        start = self._begin_together(start)
        with (
            self.team.complete(),
            _own_random_numbers(),
            Interruption() as interruption,
            reporting(f"training {title}", start, self.config.steps, wanted=progress) as report,
        ):
            for index in range(start, self.config.steps):
                self._step(index, self.plan.step(index))
                self.average.observe(index, self.learner.state_dict())
                done = index + 1
                if done == self.config.steps and self.average:
                    self._take_average()
                report(done, self.losses[-1])
                if self.team.first and self._due(done, self.config.evaluate_every):
                    self._evaluate(done)
                leaving = interruption.signal is not None
                if directory is not None and (leaving or self._due(done, self.config.checkpoint_every)):
                    checkpoints.write(directory, done, self._tensors(), self._meta())
                if leaving:
                    interruption.leave()
        return TrainingResult(
            steps=self.config.steps,
            losses=tuple(self.losses),
            curve=tuple(self.curve),
            skipped=self.skipped,
            precision=self.precision,
            resumed_from=start,
            rejected=tuple(rejected),
            seconds=time.monotonic() - began,
            closed=self.plan.closed,
        )

    def _take_average(self) -> None:
        """The mean becomes the weights, and is forgotten: the last checkpoint need not hold it twice."""
        self.learner.load_state_dict(self.average.means(self.learner.state_dict()))
        self.average = Average(0.0, self.config.steps)
        self.settle()

    def _due(self, done: int, every: int) -> bool:
        return done == self.config.steps or (every > 0 and done % every == 0)

    def _step(self, index: int, step: Step) -> None:
        """Sum the gradients of the passes and step once; leave everything as it was where they are not finite."""
        stream = [self.config.seed, index, 2, *([self.team.rank] if self.team.rank else [])]  # each drops its own
        torch.manual_seed(int(np.random.SeedSequence(stream).generate_state(1)[0]))
        if step.freeze is not None and (self.teacher is None or self.frozen is not None):
            self._freeze(step.freeze)
        for name, parent in step.inherit:
            self.optimizer.inherit(name, parent)
        networks = [self.networks.at(one.arch, one.route) for one in step.passes]
        statistics = _batch_norm_buffers(networks)
        ran = self._backward(index, step, networks)
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
        if finite:
            self.skipped_in_a_row = 0
        else:
            self.heads.forget()
            for buffer, before in statistics:
                buffer.copy_(before)
            self._skip(index, losses)
        outputs = tuple(self._output_gradients(one, step) for one in ran) if "outputs" in step.watch else ()
        valid = self._valid(index, step, networks) if "valid" in step.watch else ()
        self.plan.observe(Feedback(index, step, tuple(losses), finite, gradients, outputs, valid))

    def _freeze(self, arch: Architecture) -> None:
        teacher = self.learner.extract(arch)
        calibrate.recalibrate(teacher, self.task.calibration(calibrate.NUM_BATCHES))
        self.teacher, self.frozen = teacher.requires_grad_(False), arch

    def _parts(self, index: int, step: Step) -> Iterator[Part]:
        """One's own part of the batch of each pass."""
        seed = self.config.seed
        if step.examples is not None:
            yield from repeat(self._part(self._capable("select").select(step.examples, index, seed)))
        elif step.batches == "shared":
            yield from repeat(self._part(self.task.batch(index, seed)))
        else:
            first = index * len(step.passes)
            yield from (self._part(self.task.batch(first + i, seed)) for i in range(len(step.passes)))

    def _part(self, batch: Any) -> Part:
        part = self.team.part(batch, self.task)
        return replace(part, batch=to_device(part.batch, self.learner.device))

    def _backward(self, index: int, step: Step, networks: list[nn.Module]) -> list[_Ran]:
        """What each pass gave, detached; gradients are left where the learner's optimiser finds them."""
        first: _Said | None = None
        ran = []
        deep = any(one.distil is not None and one.distil.what == "features" for one in step.passes)
        for one, network, part in zip(step.passes, networks, self._parts(index, step), strict=False):
            with (
                torch.autocast(self.learner.device.type, torch.bfloat16, enabled=self.precision == "bf16"),
                self.team.normalising(network),
            ):
                said = self._say(network, part.batch, deep, learns=one.task > 0)
                loss = self._loss(one, said, part, first, step.example_weights)
            first = said.detach() if first is None else first
            (loss * one.weight).backward()  # type: ignore[no-untyped-call]
            ran.append(_Ran(network, said.outputs.detach(), part.batch, full_precision(loss.detach())))
        return ran

    def _say(self, network: nn.Module, batch: Any, deep: bool, learns: bool = False) -> _Said:
        if not deep:
            return _Said(*self._outputs(network, batch, learns))
        with listening(network) as heard:
            outputs, _, imitation = self._outputs(network, batch, learns)
            return _Said(outputs, heard.features(), imitation)

    def _outputs(self, network: nn.Module, batch: Any, learns: bool) -> tuple[Tensor, None, Tensor | None]:
        if not learns or not teaches(self.task):
            return self.task.outputs(network, batch), None, None
        outputs, imitation = self.task.taught(network, batch, self._projection(self.task, batch))
        return outputs, None, imitation

    def _projection(self, task: TeachingTask, batch: Any) -> Callable[[str, Tensor, Tensor], Tensor]:
        """Maps to a parent's width; the first to be asked for makes all of them, as wide as the largest network's."""

        def project(name: str, own: Tensor, taught: Tensor) -> Tensor:
            if name not in self.heads:
                network = self.learner.subnet(self.largest)
                with evaluating(network):
                    widths = task.widths(network, batch)
                for layer, (widest, target) in widths.items():
                    self.heads.add(layer, widest, target)
            return self.heads(name, own, taught)

        return project

    def _loss(
        self, one: Pass, said: _Said, part: Part, first: _Said | None, weights: tuple[float, ...] | None
    ) -> Tensor:
        """Of one's own part of the batch; those of all parts add up to that of the batch."""
        terms = []
        if one.task and weights is None:
            terms.append(part.share * one.task * self.task.loss(said.outputs, part.batch))
        elif one.task and weights is not None:
            terms.append(part.examples * one.task * self._weighted(said.outputs, part.batch, weights))
        if said.imitation is not None:
            terms.append(part.examples * one.task * said.imitation)
        if one.distil is not None:
            terms.append(part.examples * one.distil.weight * self._imitation(one.distil, said, part.batch, first))
        if not terms:
            raise TrainingError(f"a pass of {one.arch.json()} has no loss: give it the task's or something to distil")
        return sum(terms[1:], terms[0])

    def _weighted(self, outputs: Tensor, batch: Any, weights: tuple[float, ...]) -> Tensor:
        """The mean over examples of their losses times their weights, which are those of the whole batch."""
        losses = self._capable("losses").losses(outputs, batch)
        own = weights[self.team.own(len(weights))]
        return (losses * torch.tensor(own, dtype=losses.dtype, device=losses.device)).mean()

    def _imitation(self, distil: Distil, said: _Said, batch: Any, first: _Said | None) -> Tensor:
        taught = self._taught(distil, batch, first)
        if distil.what == "outputs":
            return distil.loss(said.outputs, taught.outputs)
        assert said.features is not None and taught.features is not None
        if "" not in self.heads:
            network = self.learner.subnet(self.largest)
            with evaluating(network):
                widest = self._say(network, batch, deep=True).features
            assert widest is not None
            self.heads.add("", widest, taught.features)
        return distil.loss(self.heads("", said.features, taught.features), taught.features)

    def _taught(self, distil: Distil, batch: Any, first: _Said | None) -> _Said:
        """What the teacher makes of the batch."""
        if distil.teacher == "first":
            if first is None:
                raise TrainingError("the first pass of a step distils from itself: let it learn the task")
            return first
        if self.teacher is None:
            raise TrainingError("a step distils from a frozen teacher before there is one: let a step freeze it")
        with torch.no_grad():
            return self._say(self.teacher, batch, distil.what == "features")

    def _output_gradients(self, ran: _Ran, step: Step) -> npt.NDArray[np.float64]:
        outputs = ran.outputs.requires_grad_()
        with torch.enable_grad():
            losses = self._capable("losses").losses(outputs, ran.batch)
            (gradient,) = torch.autograd.grad(losses.sum(), outputs)
        norms: npt.NDArray[np.float64] = gradient.reshape(len(losses), -1).double().norm(dim=1).cpu().numpy()
        return self.team.joined(norms, self.task.batch_size if step.examples is None else len(step.examples))

    def _valid(self, index: int, step: Step, networks: list[nn.Module]) -> tuple[float, ...]:
        return tuple(self._score(index, one, network) for one, network in zip(step.passes, networks, strict=True))

    def _score(self, index: int, one: Pass, network: nn.Module) -> float:
        if calibrate.has_batch_norm(network):  # the shared statistics are of whatever networks and models ran last
            network = self.learner.subnet(one.arch, one.route)
            network = calibrate.recalibrate(network, self.task.calibration(NUM_BATCHES_FOR_A_SCORE))
        return self._capable("score").score(network, index, self.config.seed)

    def _capable(self, method: str) -> SamplingTask:
        if not hasattr(self.task, method):
            raise TrainingError(
                f"the task {self.task.name!r} has no {method}(), which this strategy or sharing needs: "
                "see supernets.tasks.SamplingTask, or choose another"
            )
        return cast(SamplingTask, self.task)

    def _skip(self, step: int, losses: list[float]) -> None:
        self.skipped += 1
        self.skipped_in_a_row += 1
        what = "gradient" if all(math.isfinite(loss) for loss in losses) else "loss"
        logger.warning("step %d is left out: its %s is not finite", step, what)
        if self.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise TrainingError(
                f"{self.skipped_in_a_row} steps in a row, up to step {step}, had no finite {what}: "
                f"lower the learning rate (lr = {self.config.lr}), use precision='fp32', or look for NaN in the data"
            )

    def _evaluate(self, done: int) -> None:
        since = self.curve[-1].step if self.curve else 0
        finite = [loss for loss in self.losses[since:done] if math.isfinite(loss)]
        points = [CurvePoint(done, "train", "loss", fmean(finite) if finite else math.nan)]
        values = {which: self._looked(which, done) for which in self.watched}
        points += [CurvePoint(done, w, self.task.metric, value) for w, value in values.items() if value is not None]
        self.curve += points
        if self.on_curve is not None:
            for point in points:
                self.on_curve(point)

    def _looked(self, which: str, done: int) -> float | None:
        """The metric of what is watched; None, a gap in the curve, where its evaluation raises."""
        try:
            return self.look(which)
        except Exception as error:  # of the user's task: training needs no curve, and a search records such failures
            message = " ".join(f"{type(error).__name__}: {error}".split())
            logger.warning("step %d: the curve has no point of %s, whose evaluation failed: %s", done, which, message)
            return None

    # --- checkpoints -----------------------------------------------------------------------------------------------

    def _begin_together(self, start: int) -> int:
        """Lets all of a team begin as the first does; the step they begin with."""
        if self.team.alone:
            return start
        if self.team.first and start < self.config.steps:
            batch = to_device(self.task.batch(start, self.config.seed), self.learner.device)
            self.team.check(self.learner.subnet(self.largest), self.task, batch)
        with self.team.complete():
            found = self.team.hand_out(self._tensors(), self._meta(), start)
        if not self.team.first:
            self._restore("the first training worker", found)
        return found.step

    def _resume(self, directory: Path | str) -> tuple[int, list[str]]:
        found = checkpoints.newest(directory)
        for line in found.rejected:
            logger.warning("%s", line)
        if found.step > 0:
            with checkpoints.restoring(directory, found):
                self._restore(directory, found)
            if found.step < self.config.steps:
                logger.info("going on from step %d of %s", found.step, directory)
        return found.step, found.rejected

    def _restore(self, directory: Path | str, found: checkpoints.Checkpoint) -> None:
        checkpoints.require_same(directory, found.meta["settings"], self._settings())
        self.learner.load_state_dict(_under("weights.", found.tensors))
        self.optimizer.load_state_dict(_under("optimizer.", found.tensors))
        self.plan.restore(_under("plan.", found.tensors))
        self.average.restore(_under("average.", found.tensors), self.learner.state_dict())
        if found.meta["frozen"] is not None:
            self.frozen = Architecture.from_json(found.meta["frozen"])
            self.teacher = self.learner.extract(self.frozen).eval().requires_grad_(False)
            self.teacher.load_state_dict(_under("teacher.", found.tensors))
        self.heads.load_state_dict(_under("head.", found.tensors))
        self.losses = found.tensors["losses"].tolist()
        self.curve = [CurvePoint(**point) for point in found.meta["curve"]]
        self.skipped, self.skipped_in_a_row = found.meta["skipped"], found.meta["skipped_in_a_row"]

    def _tensors(self) -> dict[str, Tensor]:
        return {
            "losses": torch.tensor(self.losses, dtype=torch.float64),
            **{f"weights.{name}": tensor for name, tensor in self.learner.state_dict().items()},
            **{f"optimizer.{name}": tensor for name, tensor in self.optimizer.state_dict().items()},
            **{f"plan.{name}": tensor for name, tensor in self.plan.state().items()},
            **{f"average.{name}": tensor for name, tensor in self.average.state().items()},
            **{f"head.{name}": tensor for name, tensor in self.heads.state_dict().items()},
            **self._teachers_tensors(),
        }

    def _teachers_tensors(self) -> dict[str, Tensor]:
        if self.frozen is None or self.teacher is None:
            return {}
        return {f"teacher.{name}": tensor for name, tensor in self.teacher.state_dict().items()}

    def _meta(self) -> dict[str, Any]:
        return {
            "settings": self._settings(),
            "curve": [asdict(point) for point in self.curve],
            "frozen": None if self.frozen is None else self.frozen.json(),
            "skipped": self.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
        }

    def _settings(self) -> dict[str, Any]:
        """What must be equal for a training to go on; how often it is looked at need not."""
        config = asdict(self.config) | {"precision": self.precision}
        del config["checkpoint_every"], config["evaluate_every"]
        shapes = "".join(f"{name}{tuple(t.shape)}{t.dtype}\n" for name, t in sorted(self.learner.state_dict().items()))
        return {
            **self.identity,
            "task": self.task.digest,
            "shapes": hashlib.sha256(shapes.encode()).hexdigest()[:16],
            "config": config,
        }


class _Networks:
    """Networks in training mode; the last ones are kept, for some come again in every step."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._kept: OrderedDict[tuple[Architecture, int], tuple[nn.Module, int]] = OrderedDict()
        self._modules = 0

    def at(self, arch: Architecture, route: int | None) -> nn.Module:
        key = arch, self._learner.route(arch) if route is None else route
        network, size = self._kept.pop(key, (None, 0))
        if network is None:
            network = self._learner.subnet(*key)
            size = sum(1 for _ in network.modules())
            self._modules += size
        self._kept[key] = network, size
        while self._modules > NUM_KEPT_MODULES and len(self._kept) > 1:
            _, (_, dropped) = self._kept.popitem(last=False)
            self._modules -= dropped
        return network.train()


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _watched_sample(space: Space, seed: int) -> list[Architecture]:
    # three numbers: no step of a strategy draws from this stream
    rng = np.random.default_rng([seed, 0, 1])
    return [space.sample(rng) for _ in range(NUM_RANDOM_WATCHED)]


WATCHED: Mapping[str, Callable[[Space, int], list[Architecture]]] = {
    "smallest": lambda space, seed: [space.smallest()],
    "random": _watched_sample,
    "largest": lambda space, seed: [space.largest()],
}
"""Curves of a supernet: from the space that is trained, and a seed, to the networks whose mean is drawn."""


def _batch_norm_buffers(networks: list[nn.Module]) -> list[tuple[Tensor, Tensor]]:
    """Running statistics and their values now, so that a step which is skipped leaves no NaN in them."""
    return [
        (buffer, buffer.clone())
        for network in networks
        if calibrate.has_batch_norm(network)
        for buffer in network.buffers()
    ]


@contextmanager
def _own_random_numbers() -> Iterator[None]:
    """torch's global generators inside are the training's; the caller's come back as they were."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices=devices):
        yield
