"""Adam over the few parameters of an architecture, with a flat state for checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam

BETAS = (0.5, 0.999)
"""From arXiv:1806.09055, section 3: a short memory, because the loss changes with the weights."""


class Adam:
    """torch's functional Adam: constructing a ``torch.optim.Optimizer`` would import torch's compiler."""

    def __init__(self, parameters: Sequence[Tensor], lr: float) -> None:
        self._parameters = list(parameters)
        self._lr = lr
        self._averages = [torch.zeros_like(tensor) for tensor in self._parameters]
        self._squares = [torch.zeros_like(tensor) for tensor in self._parameters]
        self._steps = [torch.zeros(()) for _ in self._parameters]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        """Update each parameter with its gradient."""
        adam(
            self._parameters, list(gradients), self._averages, self._squares, [], self._steps,
            foreach=False, amsgrad=False, beta1=BETAS[0], beta2=BETAS[1], lr=self._lr,
            weight_decay=0.0, eps=1e-8, maximize=False,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Tensor]:
        """Return a flat state: "<index>|<what>" to tensor."""
        columns = {"average": self._averages, "square": self._squares, "step": self._steps}
        return {f"{index}|{what}": tensor for what, column in columns.items() for index, tensor in enumerate(column)}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load a state of the same parameters."""
        for key, tensor in self.state_dict().items():
            tensor.copy_(state[key])
