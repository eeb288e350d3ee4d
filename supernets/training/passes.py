"""The passes of a step: each network's outputs, loss and gradients, and what it imitates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from search_spaces import Architecture
from supernets import calibrate
from supernets.features import FeatureHeads, listening
from supernets.steps import Distil, Pass, Step
from supernets.tasks import SamplingTask, Task, TeachingTask, evaluating, teaches, to_device
from supernets.tasks.batches import full_precision
from supernets.teams import Part, Team
from supernets.trainable import Trainable
from supernets.training.config import TrainingError

NUM_BATCHES_FOR_A_SCORE = 1


@dataclass(frozen=True)
class Forward:
    """Outputs of one forward pass, with the features if the step distils features."""

    outputs: Tensor
    features: Tensor | None
    imitation: Tensor | None = None  # what its layers are to learn of a task's parent

    def detach(self) -> Forward:
        return Forward(self.outputs.detach(), None if self.features is None else self.features.detach())


@dataclass(frozen=True)
class Ran:
    """A finished pass, on which feedback is measured."""

    network: nn.Module
    outputs: Tensor
    batch: Any
    loss: Tensor


@dataclass
class Passes:
    """Runs the passes of a step, and holds what only they need: feature heads, and the frozen teacher."""

    trained: Trainable
    task: Task
    seed: int
    precision: str
    team: Team
    largest: Architecture
    heads: FeatureHeads
    teacher: nn.Module | None = None
    frozen: Architecture | None = None
    """The architecture of which the teacher is a copy, if a step froze one."""

    def freeze(self, arch: Architecture) -> None:
        """Make a copy of an architecture's network the teacher."""
        teacher = self.trained.extract(arch)
        calibrate.recalibrate(teacher, self.task.calibration(calibrate.NUM_BATCHES))
        self.teacher, self.frozen = teacher.requires_grad_(False), arch

    def frozen_state(self) -> dict[str, Tensor]:
        """Return the weights of a teacher that a step froze; {} without one."""
        return {} if self.frozen is None or self.teacher is None else self.teacher.state_dict()

    def _parts(self, index: int, step: Step) -> Iterator[Part]:
        """Yield this process's part of each pass's batch."""
        seed = self.seed
        if step.examples is not None:
            yield from repeat(self._part(self._capable("select").select(step.examples, index, seed)))
        elif step.batches == "shared":
            yield from repeat(self._part(self.task.batch(index, seed)))
        else:
            first = index * len(step.passes)
            yield from (self._part(self.task.batch(first + i, seed)) for i in range(len(step.passes)))

    def _part(self, batch: Any) -> Part:
        part = self.team.part(batch, self.task)
        return replace(part, batch=to_device(part.batch, self.trained.device))

    def backward(self, index: int, step: Step, networks: list[nn.Module]) -> list[Ran]:
        """Run all passes and sum their gradients where the optimiser reads them; returns detached results."""
        first: Forward | None = None
        ran = []
        deep = any(one.distil is not None and one.distil.what == "features" for one in step.passes)
        for one, network, part in zip(step.passes, networks, self._parts(index, step), strict=False):
            with (
                torch.autocast(self.trained.device.type, torch.bfloat16, enabled=self.precision == "bf16"),
                self.team.normalising(network),
            ):
                said = self._forward(network, part.batch, deep, learns=one.task > 0)
                loss = self._loss(one, said, part, first, step.example_weights)
            first = said.detach() if first is None else first
            (loss * one.weight).backward()  # type: ignore[no-untyped-call]
            ran.append(Ran(network, said.outputs.detach(), part.batch, full_precision(loss.detach())))
        return ran

    def _forward(self, network: nn.Module, batch: Any, deep: bool, learns: bool = False) -> Forward:
        if not deep:
            outputs, imitation = self._outputs(network, batch, learns)
            return Forward(outputs, None, imitation)
        with listening(network) as heard:
            outputs, imitation = self._outputs(network, batch, learns)
            return Forward(outputs, heard.features(), imitation)

    def _outputs(self, network: nn.Module, batch: Any, learns: bool) -> tuple[Tensor, Tensor | None]:
        if not learns or not teaches(self.task):
            return self.task.outputs(network, batch), None
        return self.task.taught(network, batch, self._projection(self.task, batch))

    def _projection(self, task: TeachingTask, batch: Any) -> Callable[[str, Tensor, Tensor], Tensor]:
        """Return a map to the parent's width; the first use makes the heads of all layers, as wide as the largest."""

        def project(name: str, own: Tensor, taught: Tensor) -> Tensor:
            if name not in self.heads:
                network = self.trained.subnet(self.largest)
                with evaluating(network):
                    widths = task.widths(network, batch)
                for layer, (widest, target) in widths.items():
                    self.heads.add(layer, widest, target)
            return self.heads(name, own, taught)

        return project

    def _loss(
        self, one: Pass, said: Forward, part: Part, first: Forward | None, weights: tuple[float, ...] | None
    ) -> Tensor:
        """The loss of this process's part of the batch; the parts' losses add up to the batch's."""
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

    def _imitation(self, distil: Distil, said: Forward, batch: Any, first: Forward | None) -> Tensor:
        taught = self._taught(distil, batch, first)
        if distil.what == "outputs":
            return distil.loss(said.outputs, taught.outputs)
        assert said.features is not None and taught.features is not None
        if "" not in self.heads:
            network = self.trained.subnet(self.largest)
            with evaluating(network):
                widest = self._forward(network, batch, deep=True).features
            assert widest is not None
            self.heads.add("", widest, taught.features)
        return distil.loss(self.heads("", said.features, taught.features), taught.features)

    def _taught(self, distil: Distil, batch: Any, first: Forward | None) -> Forward:
        """The teacher's outputs and features for the batch."""
        if distil.teacher == "first":
            if first is None:
                raise TrainingError("the first pass of a step distils from itself: let it learn the task")
            return first
        if self.teacher is None:
            raise TrainingError("a step distils from a frozen teacher before there is one: let a step freeze it")
        with torch.no_grad():
            return self._forward(self.teacher, batch, distil.what == "features")

    def output_gradients(self, ran: Ran, step: Step) -> npt.NDArray[np.float64]:
        outputs = ran.outputs.requires_grad_()
        with torch.enable_grad():
            losses = self._capable("losses").losses(outputs, ran.batch)
            (gradient,) = torch.autograd.grad(losses.sum(), outputs)
        norms: npt.NDArray[np.float64] = gradient.reshape(len(losses), -1).double().norm(dim=1).cpu().numpy()
        return self.team.joined(norms, self.task.batch_size if step.examples is None else len(step.examples))

    def valid(self, index: int, step: Step, networks: list[nn.Module]) -> tuple[float, ...]:
        return tuple(self._score(index, one, network) for one, network in zip(step.passes, networks, strict=True))

    def _score(self, index: int, one: Pass, network: nn.Module) -> float:
        if calibrate.has_batch_norm(network):  # the shared statistics are of whatever networks and models ran last
            network = self.trained.subnet(one.arch, one.route)
            network = calibrate.recalibrate(network, self.task.calibration(NUM_BATCHES_FOR_A_SCORE))
        return self._capable("score").score(network, index, self.seed)

    def _capable(self, method: str) -> SamplingTask:
        if not hasattr(self.task, method):
            raise TrainingError(
                f"the task {self.task.name!r} has no {method}(), which this strategy or sharing needs: "
                "see supernets.tasks.SamplingTask, or choose another"
            )
        return cast(SamplingTask, self.task)


def batch_norm_buffers(networks: list[nn.Module]) -> list[tuple[Tensor, Tensor]]:
    """Return running statistics with their current values, so that a skipped step leaves no NaN in them."""
    return [
        (buffer, buffer.clone())
        for network in networks
        if calibrate.has_batch_norm(network)
        for buffer in network.buffers()
    ]
