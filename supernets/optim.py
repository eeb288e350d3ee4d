"""Optimisers over shared weights that update only what the backward pass has touched.

The update rules are torch's own. Weights, gradients and states in a step are boxes of whole tensors. torch's fused
kernels assume contiguous memory, so they update the contiguous boxes; the unfused ones update the others in place,
which costs less than gathering them for the fused kernel and scattering them back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from supernets.errors import SupernetError
from supernets.store import Touched

OPTIMIZERS = ("adamw", "sgd")


@dataclass(frozen=True)
class OptimizerConfig:
    """Which rule, and its constants.

    Attributes:
        name: "adamw" (arXiv:1711.05101) or "sgd" with Nesterov momentum.
        lr: learning rate.
        weight_decay: decoupled for AdamW; vectors (biases, norms) are not decayed.
        betas: AdamW's averages; the first is SGD's momentum.
        eps: AdamW's denominator.
    """

    name: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        if self.name not in OPTIMIZERS:
            raise SupernetError(f"unknown optimizer {self.name!r}; there are {', '.join(OPTIMIZERS)}")
        if not self.lr > 0:
            raise SupernetError(f"lr = {self.lr}: a learning rate is above 0; 1e-3 is a good start")
        if not self.weight_decay >= 0:
            raise SupernetError(f"weight_decay = {self.weight_decay}: it is 0 or more")


class Touchable(Protocol):
    """Tensors that backward touches and an optimiser updates: a store, or the parameters of one module."""

    def touched(self) -> list[Touched]: ...

    def optimized(self) -> dict[str, Tensor]: ...

    def zero_grad(self) -> None: ...


class Optimizer:
    """Updates what was touched; its state has the shapes of the whole tensors and is allocated on first use.

    It calls the update rules as functions, because a ``torch.optim.Optimizer`` imports torch's compiler, which takes
    six seconds of processor time in each process.
    """

    def __init__(self, tensors: Touchable, config: OptimizerConfig) -> None:
        self._tensors = tensors
        self.config = config
        self._state: dict[str, dict[str, Tensor]] = {}  # by tensor: "step" and the rule's averages

    def zero_grad(self) -> None:
        self._tensors.zero_grad()

    def touched(self) -> list[Touched]:
        """Return what backward has touched since the last step."""
        return self._tensors.touched()

    @torch.no_grad()
    def gradient_norms(self) -> dict[str, float]:
        """Return the gradient norm of each tensor that was touched since the last step."""
        touched = self.touched()
        norms = torch._foreach_norm([one.grad for one in touched])
        return {one.name: float(norm) for one, norm in zip(touched, norms, strict=True)}

    @torch.no_grad()
    def step(self, lr: float | None = None, clip: float | None = None) -> float:
        """Update what was touched, clear the gradients, and return the gradient norm before clipping.

        If that norm is not finite, drop the gradients without an update.
        """
        touched = self.touched()
        grads = [one.grad for one in touched]
        norm = float(get_total_norm(grads)) if grads else 0.0
        if isfinite(norm):
            if clip is not None and norm > clip:
                torch._foreach_mul_(grads, clip / (norm + 1e-6))
            rate = self.config.lr if lr is None else lr
            for decays, weight_decay in ((True, self.config.weight_decay), (False, 0.0)):
                self._step([one for one in touched if one.decays is decays], rate, weight_decay)
        self.zero_grad()
        return norm

    def inherit(self, name: str, parent: str | None) -> None:
        """Set the state of one tensor to a copy of that of another tensor of its shape; None resets it."""
        self._state.pop(name, None)
        if parent in self._state:
            self._state[name] = {key: tensor.clone() for key, tensor in self._state[parent].items()}

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state as a flat mapping from ``"<parameter>|<state>"`` to tensors."""
        return {f"{name}|{key}": tensor for name, state in self._state.items() for key, tensor in state.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load a flat state.

        Raises:
            SupernetError: a parameter is unknown.
        """
        tensors = self._tensors.optimized()
        loaded: dict[str, dict[str, Tensor]] = {}
        for flat, tensor in state.items():
            name, _, key = flat.rpartition("|")
            if name not in tensors:
                raise SupernetError(
                    f"optimizer state for {name!r}, which is no parameter here: it belongs to another model"
                )
            loaded.setdefault(name, {})[key] = tensor.to(tensors[name].device, copy=True)
        self._state = loaded

    def _step(self, touched: list[Touched], lr: float, weight_decay: float) -> None:
        for fused in (True, False):
            boxes = [one for one in touched if one.of(one.whole).is_contiguous() is fused]
            if boxes:
                self._rule(boxes, fused, lr, weight_decay)

    @property
    def _averages(self) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq") if self.config.name == "adamw" else ("momentum",)

    def _of(self, one: Touched) -> dict[str, Tensor]:
        if one.name not in self._state:
            zero = torch.zeros((), dtype=torch.float32, device=one.whole.device)
            self._state[one.name] = {"step": zero} | {
                key: torch.zeros_like(one.whole, memory_format=torch.contiguous_format) for key in self._averages
            }
        return self._state[one.name]

    def _rule(self, boxes: list[Touched], fused: bool, lr: float, weight_decay: float) -> None:
        states = [self._of(one) for one in boxes]
        values, *averages = (
            [one.of(whole) for one, whole in zip(boxes, column, strict=True)]
            for column in ([one.whole for one in boxes], *([state[key] for state in states] for key in self._averages))
        )
        grads = [one.grad.contiguous() for one in boxes]
        common: dict[str, Any] = {
            "lr": lr,
            "weight_decay": weight_decay,
            "maximize": False,
            "fused": fused,
            "foreach": False,
        }
        if self.config.name == "adamw":
            beta1, beta2 = self.config.betas
            adamw(
                values, grads, averages[0], averages[1], [], [state["step"] for state in states],
                amsgrad=False, beta1=beta1, beta2=beta2, eps=self.config.eps, **common,
            )  # fmt: skip
        else:
            momenta: list[Tensor | None] = [*averages[0]]
            sgd(values, grads, momenta, momentum=self.config.betas[0], dampening=0.0, nesterov=True, **common)
        torch.autograd.graph.increment_version(values)  # torch's fused rules do not, so the change would be invisible
