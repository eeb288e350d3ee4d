"""Automatic inheritance: gates on units and sublayers of the largest network, learnt under a limit on how much is open.

As in CoFi (arXiv:2204.00408) and TinyCLIP (arXiv:2309.12314): a task's loss and a penalty on what is open, whose
multipliers ascend. What is learnt says in which order a supernet keeps its units, and how many of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from search_spaces import Architecture
from supernets.compression.coupling import coupled
from supernets.compression.gates import (
    BOUND,
    Gate,
    expected_sparsity,
    masked,
    probability_open,
    sampled,
    sublayer_gates,
    unit_gates,
)
from supernets.compression.importance import Calibration, ImportanceError
from supernets.compression.symmetry import Networks
from supernets.compression.units import Group
from supernets.errors import SupernetError
from supernets.learners import Alone
from supernets.optim import Optimizer, OptimizerConfig
from supernets.supernet import Supernet
from supernets.tasks import Task, to_device
from supernets.training import TrainingConfig, learning_rate


@dataclass(frozen=True)
class GateConfig:
    """How gates are learnt. Checked when it is made.

    Raises:
        SupernetError: naming the setting, its value and what it may be.
    """

    sparsity: float = 0.5
    """Share of the gated parameters that is to be closed in the end."""
    steps: int = 200
    ramp: float = 0.5
    """Share of the steps over which what is to be closed grows to `sparsity`."""
    lr: float = 0.02
    """Of the logits, and of the two multipliers of the penalty, which ascends by them."""
    multiplier: float = 10.0
    """What both multipliers begin as."""
    weights_lr: float = 0.0
    """Highest learning rate of the network's own weights; 0 leaves them as they are, as they are in the supernet."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, holds, rule in (
            ("sparsity", 0 < self.sparsity < 1, "a share between 0 and 1, 0.5 say"),
            ("steps", self.steps >= 1, "at least 1"),
            ("ramp", 0 <= self.ramp <= 1, "a share of the steps, from 0 to 1"),
            ("lr", 0 < self.lr < math.inf, "above 0 and finite, 0.02 say"),
            ("multiplier", 0 <= self.multiplier < math.inf, "0 or more and finite"),
            ("weights_lr", 0 <= self.weights_lr < math.inf, "0 or more and finite"),
        ):
            if not holds:
                raise SupernetError(f"{name} = {getattr(self, name)!r}: it must be {rule}")


def penalty(target: float, sparsity: Tensor, multipliers: Tensor) -> Tensor:
    """l1 [t - s]+ + l2 [t - s]+^2, s being the expected sparsity; to close more than is asked costs nothing."""
    excess = (target - sparsity).clamp(min=0)
    return multipliers[0] * excess + multipliers[1] * excess.square()


@dataclass(frozen=True)
class Gates:
    """What was learnt. As a score it puts the units in order: ``sort_units(supernet, task, by=gates)``."""

    gates: tuple[Gate, ...]
    logits: tuple[Tensor, ...]
    sparsity: float
    """The share of the gated parameters that is expected to be closed."""

    @property
    def masks(self) -> list[Tensor]:
        """0 or 1 for each unit: as many are open as are expected to be, those with the highest logits; one at least of
        every group."""
        return [
            _closed(own, least=int(gate.group is not None)) for gate, own in zip(self.gates, self.logits, strict=True)
        ]

    def __call__(self, group: Group, calibration: Calibration) -> Tensor:
        """The logits of a group's units; zeros, which leave the order as it is, where it was not gated."""
        found = [
            own
            for gate, own in zip(self.gates, self.logits, strict=True)
            if gate.group and gate.group.parts == group.parts
        ]
        return found[0] if found else torch.zeros(group.units)

    def fitting(self, supernet: Supernet) -> Architecture:
        """The architecture whose sizes are nearest to how many units are open, of each choice for itself.

        Sublayers have no choice of their own here: their gates say which layers to leave out.
        """
        largest, groups = supernet.space.largest(), [gate.group for gate in self.gates if gate.group is not None]
        chosen = largest.to_dict()
        for gate, mask in zip(self.gates, self.masks, strict=True):
            if gate.group is not None:
                slot = min(gate.group.choices, key=lambda one: sum(one in group.choices for group in groups))
                options = _options(supernet, gate, slot)
                nearest = min(options, key=lambda units: (abs(units - int(mask.sum())), -units))
                _put(chosen, slot.split("."), options[nearest])
        return supernet.space.architecture(chosen)


def _closed(logits: Tensor, least: int) -> Tensor:
    count = max(least, round(float(probability_open(logits).sum())))
    order = torch.sort(logits, descending=True, stable=True).indices
    return torch.zeros_like(logits).index_fill(0, order[:count], 1.0)


def _options(supernet: Supernet, gate: Gate, slot: str) -> dict[int, Any]:
    """By how many units the largest network has with each option of a choice, the option."""
    part = gate.parts[0]
    unit = part.size // gate.units
    return {
        variant.shapes[part.name][part.axis] // unit: _take(variant.arch.to_dict(), slot.split("."))
        for variant in supernet.survey.variants
        if variant.choice in (None, slot) and part.name in variant.shapes
    }


def _take(tree: Any, path: Sequence[str]) -> Any:
    for step in path:
        tree = tree[int(step) if isinstance(tree, list | tuple) else step]
    return tree


def _put(tree: Any, path: Sequence[str], value: Any) -> None:
    parent = _take(tree, path[:-1])
    parent[int(path[-1]) if isinstance(parent, list) else path[-1]] = value


def learn_gates(
    supernet: Supernet,
    task: Task,
    config: GateConfig | None = None,
    *,
    sublayers: Sequence[str] = (),
    norms: bool = False,
) -> Gates:
    """Learn which units of the largest network to keep, by the task's loss and a penalty on what is open.

    With `config.weights_lr` its weights are trained in the same steps and put into the supernet. The task may be taught
    (`Distilled`), by the affinities of TinyCLIP say; what only layers learn takes no part.

    Args:
        sublayers: name patterns of modules whose output adds to a residual stream: `sublayer_gates`.
        norms: whether groups that norms average over are gated too: `unit_gates`.

    Raises:
        SupernetError: nothing can be gated.
        ImportanceError: a loss is no finite number.
    """
    config = config or GateConfig()
    groups, _ = coupled(Networks(supernet, task.example(2)))
    gates = [*unit_gates(supernet, groups, norms), *sublayer_gates(supernet, sublayers)]
    if not gates:
        raise SupernetError(
            "no units can be gated: the supernet has no coupled group that no norm averages over; name sublayers, or "
            "let norms=True"
        )
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return _Learning(supernet, task, config, gates).run()


class _Learning:
    """One course of gates, and of the weights of a copy of the largest network where they learn too."""

    def __init__(self, supernet: Supernet, task: Task, config: GateConfig, gates: list[Gate]) -> None:
        self.supernet, self.task, self.config, self.gates = supernet, task, config, gates
        self.network = supernet.extract(supernet.space.largest()).train()
        self.shapes = {name: tuple(value.shape) for name, value in self.network.named_parameters()}
        device = supernet.device
        self.logits = nn.ParameterList(nn.Parameter(torch.full((gate.units,), BOUND, device=device)) for gate in gates)
        self.multipliers = nn.Parameter(torch.full((2,), config.multiplier, device=device))
        learnt = nn.ParameterList([*self.logits, self.multipliers])
        self.ascent = Optimizer(Alone(learnt), OptimizerConfig("adamw", config.lr, weight_decay=0))
        if not config.weights_lr:
            self.network.requires_grad_(False)
        self.descent = Optimizer(Alone(self.network), OptimizerConfig("adamw", config.weights_lr or 1.0))

    def run(self) -> Gates:
        config = self.config
        for step in range(config.steps):
            ramp = min(1.0, (step + 1) / max(1, round(config.ramp * config.steps)))
            self._step(step, config.sparsity * ramp)
        if config.weights_lr:
            state = self.supernet.state_dict()
            own = self.network.state_dict()
            self.supernet.load_state_dict({**state, **{name: own[name] for name in state if name in own}})
        found = tuple(logits.detach().cpu() for logits in self.logits)
        return Gates(tuple(self.gates), found, float(self._sparsity().detach()))

    def _step(self, step: int, target: float) -> None:
        z = [sampled(own, torch.rand_like(own).clamp(1e-6, 1 - 1e-6)) for own in self.logits]
        named = dict(self.network.named_parameters())
        batch = to_device(self.task.batch(step, self.config.seed), self.supernet.device)
        gated = _Gated(self.network, masked(named, self.gates, z))
        quality = self.task.loss(self.task.outputs(gated, batch), batch)
        if not math.isfinite(quality.item()):
            raise ImportanceError(f"the loss of step {step} is no finite number: see that weights and data are")
        loss = quality + penalty(target, self._sparsity(), self.multipliers)
        loss.backward()  # type: ignore[no-untyped-call]
        assert self.multipliers.grad is not None
        self.multipliers.grad.neg_()  # they ascend
        self.ascent.step()
        with torch.no_grad():
            for own in self.logits:
                own.clamp_(-BOUND, BOUND)
        if self.config.weights_lr:
            schedule = TrainingConfig(steps=self.config.steps, lr=self.config.weights_lr)
            self.descent.step(lr=learning_rate(schedule, step), clip=1.0)

    def _sparsity(self) -> Tensor:
        return expected_sparsity(self.shapes, self.gates, [probability_open(own) for own in self.logits])


class _Gated(nn.Module):
    """A network with some of its parameters replaced."""

    def __init__(self, network: nn.Module, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.network = network
        self.values = values

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return functional_call(self.network, dict(self.values), args, kwargs)
