"""Optimisers over shared weights that step only what backward has touched.

The update rules are torch's own, fused. Weights, gradient and state of a step are boxes of the stored tensors; fused kernels
walk memory as if it were contiguous, so a box that is not is gathered, stepped and scattered back: cheaper than the unfused rule
on views, and much cheaper than stepping what was not used.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from supernets.errors import SupernetError
from supernets.store import SharedTensor, Store

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


class Optimizer:
    """Steps the touched boxes of a store; its state has the size of the stored tensors, allocated when first needed."""

    def __init__(self, store: Store, config: OptimizerConfig) -> None:
        self._store = store
        self.config = config
        self._state: dict[str, dict[str, Tensor]] = {}  # by parameter: "step" and the rule's averages, blocked

    def zero_grad(self) -> None:
        self._store.zero_grad()

    @torch.no_grad()
    def grad_norm(self) -> float:
        """The norm of all gradients together."""
        grads = [shared.grad for shared in self._store.touched() if shared.grad is not None]
        return float(get_total_norm(grads)) if grads else 0.0

    @torch.no_grad()
    def step(self, lr: float | None = None, clip: float | None = None) -> float:
        """One step on what was touched, which is then forgotten; returns the gradient norm before clipping.

        Where that norm is not finite nothing is stepped, and the gradients are dropped.
        """
        norm = self.grad_norm()
        if isfinite(norm):
            scale = None if clip is None or norm <= clip else torch.tensor((norm + 1e-6) / clip)
            touched = self._store.touched()
            matrices = [shared for shared in touched if shared.value.dim() > 1]
            vectors = [shared for shared in touched if shared.value.dim() <= 1]
            self._step(matrices, lr or self.config.lr, self.config.weight_decay, scale)
            self._step(vectors, lr or self.config.lr, 0.0, scale)
        self.zero_grad()
        return norm

    def state_dict(self) -> dict[str, Tensor]:
        """Flat: ``"<parameter>|<state>"`` to tensor."""
        return {f"{name}|{key}": tensor for name, state in self._state.items() for key, tensor in state.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over a flat state.

        Raises:
            SupernetError: a parameter is not the supernet's.
        """
        loaded: dict[str, dict[str, Tensor]] = {}
        for flat, tensor in state.items():
            name, _, key = flat.rpartition("|")
            if name not in self._store.parameters:
                raise SupernetError(f"optimizer state for {name!r}, which the supernet does not have: it belongs to another one")
            loaded.setdefault(name, {})[key] = tensor.to(self._store.parameters[name].value.device, copy=True)
        self._state = loaded

    def _step(self, touched: list[SharedTensor], lr: float, weight_decay: float, scale: Tensor | None) -> None:
        """Step boxes whose gradients are divided by ``scale``."""
        if not touched:
            return
        states = [self._state_of(shared) for shared in touched]
        steps = [state["step"] for state in states]
        names = [key for key in states[0] if key != "step"]
        stored = [[shared.blocked for shared in touched], *([state[key] for state in states] for key in names)]
        views = [[shared.box.of(t) for shared, t in zip(touched, ts, strict=True) if shared.box] for ts in stored]
        compact = [[view.contiguous() for view in column] for column in views]  # the view itself where it is contiguous
        grads = [shared.grad.contiguous() for shared in touched if shared.grad is not None]
        self._rule(compact, grads, steps, lr, weight_decay, scale)
        for column, stepped in zip(views, compact, strict=True):
            for view, tensor in zip(column, stepped, strict=True):
                if tensor is not view:
                    view.copy_(tensor)

    def _state_of(self, shared: SharedTensor) -> dict[str, Tensor]:
        if shared.name not in self._state:
            averages = ("exp_avg", "exp_avg_sq") if self.config.name == "adamw" else ("momentum",)
            zero = torch.zeros((), dtype=torch.float32, device=shared.value.device)
            self._state[shared.name] = {"step": zero} | {key: torch.zeros_like(shared.blocked) for key in averages}
        return self._state[shared.name]

    def _rule(
        self,
        compact: list[list[Tensor]],
        grads: list[Tensor],
        steps: list[Tensor],
        lr: float,
        weight_decay: float,
        scale: Tensor | None,
    ) -> None:
        values, *averages = compact
        common: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay, "maximize": False, "fused": True, "foreach": False}
        if scale is not None:
            common |= {"grad_scale": scale.to(values[0].device), "found_inf": torch.zeros((), device=values[0].device)}
        if self.config.name == "adamw":
            beta1, beta2 = self.config.betas
            adamw(
                values, grads, averages[0], averages[1], [], steps,
                amsgrad=False, beta1=beta1, beta2=beta2, eps=self.config.eps, **common,
            )  # fmt: skip
        else:
            momenta: list[Tensor | None] = [*averages[0]]
            sgd(values, grads, momenta, momentum=self.config.betas[0], dampening=0.0, nesterov=True, **common)


def torch_optimizer(module: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The same rule for one ordinary module."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.betas[0], nesterov=True, fused=True)
