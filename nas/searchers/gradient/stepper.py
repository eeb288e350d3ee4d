"""One step of gradient search: the weights learn under a mixture, then the architecture learns from other examples."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nas.searchers.gradient.adam import Adam
from nas.searchers.gradient.config import GradientConfig, GradientSearchError
from nas.searchers.gradient.constraints import Constraints
from nas.searchers.gradient.halves import Halves
from nas.searchers.gradient.logits import Condition, Source, Table
from nas.searchers.gradient.objectives import Objectives, Range
from nas.searchers.gradient.relaxed import Relaxed, statistics_kept
from nas.searchers.gradient.streams import entropy, generator
from nas.searchers.gradient.unrolled import unrolled_gradient
from supernets import OptimizerConfig
from supernets.relaxation import frozen
from supernets.resumable import MAX_SKIPPED_IN_A_ROW, Skipped

logger = logging.getLogger(__name__)

Draw = Callable[[int, str], Sequence[Condition]]
"""Returns the conditions of a step; "weights" uses the first of them, "architecture" all."""


@dataclass
class Stepper:
    """The learned state and its updates; each step is a function of the state and of (seed, step)."""

    relaxed: Relaxed
    config: GradientConfig
    source: Source
    watched: Sequence[Condition]
    """The conditions whose distributions are recorded and returned."""
    draw: Draw
    objectives: Objectives
    constraints: Constraints
    skipped: Skipped = field(default_factory=Skipped)

    def __post_init__(self) -> None:
        config, supernet = self.config, self.relaxed.supernet
        self.supernet = supernet
        self.halves = Halves(self.relaxed.task, config.seed, supernet.device, split=config.train_weights)
        self.optimizer = supernet.optimizer(OptimizerConfig(config.optimizer, config.lr, config.weight_decay))
        self.leaves = list(self.source.parameters().values())
        self.adam = Adam(self.leaves, config.lr_arch)

    def take(self, step: int) -> float:
        """Train the weights, then update the architecture; return the last loss."""
        loss = math.nan
        if self.config.train_weights:
            loss = self._train_weights(step)
        if step >= self.config.first:
            loss = self._move(step)
        return loss

    def _train_weights(self, step: int) -> float:
        """Take one step of the weights; change nothing if the loss or its gradient is not finite."""
        with statistics_kept(self.relaxed.module) as kept:
            loss = self._weights_loss(step, graph=False)
            norm = math.nan
            if loss.isfinite():
                loss.backward()  # type: ignore[no-untyped-call]
                norm = self.optimizer.step(lr=self.config.learning_rate(step), clip=self.config.clip)
            if math.isfinite(norm):
                kept.clear()
        self._note(step, "weights", math.isfinite(norm))
        return float(loss.detach())

    def _move(self, step: int) -> float:
        """Take one step of the architecture, then move it back within its bounds."""
        self._measure(step)
        second = self.relaxed.method.order == 2
        with statistics_kept(self.relaxed.module):
            loss, gradients = self._unrolled(step) if second else self._direct(step)
        finite = bool(loss.isfinite()) and all(bool(gradient.isfinite().all()) for gradient in gradients)
        if finite:
            self.adam.step(self._within(step, gradients))
            self._bound(step)
        self._note(step, "architecture", finite)
        return float(loss)

    def _measure(self, step: int) -> None:
        """Measure the range of the loss, which normalises objectives, before the architecture's first step."""
        if self.objectives.costs and self.objectives.loss_range is None:
            batch = self.halves.architecture(step)
            self.objectives.measure(lambda archs: self.relaxed.losses(archs, batch))

    def _direct(self, step: int) -> tuple[Tensor, list[Tensor]]:
        """Return the architecture's loss and gradient with fixed weights; the weights get no gradient."""
        with frozen(self.relaxed.module):
            loss = self._architecture_loss(step)
            gradients = torch.autograd.grad(loss, self.leaves, allow_unused=True)
        pairs = zip(self.leaves, gradients, strict=True)
        return loss.detach(), [torch.zeros_like(leaf) if grad is None else grad for leaf, grad in pairs]

    def _unrolled(self, step: int) -> tuple[Tensor, list[Tensor]]:
        """Return loss and gradient through the next step of the weights."""
        return unrolled_gradient(
            self.leaves,
            self.supernet.state_dict(),
            lambda: self._weights_loss(step + 1, graph=True),
            lambda: self._architecture_loss(step),
            self._backward,
            self.config.learning_rate(step),
        )

    def _backward(self, loss: Tensor) -> dict[str, Tensor]:
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = self.supernet.gradients()
        self.optimizer.zero_grad()
        return gradients

    def _weights_loss(self, step: int, *, graph: bool) -> Tensor:
        """Return the loss under the first drawn condition, with a graph to the architecture if `graph`."""
        torch.manual_seed(entropy(self.config.seed, step, "dropout"))
        with torch.set_grad_enabled(graph):
            logits = self.source.logits(self.draw(step, "weights")[0])
            noise = generator(self.config.seed, step, "weights")
            self.relaxed.sample(logits, self.config.progress(step), noise)
        return self.relaxed.loss(self.halves.weights(step))

    def _architecture_loss(self, step: int) -> Tensor:
        """Return the mean loss over the drawn conditions."""
        torch.manual_seed(entropy(self.config.seed, step, "dropout"))
        batch = self.halves.architecture(step)
        noise = generator(self.config.seed, step, "architecture")
        drawn = self.draw(step, "architecture")
        return torch.stack([self._condition_loss(condition, step, batch, noise) for condition in drawn]).mean()

    def _condition_loss(self, condition: Condition, step: int, batch: Any, noise: torch.Generator) -> Tensor:
        """Return the sum of objectives, regularisers and the terms of limits."""
        progress = self.config.progress(step)
        logits = self.source.logits(condition)
        self.relaxed.sample(logits, progress, noise)
        learnt = self.relaxed.learnt(logits)
        loss = self.objectives.total(self.relaxed.loss(batch), learnt, condition)
        penalty = self.objectives.unit(condition) * self.relaxed.penalty(logits).to(loss)
        return loss + penalty + self.constraints.terms(learnt, condition, progress).to(loss)

    def _within(self, step: int, gradients: list[Tensor]) -> list[Tensor]:
        """Remove the components that lead out of the bounds, if parameters are projected."""
        if not isinstance(self.source, Table):
            return gradients
        (condition,) = self.watched
        return self.constraints.tangent(self.source.logits(condition), gradients, condition, self.config.progress(step))

    def _bound(self, step: int) -> None:
        """Project the parameters if they are a table, and update the multipliers."""
        with torch.no_grad():
            if isinstance(self.source, Table):
                (condition,) = self.watched
                projected = self.constraints.project(
                    self.source.logits(condition), condition, self.config.progress(step)
                )
                self.source.assign(projected)
            self.constraints.observe(
                lambda condition: self.relaxed.learnt(self.source.logits(condition)), self.watched, step
            )

    def _note(self, step: int, what: str, finite: bool) -> None:
        """Count skipped steps; raise GradientSearchError after too many in a row."""
        in_a_row = self.skipped.note(what, finite)
        if finite:
            return
        logger.warning("step %d of the %s is skipped: its loss or gradient is not finite", step, what)
        if in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise GradientSearchError(
                f"{in_a_row} steps in a row, up to step {step}, had no finite loss or gradient: lower lr = "
                f"{self.config.lr} or lr_arch = {self.config.lr_arch}, or look for NaN in the data"
            )

    # --- checkpoints

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors that steps change, flat."""
        parts: dict[str, Mapping[str, Tensor]] = {
            "source": self.source.parameters(),
            "adam": self.adam.state_dict(),
        }
        if self.config.train_weights:
            parts |= {"weights": self.supernet.state_dict(), "optimizer": self.optimizer.state_dict()}
        return {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}

    def meta(self) -> dict[str, Any]:
        """Return the other state that steps change, as JSON."""
        loss_range = self.objectives.loss_range
        return {
            **self.skipped.meta(),
            "multipliers": self.constraints.state(),
            "loss_range": None if loss_range is None else [loss_range.low, loss_range.high],
        }

    def load_state_dict(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Restore both."""
        parts: dict[str, dict[str, Tensor]] = {"optimizer": {}}
        for key, tensor in tensors.items():
            part, _, name = key.partition(".")
            parts.setdefault(part, {})[name] = tensor
        with torch.no_grad():
            for name, leaf in self.source.parameters().items():
                leaf.copy_(parts["source"][name])
        self.adam.load_state_dict(parts["adam"])
        self.constraints.restore(meta["multipliers"])
        if self.config.train_weights:
            self.supernet.load_state_dict(parts["weights"])
            self.optimizer.load_state_dict(parts["optimizer"])
        self.skipped.restore(meta)
        self.objectives.loss_range = None if meta["loss_range"] is None else Range(*meta["loss_range"])
