"""Quick measures of an architecture's own network: a short stand-alone training, and a test of its gradients.

Both are functions of an architecture, for hurdles and measures of a run; see EvoNorm (arXiv:2004.02967, section 4).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from search_spaces import Architecture, Space
from supernets import calibrate
from supernets.errors import SupernetError
from supernets.scaled import initialised, scaled_in
from supernets.scaling import Unscaled, scaling
from supernets.skeleton import Build, build_initialised
from supernets.tasks import Task, to_device
from supernets.training import TrainingConfig, TrainingError, train_network

logger = logging.getLogger(__name__)


class TrainedAlone:
    """The task's metric after a short training of the architecture's own network; infinity if the training fails.

    Args:
        config: settings of the training, which writes neither curves nor checkpoints.
        space: the space whose largest network is the reference for the rates of `config.scaling`.

    Raises:
        SupernetError: `config.scaling` scales rates, but no space is given.
    """

    def __init__(
        self, build: Build, task: Task, config: TrainingConfig, split: str = "valid", space: Space | None = None
    ) -> None:
        if space is None and not isinstance(scaling(config.scaling), Unscaled):
            raise SupernetError(
                f"scaling = {config.scaling!r} gives rates relative to those of a space's largest network: give "
                "TrainedAlone(..., space=space), or leave scaling out"
            )
        self.build = build
        self.space = space
        self.task = task
        self.config = replace(config, evaluate_every=0, checkpoint_every=0)
        self.split = split

    def __call__(self, arch: Architecture) -> float:
        example = self.task.example(2)
        module = initialised(self.build, arch, self.config, example)
        config = scaled_in(self.config, module, self.space, self.build, example) if self.space else self.config
        try:
            train_network(module, self.task, config, progress=False)
        except TrainingError as error:
            logger.info("%s trained alone: %s", arch.digest, error)
            return math.inf
        calibrate.recalibrate(module, self.task.calibration(calibrate.NUM_BATCHES))
        return self.task.evaluate(module, self.split)[self.task.metric]


class Pushed:
    """The largest gradient norm of an untrained network while its weights ascend the gradient norm.

    Each step moves all weights along the gradient of the norm of the loss's gradient, by a share of the weights' norm.
    Returns infinity if a value on the way is not finite. This reveals untrainable layers before any training.

    Args:
        steps: number of ascent steps, at least 1.
        share: length of a step, relative to the norm of all weights.
    """

    def __init__(self, build: Build, task: Task, steps: int = 20, share: float = 0.05, seed: int = 0) -> None:
        if steps < 1 or not 0 < share < math.inf:
            raise SupernetError(f"steps = {steps} and share = {share}: give 1 step or more, and a share above 0")
        self.build, self.task, self.steps, self.share, self.seed = build, task, steps, share, seed

    def __call__(self, arch: Architecture) -> float:
        module = build_initialised(self.build, arch, self.seed).train()
        device = next(module.parameters()).device
        batch = to_device(self.task.batch(0, self.seed), device)
        weights = [parameter for parameter in module.parameters() if parameter.requires_grad]
        largest = 0.0
        for _ in range(self.steps):
            gradient = self._gradient(module, batch, weights)
            length = float(gradient.detach())
            if not math.isfinite(length):
                return math.inf
            largest = max(largest, length)
            if not gradient.requires_grad or not self._push(gradient, weights):
                break  # no weight changes the gradient any more
        return largest

    def _gradient(self, module: nn.Module, batch: object, weights: Sequence[Tensor]) -> Tensor:
        loss = self.task.loss(self.task.outputs(module, batch), batch)
        found = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
        return _norm(found)

    def _push(self, gradient: Tensor, weights: Sequence[Tensor]) -> bool:
        ascent = torch.autograd.grad(gradient, weights, allow_unused=True)
        length = float(_norm(ascent).detach())
        if not 0 < length < math.inf:
            return False
        with torch.no_grad():
            step = self.share * float(_norm(weights)) / length
            for weight, direction in zip(weights, ascent, strict=True):
                if direction is not None:
                    weight.add_(direction, alpha=step)
        return True


class OverModels:
    """The mean of a measure over several models that are built around an architecture.

    To get a value for each model instead, pass each model as a separate measure; the front then covers all of them.

    Args:
        measures: one measure per model, such as a `TrainedAlone`.
    """

    def __init__(self, measures: Sequence[Callable[[Architecture], float]]) -> None:
        if not measures:
            raise SupernetError("no measures to average; give one for each model")
        self.measures = tuple(measures)

    def __call__(self, arch: Architecture) -> float:
        return sum(measure(arch) for measure in self.measures) / len(self.measures)


def _norm(tensors: Sequence[Tensor | None]) -> Tensor:
    squares = [tensor.square().sum() for tensor in tensors if tensor is not None]
    return torch.stack(squares).sum().sqrt() if squares else torch.zeros(())
