"""Which parameters hold several blocks side by side, seen by running a network: their outputs are cut into equal parts.

A gate and what it gates are often one matrix, whose output `chunk` cuts in two. A smaller network must read the leading
part of each half, and names do not tell: so the outputs of layers are followed to where they are cut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from search_spaces import Architecture
from supernets.layout import Blocks, Layouts
from supernets.skeleton import Build, build_initialised

_CUTS = ("chunk", "split", "tensor_split")
_CARRIERS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.Dropout, nn.Identity)
"""What hands features on in their places."""


@dataclass(frozen=True)
class _Origin:
    """The layers, from the one that mixes features to the last that hands them on, that made a tensor; and its axis."""

    layers: tuple[str, ...]
    axis: int


def find_fused(build: Build, arch: Architecture, example: Tensor | tuple[Tensor, ...]) -> Layouts:
    """Layouts by parameter name, found by running the network of ``arch`` on an input; nothing where it cannot run.

    Found are linear layers and convolutions whose output is cut into equal parts along its features, by `chunk`,
    `split` or `glu`, directly or behind norms and depthwise convolutions, which are cut alike. What is cut by views,
    as queries, keys and values often are, is known by the classes of attention: see `supernets.layout`.
    """
    module = build_initialised(build, arch, seed=0).eval()
    inputs = example if isinstance(example, tuple) else (example,)
    followed = _Followed(module)
    with ExitStack() as stack:
        for context in (torch.no_grad(), followed.hooked(), followed):
            stack.enter_context(context)
        module(*inputs)
    return {
        f"{path}.{name}".lstrip("."): Blocks(count, axis=axis)
        for path, count in followed.found.items()
        for name, axis in _rows(module.get_submodule(path))
    }


def _rows(layer: nn.Module) -> list[tuple[str, int]]:
    """The parameters of a layer along whose axis its output features lie."""
    own = dict(layer.named_parameters(recurse=False))
    turned = type(layer).__name__ == "Conv1D"  # of transformers: (inputs, outputs)
    return [(name, value.dim() - 1 if turned else 0) for name, value in own.items()]


class _Followed(TorchFunctionMode):
    """Follows the outputs of layers to where they are cut."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.found: dict[str, int] = {}
        self._origins: dict[int, _Origin] = {}
        self._alive: list[Tensor] = []  # an id is a tensor's only as long as the tensor is there

    def hooked(self) -> ExitStack:
        stack = ExitStack()
        for path, layer in self.module.named_modules():
            if next(layer.children(), None) is None:
                handle = layer.register_forward_hook(_noting(self, path))
                stack.callback(handle.remove)
        return stack

    def note(self, path: str, layer: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        """A layer has run."""
        if not isinstance(output, Tensor) or not given or not isinstance(given[0], Tensor):
            return
        before = self._origins.get(id(given[0]))
        carries = isinstance(layer, _CARRIERS) or _depthwise(layer)
        axis = 1 if isinstance(layer, nn.modules.conv._ConvNd) else -1
        if carries and before is not None:
            own = (path,) if any(True for _ in layer.parameters(recurse=False)) else ()
            self._keep(output, _Origin((*before.layers, *own), before.axis))
        elif isinstance(layer, nn.Linear | nn.modules.conv._ConvNd) or type(layer).__name__ == "Conv1D":
            self._keep(output, _Origin((path,), axis))

    def _keep(self, tensor: Tensor, origin: _Origin) -> None:
        self._origins[id(tensor)] = origin
        self._alive.append(tensor)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name in _CUTS or func is F.glu:
            tensor = args[0] if args else kwargs.get("input")
            origin = self._origins.get(id(tensor))
            if origin is not None and isinstance(tensor, Tensor):
                self._cut(tensor, origin, 2 if func is F.glu else _equal_parts(result), _axis(func, args, kwargs))
        return result

    def _cut(self, tensor: Tensor, origin: _Origin, parts: int, axis: int) -> None:
        if parts > 1 and axis % tensor.dim() == origin.axis % tensor.dim():
            for path in origin.layers:
                self.found[path] = parts


def _noting(followed: _Followed, path: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
    return lambda layer, given, output: followed.note(path, layer, given, output)


def _depthwise(layer: nn.Module) -> bool:
    return isinstance(layer, nn.modules.conv._ConvNd) and layer.groups == layer.in_channels == layer.out_channels > 1


def _equal_parts(result: Any) -> int:
    """How many parts a cut gave, 0 where they are not of one shape."""
    if not isinstance(result, tuple | list) or len({part.shape for part in result}) != 1:
        return 0
    return len(result)


def _axis(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """The axis of a cut: `chunk(x, 2, dim=0)`, `glu(x, dim=-1)`."""
    place = 1 if func is F.glu else 2
    default = -1 if func is F.glu else 0
    found = kwargs.get("dim", args[place] if len(args) > place else default)
    return int(found)
