"""Modules that compute expectations: the user's modules, moved to a subclass that overrides `forward`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernets.relaxation.grouped import Regrouped
from supernets.relaxation.linear import grid_linear, vectors_linear
from supernets.relaxation.masks import Corners, Mask
from supernets.relaxation.mixture import Mixture
from supernets.relaxation.norms import mixed_group_norm, mixed_layer_norm
from supernets.relaxation.tables import RelaxationError, Table, chances_of
from supernets.structure import OneOf, Stack

# --- operations -----------------------------------------------------------------------------------------------------


class _Mixing(OneOf):
    """Returns the mean of the alternatives' outputs, weighted by their probabilities."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        partial = self.__dict__["_mixture"].partial
        x = args[0] if args else None
        if partial == 1 or self.__dict__.get("_reshapes") or not isinstance(x, Tensor) or not x.is_floating_point():
            return self._mixed(*args, **kwargs)
        drawn = _some_channels(x, partial)
        total = self._mixed(torch.where(drawn, x, 0), *args[1:], **kwargs)
        if total.shape == x.shape:
            return torch.where(drawn, total, x)
        self.__dict__["_reshapes"] = True  # known only after a run
        return self._mixed(*args, **kwargs)

    def _mixed(self, *args: Any, **kwargs: Any) -> Any:
        mixture: Mixture = self.__dict__["_mixture"]
        chances: Tensor = self.__dict__["_chances"](mixture)
        names: tuple[str, ...] = self.__dict__["_names"]
        run = [n for n, chance in enumerate(chances.tolist()) if chance != 0] if mixture.sparse else range(len(names))
        total: Tensor | None = None
        for number in run:
            output = getattr(self, names[number])(*args, **kwargs)
            _check_tensor(output, f"an operation of one_of ({names[number]})")
            part = output * chances[number].to(output)
            total = part if total is None else total + part
        return total


def _some_channels(x: Tensor, partial: int) -> Tensor:
    """Return a random mask of one channel in `partial`, at least one, that broadcasts over x."""
    axis = 1 if x.dim() > 3 else x.dim() - 1
    size = x.shape[axis]
    drawn = torch.zeros(size, dtype=torch.bool)
    drawn[torch.randperm(size)[: max(1, size // partial)]] = True
    return drawn.to(x.device).view([size if place == axis else 1 for place in range(x.dim())])


def mix(own: OneOf, table: Table, mixture: Mixture) -> None:
    """Make a `one_of` mix its alternatives; `table` gives the chosen one."""
    names = tuple(dict.fromkeys(table.values))
    own.options = names
    _become(own, _Mixing, _names=names, _mixture=mixture, _chances=chances_of(table, names))


# --- depth ----------------------------------------------------------------------------------------------------------


class _Gated(nn.Module):
    """Returns x + P(block present) * (block(x) - x)."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        gate: Tensor = self.__dict__["_gate"]()
        mixture: Mixture = self.__dict__["_mixture"]
        if mixture.sparse and float(gate.detach()) == 0:
            return x
        output = super().forward(x, *args, **kwargs)
        _check_tensor(output, "a block of a stack")
        if output.shape != x.shape:
            raise RelaxationError(
                f"a block of a stack turns {tuple(x.shape)} into {tuple(output.shape)}: blocks that can be absent keep "
                "the shape of their input; build others outside of the stack"
            )
        return torch.lerp(x, output.to(x.dtype), gate.to(x))


def gate(own: Stack, table: Table, mixture: Mixture) -> None:
    """Weight the change by every block of a stack with the block's probability; `table` gives the stack's length."""
    corners = Corners.of_lengths(table.joint, table.values)
    axis = corners.axes[0]
    for number, block in enumerate(own):
        cell = int(axis.cells[number])
        if cell > 0 or axis.sizes[0] == 0 or number >= axis.sizes[0]:

            def chance(cell: int = cell) -> Tensor:
                return corners.mask(mixture)[cell]

            _become(block, _Gated, _gate=chance, _mixture=mixture)


# --- norms ----------------------------------------------------------------------------------------------------------


class _MixedLayerNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        widths, chances = self.__dict__["_widths"]()
        return mixed_layer_norm(x, widths, chances, self.eps, self.weight, self.bias)


class _MixedRMSNorm(nn.RMSNorm):
    def forward(self, x: Tensor) -> Tensor:
        widths, chances = self.__dict__["_widths"]()
        eps = torch.finfo(x.dtype).eps if self.eps is None else self.eps
        return mixed_layer_norm(x, widths, chances, eps, self.weight, centred=False)


class _MixedGroupNorm(nn.GroupNorm):
    def forward(self, x: Tensor) -> Tensor:
        options, chances = self.__dict__["_widths"]()
        y = mixed_group_norm(x, options, chances, self.eps)
        if not self.affine:
            return y
        shape = (-1,) + (1,) * (x.dim() - 2)
        return torch.addcmul(
            self.bias.view(shape), y, self.weight.view(shape)
        )  # the mixture includes the weight's mask


def mix_widths(own: nn.Module, table: Table, mixture: Mixture) -> None:
    """Make a norm mix the results of its widths; `table` gives `normalized_shape`, or channels and groups.

    Raises:
        RelaxationError: the norm has its own `forward`, or normalises over several axes.
    """
    known = next((k for k in _NORMS if isinstance(own, k) and type(own).forward is k.forward), None)
    if known is None:
        raise RelaxationError(
            f"{type(own).__name__} is a norm of several widths with a forward of its own: use nn.LayerNorm, nn.RMSNorm "
            "or nn.GroupNorm"
        )
    values = table.values
    if known is not nn.GroupNorm:
        if any(len(value) != 1 for value in values):
            raise RelaxationError(
                f"{type(own).__name__} normalises over shapes such as {values[0]}: only a last axis may "
                "have several sizes"
            )
        values = tuple(value[0] for value in values)
    options = sorted(set(values))
    chances = chances_of(Table(table.joint, tuple(values)), options)

    def widths() -> tuple[list[Any], Tensor]:
        return options, chances(mixture)

    _become(own, _NORMS[known], _widths=widths)


_NORMS: dict[type[nn.Module], type[nn.Module]] = {
    nn.LayerNorm: _MixedLayerNorm,
    nn.RMSNorm: _MixedRMSNorm,
    nn.GroupNorm: _MixedGroupNorm,
}

# --- matrices, whose products apply their masks --------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Expected:
    """A parameter of a relaxed module: the expectation of the padded slices that networks read."""

    leaf: nn.Parameter
    mask: Mask | Regrouped
    mixture: Mixture

    def __call__(self) -> Tensor:
        return self.mask.apply(self.leaf, self.mixture)


class _MaskedLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        leaf, mask, mixture = _expected(self)
        if mask.separable:
            return vectors_linear(x, leaf, self.bias, *_vectors(leaf, mask, mixture))
        corners = mask.groups[0]
        grid = corners.mask(mixture).to(leaf)
        return grid_linear(x, leaf, self.bias, grid, (corners.axes[0].cells, corners.axes[1].cells))


class _MaskedEmbedding(nn.Embedding):
    def forward(self, numbers: Tensor) -> Tensor:
        leaf, mask, mixture = _expected(self)
        if not mask.separable:
            return super().forward(numbers)
        rows, features = _vectors(leaf, mask, mixture)
        found = F.embedding(
            numbers, leaf, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse
        )
        return found * (rows[numbers][..., None] * features)


def _expected(own: nn.Module) -> tuple[nn.Parameter, Mask, Mixture]:
    """Return the full weight of a module, its mask, and the mixture."""
    expected: Expected = own.__dict__["_computed"]["weight"].function
    assert isinstance(expected.mask, Mask)
    return expected.leaf, expected.mask, expected.mixture


def _vectors(leaf: Tensor, mask: Mask, mixture: Mixture) -> tuple[Tensor, Tensor]:
    """Return the masks of the rows and of the columns of a matrix."""
    rows, columns = (mask.along(axis, leaf.shape[axis], mixture).to(leaf) for axis in (0, 1))
    return rows, columns


def mask_matrix(own: nn.Module, weight: Mask | Regrouped | None) -> None:
    """Make a linear layer or an embedding apply its mask where that is cheapest; its `weight` still reads masked."""
    masked = {nn.Linear: _MaskedLinear, nn.Embedding: _MaskedEmbedding}.get(type(own))
    if masked is not None and isinstance(weight, Mask) and weight.groups:
        _become(own, masked)


# --- subclasses -----------------------------------------------------------------------------------------------------


def _check_tensor(output: Any, what: str) -> None:
    if not isinstance(output, Tensor):
        raise RelaxationError(
            f"{what} returned {type(output).__name__}: an expectation is over tensors, so let it return one"
        )


def _become(own: nn.Module, behaviour: type[nn.Module], **state: Any) -> None:
    """Make a module an instance of a subclass of `behaviour` and its own class, in this order."""
    own.__dict__.update(state)
    own.__class__ = _subclass(type(own), behaviour)  # type: ignore[arg-type] # classes are hashable


@cache
def _subclass(own: type[nn.Module], behaviour: type[nn.Module]) -> type[nn.Module]:
    return type(own.__name__, (behaviour, own), {"__module__": own.__module__})
