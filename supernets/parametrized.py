"""Weights that a module computes from others: spectral and weight norm, as parametrizations and as the older hooks.

What is stored and sliced is what they are computed from. The singular vectors of spectral norm belong to one matrix, so
each network has its own, found anew from its own weights.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm, _WeightNorm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

ITERATIONS = 30
"""Of the power method, from vectors that are the same for all networks of a shape."""


@dataclass(frozen=True)
class Spectral:
    """The singular vectors of one weight, buffers of ``holder``."""

    path: str  # of the module whose weight it is
    owner: nn.Module
    attribute: str
    holder: nn.Module
    names: tuple[str, str]
    dim: int

    def weight(self) -> Tensor:
        """What the norm is of."""
        if self.holder is self.owner:
            weight: Tensor = getattr(self.owner, f"{self.attribute}_orig")
        else:
            weight = self.owner.get_submodule(f"parametrizations.{self.attribute}").original  # type: ignore[assignment]
        return weight


def spectral_norms(module: nn.Module) -> Iterator[Spectral]:
    """Every spectral norm in a module whose weight has two axes or more."""
    for path, owner in module.named_modules():
        lists = owner._modules.get("parametrizations")
        for attribute, steps in lists.named_children() if isinstance(lists, nn.ModuleDict) else ():
            for step in steps.children():
                if isinstance(step, _SpectralNorm) and hasattr(step, "_u"):
                    yield Spectral(path, owner, attribute, step, ("_u", "_v"), step.dim)
        for hook in owner._forward_pre_hooks.values():
            if isinstance(hook, SpectralNorm):
                yield Spectral(path, owner, hook.name, owner, (f"{hook.name}_u", f"{hook.name}_v"), hook.dim)


def begin(module: nn.Module) -> None:
    """Give the singular vectors of a module built without values something to begin with."""
    for one in spectral_norms(module):
        for name in one.names:
            meta = one.holder._buffers[name]
            if meta is not None and meta.is_meta:
                drawn = torch.randn(meta.shape, generator=torch.Generator().manual_seed(0), dtype=meta.dtype)
                one.holder._buffers[name] = F.normalize(drawn, dim=0)


@torch.no_grad()
def settle(module: nn.Module) -> None:
    """Find the singular vectors of a network's own weights."""
    for one in spectral_norms(module):
        weight = one.weight()
        matrix = weight.movedim(one.dim, 0).flatten(1)
        u, v = (one.holder._buffers[name] for name in one.names)
        assert u is not None and v is not None
        for _ in range(ITERATIONS):
            v = F.normalize(matrix.T @ u, dim=0)
            u = F.normalize(matrix @ v, dim=0)
        for name, vector in zip(one.names, (u, v), strict=True):
            one.holder._buffers[name] = vector


def keep_absent_rows(module: nn.Module) -> nn.Module:
    """Let weight norm give rows of zeros for rows of zeros, which absent channels have in an expectation."""
    for own in module.modules():
        if isinstance(own, _WeightNorm):
            own.__class__ = _Whole
        for hook in own._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm):
                hook.__class__ = _WholeHook
    return module


def _normed(magnitude: Tensor, direction: Tensor, dim: int) -> Tensor:
    others = [axis for axis in range(direction.dim()) if axis != dim % direction.dim()] if dim != -1 else None
    norm = torch.linalg.vector_norm(direction, dim=others, keepdim=others is not None)
    normed: Tensor = direction * (magnitude / norm.clamp_min(torch.finfo(norm.dtype).tiny))
    return normed


class _Whole(_WeightNorm):
    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Tensor:
        return _normed(weight_g, weight_v, self.dim)


class _WholeHook(WeightNorm):
    def compute_weight(self, module: nn.Module) -> Tensor:
        return _normed(getattr(module, f"{self.name}_g"), getattr(module, f"{self.name}_v"), self.dim)
