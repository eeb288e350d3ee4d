"""Mixture-of-Supernets (arXiv:2306.04845): each network mixes its weights from experts, by a learnt router.

The store holds m copies of a mixed parameter W. A network uses sum_e a_e * slice(W_e). The coefficients a are the
softmax of a small router that reads the encoded architecture: one set per block, or one for each output neuron. They
depend only on the architecture, so extraction folds the mix into dense weights and inference has no extra cost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from math import isfinite, prod, sqrt
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from search_spaces import Architecture
from supernets.errors import SupernetError
from supernets.layout import Axes, Shape
from supernets.sharing.base import Ground, Sharing, Weights, check_blocks
from supernets.sharing.inner import Chosen, choose
from supernets.store import Reading, SharedTensor

logger = logging.getLogger(__name__)

FEED_FORWARD = (
    *("*mlp.*", "*ffn.*", "*feed_forward.*", "*feedforward.*", "*.ff.*", "*DenseReluDense.*"),
    *("*fc1.*", "*fc2.*", "*linear1.*", "*linear2.*", "*gate_proj.*", "*up_proj.*", "*down_proj.*"),
    *("*.up.weight", "*.up.bias", "*.down.weight", "*.down.bias", "*.gate_up.*"),
    *("*intermediate.dense.*", "*[0-9].output.dense.*"),  # BERT's, not its attention.output.dense
)
"""Common name patterns of feed-forward parameters."""

GRANULARITIES = ("layer", "neuron")
INITIALISATIONS = ("auto", "independent", "copies")


@dataclass(frozen=True)
class Routed(Sharing):
    """Mixes `experts` copies of the feed-forward weights, with coefficients from a router that reads the architecture.

    Raises:
        SupernetError: a setting is invalid, or a pattern matches no matrix.
    """

    name: ClassVar[str] = "routed"

    experts: int = 2
    """Number of copies of each mixed parameter; 1 is entangled sharing."""
    per: str = "layer"
    """"layer": one router per block, for all its mixed parameters. "neuron": one router per module, with coefficients
    for each output neuron, which apply to its row of the weight and to its bias."""
    mixed: tuple[str, ...] = FEED_FORWARD
    """Name patterns of the mixed parameters, which apply to modules with a matrix or kernel. If none of the default
    patterns matches, shapes decide: see `inner`."""
    hidden: int = 128
    """Units in the single hidden layer of a router."""
    init: str = "auto"
    """"independent": draw each expert by the module's own initialisation. "copies": copy the current value to each
    expert, with noise. "auto": copies for values given to the supernet (``init=``), independent ones for the others."""
    noise: float = 0.01
    """Standard deviation of the noise on copies, relative to the parameter's root mean square."""

    def __post_init__(self) -> None:
        for name, holds, rule in (
            ("experts", self.experts >= 1, "1 or more; 2 is the published choice"),
            ("per", self.per in GRANULARITIES, f"one of {', '.join(GRANULARITIES)}"),
            ("hidden", self.hidden >= 1, "1 or more; 128 is the published choice"),
            ("init", self.init in INITIALISATIONS, f"one of {', '.join(INITIALISATIONS)}"),
            ("noise", self.noise >= 0 and isfinite(self.noise), "0 or more and finite"),
        ):
            if not holds:
                raise SupernetError(f"routed: {name} = {getattr(self, name)!r}: it must be {rule}")

    def bind(self, ground: Ground) -> Weights:
        return _Routed(self, ground)

    def num_elements(self, shapes: Mapping[str, Shape]) -> int:
        routes = self.routes(shapes)
        copies = sum(prod(shapes[name]) for name in routes)
        outputs = {route.router: route.rows * self.experts for route in routes.values()}
        # the size of a router's input is unknown here; its share is small beside the head and the experts
        routers = sum((self.hidden + 1) * num_outputs + 2 * self.hidden for num_outputs in outputs.values())
        return super().num_elements(shapes) + (self.experts - 1) * copies + routers

    def routes(self, shapes: Mapping[str, Shape]) -> dict[str, Route]:
        """Return the source of each mixed parameter's coefficients, given the largest shapes of all parameters.

        Raises:
            SupernetError: a pattern names no parameter of a module with a matrix.
        """
        owners = {name.rpartition(".")[0] for name, shape in shapes.items() if len(shape) > 1}
        candidates = [name for name in shapes if name.rpartition(".")[0] in owners]
        chosen = self.chosen(shapes)
        if chosen is None:
            self._check_patterns(candidates, shapes)
        names = [name for name in candidates if self._mixes(name, chosen)]
        if self.per == "layer":
            return {name: Route(_router(_block(name.rpartition(".")[0])), None, 1) for name in names}
        routes: dict[str, Route] = {}
        for name in names:
            owner = name.rpartition(".")[0]
            axis = _neurons(name, shapes)
            rows = shapes[name][axis]
            # parameters of one module with another number of rows (as in recurrent layers) get their own router
            taken = {route.rows for route in routes.values() if route.router == _router(owner)}
            routes[name] = Route(_router(owner if taken <= {rows} else name), axis, rows)
        return routes

    def chosen(self, shapes: Mapping[str, Shape]) -> Chosen | None:
        """Return the modules chosen by their shapes; None if names decide."""
        if self.mixed != FEED_FORWARD:
            return None
        owners = {name.rpartition(".")[0] for name, shape in shapes.items() if len(shape) > 1}
        names = (name for name in shapes if name.rpartition(".")[0] in owners)
        return None if any(self._mixes(name, None) for name in names) else choose(shapes)

    def _mixes(self, name: str, chosen: Chosen | None) -> bool:
        if chosen is not None:
            return name.rpartition(".")[0] in chosen.owners
        return any(fnmatchcase(name, pattern) for pattern in self.mixed)

    def _check_patterns(self, candidates: Sequence[str], shapes: Mapping[str, Shape]) -> None:
        idle = [pattern for pattern in self.mixed if not any(fnmatchcase(name, pattern) for name in candidates)]
        if len(idle) == len(self.mixed) or (idle and self.mixed != FEED_FORWARD):
            known = candidates or list(shapes)
            what = (
                f"mixed pattern {idle[0]!r} names" if self.mixed != FEED_FORWARD and idle else "the usual names match"
            )
            example = known[0].rpartition(".")[0]
            raise SupernetError(
                f"routed: {what} no matrix of a feed-forward layer; the model has {', '.join(known[:8])}"
                f"{', ...' * (len(known) > 8)}: name some, as in routed(mixed={example}.*)"
            )


@dataclass(frozen=True)
class Route:
    """The source of one parameter's coefficients."""

    router: str
    axis: int | None  # axis of the output neurons; None: one set of coefficients for all
    rows: int  # number of sets of coefficients at the largest size


def _router(group: str) -> str:
    return f"@router.{group}" if group else "@router"


def _block(owner: str) -> str:
    """Return the block of an owner: its path up to the last number above it, or else its parent module."""
    above = owner.split(".")[:-1]
    last = max((i for i, part in enumerate(above) if part.isdigit()), default=len(above) - 1)
    return ".".join(above[: last + 1])


def _neurons(name: str, shapes: Mapping[str, Shape]) -> int:
    """Return the axis of output neurons: the first axis as long as a vector of the same module, such as its bias.

    It is axis 0 for most modules, and axis 1 for transposed matrices and convolutions.
    """
    owner, shape = name.rpartition(".")[0], shapes[name]
    vectors = {other[0] for key, other in shapes.items() if len(other) == 1 and key.rpartition(".")[0] == owner}
    return next((axis for axis, size in enumerate(shape) if size in vectors), 0)


# --- what is stored -----------------------------------------------------------------------------------------------

PARTS = ("hidden.weight", "hidden.bias", "head.weight", "head.bias")


class _Routed(Weights):
    def __init__(self, sharing: Routed, ground: Ground) -> None:
        super().__init__(ground)
        self._space = ground.space
        self._num_experts = sharing.experts
        self._routes = sharing.routes(ground.survey.shapes)
        chosen = sharing.chosen(ground.survey.shapes)
        if chosen is not None:
            self.notes = (f"routed mixes {chosen}",)
            logger.info("%s", self.notes[0])
        check_blocks(self._routes, self.store, "leave it out of mixed")
        _add_experts(sharing, ground, list(self._routes))
        generator = torch.Generator().manual_seed(ground.seed)
        for name, route in self._routes.items():
            if f"{route.router}.{PARTS[0]}" not in self.store.parameters:
                _add_router(sharing, ground, name, route, generator)

    def at(self, arch: Architecture, route: int) -> Callable[[str, Shape], Reading]:
        features = torch.from_numpy(self._space.encode([arch]))
        coefficients: dict[tuple[str, int], _Coefficients] = {}

        def read(name: str, shape: Shape) -> Reading:
            route = self._routes.get(name)
            if route is None:
                return self.store.parameters[name].leaf(shape)
            rows = 1 if route.axis is None else shape[route.axis]
            if (route.router, rows) not in coefficients:
                router = [self.store.parameters[f"{route.router}.{part}"] for part in PARTS]
                coefficients[route.router, rows] = _Coefficients(router, features, self._num_experts, rows)
            experts = [self.store.parameters[expert] for expert in _names(name, self._num_experts)]
            across = _across(experts[0].axes, shape, route.axis)
            return _Mixed(coefficients[route.router, rows], across, [expert.leaf(shape) for expert in experts])

        return read


def _names(name: str, num_experts: int) -> list[str]:
    """Return the names of the experts; the first keeps the plain name, to which pretrained weights load."""
    return [name, *(f"{name}@{expert}" for expert in range(1, num_experts))]


def _across(axes: Axes, shape: Shape, axis: int | None) -> Shape:
    """Return the shape in which coefficients multiply a blocked tensor: 1 except along the neurons."""
    return tuple(
        size if index == axis else 1
        for index, (length, count) in enumerate(zip(shape, axes.blocks, strict=True))
        for size in ((count, length // count) if count > 1 else (length,))
    )


def _add_experts(sharing: Routed, ground: Ground, names: Sequence[str]) -> None:
    """Store the experts of each mixed parameter."""
    store, num_experts = ground.store.parameters, sharing.experts
    copied = set(names) if sharing.init == "copies" else set()
    if sharing.init == "auto":
        own = ground.initialise(0)
        copied = {name for name in names if not torch.equal(own[name], store[name].value)}
    generator = torch.Generator().manual_seed(ground.seed + 1)
    drawn: dict[str, list[Tensor]] = {name: [store[name].value] for name in names}
    for index in range(1, num_experts) if len(copied) < len(names) else ():
        another = ground.initialise(index)
        for name in names:
            drawn[name].append(another[name])
    for name in names:
        first = store[name]
        noisy = partial(_copies, first.value, num_experts, sharing.noise, generator)
        values = noisy() if name in copied else _independent(drawn[name])
        for expert, value in zip(_names(name, num_experts), values, strict=True):
            store[expert] = SharedTensor(expert, value, first.axes, first.trainable)


def _independent(drawn: Sequence[Tensor]) -> list[Tensor]:
    """Return independent values times sqrt(m): the initial mix is about their mean, which then keeps the variance.

    Constant initialisations, equal in each draw, stay unchanged.
    """
    alike = all(torch.equal(value, drawn[0]) for value in drawn)
    return [value if alike else value * sqrt(len(drawn)) for value in drawn]


def _copies(value: Tensor, count: int, noise: float, generator: torch.Generator) -> list[Tensor]:
    """Return copies with noise that sums to zero over them, so that their mean (or a single copy) is the value."""
    deviations = torch.randn((count, *value.shape), generator=generator, dtype=value.dtype)
    deviations = (deviations - deviations.mean(0)) * (noise * value.square().mean().sqrt())
    return list(value + deviations)


def _add_router(sharing: Routed, ground: Ground, name: str, route: Route, generator: torch.Generator) -> None:
    """Add a router: Linear, ReLU, Linear, initialised as in torch; a zero head would be a saddle for equal experts.

    The head is neuron-major: neuron j has rows j * m to j * m + m - 1, so that slicing the head follows the slicing of
    the neurons, including fused ones. The router of a single expert is not trainable.
    """
    mixed = ground.store.parameters[name]
    num_inputs, num_outputs = ground.space.encode([ground.space.largest()]).shape[1], route.rows * sharing.experts
    count = 1 if route.axis is None else mixed.axes.blocks[route.axis]
    if route.axis is not None and route.axis in mixed.axes.centred:
        raise SupernetError(f"routed: the neurons of {name} are cut from the centre: use per=layer, or leave it out")
    trainable = sharing.experts > 1 and mixed.trainable
    shapes = ((sharing.hidden, num_inputs), (sharing.hidden,), (num_outputs, sharing.hidden), (num_outputs,))
    fans, counts = (num_inputs, num_inputs, sharing.hidden, sharing.hidden), (1, 1, count, count)
    for part, shape, fan, blocks in zip(PARTS, shapes, fans, counts, strict=True):
        value = torch.rand(shape, generator=generator, dtype=mixed.value.dtype).mul_(2).sub_(1) / sqrt(max(fan, 1))
        axes = Axes((blocks, *[1] * (len(shape) - 1)), frozenset())
        ground.store.parameters[f"{route.router}.{part}"] = SharedTensor(
            f"{route.router}.{part}", value, axes, trainable
        )


# --- what is read -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Mixed:
    """One parameter of one network, mixed at each read."""

    coefficients: _Coefficients
    across: Shape
    experts: Sequence[Tensor]

    def __call__(self) -> Tensor:
        mixed: Tensor = _Mix.apply(self.coefficients(), self.across, *self.experts)  # type: ignore[no-untyped-call]
        return mixed


class _Coefficients:
    """A router's output for one architecture, ``(rows, experts)``, recomputed when its weights change.

    It is a leaf that all parameters of a block read. Backward accumulates its gradient once, then passes it on to the
    router by repeating the router's forward pass. No graph survives between forward and backward, so two forwards
    before two backwards, or activation checkpointing, cannot find a freed graph.
    """

    def __init__(self, router: Sequence[SharedTensor], features: Tensor, num_experts: int, rows: int) -> None:
        hidden, head = router[0].shape[0], rows * num_experts
        shapes = (router[0].shape, (hidden,), (head, hidden), (head,))
        self._leaves = [tensor.leaf(shape) for tensor, shape in zip(router, shapes, strict=True)]
        self._evaluate = partial(_routing, self._leaves, features.to(self._leaves[0]), num_experts)
        self._known: tuple[list[int], Tensor] | None = None

    def __call__(self) -> Tensor:
        version = [leaf._version for leaf in self._leaves]
        if self._known is None or self._known[0] != version:
            self._known = version, self._computed()
        return self._known[1]

    def _computed(self) -> Tensor:
        with torch.inference_mode(False), torch.no_grad():
            value = self._evaluate()
        if self._leaves[0].requires_grad:
            hand_on = partial(_hand_on, self._evaluate)
            value.requires_grad_().register_post_accumulate_grad_hook(hand_on)  # type: ignore[no-untyped-call]
        return value


def _routing(router: Sequence[Tensor], features: Tensor, num_experts: int) -> Tensor:
    """Return coefficients (rows, experts) for an encoded architecture (1, inputs), in the router's own precision."""
    weight, bias, head, head_bias = router
    with torch.autocast(features.device.type, enabled=False):
        hidden = F.linear(features, weight, bias).relu()
        logits = F.linear(hidden, head.reshape(-1, head.shape[-1]), head_bias.reshape(-1))
        return logits.view(-1, num_experts).softmax(-1)


def _hand_on(evaluate: Callable[[], Tensor], leaf: Tensor) -> None:
    grad, leaf.grad = leaf.grad, None
    with torch.enable_grad():
        evaluate().backward(grad)  # type: ignore[no-untyped-call]


class _Mix(torch.autograd.Function):
    """sum_e a_e * W_e, with a backward that passes over memory as rarely as elementwise operations can."""

    @staticmethod
    def forward(ctx: Any, coefficients: Tensor, across: Shape, *experts: Tensor) -> Tensor:
        ctx.save_for_backward(coefficients, *experts)
        ctx.across = across
        factors = [column.view(across) for column in coefficients.unbind(1)]
        if len(experts) == 2:  # one pass in place of two; the coefficients of a softmax add up to one
            return torch.lerp(experts[0], experts[1], factors[1])
        mixed = experts[0] * factors[0]
        for expert, factor in zip(experts[1:], factors[1:], strict=True):
            mixed.addcmul_(expert, factor)
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        coefficients, *experts = ctx.saved_tensors
        learns = ctx.needs_input_grad[0]
        whole = tuple(grad.shape) == ctx.across  # each number has its own coefficient: there is nothing to sum
        products: list[Tensor] = []
        grads: list[Tensor] = []
        for expert, column in zip(experts, coefficients.unbind(1), strict=True):
            memory = torch.empty_like(grad)  # used twice: fresh memory costs as much as what is computed
            if learns:
                products.append(grad * expert if whole else torch.mul(grad, expert, out=memory).sum_to_size(ctx.across))
            grads.append(torch.mul(grad, column.view(ctx.across), out=memory))
        routed = torch.stack([product.reshape(-1) for product in products], 1) if learns else None
        return routed, None, *grads
