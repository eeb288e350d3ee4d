"""Gates on units and sublayers of the largest network of a supernet: hard concrete numbers, and what they multiply.

Hard concrete gates (Louizos et al., arXiv:1712.01312) are random numbers in [0, 1] that are 0 and 1 with positive
probability. What gates a unit multiplies what the layers behind read of it; with 0/1 gates the network is then the one
without those units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from supernets.compression.importance import reads
from supernets.compression.units import Group, Part
from supernets.distillation.layers import matching
from supernets.errors import SupernetError
from supernets.layout import Shape
from supernets.supernet import Supernet

BETA, LOWER, UPPER = 2 / 3, -0.1, 1.1
"""Of the concrete distribution: its temperature, and the interval it is stretched to before it is clipped to [0, 1]."""
BOUND = 4.6
"""Logits begin here, and stay in [-BOUND, BOUND]."""


# --- hard concrete ------------------------------------------------------------------------------------------------


def sampled(logits: Tensor, uniform: Tensor) -> Tensor:
    """Gates in [0, 1] from logits and uniform numbers in (0, 1) of the same shape."""
    concrete = ((uniform.log() - (-uniform).log1p() + logits) / BETA).sigmoid()
    return (concrete * (UPPER - LOWER) + LOWER).clamp(0, 1)


def probability_open(logits: Tensor) -> Tensor:
    """P(gate > 0), in closed form."""
    return (logits - BETA * math.log(-LOWER / UPPER)).sigmoid()


# --- what is gated ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gate:
    """Gates of one group of units, or one gate of a sublayer."""

    label: str
    units: int
    parts: tuple[Part, ...]
    """Axes that are counted: all that the units own."""
    masked: tuple[Part, ...]
    """Axes whose entries are multiplied: where the units are read."""
    whole: tuple[str, ...] = ()
    """Parameters of a sublayer, multiplied as a whole."""
    group: Group | None = None


def unit_gates(supernet: Supernet, groups: Sequence[Group], norms: bool = False) -> list[Gate]:
    """Gates of coupled groups; of those that a norm averages over only where `norms` says so.

    A closed unit still counts in the statistics of a layer norm, so the network without it computes something else than
    the one in which it is closed.
    """
    largest = supernet.extract(supernet.space.largest())
    named = dict(largest.named_parameters(remove_duplicate=False))
    gates = []
    for group in groups:
        parts = tuple(part for part in group.parts if part.name in named)  # no buffers, no alternatives
        if parts and (norms or not any(_averages(largest, part) for part in parts)):
            readers = tuple(part for part in parts if _is_read(largest, part))
            gates.append(Gate(group.label, group.units, parts, readers or parts, group=group))
    return gates


def _owner(network: nn.Module, part: Part) -> nn.Module:
    return network.get_submodule(part.name.rpartition(".")[0])


def _averages(network: nn.Module, part: Part) -> bool:
    kind = type(_owner(network, part)).__name__
    return "Norm" in kind and "Batch" not in kind


def _is_read(network: nn.Module, part: Part) -> bool:
    """Whether a matrix sums over this axis, or may: of what is no layer we know, every axis of every matrix."""
    owner, parameter = _owner(network, part), network.get_parameter(part.name)
    if parameter.dim() < 2:
        return False
    if isinstance(owner, nn.Linear) and part.name.endswith("weight"):
        return part.axis == 1
    if type(owner).__name__ == "Conv1D":  # of transformers, stored the other way round
        return part.axis == 0
    if isinstance(owner, nn.modules.conv._ConvNd) and owner.groups in (1, owner.in_channels):
        return owner.groups == 1 and part.axis == (0 if owner.transposed else 1)
    return True


def sublayer_gates(supernet: Supernet, patterns: Sequence[str]) -> list[Gate]:
    """A gate for each module that a pattern names, ``blocks.*.attention.out``: the last linear layer of a sublayer, of
    which nothing is left where its parameters are 0.

    Raises:
        DistillationError: a pattern names no module.
        SupernetError: a module is no linear layer or convolution.
    """
    largest = supernet.extract(supernet.space.largest())
    gates = []
    for name in (name for pattern in patterns for name in matching(largest, pattern, "the largest network")):
        layer = largest.get_submodule(name)
        if reads(layer) is None:
            raise SupernetError(
                f"sublayers: {name!r} is a {type(layer).__name__}, whose output is not 0 where its parameters are: "
                "name the last linear layer or convolution of a sublayer"
            )
        gates.append(Gate(name, 1, (), (), tuple(f"{name}.{own}" for own, _ in layer.named_parameters())))
    return gates


def masked(values: Mapping[str, Tensor], gates: Sequence[Gate], z: Sequence[Tensor]) -> dict[str, Tensor]:
    """The parameters of the largest network as gates (units,) leave them; only those that any gate moves."""
    found: dict[str, Tensor] = {}
    for gate, own in zip(gates, z, strict=True):
        for part in gate.masked:
            value = found.get(part.name, values[part.name])
            found[part.name] = value * _along(own, part, value.shape)
        for name in gate.whole:
            found[name] = found.get(name, values[name]) * own
    return found


def _along(z: Tensor, part: Part, shape: Shape) -> Tensor:
    """Gates (units,) spread over an axis: each over the entries of its unit, in every fused block."""
    spread = z.repeat_interleave(part.size // part.blocks // len(z)).repeat(part.blocks)
    return spread.view([-1 if axis == part.axis else 1 for axis in range(len(shape))])


def expected_sparsity(shapes: Mapping[str, Shape], gates: Sequence[Gate], opened: Sequence[Tensor]) -> Tensor:
    """The share of the gated parameters that is closed, from the probabilities (units,) that gates are open.

    Of a matrix with gates on both axes an entry is there where both are: gates are independent, so that is the product
    of the axes' means.
    """
    shares: dict[str, Tensor] = {}
    for gate, own in zip(gates, opened, strict=True):
        for name in {*(part.name for part in gate.parts), *gate.whole}:
            shares[name] = shares.get(name, torch.ones_like(own[0])) * own.mean()
    total = sum(math.prod(shapes[name]) for name in shares)
    kept = torch.stack([math.prod(shapes[name]) * share for name, share in shares.items()]).sum()
    return 1 - kept / total
