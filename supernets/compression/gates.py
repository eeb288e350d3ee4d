"""Hard concrete gates on units and sublayers of a supernet's largest network, and the parameters they multiply.

Hard concrete gates (Louizos et al., arXiv:1712.01312) are random numbers in [0, 1] that are 0 and 1 with positive
probability. The gate of a unit multiplies the weights by which later layers read the unit, so with 0/1 gates the
network computes the same as one without the closed units.
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
"""Temperature of the concrete distribution, and the interval to which it is stretched before clipping to [0, 1]."""
BOUND = 4.6
"""Initial value of the logits, which stay in [-BOUND, BOUND]."""


# --- hard concrete ------------------------------------------------------------------------------------------------


def sampled(logits: Tensor, uniform: Tensor) -> Tensor:
    """Return gates in [0, 1], from logits and uniform random numbers in (0, 1) of the same shape."""
    concrete = ((uniform.log() - (-uniform).log1p() + logits) / BETA).sigmoid()
    return (concrete * (UPPER - LOWER) + LOWER).clamp(0, 1)


def probability_open(logits: Tensor) -> Tensor:
    """Return P(gate > 0), in closed form."""
    return (logits - BETA * math.log(-LOWER / UPPER)).sigmoid()


# --- what is gated ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gate:
    """The gates of one group of units, or the single gate of a sublayer."""

    label: str
    units: int
    parts: tuple[Part, ...]
    """All axes of the units; they count towards the size."""
    masked: tuple[Part, ...]
    """Axes along which layers read the units; the gates multiply their entries."""
    whole: tuple[str, ...] = ()
    """Parameters of a sublayer, which its gate multiplies as a whole."""
    group: Group | None = None
    owned: tuple[str, ...] = ()
    """Further parameters that count as a whole: those without effect once the sublayer is closed."""


def unit_gates(supernet: Supernet, groups: Sequence[Group], norms: bool = False) -> list[Gate]:
    """Return gates for the coupled groups; `norms` includes groups over which a norm averages.

    A closed unit still enters the statistics of a layer norm, so removing it changes what the network computes.
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
    """Return whether a matrix sums over this axis; for layers of unknown kind, True for every axis of a matrix."""
    owner, parameter = _owner(network, part), network.get_parameter(part.name)
    if parameter.dim() < 2:
        return False
    if isinstance(owner, nn.Linear) and part.name.endswith("weight"):
        return part.axis == 1
    if type(owner).__name__ == "Conv1D":  # the transformers library stores its weight transposed
        return part.axis == 0
    if isinstance(owner, nn.modules.conv._ConvNd) and owner.groups in (1, owner.in_channels):
        return owner.groups == 1 and part.axis == (0 if owner.transposed else 1)
    return True


def sublayer_gates(supernet: Supernet, patterns: Sequence[str], example: Example | None = None) -> list[Gate]:
    """Return a gate for each module that matches a pattern, such as ``blocks.*.attention.out``.

    The module is the last linear layer or convolution of a sublayer, whose output is 0 when its parameters are 0.

    Args:
        example: inputs of at least two examples; their gradients show which other parameters belong to each sublayer.
            None counts only the parameters of the matched modules.

    Raises:
        DistillationError: a pattern matches no module.
        SupernetError: a module is neither a linear layer nor a convolution.
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
    """Return the parameters on which outputs no longer depend once those in `whole` are 0."""
    closed = {name: torch.zeros_like(network.get_parameter(name)) for name in whole}
    before, after = (_reached(network, values, example) for values in ({}, closed))
    return [name for name in before if name not in after and name not in whole]


def _reached(network: nn.Module, values: Mapping[str, Tensor], example: Example) -> list[str]:
    """Return the names of the parameters with a nonzero gradient of the outputs, in evaluation mode."""
    named = {name: value.detach().requires_grad_() for name, value in network.named_parameters()}
    inputs = example if isinstance(example, tuple) else (example,)
    with torch.enable_grad(), torch.random.fork_rng(devices=()):
        outputs = list(leaves(functional_call(network.eval(), {**named, **values}, inputs)))
        torch.manual_seed(0)  # random weights: the plain sum of a norm's outputs has no gradient
        total = sum((out * torch.randn_like(out)).sum() for out in outputs if out.is_floating_point())
        assert isinstance(total, Tensor)
        found = torch.autograd.grad(total, list(named.values()), allow_unused=True)
    return [name for name, own in zip(named, found, strict=True) if own is not None and bool(own.any())]


def masked(values: Mapping[str, Tensor], gates: Sequence[Gate], z: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return the gated parameters of the largest network, multiplied by their gates (units,)."""
    found: dict[str, Tensor] = {}
    for gate, own in zip(gates, z, strict=True):
        for part in gate.masked:
            value = found.get(part.name, values[part.name])
            found[part.name] = value * _along(own, part, value.shape)
        for name in gate.whole:
            found[name] = found.get(name, values[name]) * own
    return found


def units_in(shapes: Mapping[str, Shape], gate: Gate) -> int:
    """Return how many of a gate's units a network with these parameter shapes has; a sublayer is one unit."""
    if not gate.parts:
        return gate.units
    there = next((part for part in gate.parts if part.name in shapes), None)
    return 0 if there is None else shapes[there.name][there.axis] * gate.units // there.size


def _along(z: Tensor, part: Part, shape: Shape) -> Tensor:
    """Return gates (units,) along an axis, each repeated over the entries of its unit in every fused block."""
    spread = z.repeat_interleave(part.size // part.blocks // len(z)).repeat(part.blocks)
    return spread.view([-1 if axis == part.axis else 1 for axis in range(len(shape))])


Prices = Mapping[str, float]
"""The cost of one entry of each parameter, by the parameter's name."""


def expected_size(
    shapes: Mapping[str, Shape], gates: Sequence[Gate], opened: Sequence[Tensor], prices: Prices | None = None
) -> Tensor:
    """Return the expected cost of the open gated parameters, from the probabilities (units,) that gates are open.

    An entry of a matrix with gates on both axes is open if both gates are. Gates are independent, so the expected share
    of open entries is the product of the axes' means.

    Args:
        prices: costs per entry; None counts parameters.
    """
    shares: dict[str, Tensor] = {}
    for gate, own in zip(gates, opened, strict=True):
        for name in {*(part.name for part in gate.parts), *gate.whole, *gate.owned}:
            shares[name] = shares.get(name, torch.ones_like(own[0])) * own.mean()
    entries = {name: math.prod(shapes[name]) * (1.0 if prices is None else prices.get(name, 0.0)) for name in shares}
    return torch.stack([entries[name] * share for name, share in shares.items()]).sum()


def whole_size(shapes: Mapping[str, Shape], gates: Sequence[Gate], prices: Prices | None = None) -> float:
    """Return `expected_size` with all gates open."""
    return float(expected_size(shapes, gates, [torch.ones(gate.units, dtype=torch.float64) for gate in gates], prices))


def expected_sparsity(
    shapes: Mapping[str, Shape], gates: Sequence[Gate], opened: Sequence[Tensor], prices: Prices | None = None
) -> Tensor:
    """Return the expected closed share of the gated parameters' cost."""
    return 1 - expected_size(shapes, gates, opened, prices) / whole_size(shapes, gates, prices)


@torch.no_grad()
def uses(network: nn.Module, example: Example) -> dict[str, float]:
    """Return how often one example uses each entry of the weights of linear layers and convolutions, by name.

    With these prices `expected_size` counts multiply-accumulates. Products of activations, as in attention, involve no
    weight and are not counted.
    """
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
