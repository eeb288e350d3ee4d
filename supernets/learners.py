"""What the training loop trains: a supernet, or a module that stands alone and is one of a single architecture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from search_spaces import Architecture, Space, choice
from supernets.optim import OptimizerConfig


class Stepper(Protocol):
    """An optimiser over whatever backward has touched."""

    def zero_grad(self) -> None: ...

    def step(self, lr: float | None = None, clip: float | None = None) -> float:
        """Step and forget the gradients; returns their norm. Nothing is stepped where it is not finite."""
        ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...


class Learner(Protocol):
    """What the loop needs of the thing it trains. A `Supernet` is one."""

    device: torch.device

    def subnet(self, arch: Architecture) -> nn.Module: ...

    def optimizer(self, config: OptimizerConfig) -> Stepper: ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...


class _Itself(Space):
    """The space of a network that leaves nothing to choose."""

    network = choice("itself")


class Alone:
    """One ordinary module as a supernet of one architecture."""

    arch = _Itself().largest()

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))

    def subnet(self, arch: Architecture) -> nn.Module:
        return self.module

    def optimizer(self, config: OptimizerConfig) -> Stepper:
        return ModuleOptimizer(self.module, config)

    def state_dict(self) -> dict[str, Tensor]:
        return self.module.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.module.load_state_dict(state)


class ModuleOptimizer:
    """torch's update rules over one module's parameters, with flat tensors for state.

    They are called as functions: making a `torch.optim.Optimizer` imports torch's compiler, six seconds of processor
    time in each worker that fine-tunes.
    """

    def __init__(self, module: nn.Module, config: OptimizerConfig) -> None:
        self.config = config
        self._parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self._state: dict[str, dict[str, Tensor]] = {}

    def zero_grad(self) -> None:
        for parameter in self._parameters.values():
            parameter.grad = None

    @torch.no_grad()
    def step(self, lr: float | None = None, clip: float | None = None) -> float:
        norm = float(nn.utils.clip_grad_norm_(self._parameters.values(), math.inf if clip is None else clip))
        if math.isfinite(norm):
            touched = [name for name, parameter in self._parameters.items() if parameter.grad is not None]
            rate = self.config.lr if lr is None else lr
            # vectors (biases, norms) are not decayed
            self._rule([name for name in touched if self._parameters[name].dim() > 1], rate, self.config.weight_decay)
            self._rule([name for name in touched if self._parameters[name].dim() <= 1], rate, 0.0)
        self.zero_grad()
        return norm

    def state_dict(self) -> dict[str, Tensor]:
        """Flat: ``"<parameter>|<state>"`` to tensor."""
        return {f"{name}|{key}": tensor for name, state in self._state.items() for key, tensor in state.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._state = {}
        for flat, tensor in state.items():
            name, _, key = flat.rpartition("|")
            self._state.setdefault(name, {})[key] = tensor.to(self._parameters[name].device, copy=True)

    def _rule(self, names: list[str], lr: float, weight_decay: float) -> None:
        if not names:
            return
        values: list[Tensor] = [self._parameters[name] for name in names]
        grads = [grad for value in values if (grad := value.grad) is not None]
        states = [self._of(name) for name in names]
        fused = all(value.device.type in ("cpu", "cuda") and value.is_floating_point() for value in values)
        common: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay, "maximize": False, "foreach": False}
        first, second = self.config.betas
        if self.config.name == "adamw":
            averages, squares, steps = ([state[key] for state in states] for key in ("exp_avg", "exp_avg_sq", "step"))
            adamw(
                values, grads, averages, squares, [], steps, fused=fused,
                amsgrad=False, beta1=first, beta2=second, eps=self.config.eps, **common,
            )  # fmt: skip
        else:
            momenta: list[Tensor | None] = [state["momentum"] for state in states]
            sgd(values, grads, momenta, fused=fused, momentum=first, dampening=0.0, nesterov=True, **common)

    def _of(self, name: str) -> dict[str, Tensor]:
        if name not in self._state:
            parameter = self._parameters[name]
            if self.config.name == "adamw":
                self._state[name] = {key: torch.zeros_like(parameter) for key in ("exp_avg", "exp_avg_sq")}
                self._state[name]["step"] = torch.zeros((), device=parameter.device)
            else:
                self._state[name] = {"momentum": torch.zeros_like(parameter)}
        return self._state[name]
