"""The costs of a network, counted on the meta device without any computation."""

from collections.abc import Container, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import astuple, dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from supernets.errors import SupernetError


@dataclass(frozen=True)
class Layers:
    """The costs of all layers of one kind.

    Attributes:
        count: how many ran.
        params: their parameters, and those of modules inside that do not run as such; tied ones once.
        macs: multiply-accumulates of one example, without those of modules inside.
        output_bytes: of one forward pass over the given batch; 0 of modules that hold others.
    """

    count: int = 0
    params: int = 0
    macs: int = 0
    output_bytes: int = 0

    def __add__(self, other: "Layers") -> "Layers":
        return Layers(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Profile:
    """The cost of one network.

    Attributes:
        params: parameters, tied ones once.
        macs: multiply-accumulates of one example (matrix products, convolutions, attention).
        activation_bytes: what one forward pass over the given batch keeps for backward, parameters left out.
        kinds: by class of modules what those that run and cost something are in the whole, "Conv2d" or "Attention".
    """

    params: int
    macs: int
    activation_bytes: int
    kinds: Mapping[str, Layers] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """The costs of one module of a network, without those of its children."""

    kind: str
    """The class of the module."""
    layers: Layers

    @property
    def costs(self) -> bool:
        """Whether the module counts as a layer; a pure container does not."""
        return bool(self.layers.params or self.layers.macs or self.layers.output_bytes)


def profile_network(module: nn.Module, example: Tensor | tuple[Tensor, ...]) -> Profile:
    """Return the costs of ``module`` on ``example``, whose first axis is the batch. This moves the module to meta.

    Raises:
        SupernetError: the module's `forward` needs values, which meta tensors do not have.
    """
    parts, activation_bytes = _counted(module, example)
    kinds: dict[str, Layers] = {}
    for part in filter(lambda part: part.costs, parts.values()):
        kinds[part.kind] = kinds.get(part.kind, Layers()) + part.layers
    params, macs = (sum(getattr(part.layers, name) for part in parts.values()) for name in ("params", "macs"))
    return Profile(params, macs, activation_bytes, kinds)


def profile_parts(module: nn.Module, example: Tensor | tuple[Tensor, ...]) -> dict[str, Part]:
    """Return the costs of each module that runs, by path in order of first use, counted as in `profile_network`."""
    return _counted(module, example)[0]


def _counted(module: nn.Module, example: Tensor | tuple[Tensor, ...]) -> tuple[dict[str, Part], int]:
    """Return the parts, and the bytes that the network keeps for the backward pass.

    A `forward` that reads values fails on meta tensors. Some, such as those of transformers models, take another branch
    while they are traced, so the second attempt uses fake tensors, which look like traced ones.
    """
    module = module.to("meta").eval()
    types = {parameter.dtype for parameter in module.parameters() if parameter.is_floating_point()}
    inputs = tuple(_as_taken(tensor, types) for tensor in (example if isinstance(example, tuple) else (example,)))
    try:
        return _run(module, inputs)
    except (NotImplementedError, RuntimeError) as error:
        fake = FakeTensorMode(allow_non_fake_inputs=True)
        try:
            return _run(module, tuple(map(fake.from_tensor, inputs)), fake, _Grouped())  # type: ignore[no-untyped-call]
        except (NotImplementedError, RuntimeError):
            raise SupernetError(
                f"cannot profile {type(module).__name__} on shapes alone: {str(error).splitlines()[0]}; its forward "
                "must not depend on values, and plain tensor attributes should be registered as buffers"
            ) from error


def _as_taken(tensor: Tensor, types: set[torch.dtype]) -> Tensor:
    """Return an input on the meta device, in the common dtype of the module's parameters if there is one."""
    (dtype,) = types if tensor.is_floating_point() and len(types) == 1 else {tensor.dtype}
    return tensor.to("meta", dtype)


def _run(
    module: nn.Module, inputs: tuple[Tensor, ...], *modes: AbstractContextManager[object]
) -> tuple[dict[str, Part], int]:
    parameters = {id(parameter) for parameter in module.parameters()}
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten._grouped_mm: _grouped_flops})
    runs = _Runs(module)
    kept: dict[int, int] = {}
    alive = []  # keeps storages alive, so that no other reuses their address

    def keep(tensor: Tensor) -> Tensor:
        base = tensor if tensor._base is None else tensor._base
        if not isinstance(tensor, nn.Parameter) and id(tensor) not in parameters and id(base) not in parameters:
            storage = tensor.untyped_storage()
            alive.append(storage)
            kept[storage._cdata] = max(kept.get(storage._cdata, 0), _size(tensor))
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with ExitStack() as stack:
        for context in (*modes, counter, runs, torch.enable_grad(), hooks):
            stack.enter_context(context)
        module(*inputs)
    return _parts(module, runs, counter, inputs[0].shape[0]), sum(kept.values())


class _Grouped(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Provides the shape of grouped matrix products for all dtypes; on meta tensors torch supports only bfloat16."""

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten._grouped_mm.default and args[0].dim() == 2 and args[1].dim() == 3:
            return args[0].new_empty(args[0].shape[0], args[1].shape[2])
        return func(*args, **(kwargs or {}))


def _grouped_flops(a: torch.Size, b: torch.Size, *_: object, **__: object) -> int:
    """Return the FLOPs of a product of (n, k) with (groups, k, m), where each row meets one of the matrices."""
    return 2 * a[0] * a[1] * b[2]


class _Runs:
    """Records which modules run, how often, and the output bytes of those without children."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self.output_bytes: dict[str, list[int]] = {}

    def __enter__(self) -> None:
        self._hooks = [
            part.register_forward_hook(partial(self._ran, name)) for name, part in self._module.named_modules()
        ]

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _ran(self, name: str, part: nn.Module, _: object, output: object) -> None:
        is_leaf = next(part.children(), None) is None and not isinstance(part, nn.Sequential)  # which may be empty
        size = _size(output) if is_leaf and isinstance(output, Tensor) else 0
        self.output_bytes.setdefault(name, []).append(size)


def _parts(module: nn.Module, runs: _Runs, counter: FlopCounterMode, batch: int) -> dict[str, Part]:
    counts = {name: sum(by_op.values()) for name, by_op in counter.get_flop_counts().items()}
    modules, ran = dict(module.named_modules()), runs.output_bytes
    whole = {name: counts.get(f"{type(module).__name__}.{name}".rstrip("."), 0) for name in ran}
    own, params = dict(whole), dict.fromkeys(ran, 0)
    for name in filter(None, ran):
        own[_above(name, ran)] -= whole[name]
    for name, parameter in module.named_parameters():
        params[_above(name, ran)] += parameter.numel()
    return {
        name: Part(type(modules[name]).__name__, Layers(len(sizes), params[name], own[name] // 2 // batch, sum(sizes)))
        for name, sizes in ran.items()
    }


def _above(name: str, ran: Container[str]) -> str:
    """Return the innermost enclosing module that ran itself; a ModuleList, for example, does not run."""
    name = name.rpartition(".")[0]
    while name not in ran:
        name = name.rpartition(".")[0]
    return name


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
