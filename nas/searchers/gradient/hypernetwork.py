"""A hypernetwork computes architecture parameters from a preference, so one network learns a front (arXiv:2402.18213).

Learning fronts with a network that reads the preference goes back to arXiv:2010.04104.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nas.searchers.gradient.logits import Condition, Logits

LAST = 0.1
"""Factor of the last layer's initial weights: all conditions start near the method's initial parameters."""


class Hypernetwork:
    """A perceptron from a preference (num_objectives,) and a target's one-hot vector to the logits of all choices.

    Args:
        start: the bias of the last layer: the method's initial parameters.
        hidden: units in each of the two hidden layers.
    """

    def __init__(
        self, start: Logits, num_objectives: int, num_targets: int, *, hidden: int = 64, seed: int = 0
    ) -> None:
        self._paths = list(start)
        self._sizes = [len(vector) for vector in start.values()]
        self._num_targets = num_targets
        bias = torch.cat([*start.values()]).detach()
        self._network = _perceptron(num_objectives + num_targets, hidden, len(bias), seed).to(bias.dtype)
        last = self._network[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.weight.mul_(LAST)
            last.bias.copy_(bias)

    def logits(self, condition: Condition) -> dict[str, Tensor]:
        target = [float(index == condition.target) for index in range(self._num_targets)]
        output = self._network(self._row(condition.preference, target))
        return dict(zip(self._paths, output.split(self._sizes), strict=True))

    def parameters(self) -> dict[str, Tensor]:
        return dict(self._network.named_parameters())

    def _row(self, preference: Sequence[float], target: Sequence[float]) -> Tensor:
        dtype = next(self._network.parameters()).dtype
        centred = [2 * share - 1 for share in preference]
        return torch.tensor([*centred, *target], dtype=dtype)


def _perceptron(inputs: int, hidden: int, outputs: int, seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, outputs)
        )
