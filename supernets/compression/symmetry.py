"""Find the permutations of units that preserve what a supernet's networks compute, on random weights in float64.

Trained weights can hide dependences: a layer scale of 1e-6 makes a whole branch vanish in the outputs. Random weights
expose every dependence, and in float64 the rounding error is a million times smaller than any relevant effect.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from search_spaces import Architecture
from supernets.compression.units import Part, permuted
from supernets.errors import SupernetError
from supernets.layout import blocked_view
from supernets.parametrized import follow_weights
from supernets.planning import Example
from supernets.store import leading
from supernets.supernet import Supernet
from supernets.views import leaves

TOLERANCE = 1e-9
"""Largest difference between outputs or gradients that count as equal, relative to their largest entry."""
DRAWS = 3
"""Number of draws of random weights: a dependence hidden in one, such as by a ReLU at 0, may show in another."""
_SCALES = (1.0, 0.3, 0.1)  # scales of random weights; smaller ones apply when outputs overflow
Values = Mapping[str, Tensor]


class Networks:
    """Networks of a supernet that together contain every stored tensor at full size, run in float64 on given weights.

    Args:
        example: inputs of the networks; two examples are enough.
    """

    def __init__(self, supernet: Supernet, example: Example) -> None:
        self.supernet = supernet
        inputs = (example,) if isinstance(example, Tensor) else tuple(example)
        self.inputs = tuple(exact(x).to(supernet.device) for x in inputs)

    @cached_property
    def modules(self) -> dict[Architecture, nn.Module]:
        """The largest network, then further ones until every stored tensor appears at full size."""
        archs, survey = [self.supernet.space.largest()], self.supernet.survey
        shown = {name for name, shape in survey.shapes.items() if survey.variants[0].shapes.get(name) == shape}
        for variant in survey.variants:
            whole = {name for name, shape in variant.shapes.items() if shape == survey.shapes[name]}
            if whole - shown:
                shown |= whole
                archs.append(variant.arch)
        return {arch: follow_weights(_in_float64(self.supernet.extract(arch, apart=True))).eval() for arch in archs}

    def outputs(self, values: Values) -> list[list[Tensor]]:
        """Return the floating-point outputs of each network with the given weights."""
        with _Float64():
            return [self._run(module, values) for module in self.modules.values()]

    def _run(self, module: nn.Module, values: Values) -> list[Tensor]:
        own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        taken = {name: self._read(name, values[name], t) for name, t in own.items() if name in values}
        found = leaves(functional_call(module, taken, self.inputs))
        return [output for output in found if output.is_floating_point()]

    def _read(self, name: str, value: Tensor, own: Tensor) -> Tensor:
        """Return the part of a stored tensor that a network reads."""
        axes, shape = self.supernet.survey.axes.get(name), tuple(own.shape)
        if shape == tuple(value.shape):
            return value
        if axes is None:
            return leading(value, shape)
        return axes.box(shape, tuple(value.shape)).of(blocked_view(value.contiguous(), axes)).reshape(shape)


class Symmetry:
    """Compares networks with random weights before and after permutations of units.

    Args:
        minds: returns whether an order (features,) of the output features (the last axis) changes the loss. None means
            always.

    Raises:
        SupernetError: the networks return non-finite values on the example.
    """

    def __init__(self, networks: Networks, parts: Sequence[Part], minds: Callable[[Tensor], bool] | None) -> None:
        self.networks = networks
        self.minds = minds or (lambda order: True)
        self._sizes = {part.size for part in parts}
        self._buffers = {part.name for part in parts} - set(self.parameters)
        self.draws = [self._random(seed) for seed in range(DRAWS)]
        """Draws of random weights, in which no two entries are equal."""

    def _random(self, seed: int) -> dict[str, Tensor]:
        state = self.networks.supernet.state_dict()
        for scale in _SCALES:
            generator = torch.Generator().manual_seed(seed)
            values = {
                name: _drawn(tensor, scale, generator)
                if name in self.parameters
                else _moved(tensor, generator)
                if name in self._buffers
                else exact(tensor)
                for name, tensor in state.items()
            }
            with torch.no_grad():
                outputs = [one for own in self.networks.outputs(values) for one in own]
            if all(bool(torch.isfinite(one).all()) for one in outputs):
                return values
        raise SupernetError(
            "networks give what is no finite number on the example, whatever their weights, so nothing can be verified "
            "on it: see that the data are finite"
        )

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The supernet's parameters by name; all other tensors are buffers."""
        return self.networks.supernet.survey.shapes

    @cached_property
    def outputs(self) -> list[list[list[Tensor]]]:
        """The outputs of each network for each draw of weights."""
        with torch.no_grad():
            return [self.networks.outputs(values) for values in self.draws]

    @cached_property
    def reordering(self) -> bool:
        """Whether output features may be reordered together with units."""
        sizes = {output.shape[-1] for own in self.outputs[0] for output in own if output.dim()}
        return any(not self.minds(torch.arange(size).flip(0)) for size in sizes & self._sizes)

    def holds(self, parts: Sequence[Part], units: int, *, exactly: bool = False) -> bool:
        """Return whether outputs stay the same under a random permutation of the parts' units, for every draw.

        Args:
            exactly: require the output features to keep their order, even if the loss does not depend on it.
        """
        return all(self._holds(draw, parts, units, exactly) for draw in range(DRAWS))

    @torch.no_grad()
    def _holds(self, draw: int, parts: Sequence[Part], units: int, exactly: bool) -> bool:
        order = torch.randperm(units, generator=torch.Generator().manual_seed(draw))
        order = order.flip(0) if torch.equal(order, torch.arange(units)) else order
        values, expected = self.draws[draw], self.outputs[draw]
        found = self.networks.outputs({**values, **permuted(values, parts, order)})
        if exactly or not self.reordering:
            return same(found, expected)
        indices = [None, *(part.index(order) for part in parts if part.blocks == 1)]
        return any(same(found, expected, index) for index in indices)

    @torch.enable_grad()
    def gradients(self, values: Values, wanted: Sequence[str]) -> Gradients:
        """Return the gradients, by tensor, of one scalar that depends on all outputs of all networks.

        If output features may be reordered, all of them enter the scalar with equal weight.
        """
        learnt = {name: values[name].detach().requires_grad_(True) for name in wanted}
        generator, total = torch.Generator().manual_seed(0), torch.zeros((), dtype=torch.float64)
        for own in self.networks.outputs({**values, **learnt}):
            for output in own:
                shape = (*output.shape[:-1], 1) if self.reordering and output.dim() else tuple(output.shape)
                shares = torch.randn(shape, generator=generator, dtype=torch.float64).to(output.device)
                total = total.to(output.device) + (shares * output.square().log1p()).sum()
        if not total.requires_grad:
            return Gradients({})
        found = torch.autograd.grad(total, list(learnt.values()), allow_unused=True)
        return Gradients({name: one for name, one in zip(learnt, found, strict=True) if one is not None})


def twins(values: Values, parts: Sequence[Part], units: int) -> dict[str, Tensor]:
    """Return the tensors of some parts, where the first unit of each part becomes a copy of the last."""
    changed: dict[str, Tensor] = {}
    for part in parts:
        if part.name not in changed:
            changed[part.name] = values[part.name].clone()
        tensor = changed[part.name]
        first, last = (part.entries(unit, units).to(tensor.device) for unit in (0, units - 1))
        tensor.index_copy_(part.axis, first, tensor.index_select(part.axis, last))
    return changed


def untwined(twinned: Values, part: Part, parts: Sequence[Part], units: int) -> dict[str, Tensor]:
    """Return the tensor of a part whose first and last units differ again, while its other axes keep their twins."""
    tensor = twinned[part.name]
    change = torch.zeros_like(tensor)
    first = part.entries(0, units).to(tensor.device)
    shape = [len(first) if axis == part.axis else size for axis, size in enumerate(tensor.shape)]
    drawn = torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=tensor.dtype).to(tensor.device)
    change.index_copy_(part.axis, first, drawn * tensor.abs().mean().clamp(min=1e-3))
    others = [other for other in parts if other.name == part.name and other != part]
    return {part.name: tensor + twins({part.name: change}, others, units).get(part.name, change)}


class Gradients:
    """Gradients, by tensor, of a scalar that depends on all outputs; they show how outputs depend on units."""

    def __init__(self, found: Values) -> None:
        self._found = found
        self._rounding = 1e-13 * max((float(one.abs().max()) for one in found.values() if one.numel()), default=0.0)

    def reached(self, part: Part, units: int) -> int:
        """Return the number of units of a part on which the outputs depend."""
        if part.name not in self._found:
            return 0
        sizes = part.units_first(self._found[part.name], units).abs().amax(1)
        return int((sizes > self._rounding).sum())

    def alike(self, part: Part, units: int) -> bool:
        """Return whether the gradients of the first and the last unit of a part are equal; True without a gradient."""
        if part.name not in self._found:
            return True
        own = self._found[part.name]
        one, other = (own.index_select(part.axis, part.entries(at, units).to(own.device)) for at in (0, units - 1))
        scale = max(float(one.abs().max()), float(other.abs().max()))
        return float((one - other).abs().max()) <= max(TOLERANCE * scale, self._rounding)


def _close(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or not one.numel():
        return one.shape == other.shape
    return float((one - other).abs().max()) <= TOLERANCE * (float(other.abs().max()) or 1.0)


def same(found: Sequence[Sequence[Tensor]], expected: Sequence[Sequence[Tensor]], index: Tensor | None = None) -> bool:
    """Return whether networks have the expected outputs; with an index (features,), up to that feature order."""
    pairs = (pair for own, other in zip(found, expected, strict=True) for pair in zip(own, other, strict=True))
    return all(_close(one, other if index is None else _features(other, index)) for one, other in pairs)


def _features(output: Tensor, index: Tensor) -> Tensor:
    moved = output.dim() and output.shape[-1] == len(index)
    return output[..., index.to(output.device)] if moved else output


def exact(tensor: Tensor) -> Tensor:
    """Return the tensor in float64 if it is floating-point, else unchanged."""
    return tensor.double() if tensor.is_floating_point() else tensor


def _drawn(tensor: Tensor, scale: float, generator: torch.Generator) -> Tensor:
    """Return random values of a parameter's shape: matrices that preserve variance, and vectors in [0.5, 1.5)."""
    if not tensor.is_floating_point():
        return tensor
    if tensor.dim() < 2:
        drawn = torch.rand(tensor.shape, generator=generator, dtype=torch.float64) + 0.5
    else:
        width = math.sqrt(2 * tensor.shape[0] / tensor.numel())
        drawn = torch.randn(tensor.shape, generator=generator, dtype=torch.float64) * width * scale
    return drawn.to(tensor.device)


def _moved(buffer: Tensor, generator: torch.Generator) -> Tensor:
    """Return a buffer with random, distinct entries; a positive buffer, such as variances, stays positive."""
    if not buffer.is_floating_point():
        return buffer
    drawn = torch.rand(buffer.shape, generator=generator, dtype=torch.float64).to(buffer.device)
    return buffer.double() * (drawn + 0.5) if bool((buffer > 0).all()) else buffer.double() + drawn - 0.5


def _in_float64(network: nn.Module) -> nn.Module:
    """Return the network with float64 weights.

    Experts of transformers models run one by one, because their grouped kernel lacks float64. That setting is in the
    model's configuration, which other models may share, so the function copies such a network first.
    """
    grouped = [m for m in network.modules() if hasattr(m, "set_experts_implementation") and _experts(m) != "eager"]
    if grouped:
        network = copy.deepcopy(network)
        for module in network.modules():
            if hasattr(module, "set_experts_implementation"):
                module.set_experts_implementation("eager")  # type: ignore[operator]
    return network.double()


def _experts(module: nn.Module) -> str:
    return getattr(getattr(module, "config", None), "_experts_implementation", None) or "eager"


class _Float64(TorchFunctionMode):
    """Replaces casts to float32 by casts to float64: norms and attention of transformers models contain such casts."""

    def __torch_function__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is Tensor.float:
            function = Tensor.double
        args = [torch.float64 if one is torch.float32 else one for one in args]
        kwargs = {name: torch.float64 if one is torch.float32 else one for name, one in (kwargs or {}).items()}
        return function(*args, **kwargs)
