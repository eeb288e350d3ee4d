"""Weights that a module computes from others: spectral and weight norm, as parametrizations and as the older hooks.

The store holds, and networks slice, the underlying weights. The singular vectors of spectral norm belong to one matrix,
so each network computes its own from its own weights. A mixture of networks computes them from the mixed weight, whose
absent rows and columns are 0 and change no singular value.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _OrthMaps, _Orthogonal, _SpectralNorm, _WeightNorm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

STEPS = 30
"""Number of Lanczos steps: for random matrices of up to 1024 x 1024 they give the norm to 1e-3 or better. As many steps
of the power method cost half as much but leave an error of 1e-2."""


@dataclass(frozen=True)
class Spectral:
    """The singular vectors of one weight, buffers of ``holder``."""

    path: str  # of the module that owns the weight
    owner: nn.Module
    attribute: str
    holder: nn.Module
    own_names: tuple[str, str]
    prefix: str  # of the holder's buffers in the whole model
    dim: int

    @property
    def names(self) -> tuple[str, str]:
        """Names of the two vectors in the whole model."""
        u, v = (self.prefix + name for name in self.own_names)
        return u, v

    @property
    def weight_name(self) -> str:
        """Name of the normalised parameter in the whole model."""
        hook = self.holder is self.owner
        own = f"{self.attribute}_orig" if hook else f"parametrizations.{self.attribute}.original"
        return f"{self.path}.{own}".lstrip(".")

    def weight(self) -> Tensor:
        """The normalised parameter."""
        if self.holder is self.owner:
            weight: Tensor = getattr(self.owner, f"{self.attribute}_orig")
        else:
            weight = self.owner.get_submodule(f"parametrizations.{self.attribute}").original  # type: ignore[assignment]
        return weight


def spectral_norms(module: nn.Module) -> Iterator[Spectral]:
    """Yield every spectral norm in a module whose weight has two or more axes."""
    for path, owner in module.named_modules():
        prefix = path + "." if path else ""
        lists = owner._modules.get("parametrizations")
        for attribute, steps in lists.named_children() if isinstance(lists, nn.ModuleDict) else ():
            for number, step in steps.named_children():
                if isinstance(step, _SpectralNorm) and hasattr(step, "_u"):
                    below = f"{prefix}parametrizations.{attribute}.{number}."
                    yield Spectral(path, owner, attribute, step, ("_u", "_v"), below, step.dim)
        for hook in owner._forward_pre_hooks.values():
            if isinstance(hook, SpectralNorm):
                names = (f"{hook.name}_u", f"{hook.name}_v")
                yield Spectral(path, owner, hook.name, owner, names, prefix, hook.dim)


@torch.no_grad()
def singular_vectors(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return the leading singular vectors, (n,) and (m,), of an (n, m) matrix, from a fixed start vector.

    The method is Golub and Kahan's bidiagonalisation with full orthogonalisation (SIAM J. Numer. Anal. 2, 1965).
    Trailing rows and columns of zeros change nothing, because the start for fewer rows is a prefix of that for more.
    """
    with torch.autocast(matrix.device.type, enabled=False):
        whole = matrix.float() if matrix.dtype in (torch.float16, torch.bfloat16) else matrix
        num = min(STEPS, *whole.shape)
        left, right = whole.new_zeros(whole.shape[0], num), whole.new_zeros(whole.shape[1], num)
        u = torch.from_numpy(np.random.default_rng(0).standard_normal(len(whole))).to(whole)
        for step in range(num):
            right[:, step] = _apart(whole.T @ u, right)
            left[:, step] = u = _apart(whole @ right[:, step], left)
        small, _, other = torch.linalg.svd(left.T @ whole @ right)
        return (left @ small[:, 0]).to(matrix), (right @ other[0]).to(matrix)


def _apart(vector: Tensor, basis: Tensor) -> Tensor:
    """Return the part of a vector orthogonal to all columns of a basis, at length 1; done twice, against rounding."""
    for _ in range(2):
        vector = vector - basis @ (basis.T @ vector)
    return F.normalize(vector, dim=0)


def begin(module: nn.Module) -> None:
    """Replace the meta singular vectors of a module by readable values."""
    for one in spectral_norms(module):
        for name in one.own_names:
            meta = one.holder._buffers[name]
            if meta is not None and meta.is_meta:
                one.holder._buffers[name] = torch.ones(meta.shape, dtype=meta.dtype)


@torch.no_grad()
def settle(module: nn.Module) -> None:
    """Compute the singular vectors of a network's own weights."""
    for one in spectral_norms(module):
        found = singular_vectors(_matrix(one.weight(), one.dim))
        one.holder._buffers.update(zip(one.own_names, found, strict=True))


def deviation(one: Spectral, weight: Tensor, u: Tensor, v: Tensor) -> float:
    """Return the relative error of the norm that vectors give for a weight; infinity for other sizes."""
    matrix = _matrix(weight.detach(), one.dim).double()
    if (*u.shape, *v.shape) != tuple(matrix.shape):
        return math.inf
    found, other = singular_vectors(matrix)
    return float(abs(u.to(matrix) @ matrix @ v.to(matrix) / (found @ matrix @ other) - 1))


def _matrix(weight: Tensor, dim: int) -> Tensor:
    return weight.movedim(dim, 0).flatten(1)


def orthogonal_bases(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield the names of the base matrices of orthogonal weights, each with the name of its weight."""
    for path, owner in module.named_modules():
        if isinstance(owner, _Orthogonal) and getattr(owner, "base", None) is not None:
            yield f"{path}.base", _weight_of(path)


def _weight_of(path: str) -> str:
    """Return the name of the parametrized weight that a module with this path computes."""
    above, _, rest = path.rpartition("parametrizations.")
    return above + rest.partition(".")[0]


def innermost(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules without children other than those that compute their weights."""
    for path, own in module.named_modules():
        if "parametrizations" not in path.split(".") and not own._modules.keys() - {"parametrizations"}:
            yield own


# --- of weights that change ---------------------------------------------------------------------------------------


def follow_weights(module: nn.Module) -> nn.Module:
    """Make each pass compute norms from the current weights; zero rows, of absent channels, stay zero."""
    for owner in module.modules():
        for norm in (owner, *owner._forward_pre_hooks.values()):
            for plain, following in _FOLLOWING.items():
                if isinstance(norm, plain):
                    norm.__class__ = following
    return module


def unmixable(module: nn.Module) -> Iterator[str]:
    """Yield the paths of computed weights that have no expectation, because their source cannot be mixed."""
    for path, owner in module.named_modules():
        if isinstance(owner, _Orthogonal) and owner.orthogonal_map is _OrthMaps.householder:
            yield _weight_of(path)


def _by_rows(magnitude: Tensor, direction: Tensor, dim: int) -> Tensor:
    """Return the weight-normalised tensor, where zero rows stay zero."""
    others = [axis for axis in range(direction.dim()) if axis != dim % direction.dim()] if dim != -1 else None
    norm = torch.linalg.vector_norm(direction, dim=others, keepdim=others is not None)
    normed: Tensor = direction * (magnitude / norm.clamp_min(torch.finfo(norm.dtype).tiny))
    return normed


def _by_largest(weight: Tensor, dim: int) -> Tensor:
    """Return the spectrally normalised weight, from its current singular vectors as constants, as torch does."""
    matrix = _matrix(weight, dim)
    u, v = singular_vectors(matrix)
    norm = (u * (matrix @ v)).sum()
    normed: Tensor = weight / norm
    return normed


class _FollowingWeightNorm(_WeightNorm):
    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Tensor:
        return _by_rows(weight_g, weight_v, self.dim)


class _FollowingWeightNormHook(WeightNorm):
    def compute_weight(self, module: nn.Module) -> Tensor:
        return _by_rows(getattr(module, f"{self.name}_g"), getattr(module, f"{self.name}_v"), self.dim)


class _FollowingSpectralNorm(_SpectralNorm):
    def forward(self, weight: Tensor) -> Tensor:
        return super().forward(weight) if weight.dim() == 1 else _by_largest(weight, self.dim)


class _FollowingSpectralNormHook(SpectralNorm):
    def compute_weight(self, module: nn.Module, do_power_iteration: bool) -> Tensor:
        return _by_largest(getattr(module, f"{self.name}_orig"), self.dim)


_FOLLOWING: dict[type, type] = {
    _WeightNorm: _FollowingWeightNorm,
    WeightNorm: _FollowingWeightNormHook,
    _SpectralNorm: _FollowingSpectralNorm,
    SpectralNorm: _FollowingSpectralNormHook,
}
