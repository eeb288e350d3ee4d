"""Zero-cost proxies: what a network that nobody has trained tells of how well it will learn. Higher is better.

Each looks at one network with its own initial weights, in milliseconds, and leaves it as it was:

- `synflow`: how much flows from the input to the output through all parameters (arXiv:2006.05467, arXiv:2101.08134);
- `naswot`: how differently the activations of a batch's examples switch (arXiv:2006.04647);
- `grad_norm`: how large the gradient of the loss is (arXiv:2101.08134).

They are deterministic: dropout is off. Measured beside the mere size of networks: benchmarks/results/proxies.md.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.utils._python_dispatch import TorchDispatchMode

from search_spaces import Architecture
from supernets.errors import SupernetError
from supernets.skeleton import Build, build_initialised
from supernets.tasks import Task, to_device

Proxy = Callable[[nn.Module, Task, int], float]
"""Maps a network, a task and a seed for random batches to a score."""
Loss = Callable[[nn.Module, Any], Tensor]
"""Maps a network and a batch to a scalar."""

_NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


class ProxyError(SupernetError):
    """A proxy cannot score a network, or a name belongs to no proxy."""


# --- synflow ------------------------------------------------------------------------------------------------------


def synaptic_flow(module: nn.Module, inputs: Tensor) -> dict[str, float]:
    """For each parameter the sum of |theta * dR/dtheta|, in float64, for R the sum of the outputs (2006.05467, eq. 1).

    All parameters are replaced by their absolute values and the inputs by ones. Dropout is off, and torch's norms of
    every kind hand on what they get, so that nothing but the weights scales the flow: a layer norm of ones would be 0.
    Token numbers cannot be ones, so every `nn.Embedding` gives ones in place of its rows; its table takes part only
    where it is used otherwise, as by a tied head. Of attention, queries and keys have no flow: all places are alike.

    Args:
        inputs: any of the shape and type that the module takes; one example is enough.

    Raises:
        ProxyError: the module gives no tensor.
    """
    ours = copy.deepcopy(module).double().eval().requires_grad_(True)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.abs_()
    for child in ours.modules():
        if isinstance(child, _NORMS):
            child.register_forward_hook(lambda _, given, found: given[0])
        elif isinstance(child, nn.Embedding):
            child.register_forward_hook(lambda _, given, found: torch.ones_like(found))
    ones = torch.ones_like(inputs, dtype=torch.float64) if inputs.is_floating_point() else torch.zeros_like(inputs)
    with torch.enable_grad():
        out = ours(to_device(ones, _device(ours)))
        if not isinstance(out, Tensor):
            remedy = "wrap it in a module that returns its logits"
            raise ProxyError(
                f"{type(module).__name__} returns {type(out).__name__}, and synflow sums a tensor: {remedy}"
            )
        named = dict(ours.named_parameters())
        gradients = _gradients(out.sum(), named.values())
    pairs = zip(named.items(), gradients, strict=True)
    return {
        name: float((value.detach() * gradient).abs().sum())
        for (name, value), gradient in pairs
        if gradient is not None
    }


def synflow(module: nn.Module, inputs: Tensor) -> float:
    """The logarithm of the whole synaptic flow; -inf where nothing flows, as through a last layer of zeros.

    Raises:
        ProxyError: as `synaptic_flow`; or the flow is past the largest number there is.
    """
    flow = math.fsum(synaptic_flow(module, inputs).values())
    if not math.isfinite(flow):
        remedy = "initialise its weights smaller, or leave synflow out"
        raise ProxyError(f"{type(module).__name__} has a synaptic flow of {flow}, which cannot be compared: {remedy}")
    return math.log(flow) if flow > 0 else -math.inf


# --- naswot -------------------------------------------------------------------------------------------------------

_aten = torch.ops.aten
_SWITCHES = {
    *(_aten.relu, _aten.relu_, _aten.leaky_relu, _aten.leaky_relu_, _aten._prelu_kernel, _aten.rrelu_with_noise),
    *(_aten.threshold, _aten.threshold_, _aten.hardtanh, _aten.hardtanh_, _aten.hardswish, _aten.hardswish_),
    *(
        _aten.elu,
        _aten.elu_,
        _aten.celu,
        _aten.celu_,
        _aten.selu,
        _aten.selu_,
        _aten.gelu,
        _aten.gelu_,
        _aten.silu,
        _aten.silu_,
        _aten.mish,
        _aten.mish_,
        _aten.softplus,
    ),
}
"""What every piecewise linear activation and its smooth kin come down to, however they are spelled in a module."""


class _Patterns(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the kernel of the activations that run for a batch of n examples."""

    def __init__(self, num_examples: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.agreeing = torch.zeros(num_examples, num_examples, dtype=torch.float64)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func.overloadpacket in _SWITCHES:
            self._add(args[0])  # before an activation in place overwrites it
        return func(*args, **(kwargs or {}))

    def _add(self, before: Tensor) -> None:
        n = len(self.agreeing)
        if before.dim() and before.shape[0] % n == 0:  # others have no examples, as scores of relative positions
            on = (before.reshape(n, -1) > 0).double() * 2 - 1
            self.agreeing += ((on.shape[1] + on @ on.T) / 2).cpu()


def activation_kernel(module: nn.Module, inputs: Tensor) -> Tensor:
    """(n, n) float64, exact whole numbers: K_ij of 2006.04647, at how many units examples i and j switch alike.

    That is N_A less the Hamming distance of two binary patterns, of which each unit gives a digit: whether its
    activation's input is above 0. That holds for ReLU and its piecewise linear kin; of GELU, SiLU, ELU, Mish and
    softplus, which have no pieces, the sign of the input is taken likewise. Sigmoid and tanh do not count: they gate.
    Batch norm uses the statistics of the batch, for the running ones of a new network are those of nothing.

    Args:
        inputs: a batch of n examples, along the first axis of inputs and of activations.
    """
    ours = _as_at_first(module)
    with torch.enable_grad(), _Patterns(len(inputs)) as patterns:  # without gradients torch fuses whole layers
        ours(to_device(inputs, _device(ours)))
    agreeing: Tensor = patterns.agreeing
    return agreeing


def naswot(module: nn.Module, inputs: Tensor) -> float:
    """log |K_H|, the logarithm of the determinant of `activation_kernel`.

    It is -inf where the kernel is singular to float64: two examples show the same pattern, there are fewer units than
    examples, or no activation at all. Values of different batches or batch sizes do not compare.
    """
    eigenvalues = torch.linalg.eigvalsh(activation_kernel(module, inputs))
    least = len(eigenvalues) * torch.finfo(torch.float64).eps * float(eigenvalues.max())
    return float(eigenvalues.log().sum()) if float(eigenvalues.min()) > least else -math.inf


# --- the gradient's norm ------------------------------------------------------------------------------------------


def grad_norm(module: nn.Module, batch: Any, loss: Loss) -> float:
    """The Euclidean norm of the loss's gradient by all parameters together, those that are frozen too.

    Batch norm uses the statistics of the batch, as in training.
    """
    ours = _as_at_first(module)
    with torch.enable_grad():
        gradients = _gradients(loss(ours, to_device(batch, _device(ours))), list(ours.parameters()))
    return math.sqrt(math.fsum(float(one.double().square().sum()) for one in gradients if one is not None))


# --- of a task ----------------------------------------------------------------------------------------------------


def _grad_norm_of_task(module: nn.Module, task: Task, seed: int) -> float:
    return grad_norm(module, task.batch(0, seed), lambda network, batch: task.loss(task.outputs(network, batch), batch))


PROXIES: dict[str, Proxy] = {
    "synflow": lambda module, task, seed: synflow(module, task.example()),
    "naswot": lambda module, task, seed: naswot(module, next(task.calibration(1))),
    "grad_norm": _grad_norm_of_task,
}


def proxies(
    build: Build, arch: Architecture, task: Task, names: Iterable[str] = PROXIES, seed: int = 0
) -> dict[str, float]:
    """Proxies by name, of the network that `build` makes with the initial weights of a seed.

    Raises:
        ProxyError: a name is no proxy's, or as that proxy.
        BuildError: `build` fails.
    """
    module = build_initialised(build, arch, seed)
    return {name: _named(name)(module, task, seed) for name in names}


def _named(name: str) -> Proxy:
    if name not in PROXIES:
        raise ProxyError(f"{name!r} is no zero-cost proxy: choose of {', '.join(PROXIES)}")
    return PROXIES[name]


def _as_at_first(module: nn.Module) -> nn.Module:
    """Return a copy that runs as in the first step of a training, without dropout."""
    ours = copy.deepcopy(module).eval().requires_grad_(True)
    for child in ours.modules():
        if isinstance(child, _BatchNorm):
            child.train()
    return ours


def _gradients(value: Tensor, parameters: Iterable[nn.Parameter]) -> tuple[Tensor | None, ...]:
    """None each for parameters that the value does not depend on."""
    wanted = list(parameters)
    if not value.requires_grad:
        return (None,) * len(wanted)
    return torch.autograd.grad(value, wanted, allow_unused=True)


def _device(module: nn.Module) -> torch.device:
    return next((tensor.device for tensor in module.parameters()), torch.device("cpu"))
