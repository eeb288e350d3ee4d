"""Gradient search: weights and architecture learn in turn, each from its half of the training examples.

DARTS (arXiv:1806.09055) and, by other methods, what came after it. What happens in a step depends on the state and on
(seed, step) alone; `supernets.resumable` runs and resumes it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas.objectives.limits import Limit
from nas.records import Distribution
from nas.searchers.gradient.config import GradientConfig, GradientSearchError
from nas.searchers.gradient.constraints import Constraints, Measured
from nas.searchers.gradient.logits import Condition, Source, Table, initial
from nas.searchers.gradient.methods import method
from nas.searchers.gradient.objectives import ExpectedCost, Objectives
from nas.searchers.gradient.relaxed import Relaxed
from nas.searchers.gradient.selection import by_perturbation
from nas.searchers.gradient.stepper import Draw, Stepper
from nas.searchers.gradient.streams import rng
from nas.searchers.gradient.watch import Watch
from search_spaces import Architecture
from supernets import Supernet, resumable
from supernets.checkpoints import Checkpoint
from supernets.relaxation import Mixture
from supernets.resumable import shapes, under
from supernets.spelling import spell
from supernets.tasks import SamplingTask
from supernets.training import resolve_precision


def search(
    supernet: Supernet,
    task: SamplingTask,
    config: GradientConfig | None = None,
    *,
    costs: Mapping[str, ExpectedCost] | None = None,
    objectives: Sequence[str] = (),
    limits: Sequence[Limit] = (),
    measured: Measured | None = None,
    directory: Path | str | None = None,
    progress: bool = True,
) -> list[Distribution]:
    """Learn one distribution over the architectures of a supernet, and derive an architecture from it.

    The weights are trained in place, so pass a copy if you still need the supernet; with
    ``config.train_weights=False`` they stay unchanged, bit for bit.

    Args:
        costs: expected costs by metric; objectives and limits may refer to them.
        objectives: minimised metrics, the task's metric and costs, equally weighted; by default that metric alone.
        limits: on costs; the derived architecture keeps them, or a warning names those that it breaks.
        measured: further or more accurate costs of an architecture, on which limits are then checked.
        directory: for checkpoints; a search started there with the same settings resumes. None writes none.
        progress: show a bar on a terminal, log lines elsewhere.

    Raises:
        GradientSearchError: an objective or a limit has no cost, no architecture is found that keeps a limit, or too
            many consecutive steps have no finite loss or gradient.
        CheckpointError: the directory holds the checkpoints of another search.
    """
    config = config or GradientConfig()
    names = ordered(objectives or (task.metric,), task.metric, costs or {})
    relaxed = relax(supernet, task, config)
    start = initial(relaxed.method, relaxed.free, config.seed)
    wanted = Condition(names, (1 / len(names),) * len(names))
    loop = build(
        relaxed, config, Table(start), [wanted], lambda step, stream: (wanted,), costs=costs or {}, limits=limits
    )
    return loop.run(directory, measured, progress)


# --- parts of a search ----------------------------------------------------------------------------------------------


def ordered(objectives: Sequence[str], metric: str, costs: Mapping[str, ExpectedCost]) -> tuple[str, ...]:
    """Return the objectives, the task's metric first.

    Raises:
        GradientSearchError: the task's metric is missing, or another objective has no expected cost.
    """
    if metric not in objectives:
        raise GradientSearchError(
            f"objectives = {tuple(objectives)!r}: gradients come from the task's loss, so name its metric too, "
            f"{metric!r}"
        )
    for name in objectives:
        if name != metric and name not in costs:
            raise GradientSearchError(
                f"the objective {name!r} has no expected cost (known: {', '.join(costs) or 'none'}): pass it in costs"
            )
    return (metric, *(name for name in dict.fromkeys(objectives) if name != metric))


def relax(supernet: Supernet, task: SamplingTask, config: GradientConfig) -> Relaxed:
    """Return the relaxed network for the configured method.

    Raises:
        GradientSearchError: the space has no open choice, or the method needs a step of weights that are not trained.
    """
    chosen = method(config.method)
    if chosen.order == 2 and not config.train_weights:
        raise GradientSearchError(
            f"method = {config.method!r} differentiates through a step of the weights, but train_weights=False does "
            "not train them: use order=1"
        )
    precision = resolve_precision(config.precision, supernet.device, supernet.subnet(supernet.space.largest()))
    relaxed = Relaxed(supernet, chosen, task, precision, config.partial)
    if not relaxed.free:
        raise GradientSearchError(
            f"the space {supernet.space!r} has no open choice, so there is nothing to search: give it more options"
        )
    return relaxed


def build(
    relaxed: Relaxed,
    config: GradientConfig,
    source: Source,
    watched: Sequence[Condition],
    draw: Draw,
    *,
    costs: Mapping[str, ExpectedCost],
    limits: Sequence[Limit],
    scalarisation: str = "linear",
) -> Loop:
    """Return a search that is ready to run; raise GradientSearchError for invalid settings before any training."""
    if limits and config.selection == "perturbation":
        raise GradientSearchError(
            f"selection = 'perturbation' ignores limits, but there are some, such as '{limits[0]}': use 'probability'"
        )
    for limit in limits:
        if limit.metric not in costs:
            raise GradientSearchError(
                f"the limit '{limit}' is on a metric without an expected cost (known: {', '.join(costs) or 'none'}): "
                "pass it in costs, or leave the limit to a search that evaluates"
            )
    names = [name for condition in watched for name in condition.objectives[1:]]
    names += [limit.metric for limit in limits]
    objectives = Objectives(relaxed.supernet.space, costs, names, scalarisation=scalarisation, seed=config.seed)
    constraints = Constraints(relaxed, config, objectives, limits, source.logits(watched[0]))
    for condition in {one.target: one for one in watched}.values():
        constraints.require(source.logits(condition), condition)
    return Loop(Stepper(relaxed, config, source, watched, draw, objectives, constraints))


# --- the loop -------------------------------------------------------------------------------------------------------


@dataclass
class Loop:
    """One search, from its newest checkpoint to its end: see `supernets.resumable.Training`."""

    stepper: Stepper
    identity: dict[str, Any] = field(default_factory=dict)
    """Further settings, which must be equal for a search to resume."""

    def __post_init__(self) -> None:
        self.config, self.watched = self.stepper.config, self.stepper.watched
        self.watch = Watch(self.stepper.relaxed, self.config, self.stepper.source, self.watched)

    def run(self, directory: Path | str | None, measured: Measured | None, progress: bool) -> list[Distribution]:
        """Run to the end, and derive an architecture from each distribution."""
        began = time.monotonic()
        with resumable.resumed(self, directory) as found:
            with resumable.own_random_numbers():
                self.look(found.step)
            resumable.run(self, found.step, directory, "gradient search", progress=progress)
        return [self._result(index, measured, began) for index in range(len(self.watched))]

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.config.steps

    @property
    def checkpoint_every(self) -> int:
        """Steps between checkpoints."""
        return self.config.checkpoint_every

    def take(self, index: int) -> float:
        """Take a step; returns the last loss."""
        return self.stepper.take(index)

    def look(self, done: int) -> None:
        """Record the distributions, and see whether they collapse."""
        self.watch.look(done)

    def is_over(self) -> bool:
        """Return whether the search was stopped early."""
        return self.watch.stopped

    def _result(self, index: int, measured: Measured | None, began: float) -> Distribution:
        condition = self.watched[index]
        with torch.no_grad():
            logits = self.stepper.source.logits(condition)
        kept = self.stepper.constraints.keep(logits, condition, measured)
        if self.config.selection == "perturbation":
            kept = replace(kept, arch=self._perturbed(kept.mixture))
        self.watch.finish(index, kept, limited=bool(self.stepper.constraints.limits))
        return Distribution(
            study="",
            method=self.config.method,
            label=condition.label,
            steps=tuple(self.watch.history.steps),
            probabilities=self.watch.history.probabilities(index, kept.mixture),
            derived=kept.arch.json(),
            warnings=tuple(self.watch.warnings[index]),
            settings=self._described(index),
            seconds=time.monotonic() - began,
        )

    @torch.no_grad()
    def _perturbed(self, mixture: Mixture) -> Architecture:
        """Derive the architecture of the options whose removal harms the mixture most."""
        relaxed, seed = self.stepper.relaxed, self.config.seed
        learnt = {path: mixture[path][list(codes)].tolist() for path, codes in relaxed.free.items()}
        chosen = by_perturbation(learnt, lambda table: relaxed.score(table, seed), rng(seed, 0, "selection"))
        return relaxed.derived(chosen)

    def _described(self, index: int) -> dict[str, Any]:
        condition = self.watched[index]
        config = {name: value if value != math.inf else "inf" for name, value in asdict(self.config).items()}
        return {
            **config,
            **self.identity,
            "objectives": list(condition.objectives),
            "preference": list(condition.preference),
            "limits": [str(limit) for limit in self.stepper.constraints.limits],
            "skipped": self.stepper.skipped.total,
            "scores": self.watch.scores[index],
        }

    # --- checkpoints

    def restore(self, found: Checkpoint) -> None:
        """Take over the state of a checkpoint."""
        self.stepper.load_state_dict(under("stepper.", found.tensors), found.meta["stepper"])
        self.watch.load_state_dict(under("watch.", found.tensors), found.meta["watch"])

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that steps change."""
        return {
            **{f"stepper.{name}": tensor for name, tensor in self.stepper.state_dict().items()},
            **{f"watch.{name}": tensor for name, tensor in self.watch.state_dict().items()},
        }

    def meta(self) -> dict[str, Any]:
        """Return as JSON what else they change."""
        return {"stepper": self.stepper.meta(), "watch": self.watch.meta()}

    def settings(self) -> dict[str, Any]:
        """Return what must be equal to resume; how often the search is saved need not."""
        config, supernet = asdict(self.config), self.stepper.supernet
        del config["checkpoint_every"]
        return {
            **self.identity,
            "config": config,
            "space": supernet.space.digest,
            "sharing": spell(supernet.sharing),
            "task": self.stepper.relaxed.task.digest,
            "shapes": shapes(supernet.state_dict()),
            "weights": "" if self.config.train_weights else supernet.digest(),
            "distributions": [asdict(condition) for condition in self.watched],
            "limits": [str(limit) for limit in self.stepper.constraints.limits],
            "costs": {name: asdict(found) for name, found in self.stepper.objectives.ranges.items()},
        }
