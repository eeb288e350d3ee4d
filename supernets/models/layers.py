"""Layers that combine normalisation and activation, defined by graphs (EvoNorm, arXiv:2004.02967).

    x (N, C, H, W) -> f(x, v0, v1) -> gamma * f + beta (N, C, H, W)

`f` is a graph: nodes in order, each a primitive with its arguments; the last is the output. Moments over the batch come
from the batch in training and from running statistics in evaluation, as in batch norm; all others are per example.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Nodes: TypeAlias = Sequence[Sequence[Any]]
"""Nodes (primitive, argument, ...); arguments are names of inputs and numbers of earlier nodes."""

EVONORMS: dict[str, Nodes] = {
    "evonorm_b0": (  # x / max(std_bwh(x), v1 x + std_wh(x))
        ("std_bwh", "x"), ("mul", "v1", "x"), ("std_wh", "x"), ("add", 1, 2), ("max", 0, 3), ("div", "x", 4),
    ),
    "evonorm_b1": (  # x / max(std_bwh(x), (x + 1) rms_wh(x))
        ("std_bwh", "x"), ("add", "x", "one"), ("rms_wh", "x"), ("mul", 1, 2), ("max", 0, 3), ("div", "x", 4),
    ),
    "evonorm_b2": (  # x / max(std_bwh(x), rms_wh(x) - x)
        ("std_bwh", "x"), ("rms_wh", "x"), ("neg", "x"), ("add", 1, 2), ("max", 0, 3), ("div", "x", 4),
    ),
    "evonorm_s0": (  # x sigmoid(v1 x) / std_group(x)
        ("mul", "v1", "x"), ("sigmoid", 0), ("mul", "x", 1), ("std_group", "x"), ("div", 2, 3),
    ),
}  # fmt: skip
"""The published layers, by name."""

VECTORS = ("v0", "v1")
CONSTANTS = {"zero": 0.0, "one": 1.0}
_TINY = 1e-5  # keeps roots and logarithms of 0 finite


def _root(x: Tensor) -> Tensor:
    return x.sign() * (x.abs() + _TINY).sqrt()


def _log(x: Tensor) -> Tensor:
    return x.sign() * (x.abs() + _TINY).log()


OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "add": torch.add,
    "mul": torch.mul,
    "max": torch.maximum,
    "div": torch.div,
    "neg": torch.neg,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "exp": torch.exp,
    "log": _log,
    "abs": torch.abs,
    "square": torch.square,
    "sqrt": _root,
}
"""Elementwise operations; sqrt and log act on the absolute value and keep the sign."""
MOMENTS = ("mean", "std", "rms")
"""The mean, the root of the variance, and the root mean square; variances are biased, with eps inside the root."""
AXES = ("bwh", "wh", "whc", "group")


class BatchMoment(_BatchNorm):
    """A moment of each channel over batch and space (1, C, 1, 1), with the running statistics of batch norm.

    The running variance is biased, as the variance of the batch is.
    """

    def __init__(self, moment: str, channels: int, eps: float) -> None:
        super().__init__(channels, eps=eps, affine=False)
        self.moment = moment

    def forward(self, x: Tensor) -> Tensor:
        assert self.running_mean is not None and self.running_var is not None
        mean, variance = self.running_mean.to(x.dtype), self.running_var.to(x.dtype)
        if self.training:
            variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
            self._track(mean.detach(), variance.detach())
        return _moment(self.moment, mean, variance, self.eps)[:, None, None]

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        for running, now in ((self.running_mean, mean), (self.running_var, variance)):
            assert running is not None
            running.lerp_(now.to(running.dtype), share)


def _moment(moment: str, mean: Tensor, variance: Tensor, eps: float) -> Tensor:
    if moment == "mean":
        return mean
    return (variance + eps if moment == "std" else variance + mean.square() + eps).sqrt()


def _own_moment(moment: str, axes: str, groups: int, eps: float, x: Tensor) -> Tensor:
    """Return a moment of each example."""
    if axes == "group":
        n, channels, *_ = x.shape
        variance, mean = torch.var_mean(x.reshape(n, groups, -1), 2, correction=0, keepdim=True)
        found = _moment(moment, mean, variance, eps).expand(n, groups, channels // groups)
        return found.reshape(n, channels, 1, 1)
    variance, mean = torch.var_mean(x, (2, 3) if axes == "wh" else (1, 2, 3), correction=0, keepdim=True)
    return _moment(moment, mean, variance, eps)


class GraphLayer(nn.Module):
    """A layer that computes a graph, in float32 or better.

    Every layer has the parameters `gamma`, `beta` and one vector per name, even if its graph does not read it, so that
    networks of a supernet with different layers share vectors by name.

    Args:
        graph: nodes, or an architecture of a `search_spaces.LayerSpace`.
        channels: C.
        groups: number of channel groups for group moments; if it does not divide C, their greatest common divisor.
        eps: added inside the root of variances and mean squares.

    Raises:
        ValueError: a primitive or an input is unknown.
    """

    def __init__(self, graph: Any, channels: int, *, groups: int = 32, eps: float = 1e-5) -> None:
        super().__init__()
        self.nodes = _nodes(graph)
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))
        for name in VECTORS:
            self.register_parameter(name, nn.Parameter(torch.ones(channels)))
        self.moments = nn.ModuleDict()
        self._operations: list[Callable[..., Tensor]] = []
        own = math.gcd(groups, channels)
        for number, (op, *arguments) in enumerate(self.nodes):
            _check(number, op, arguments)
            moment, _, axes = op.partition("_")
            if axes == "bwh":
                self.moments[str(number)] = BatchMoment(moment, channels, eps)
            self._operations.append(OPERATIONS.get(op) or partial(_own_moment, moment, axes, own, eps))

    def forward(self, x: Tensor) -> Tensor:
        exact = x if x.dtype == torch.float64 else x.float()
        values: dict[Any, Tensor] = {"x": exact}
        values |= {name: torch.full_like(exact[:1, :1, :1, :1], value) for name, value in CONSTANTS.items()}
        values |= {name: getattr(self, name)[:, None, None].to(exact.dtype) for name in VECTORS}
        for number, (op, *arguments) in enumerate(self.nodes):
            given = [values[argument] for argument in arguments]
            if op not in OPERATIONS:
                given = [given[0].expand_as(exact)]
            run = self.moments[str(number)] if str(number) in self.moments else self._operations[number]
            values[number] = run(*given)
        y = self.gamma[:, None, None] * values[len(self.nodes) - 1] + self.beta[:, None, None]
        return y.expand_as(x).to(x.dtype)

    def extra_repr(self) -> str:
        return "; ".join(
            f"{number} = {op}({', '.join(map(str, read))})" for number, (op, *read) in enumerate(self.nodes)
        )


def norm_and_activation(
    norm: str, activation: type[nn.Module]
) -> tuple[Callable[[int], nn.Module], Callable[[], nn.Module]]:
    """Return a function from a number of channels to a normalisation, and the activation that follows it.

    Args:
        norm: "batch", or one of `EVONORMS`, which include the activation, so that the identity follows.

    Raises:
        ValueError: the name is unknown.
    """
    if norm == "batch":
        return nn.BatchNorm2d, activation
    if norm not in EVONORMS:
        raise ValueError(f"norm={norm!r}: choose one of batch, {', '.join(EVONORMS)}")
    return partial(GraphLayer, EVONORMS[norm]), nn.Identity


def _nodes(graph: Any) -> tuple[tuple[Any, ...], ...]:
    if isinstance(graph, Mapping):
        rows = zip(graph["op"], graph["left"], graph["right"], strict=True)
        return tuple((op, left) if right is None else (op, left, right) for op, left, right in rows)
    return tuple(tuple(node) for node in graph)


def _check(number: int, op: str, arguments: Sequence[Any]) -> None:
    moment, _, axes = op.partition("_")
    if op not in OPERATIONS and (moment not in MOMENTS or axes not in AXES):
        raise ValueError(
            f"node {number} is {op!r}: choose one of {', '.join(OPERATIONS)}, "
            f"or a moment ({', '.join(MOMENTS)}) over axes ({', '.join(AXES)}), such as std_wh"
        )
    known = ("x", *CONSTANTS, *VECTORS)
    for argument in arguments:
        if argument not in (*known, *range(number)):
            raise ValueError(f"node {number} reads {argument!r}: choose of {', '.join(known)} and the nodes before it")
