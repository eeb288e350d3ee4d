"""Modules that compute an expectation: instances of the user's classes, given a subclass that overrides `forward`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernets.relaxation.grouped import Regrouped
from supernets.relaxation.linear import masked_linear
from supernets.relaxation.masks import Corners, Mask
from supernets.relaxation.mixture import Mixture
from supernets.relaxation.norms import mixed_group_norm, mixed_layer_norm
from supernets.relaxation.tables import RelaxationError, Table
from supernets.structure import OneOf, Stack

# --- operations -----------------------------------------------------------------------------------------------------


class _Mixing(OneOf):
    """The mean of the alternatives' outputs, weighted by their probabilities."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        chances = self.__dict__["_chances"]()
        mixture: Mixture = self.__dict__["_mixture"]
        names = self.__dict__["_names"]
        run = [n for n, chance in enumerate(chances.tolist()) if chance != 0] if mixture.sparse else range(len(names))
        total: Tensor | None = None
        for number in run:
            output = self._modules[names[number]](*args, **kwargs)  # type: ignore[misc] # there, by construction
            _check_tensor(output, f"an operation of one_of ({names[number]})")
            part = output * chances[number].to(output)
            total = part if total is None else total + part
        return total


def mix(own: OneOf, table: Table, mixture: Mixture) -> None:
    """Let a `one_of` mix its alternatives; `table` tells which is chosen."""
    names = tuple(dict.fromkeys(table.values))
    index = torch.tensor([names.index(value) for value in table.values])

    def chances() -> Tensor:
        rows = mixture.chances(table.joint)
        return rows.new_zeros(len(names)).index_add(0, index.to(rows.device), rows)

    own.options = names
    _become(own, _Mixing, _names=names, _mixture=mixture, _chances=chances)


# --- depth ----------------------------------------------------------------------------------------------------------


class _Gated(nn.Module):
    """x + P(the block is there) * (block(x) - x)."""

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
        return torch.lerp(x, output, gate.to(x))


def gate(own: Stack, table: Table, mixture: Mixture) -> None:
    """Let every block of a stack add its share; `table` tells how many blocks there are."""
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
        return _affine(self, mixed_layer_norm(x, widths, chances.to(x), self.eps))


class _MixedRMSNorm(nn.RMSNorm):
    def forward(self, x: Tensor) -> Tensor:
        widths, chances = self.__dict__["_widths"]()
        eps = torch.finfo(x.dtype).eps if self.eps is None else self.eps
        return _affine(self, mixed_layer_norm(x, widths, chances.to(x), eps, centred=False))


class _MixedGroupNorm(nn.GroupNorm):
    def forward(self, x: Tensor) -> Tensor:
        options, chances = self.__dict__["_widths"]()
        y = mixed_group_norm(x, options, chances.to(x), self.eps)
        return _affine(self, y, (-1,) + (1,) * (x.dim() - 2))


def _affine(norm: nn.Module, y: Tensor, shape: tuple[int, ...] = (-1,)) -> Tensor:
    """Times weight, which needs no mask after the mixture, plus the masked bias."""
    if norm.weight is not None:
        y = y * norm.weight.view(shape)
    if getattr(norm, "bias", None) is not None:
        y = y + norm.bias.view(shape)
    return y


def mix_widths(own: nn.Module, table: Table, mixture: Mixture) -> None:
    """Let a norm mix what the widths would give; `table` tells its `normalized_shape`, or channels and groups."""
    for known, mixing in _NORMS.items():
        if isinstance(own, known) and type(own).forward is known.forward:  # type: ignore[attr-defined]
            options = sorted(set(table.values))
            if known is not nn.GroupNorm:
                if any(len(option) != 1 for option in options):
                    raise RelaxationError(
                        f"{type(own).__name__} normalises over shapes {options[0]} to {options[-1]}: only the last axis "
                        "may have several sizes"
                    )
                options = [option[0] for option in options]
            index = torch.tensor([options.index(v if known is nn.GroupNorm else v[0]) for v in table.values])

            def widths() -> tuple[list[Any], Tensor]:
                rows = mixture.chances(table.joint)
                return options, rows.new_zeros(len(options)).index_add(0, index.to(rows.device), rows)

            _become(own, mixing, _widths=widths)
            return
    raise RelaxationError(
        f"{type(own).__name__} is a norm of several widths with a forward of its own: use nn.LayerNorm, nn.RMSNorm or "
        "nn.GroupNorm"
    )


_NORMS: dict[type[nn.Module], type[nn.Module]] = {
    nn.LayerNorm: _MixedLayerNorm,
    nn.RMSNorm: _MixedRMSNorm,
    nn.GroupNorm: _MixedGroupNorm,
}

# --- layers whose mask is cheaper on activations --------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Expected:
    """What a relaxed module reads as a parameter: the expectation of what networks read."""

    leaf: nn.Parameter
    mask: Mask | Regrouped
    mixture: Mixture

    def __call__(self) -> Tensor:
        return self.mask.apply(self.leaf, self.mixture)


class _MaskedLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        leaf, outputs, inputs = _masks(self)
        return masked_linear(x, leaf, outputs, inputs, self.bias)


class _MaskedEmbedding(nn.Embedding):
    def forward(self, numbers: Tensor) -> Tensor:
        leaf, rows, features = _masks(self)
        found = F.embedding(
            numbers, leaf, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse
        )
        return found * (rows[numbers][..., None] * features)


def _masks(own: nn.Linear | nn.Embedding) -> tuple[Tensor, Tensor, Tensor]:
    """The whole weight, and the masks of its rows and columns."""
    expected: Expected = own.__dict__["_computed"]["weight"].function
    leaf, mask = expected.leaf, expected.mask
    assert isinstance(mask, Mask)
    rows, columns = (mask.along(axis, leaf.shape[axis], expected.mixture).to(leaf) for axis in (0, 1))
    return leaf, rows, columns


def mask_activations(own: nn.Module, weight: Mask | Regrouped | None) -> None:
    """Let a linear layer or an embedding whose sizes are independent of each other mask activations, not its weight."""
    masked = {nn.Linear: _MaskedLinear, nn.Embedding: _MaskedEmbedding}.get(type(own))  # type: ignore[call-overload]
    if masked is not None and isinstance(weight, Mask) and weight.separable and weight.groups:
        _become(own, masked)


# --- subclasses -----------------------------------------------------------------------------------------------------


def _check_tensor(output: Any, what: str) -> None:
    if not isinstance(output, Tensor):
        raise RelaxationError(
            f"{what} returned {type(output).__name__}: an expectation is over tensors, so let it return one"
        )


def _become(own: nn.Module, behaviour: type[nn.Module], **state: Any) -> None:
    """Give a module the forward of `behaviour`, in front of its own class."""
    own.__dict__.update(state)
    own.__class__ = _subclass(type(own), behaviour)


@cache
def _subclass(own: type[nn.Module], behaviour: type[nn.Module]) -> type[nn.Module]:
    return type(own.__name__, (behaviour, own), {"__module__": own.__module__})

