"""Analyse how the layers of a network are connected: the paths from inputs to outputs, found in a single run.

A layer is an operator that multiplies by a weight: a linear map, a convolution, an embedding. The analysis intercepts
torch's operators, on the meta device if possible. For every storage it tracks the layers from which it comes directly,
without another layer between; operators pass these on to their outputs. Sums, concatenations, gates and attention thus
join paths; views, norms and activations keep them; and parallel connections between two layers count as one.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from supernets.tasks import to_device
from supernets.views import leaves

INPUT = 0


@dataclass(frozen=True)
class Connectivity:
    """Properties of a network's connections that determine how large its training steps may be."""

    paths: Mapping[int, int]
    """The number of paths from inputs to outputs, by the number of layers on a path."""
    shortest: int
    """The number of layers on the shortest path plus the joins on it; each residual sum counts as one join."""
    kernel: float
    """The root of the mean number of positions in convolution kernels: q for q x q; 1 without convolutions."""
    terms: Mapping[str, int] = field(default_factory=dict)
    """By the name of a layer's weight, the number of layers in the sum that its output enters, if there is one."""


def connectivity(module: nn.Module, example: Tensor | tuple[Tensor, ...]) -> Connectivity:
    """Trace a network from an example, whose first axis is the batch, to its outputs; the module stays unchanged.

    Each run of a repeated layer counts. If tracing finds no connection between inputs and outputs, the result treats
    all layers that ran as one chain.
    """
    inputs = example if isinstance(example, tuple) else (example,)
    try:
        return _followed(
            copy.deepcopy(module).to("meta"), tuple(to_device(one, torch.device("meta")) for one in inputs)
        )
    except (RuntimeError, TypeError):  # the network needs actual values
        own = copy.deepcopy(module)
        device = next((parameter.device for parameter in own.parameters()), torch.device("cpu"))
        return _followed(own, tuple(to_device(one, device) for one in inputs))


def _followed(module: nn.Module, inputs: tuple[Tensor, ...]) -> Connectivity:
    watch = _Watch(module, inputs)
    with torch.no_grad(), torch.random.fork_rng(devices=()), watch:
        outputs = module.train()(*inputs)
    return watch.found(list(leaves(_values(outputs))))


def _values(outputs: Any) -> Any:
    """Return outputs as they are if of a known kind, such as transformers' mappings, else the object's attributes."""
    known = isinstance(outputs, Tensor | Mapping | tuple | list)
    return outputs if known else list(getattr(outputs, "__dict__", {}).values())


Flow = dict[int, int]
"""The layers from which a tensor comes directly, each with the number of joins between."""

_LAYERS = {
    *("mm", "bmm", "mv", "addmm", "baddbmm", "addmv", "linear", "matmul", "embedding", "_embedding_bag"),
    *("convolution", "_convolution", "mkldnn_rnn_layer", "_native_multi_head_attention"),
}
_ANEW = {f"{begun}_{like}" for begun in ("zeros", "ones", "full", "empty", "rand", "randn") for like in ("like",)} | {
    f"new_{begun}" for begun in ("zeros", "ones", "full", "empty")
}
"""Operators whose result depends only on the shape of their input."""
_SUMS = {"add", "add_", "sub", "sub_", "sum", "mean"}


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # as in tracing: True would import the compiler

    def __init__(self, module: nn.Module, inputs: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._kept: list[Tensor] = []  # keeps tensors alive, so that no other storage reuses an address
        self._weights: dict[int, frozenset[str]] = {}
        self._flows: dict[int, Flow] = {}
        self._paths: list[Counter[int]] = [Counter({0: 1})]
        self._shortest = [0]
        self._names: list[frozenset[str]] = [frozenset()]
        self._terms: Counter[str] = Counter()
        self._places: list[int] = []
        self._ran = 0
        for name, parameter in module.named_parameters():
            self._weights[self._key(parameter)] = frozenset({name})
        for tensor in inputs:
            self._flows[self._key(tensor)] = {INPUT: 0}

    def _key(self, tensor: Tensor) -> int:
        self._kept.append(tensor)
        return int(tensor.untyped_storage()._cdata)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::").partition(".")[0]
        if name in _ANEW:
            return out
        given = [*_tensors(args), *_tensors((kwargs or {}).values())]
        keys = dict.fromkeys(map(self._key, given))
        weights = frozenset[str]().union(*(self._weights[key] for key in keys if key in self._weights))
        flow = self._joined([self._flows[key] for key in keys if key in self._flows], name in _SUMS)
        matrix = next((one for one in given if self._key(one) in self._weights and one.dim() > 1), None)
        if name in _LAYERS and matrix is not None and any(key not in self._weights for key in keys):
            self._ran += 1
            kernel = matrix.shape[2:] if "convolution" in name else None
            flow = self._layer(flow, self._weights[self._key(matrix)], kernel) if flow else {}
        for key in map(self._key, _tensors([out])):
            if flow and key not in self._weights:
                self._flows[key] = flow
            elif weights and not flow:
                self._weights[key] = weights
        return out

    def _joined(self, flows: list[Flow], added: bool) -> Flow:
        """Return the union of flows; a join of different layers adds one to the number of joins."""
        found: Flow = {}
        for flow in flows:
            for layer, joins in flow.items():
                found[layer] = min(joins, found.get(layer, joins))
        if any(len(flow) < len(found) for flow in flows):
            found = {layer: joins + 1 for layer, joins in found.items()}
            if added:
                for layer in found:
                    for name in self._names[layer]:
                        self._terms[name] = max(self._terms[name], len(found))
        return found

    def _layer(self, flow: Flow, weights: frozenset[str], kernel: Iterable[int] | None) -> Flow:
        paths = Counter[int]()
        for layer in flow:
            for length, number in self._paths[layer].items():
                paths[length + 1] += number
        self._paths.append(paths)
        self._shortest.append(1 + min(self._shortest[layer] + joins for layer, joins in flow.items()))
        self._names.append(weights)
        if kernel is not None:
            self._places.append(math.prod(kernel))
        return {len(self._paths) - 1: 0}

    def found(self, outputs: list[Tensor]) -> Connectivity:
        flow = self._joined([f for one in outputs if (f := self._flows.get(self._key(one)))], added=False)
        paths = sum((self._paths[layer] for layer in flow), Counter[int]()) if flow else Counter({self._ran: 1})
        shortest = min((self._shortest[layer] + joins for layer, joins in flow.items()), default=self._ran)
        kernel = math.sqrt(sum(self._places) / len(self._places)) if self._places else 1.0
        return Connectivity(dict(paths), shortest, kernel, dict(self._terms))


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from _tensors(value)
