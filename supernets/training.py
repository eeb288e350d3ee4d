"""The one training loop: supernets by any strategy, and single networks, which are supernets of one architecture.

The loop owns backward, precision, clipping, the learning rate, in-place distillation, curves, checkpoints and progress.
What happens in step k depends on the weights, the optimiser and (seed, k) alone: a training killed anywhere and started
again in the same directory goes on from its newest valid checkpoint and ends with the same bits as one never stopped.
(On a GPU as far as its kernels are deterministic.)
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import repeat
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from search_spaces import Architecture, Space
from supernets import calibrate, checkpoints
from supernets.errors import SupernetError
from supernets.learners import Alone, Learner
from supernets.optim import OPTIMIZERS, OptimizerConfig
from supernets.progress import Interruption, reporting
from supernets.strategies import STRATEGIES, Pass, Step, Strategy, strategy
from supernets.supernet import Supernet
from supernets.tasks import Task

logger = logging.getLogger(__name__)

MAX_SKIPPED_IN_A_ROW = 20
NUM_RANDOM_WATCHED = 3
NUM_KEPT_NETWORKS = 4


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
    """Optimiser steps; a step may sum the gradients of several architectures."""
    optimizer: str = "adamw"
    """One of OPTIMIZERS."""
    lr: float = 3e-3
    """Highest learning rate."""
    weight_decay: float = 0.05
    warmup: float = 0.05
    """Share of the steps in which the learning rate grows linearly."""
    schedule: str = "cosine"
    """One of SCHEDULES: how the learning rate falls after warm-up."""
    clip: float = 1.0
    """Longest gradient; longer ones are scaled down to it. math.inf clips nothing."""
    precision: str = "auto"
    """fp32, bf16 (autocast; weights stay as they are), or auto: see `resolve_precision`."""
    strategy: str = "sandwich"
    """One of STRATEGIES; single networks have none."""
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
            ("strategy", STRATEGIES),
        ):
            if getattr(self, name) not in known:
                raise TrainingError(f"{name} = {getattr(self, name)!r} is unknown: choose one of {', '.join(known)}")
        for name, holds, rule in (
            ("steps", self.steps >= 1, "at least 1"),
            ("lr", 0 < self.lr < math.inf, "above 0 and finite, 3e-3 say"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more"),
            ("warmup", 0 <= self.warmup < 1, "a share of the steps, 0 or more and below 1"),
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
    plan: Strategy | None = None,
) -> TrainingResult:
    """Train the shared weights, in place.

    Args:
        space: train only this narrower space; None is the supernet's.
        directory: for checkpoints; a training that was begun there with the same settings goes on. None writes none.
        on_curve: told each new point of the curves; after a kill, points since the last checkpoint come again, equal.
        progress: a bar on a terminal, log lines elsewhere.
        plan: a strategy of one's own in place of the one that `config.strategy` names.

    Raises:
        TrainingError: too many steps in a row had no finite loss or gradient.
        CheckpointError: the directory holds the checkpoints of another training.
    """
    config = config or TrainingConfig()
    space = space or supernet.space
    watched = {
        "smallest": [space.smallest()],
        "random": _watched_sample(space, config.seed),
        "largest": [space.largest()],
    }

    def look(which: str) -> float:
        return fmean(calibrate.evaluate(supernet, arch, task)[task.metric] for arch in watched[which])

    loop = _Loop(
        learner=supernet,
        task=task,
        config=config,
        precision=resolve_precision(config.precision, supernet.device, supernet.subnet(space.largest())),
        plan=lambda start: (plan or strategy(config.strategy))(space, config.seed, start),
        watched=tuple(watched),
        look=look,
        identity={
            "space": space.digest,
            "sharing": supernet.sharing.name,
            "plan": "" if plan is None else getattr(plan, "__qualname__", type(plan).__qualname__),
        },
        on_curve=on_curve,
    )
    return loop.run(directory, "supernet", progress)


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
        plan=lambda start: repeat((Pass(Alone.arch),)),
        watched=("network",),
        look=lambda which: task.evaluate(module.eval())[task.metric],
        identity={},
        on_curve=on_curve,
    )
    result = loop.run(directory, "network", progress)
    module.eval()
    return result


# --- the loop -----------------------------------------------------------------------------------------------------


def distillation_loss(outputs: Tensor, teacher: Tensor) -> Tensor:
    """Mean over all but the last axis of -sum(softmax(teacher) log_softmax(outputs)); logits (..., classes)."""
    target = teacher.detach().float().softmax(-1)
    return -(target * outputs.float().log_softmax(-1)).sum(-1).mean()


@dataclass
class _Loop:
    """One training, from its newest checkpoint to its end."""

    learner: Learner
    task: Task
    config: TrainingConfig
    precision: str
    plan: Callable[[int], Iterator[Step]]
    watched: tuple[str, ...]
    look: Callable[[str], float]
    identity: dict[str, str]
    on_curve: OnCurve | None
    losses: list[float] = field(default_factory=list)
    curve: list[CurvePoint] = field(default_factory=list)
    skipped: int = 0
    skipped_in_a_row: int = 0

    def __post_init__(self) -> None:
        config = self.config
        self.optimizer = self.learner.optimizer(OptimizerConfig(config.optimizer, config.lr, config.weight_decay))
        self.networks: OrderedDict[Architecture, nn.Module] = OrderedDict()

    def run(self, directory: Path | str | None, title: str, progress: bool) -> TrainingResult:
        began = time.monotonic()
        start, rejected = (0, []) if directory is None else self._resume(directory)
        steps = self.plan(start)
        with (
            _own_random_numbers(),
            Interruption() as interruption,
            reporting(f"training {title}", start, self.config.steps, wanted=progress) as report,
        ):
            for step in range(start, self.config.steps):
                self._step(step, next(steps))
                done = step + 1
                report(done, self.losses[-1])
                if self._due(done, self.config.evaluate_every):
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
        )

    def _due(self, done: int, every: int) -> bool:
        return done == self.config.steps or (every > 0 and done % every == 0)

    def _step(self, step: int, passes: Step) -> None:
        """Sum the gradients of the passes and step once; leave everything as it was where they are not finite."""
        torch.manual_seed(int(np.random.SeedSequence([self.config.seed, step, 2]).generate_state(1)[0]))
        batch = _to_device(self.task.batch(step, self.config.seed), self.learner.device)
        networks = [self._network(one.arch) for one in passes]
        statistics = _batch_norm_buffers(networks)
        losses = torch.stack(self._backward(passes, networks, batch)).tolist()
        self.losses.append(losses[0])
        if all(math.isfinite(loss) for loss in losses):
            norm = self.optimizer.step(lr=learning_rate(self.config, step), clip=self.config.clip)
        else:
            self.optimizer.zero_grad()
            norm = math.nan
        if math.isfinite(norm):
            self.skipped_in_a_row = 0
        else:
            for buffer, before in statistics:
                buffer.copy_(before)
            self._skip(step, losses)

    def _backward(self, passes: Step, networks: list[nn.Module], batch: Any) -> list[Tensor]:
        """The detached loss of each pass; gradients are left where the learner's optimiser finds them."""
        teacher: Tensor | None = None
        losses = []
        for one, network in zip(passes, networks, strict=True):
            with torch.autocast(self.learner.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                outputs = self.task.outputs(network, batch)
                if not one.distil:
                    loss = self.task.loss(outputs, batch)
                elif teacher is None:
                    raise TrainingError("the first pass of a step distils: from nothing; let it learn the task")
                else:
                    loss = distillation_loss(outputs, teacher)
            if teacher is None:
                teacher = outputs.detach()
            (loss * one.weight).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach().float())
        return losses

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

    def _network(self, arch: Architecture) -> nn.Module:
        """The network in training mode; the last few are kept, for largest and smallest come again every step."""
        network = self.networks.pop(arch, None)
        if network is None:
            network = self.learner.subnet(arch)
        if all(parameter.is_leaf for parameter in network.parameters()):  # else computed: good for one backward only
            self.networks[arch] = network
            if len(self.networks) > NUM_KEPT_NETWORKS:
                self.networks.popitem(last=False)
        return network.train()

    def _evaluate(self, done: int) -> None:
        since = self.curve[-1].step if self.curve else 0
        finite = [loss for loss in self.losses[since:done] if math.isfinite(loss)]
        points = [CurvePoint(done, "train", "loss", fmean(finite) if finite else math.nan)]
        points += [CurvePoint(done, which, self.task.metric, self.look(which)) for which in self.watched]
        self.curve += points
        if self.on_curve is not None:
            for point in points:
                self.on_curve(point)

    # --- checkpoints -----------------------------------------------------------------------------------------------

    def _resume(self, directory: Path | str) -> tuple[int, list[str]]:
        found = checkpoints.newest(directory)
        for line in found.rejected:
            logger.warning("%s", line)
        if found.step > 0:
            checkpoints.require_same(directory, found.meta["settings"], self._settings())
            self.learner.load_state_dict(_under("weights.", found.tensors))
            self.optimizer.load_state_dict(_under("optimizer.", found.tensors))
            self.losses = found.tensors["losses"].tolist()
            self.curve = [CurvePoint(**point) for point in found.meta["curve"]]
            self.skipped, self.skipped_in_a_row = found.meta["skipped"], found.meta["skipped_in_a_row"]
            if found.step < self.config.steps:
                logger.info("going on from step %d of %s", found.step, directory)
        return found.step, found.rejected

    def _tensors(self) -> dict[str, Tensor]:
        return {
            "losses": torch.tensor(self.losses, dtype=torch.float64),
            **{f"weights.{name}": tensor for name, tensor in self.learner.state_dict().items()},
            **{f"optimizer.{name}": tensor for name, tensor in self.optimizer.state_dict().items()},
        }

    def _meta(self) -> dict[str, Any]:
        return {
            "settings": self._settings(),
            "curve": [asdict(point) for point in self.curve],
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


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _watched_sample(space: Space, seed: int) -> list[Architecture]:
    # three numbers: no step of a strategy draws from this stream
    rng = np.random.default_rng([seed, 0, 1])
    return [space.sample(rng) for _ in range(NUM_RANDOM_WATCHED)]


def _batch_norm_buffers(networks: list[nn.Module]) -> list[tuple[Tensor, Tensor]]:
    """Running statistics and their values now, so that a step which is skipped leaves no NaN in them."""
    return [
        (buffer, buffer.clone())
        for network in networks
        if calibrate.has_batch_norm(network)
        for buffer in network.buffers()
    ]


Value = TypeVar("Value")


def _to_device(value: Value, device: torch.device) -> Value:
    """A tensor, or tensors in (named) tuples, lists and dicts, on the device."""
    moved: Any = value
    if isinstance(value, Tensor):
        moved = value.to(device, non_blocking=True)
    elif isinstance(value, tuple) and hasattr(value, "_make"):
        moved = value._make(_to_device(item, device) for item in value)
    elif isinstance(value, tuple | list):
        moved = type(value)(_to_device(item, device) for item in value)
    elif isinstance(value, dict):
        moved = {key: _to_device(item, device) for key, item in value.items()}
    return moved  # type: ignore[no-any-return]


@contextmanager
def _own_random_numbers() -> Iterator[None]:
    """torch's global generators inside are the training's; the caller's come back as they were."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices=devices):
        yield
