"""Gates on units and sublayers of the largest network of a supernet: hard concrete numbers, and what they multiply.

Hard concrete gates (Louizos et al., arXiv:1712.01312) are random numbers in [0, 1] that are 0 and 1 with positive
probability. What gates a unit multiplies what the layers behind read of it; with 0/1 gates the network is then the one
without those units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from supernets.compression.importance import reads
from supernets.compression.units import Group, Part
from supernets.distillation.layers import matching
from supernets.errors import SupernetError
from supernets.layout import Shape
from supernets.supernet import Supernet
from supernets.views import leaves

Example = Tensor | tuple[Tensor, ...]

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
    owned: tuple[str, ...] = ()
    """Further parameters that are counted as a whole: those that nothing reads where the sublayer is closed."""


def unit_gates(supernet: Supernet, groups: Sequence[Group], norms: bool = False) -> list[Gate]:
    """Gates of coupled groups; of those that a norm averages over only where `norms` says so.

    A closed unit still counts in the statistics of a layer norm, so the network without it computes something else than
    the one in which it is closed.
    """
    largest = supernet.extract(supernet.space.largest(), apart=True)
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


def sublayer_gates(supernet: Supernet, patterns: Sequence[str], example: Example | None = None) -> list[Gate]:
    """A gate for each module that a pattern names, ``blocks.*.attention.out``: the last linear layer of a sublayer, of
    which nothing is left where its parameters are 0.

    Args:
        example: inputs of two examples or more, by whose gradients it is found what else goes with each sublayer; None
            counts only the parameters of the modules named.

    Raises:
        DistillationError: a pattern names no module.
        SupernetError: a module is no linear layer or convolution.
    """
    largest = supernet.extract(supernet.space.largest(), apart=True)
    gates = []
    for name in (name for pattern in patterns for name in matching(largest, pattern, "the largest network")):
        layer = largest.get_submodule(name)
        if reads(layer) is None:
            raise SupernetError(
                f"sublayers: {name!r} is a {type(layer).__name__}, whose output is not 0 where its parameters are: "
                "name the last linear layer or convolution of a sublayer"
            )
        whole = tuple(f"{name}.{own}" for own, _ in layer.named_parameters())
        owned = () if example is None else tuple(_owned(largest, whole, example))
        gates.append(Gate(name, 1, (), (), whole, owned=owned))
    return gates


def _owned(network: nn.Module, whole: Sequence[str], example: Example) -> list[str]:
    """Parameters that outputs depend on, but not where some others are 0."""
    closed = {name: torch.zeros_like(network.get_parameter(name)) for name in whole}
    before, after = (_reached(network, values, example) for values in ({}, closed))
    return [name for name in before if name not in after and name not in whole]


def _reached(network: nn.Module, values: Mapping[str, Tensor], example: Example) -> list[str]:
    """Names of the parameters that outputs have a gradient in, in evaluation mode."""
    named = {name: value.detach().requires_grad_() for name, value in network.named_parameters()}
    inputs = example if isinstance(example, tuple) else (example,)
    with torch.enable_grad(), torch.random.fork_rng(devices=()):
        outputs = list(leaves(functional_call(network.eval(), {**named, **values}, inputs)))
        torch.manual_seed(0)  # weighed at random: a plain sum of what a norm gives has no gradient
        total = sum((out * torch.randn_like(out)).sum() for out in outputs if out.is_floating_point())
        assert isinstance(total, Tensor)
        found = torch.autograd.grad(total, list(named.values()), allow_unused=True)
    return [name for name, own in zip(named, found, strict=True) if own is not None and bool(own.any())]


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


def units_in(shapes: Mapping[str, Shape], gate: Gate) -> int:
    """How many of a gate's units a network has whose parameters are of these shapes; a sublayer is one unit."""
    if not gate.parts:
        return gate.units
    there = next((part for part in gate.parts if part.name in shapes), None)
    return 0 if there is None else shapes[there.name][there.axis] * gate.units // there.size


def _along(z: Tensor, part: Part, shape: Shape) -> Tensor:
    """Gates (units,) spread over an axis: each over the entries of its unit, in every fused block."""
    spread = z.repeat_interleave(part.size // part.blocks // len(z)).repeat(part.blocks)
    return spread.view([-1 if axis == part.axis else 1 for axis in range(len(shape))])


Prices = Mapping[str, float]
"""By parameter, what each of its entries costs."""


def expected_size(
    shapes: Mapping[str, Shape], gates: Sequence[Gate], opened: Sequence[Tensor], prices: Prices | None = None
) -> Tensor:
    """What the gated parameters that are open cost, from the probabilities (units,) that gates are open.

    Of a matrix with gates on both axes an entry is there where both are: gates are independent, so that is the product
    of the axes' means.

    Args:
        prices: None counts parameters.
    """
    shares: dict[str, Tensor] = {}
    for gate, own in zip(gates, opened, strict=True):
        for name in {*(part.name for part in gate.parts), *gate.whole, *gate.owned}:
            shares[name] = shares.get(name, torch.ones_like(own[0])) * own.mean()
    entries = {name: math.prod(shapes[name]) * (1.0 if prices is None else prices.get(name, 0.0)) for name in shares}
    return torch.stack([entries[name] * share for name, share in shares.items()]).sum()


def whole_size(shapes: Mapping[str, Shape], gates: Sequence[Gate], prices: Prices | None = None) -> float:
    """`expected_size` where all gates are open."""
    return float(expected_size(shapes, gates, [torch.ones(gate.units, dtype=torch.float64) for gate in gates], prices))


def expected_sparsity(
    shapes: Mapping[str, Shape], gates: Sequence[Gate], opened: Sequence[Tensor], prices: Prices | None = None
) -> Tensor:
    """The share of what the gated parameters cost that is closed."""
    return 1 - expected_size(shapes, gates, opened, prices) / whole_size(shapes, gates, prices)


@torch.no_grad()
def uses(network: nn.Module, example: Example) -> dict[str, float]:
    """By the weight of each linear map and convolution, how often an example multiplies by each of its entries: prices
    by which `expected_size` is in multiply-accumulates. Products of activations, as in attention, have no weight and no
    price."""
    found: dict[str, float] = {}
    inputs = example if isinstance(example, tuple) else (example,)

    def hear(name: str) -> Any:
        def hook(layer: nn.Module, _: object, output: Tensor) -> None:
            features = output.shape[1 if isinstance(layer, nn.modules.conv._ConvNd) else -1]
            found[name] = found.get(name, 0.0) + output.numel() / (len(inputs[0]) * features)

        return hook

    handles = [
        layer.register_forward_hook(hear(f"{path}.weight"))
        for path, layer in network.named_modules()
        if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd) or type(layer).__name__ == "Conv1D"
    ]
    network.eval()(*inputs)
    for handle in handles:
        handle.remove()
    return found
