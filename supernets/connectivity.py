"""How the layers of a network are connected: the paths from its inputs to its outputs, found by running it once.

A layer is an operator that multiplies by a weight: a linear map, a convolution, an embedding. The run is watched at the
level of torch's operators, on the meta device where that can be. Every storage knows from which layers it comes without
another layer between; whatever reads it hands them on. So sums, concatenations, gates and attention join paths, views,
norms and activations leave them, and two ways between the same two layers without a layer between are one.
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
    """What the layers of a network tell of how large its steps may be."""

    paths: Mapping[int, int]
    """By how many layers are on a path, how many paths from the inputs to the outputs there are."""
    shortest: int
    """Layers on the shortest path, and the joins that it passes, of two at a time: each residual sum counts as one."""
    kernel: float
    """The root of the mean number of places that a convolution's kernel reads: q of q x q; 1 without convolutions."""
    terms: Mapping[str, int] = field(default_factory=dict)
    """By the name of a layer's weight, how many layers' outputs are added up where its own goes in, if any are."""


def connectivity(module: nn.Module, example: Tensor | tuple[Tensor, ...]) -> Connectivity:
    """Follow a network from an example, whose first axis is the batch, to its outputs; the module stays as it is.

    Of a layer that runs several times each run counts. Where a network cannot be followed, because its outputs come
    from nothing that was seen to come from its inputs, all layers that ran are taken as one chain.
    """
    inputs = example if isinstance(example, tuple) else (example,)
    try:
        return _followed(
            copy.deepcopy(module).to("meta"), tuple(to_device(one, torch.device("meta")) for one in inputs)
        )
    except (RuntimeError, TypeError):  # something asks for values
        own = copy.deepcopy(module)
        device = next((parameter.device for parameter in own.parameters()), torch.device("cpu"))
        return _followed(own, tuple(to_device(one, device) for one in inputs))


def _followed(module: nn.Module, inputs: tuple[Tensor, ...]) -> Connectivity:
    watch = _Watch(module, inputs)
    with torch.no_grad(), torch.random.fork_rng(devices=()), watch:
        outputs = module.train()(*inputs)
    return watch.found(list(leaves(_values(outputs))))


def _values(outputs: Any) -> Any:
    """Outputs of transformers are mappings by themselves; other objects are looked into."""
    known = isinstance(outputs, Tensor | Mapping | tuple | list)
    return outputs if known else list(getattr(outputs, "__dict__", {}).values())


Flow = dict[int, int]
"""The layers that a tensor comes from without one between, each with how many joins lie between."""

_LAYERS = {
    *("mm", "bmm", "mv", "addmm", "baddbmm", "addmv", "linear", "matmul", "embedding", "_embedding_bag"),
    *("convolution", "_convolution", "mkldnn_rnn_layer", "_native_multi_head_attention"),
}
_ANEW = {f"{begun}_{like}" for begun in ("zeros", "ones", "full", "empty", "rand", "randn") for like in ("like",)} | {
    f"new_{begun}" for begun in ("zeros", "ones", "full", "empty")
}
"""What these give has the shape of what they read, and nothing else of it."""
_SUMS = {"add", "add_", "sub", "sub_", "sum", "mean"}


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # as in tracing: it would import the compiler

    def __init__(self, module: nn.Module, inputs: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._kept: list[Tensor] = []  # or other storages would get their address
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
        """All that flows come from; joining is one more step where they come from different layers."""
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
