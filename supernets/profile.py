"""What a network costs, counted on the meta device: nothing is computed."""

from collections.abc import Container, Mapping
from dataclasses import astuple, dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from supernets.errors import SupernetError


@dataclass(frozen=True)
class Layers:
    """What the layers of one kind cost together.

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
        kinds: by class of modules what those that run are in the whole, "Conv2d" or "Attention".
    """

    params: int
    macs: int
    activation_bytes: int
    kinds: Mapping[str, Layers] = field(default_factory=dict)


def profile_network(module: nn.Module, example: Tensor | tuple[Tensor, ...]) -> Profile:
    """Count what ``module`` costs on ``example``, whose first axis is the batch. The module is moved to meta.

    Raises:
        SupernetError: the module's forward needs values, which meta tensors do not have.
    """
    inputs = tuple(tensor.to("meta") for tensor in (example if isinstance(example, tuple) else (example,)))
    module = module.to("meta").eval()
    parameters = {id(parameter): parameter.numel() for parameter in module.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        base = tensor if tensor._base is None else tensor._base
        if not isinstance(tensor, nn.Parameter) and id(tensor) not in parameters and id(base) not in parameters:
            storage = tensor.untyped_storage()
            kept[storage._cdata] = max(kept.get(storage._cdata, 0), _size(tensor))
        return tensor

    counter, runs = FlopCounterMode(display=False), _Runs(module)
    try:
        with counter, runs, torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            module(*inputs)
    except (NotImplementedError, RuntimeError) as error:
        raise SupernetError(
            f"cannot profile {type(module).__name__} on shapes alone: {str(error).splitlines()[0]}; its forward must "
            "not depend on values, and plain tensor attributes should be registered as buffers"
        ) from error
    batch = inputs[0].shape[0]
    kinds = _kinds(module, runs, counter, batch)
    return Profile(sum(parameters.values()), counter.get_total_flops() // 2 // batch, sum(kept.values()), kinds)


class _Runs:
    """Which modules run, how often, and how many bytes those without others inside return."""

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
        is_leaf = next(part.children(), None) is None
        size = _size(output) if is_leaf and isinstance(output, Tensor) else 0
        self.output_bytes.setdefault(name, []).append(size)


def _kinds(module: nn.Module, runs: _Runs, counter: FlopCounterMode, batch: int) -> dict[str, Layers]:
    """By class, in the order of their first run."""
    counts = {name: sum(by_op.values()) for name, by_op in counter.get_flop_counts().items()}
    modules, ran = dict(module.named_modules()), runs.output_bytes
    whole = {name: counts.get(f"{type(module).__name__}.{name}".rstrip("."), 0) for name in ran}
    own, params = dict(whole), dict.fromkeys(ran, 0)
    for name in filter(None, ran):
        own[_above(name, ran)] -= whole[name]
    for name, parameter in module.named_parameters():
        params[_above(name, ran)] += parameter.numel()
    kinds: dict[str, Layers] = {}
    for name, sizes in ran.items():
        kind = type(modules[name]).__name__
        found = Layers(len(sizes), params[name], own[name] // 2 // batch, sum(sizes))
        kinds[kind] = kinds.get(kind, Layers()) + found
    return {kind: layers for kind, layers in kinds.items() if layers.params or layers.macs or layers.output_bytes}


def _above(name: str, ran: Container[str]) -> str:
    """The innermost module around a name that ran itself, as a ModuleList does not."""
    name = name.rpartition(".")[0]
    while name not in ran:
        name = name.rpartition(".")[0]
    return name


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
