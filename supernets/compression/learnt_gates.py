"""Automatic inheritance: learn gates on units and sublayers of the largest network under a sparsity constraint.

As in CoFi (arXiv:2204.00408) and TinyCLIP (arXiv:2309.12314), gates minimise the task's loss plus a penalty on open
gates, whose Lagrange multipliers ascend. The learnt gates give the order of a supernet's units and the number to keep.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from search_spaces import Architecture
from supernets import checkpoints
from supernets.compression.coupling import coupled
from supernets.compression.gates import (
    BOUND,
    Gate,
    Prices,
    expected_size,
    expected_sparsity,
    masked,
    probability_open,
    sampled,
    sublayer_gates,
    unit_gates,
    units_in,
    uses,
    whole_size,
)
from supernets.compression.importance import Calibration
from supernets.compression.symmetry import Networks
from supernets.compression.units import Group
from supernets.distillation.task import unprojected
from supernets.errors import CompressionError, SupernetError
from supernets.layout import Shape
from supernets.occupied import occupied
from supernets.optim import Optimizer, OptimizerConfig
from supernets.supernet import Supernet
from supernets.tasks import Task, teaches, to_device
from supernets.trainable import Alone
from supernets.training import TrainingConfig, learning_rate

COSTS = ("params", "macs")


@dataclass(frozen=True)
class GateConfig:
    """Settings for learning gates, checked on construction.

    Raises:
        SupernetError: a setting is invalid; the message names it, its value and the rule.
    """

    sparsity: float = 0.5
    """Target share of the gated parameters' cost that is closed at the end."""
    steps: int = 200
    ramp: float = 0.5
    """Share of the steps over which the target grows linearly to `sparsity`."""
    lr: float = 0.02
    """Learning rate of the logits, and of the two multipliers of the penalty, which ascend."""
    multiplier: float = 10.0
    """Initial value of both multipliers."""
    weights_lr: float = 0.0
    """Peak learning rate of the network's own weights; 0 leaves the supernet's weights unchanged."""
    of: str = "params"
    """The cost, one of COSTS: parameters, or the multiply-accumulates of one example that involve parameters."""
    seed: int = 0
    checkpoint_every: int = 100
    """Steps between checkpoints; 0 writes only one, at the end."""

    def __post_init__(self) -> None:
        if self.of not in COSTS:
            raise SupernetError(f"of = {self.of!r} is unknown: choose one of {', '.join(COSTS)}")
        for name, holds, rule in (
            ("sparsity", 0 < self.sparsity < 1, "a share between 0 and 1, 0.5 say"),
            ("steps", self.steps >= 1, "at least 1"),
            ("ramp", 0 <= self.ramp <= 1, "a share of the steps, from 0 to 1"),
            ("lr", 0 < self.lr < math.inf, "above 0 and finite, 0.02 say"),
            ("multiplier", 0 <= self.multiplier < math.inf, "0 or more and finite"),
            ("weights_lr", 0 <= self.weights_lr < math.inf, "0 or more and finite"),
            ("checkpoint_every", self.checkpoint_every >= 0, "0 (only at the end) or more"),
        ):
            if not holds:
                raise SupernetError(f"{name} = {getattr(self, name)!r}: it must be {rule}")


def penalty(target: float, sparsity: Tensor, multipliers: Tensor) -> Tensor:
    """Return l1 [t - s]+ + l2 [t - s]+^2 with the expected sparsity s; a sparsity above the target t costs nothing."""
    excess = (target - sparsity).clamp(min=0)
    return multipliers[0] * excess + multipliers[1] * excess.square()


@dataclass(frozen=True)
class Gates:
    """Learnt gates. They serve as a score to sort units: ``sort_units(supernet, task, by=gates)``."""

    gates: tuple[Gate, ...]
    logits: tuple[Tensor, ...]
    sparsity: float
    """The expected closed share of the gated parameters' cost."""
    prices: Prices | None = None
    """The cost of an entry of each parameter; None means 1 each."""
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    """The shapes of the largest network's parameters."""

    @property
    def masks(self) -> list[Tensor]:
        """0 or 1 for each unit. The units with the highest logits are open, as many as the expected number of open
        gates (rounded), and at least one in every group."""
        return [
            _closed(own, least=int(gate.group is not None)) for gate, own in zip(self.gates, self.logits, strict=True)
        ]

    def __call__(self, group: Group, calibration: Calibration) -> Tensor:
        """Return the logits of a group's units; zeros, which keep the order, for a group without gates."""
        found = [
            own
            for gate, own in zip(self.gates, self.logits, strict=True)
            if gate.group and gate.group.parts == group.parts
        ]
        return found[0] if found else torch.zeros(group.units)

    def kept(self, shapes: Mapping[str, Shape]) -> float:
        """Return the expected open cost of a network with these parameter shapes, once units are in this order.

        Parameters without a gate count as open.
        """
        opened, gated = [], dict[str, set[int]]()
        for gate, own in zip(self.gates, self.logits, strict=True):
            chances = torch.sort(probability_open(own.double()), descending=True).values
            opened.append(chances * (torch.arange(gate.units) < units_in(shapes, gate)))
            for name in (*gate.whole, *gate.owned):
                gated.setdefault(name, set())
            for part in gate.parts:
                gated.setdefault(part.name, set()).add(part.axis)
        prices = {name: 1.0 if self.prices is None else self.prices.get(name, 0.0) for name in self.shapes}
        there = {name: price for name, price in prices.items() if name in shapes}
        free = sum(price * math.prod(shapes[name]) for name, price in there.items() if name not in gated)
        cut = {
            name: tuple(
                full if axis in gated.get(name, ()) else size
                for axis, (full, size) in enumerate(zip(self.shapes[name], shapes[name], strict=True))
            )
            for name in there
        }
        absent = {name: own for name, own in self.shapes.items() if name not in shapes}
        return free + float(expected_size({**absent, **cut}, self.gates, opened, there))

    def fitting(self, supernet: Supernet) -> Architecture:
        """Return the architecture whose sizes are nearest to the numbers of open units, chosen for each choice alone.

        Gates of sublayers do not affect it: they only tell which layers can be removed.
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
    """Return the options of a choice by the number of units that the largest network has with each."""
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
    directory: Path | str | None = None,
) -> Gates:
    """Learn which units of the largest network to keep, with the task's loss and a penalty on open gates.

    With `config.weights_lr` above 0, the same steps train the network's weights and store them in the supernet. The
    task may be `Distilled`, with the affinities of TinyCLIP or, layer by layer as in CoFi, with
    ``Hidden(nearest(...))``; hidden states must be as wide as the parent's, because no projection is learnt here.

    Args:
        sublayers: name patterns of modules whose output is added to a residual stream: `sublayer_gates`.
        norms: whether to gate also the groups over which norms average: `unit_gates`.
        directory: directory for checkpoints; an interrupted run resumes from it, with the same result.

    Raises:
        SupernetError: nothing can be gated, or no gated parameter has a cost.
        CheckpointError: the directory holds another run.
        CompressionError: a loss is not finite.
    """
    config = config or GateConfig()
    gates, shapes, prices = gates_of(supernet, task, config, sublayers, norms)
    with torch.random.fork_rng(), nullcontext() if directory is None else occupied(directory):
        return _Learning(supernet, task, config, gates, shapes, prices).run(directory)


def gates_of(
    supernet: Supernet, task: Task, config: GateConfig, sublayers: Sequence[str], norms: bool
) -> tuple[list[Gate], dict[str, Shape], Prices | None]:
    """Return the possible gates, the shapes of the largest network's parameters, and the prices of their entries.

    Raises:
        SupernetError: nothing can be gated, or no gated parameter has a cost.
    """
    example, largest = task.example(2), supernet.extract(supernet.space.largest(), apart=True)
    groups, _ = coupled(Networks(supernet, example))
    gates = [*unit_gates(supernet, groups, norms), *sublayer_gates(supernet, sublayers, example)]
    if not gates:
        raise SupernetError(
            "no units can be gated: the supernet has no coupled group that no norm averages over; name sublayers, or "
            "let norms=True"
        )
    shapes = {name: tuple(value.shape) for name, value in largest.named_parameters()}
    prices = uses(largest, example) if config.of == "macs" else None
    if not whole_size(shapes, gates, prices):
        raise SupernetError(f"of = {config.of!r}: nothing that can be gated costs any: count 'params'")
    return gates, shapes, prices


class _Learning:
    """One run that learns gates and, with `weights_lr`, the weights of a copy of the largest network."""

    def __init__(
        self,
        supernet: Supernet,
        task: Task,
        config: GateConfig,
        gates: list[Gate],
        shapes: Mapping[str, Shape],
        prices: Prices | None,
    ) -> None:
        self.supernet, self.task, self.config, self.gates = supernet, task, config, gates
        self.network = supernet.extract(supernet.space.largest(), apart=True).train()
        self.shapes, self.prices = shapes, prices
        device = supernet.device
        self.logits = nn.ParameterList(nn.Parameter(torch.full((gate.units,), BOUND, device=device)) for gate in gates)
        self.multipliers = nn.Parameter(torch.full((2,), config.multiplier, device=device))
        self.learnt = nn.ParameterList([*self.logits, self.multipliers])
        self.ascent = Optimizer(Alone(self.learnt), OptimizerConfig("adamw", config.lr, weight_decay=0))
        self.begun = supernet.digest()
        if not config.weights_lr:
            self.network.requires_grad_(False)
        self.descent = Optimizer(Alone(self.network), OptimizerConfig("adamw", config.weights_lr or 1.0))

    def run(self, directory: Path | str | None) -> Gates:
        config = self.config
        for step in range(0 if directory is None else self._resume(directory), config.steps):
            ramp = min(1.0, (step + 1) / max(1, round(config.ramp * config.steps)))
            self._step(step, config.sparsity * ramp)
            every = config.checkpoint_every
            if directory is not None and (step + 1 == config.steps or (every and (step + 1) % every == 0)):
                checkpoints.write(directory, step + 1, self._tensors(), {"settings": self._settings()})
        if config.weights_lr:
            state = self.supernet.state_dict()
            own = self.network.state_dict()
            self.supernet.load_state_dict({**state, **{name: own[name] for name in state if name in own}})
        found = tuple(logits.detach().cpu() for logits in self.logits)
        return Gates(tuple(self.gates), found, float(self._sparsity().detach()), self.prices, self.shapes)

    def _step(self, step: int, target: float) -> None:
        torch.manual_seed(int(np.random.SeedSequence([self.config.seed, step, 4]).generate_state(1)[0]))
        z = [sampled(own, torch.rand_like(own).clamp(1e-6, 1 - 1e-6)) for own in self.logits]
        named = dict(self.network.named_parameters())
        batch = to_device(self.task.batch(step, self.config.seed), self.supernet.device)
        gated = _Gated(self.network, masked(named, self.gates, z))
        outputs, imitation = self.task.taught(gated, batch, unprojected) if teaches(self.task) else (None, None)
        quality = self.task.loss(self.task.outputs(gated, batch) if outputs is None else outputs, batch)
        quality = quality if imitation is None else quality + imitation
        if not math.isfinite(quality.item()):
            raise CompressionError(f"the loss of step {step} is no finite number: see that weights and data are")
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
        return expected_sparsity(self.shapes, self.gates, [probability_open(own) for own in self.logits], self.prices)

    # --- checkpoints

    def _resume(self, directory: Path | str) -> int:
        found = checkpoints.newest(directory)
        if found.step:
            with checkpoints.restoring(directory, found):
                checkpoints.require_same(directory, found.meta["settings"], self._settings())
                for part, own in self._parts().items():
                    own.load_state_dict(
                        {n.removeprefix(part): t for n, t in found.tensors.items() if n.startswith(part)}
                    )
        return found.step

    def _parts(self) -> dict[str, Any]:
        parts: dict[str, Any] = {"gates.": self.learnt, "ascent.": self.ascent}
        learns = {"weights.": self.network, "descent.": self.descent} if self.config.weights_lr else {}
        return parts | learns

    def _tensors(self) -> dict[str, Tensor]:
        return {part + name: t for part, own in self._parts().items() for name, t in own.state_dict().items()}

    def _settings(self) -> dict[str, Any]:
        config = asdict(self.config)
        del config["checkpoint_every"]
        gates = [[gate.label, gate.units] for gate in self.gates]
        return {"config": config, "gates": gates, "task": self.task.digest, "weights": self.begun}


class _Gated(nn.Module):
    """Runs a network with some parameters replaced; its modules keep the network's names."""

    def __init__(self, network: nn.Module, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.network = network
        self.values = values

    def named_modules(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Module]]:
        yield from self.network.named_modules(*args, **kwargs)

    def get_submodule(self, target: str) -> nn.Module:
        return self.network.get_submodule(target)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return functional_call(self.network, dict(self.values), args, kwargs)
