"""The mean of the weights over the end of a training (stochastic weight averaging, arXiv:1803.05407)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Average:
    """The mean of tensors over the last steps; tensors that are not floating-point (counters) keep the last value.

    The mean is in float64, so that averaging many steps loses no precision.
    """

    def __init__(self, share: float, steps: int) -> None:
        """Average the last `share` of `steps`, rounded to whole steps, and at least one step if the share is above
        0."""
        self._first = steps - (max(1, round(share * steps)) if share else 0)
        self._count = 0
        self._means: dict[str, Tensor] = {}

    @torch.no_grad()
    def observe(self, index: int, tensors: Mapping[str, Tensor]) -> None:
        """Add the tensors after step `index`, counted from 0."""
        if index < self._first:
            return
        self._count += 1
        for name, tensor in tensors.items():
            if self._count == 1 or not tensor.is_floating_point():
                self._means[name] = tensor.detach().to(_kept(tensor), copy=True)
            else:
                self._means[name].lerp_(tensor.to(torch.float64), 1 / self._count)

    def means(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the means in the dtypes of these tensors; the tensors themselves if nothing was averaged."""
        return {name: self._means[name].to(tensor.dtype) if self._means else tensor for name, tensor in tensors.items()}

    def __bool__(self) -> bool:
        """Return whether anything was averaged."""
        return self._count > 0

    def state(self) -> dict[str, Tensor]:
        """Return the state for a checkpoint."""
        return {"count": torch.tensor(self._count), **{f"mean.{name}": mean for name, mean in self._means.items()}}

    def restore(self, state: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned, on the devices of these tensors."""
        self._count = int(state["count"])
        means = {key.removeprefix("mean."): mean for key, mean in state.items() if key != "count"}
        self._means = {name: mean.to(tensors[name].device, copy=True) for name, mean in means.items()}


def _kept(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.is_floating_point() else tensor.dtype
