"""Building a user's module without initialising it.

Parameters become meta tensors the moment a module registers them, so whatever fills them afterwards costs nothing;
buffers and plain attributes stay real, because a causal mask or a rotary table has values no shape can give.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from search_spaces import Architecture
from supernets.errors import BuildError
from supernets.parametrized import begin

Build = Callable[[Architecture], nn.Module]

# The hook and the patched initialisers are global to torch: one thread builds at a time.
_BUILDING = threading.RLock()
_INITIALISERS = (
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
)


def call_build(build: Build, arch: Architecture) -> nn.Module:
    """The user's module for ``arch``.

    Raises:
        BuildError: ``build`` raised, or returned something that is not a module.
    """
    try:
        module = build(arch)
    except Exception as error:
        raise BuildError(
            f"build({arch.json()}) raised {type(error).__name__}: {' '.join(str(error).split())}; "
            "build must accept every architecture of the space"
        ) from error
    if not isinstance(module, nn.Module):
        raise BuildError(
            f"build({arch.json()}) returned {type(module).__name__}; "
            "it must return a torch.nn.Module, did it forget `return`?"
        )
    return module


def build_skeleton(build: Build, arch: Architecture) -> nn.Module:
    """Return the module of ``arch`` with meta parameters and real buffers, without a change of the random state."""
    with _BUILDING, torch.random.fork_rng(devices=()):
        try:
            with _parameters_on_meta():
                module = call_build(build, arch)
        except BuildError as error:
            if not _wants_values(error.__cause__):
                raise
            return _without_values(call_build(build, arch))
    begin(module)
    if any(buffer.is_meta for buffer in module.buffers()):  # computed from parameters
        _take_buffers(module, build_initialised(build, arch, 0))
    return module


def build_initialised(build: Build, arch: Architecture, seed: int) -> nn.Module:
    """Return the module of ``arch``, initialised by its own code with ``seed``."""
    with _BUILDING, torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        return call_build(build, arch)


def _wants_values(error: BaseException | None) -> bool:
    """Return whether an error of a build comes from reading the values of meta parameters."""
    return isinstance(error, RuntimeError) and "meta" in str(error).lower()


def _without_values(module: nn.Module) -> nn.Module:
    """Return the module with its parameters on the meta device; tied parameters stay tied."""
    made: dict[int, nn.Parameter] = {}
    for own in module.modules():
        for name, parameter in own._parameters.items():
            if parameter is not None:
                meta = nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
                own._parameters[name] = made.setdefault(id(parameter), meta)
    return module


def _take_buffers(module: nn.Module, other: nn.Module) -> None:
    """Fill buffers without values from the same module built with values."""
    for own, real in zip(module.modules(), other.modules(), strict=True):
        for name, buffer in own._buffers.items():
            if buffer is not None and buffer.is_meta:
                own._buffers[name] = real._buffers[name]


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    builder = threading.get_ident()

    def to_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or parameter.is_meta or threading.get_ident() != builder:
            return parameter  # an already-meta parameter registered again is a tie, and stays the same object
        return nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)

    originals = {name: getattr(nn.init, name) for name in _INITIALISERS}
    handle = register_module_parameter_registration_hook(to_meta)  # type: ignore[arg-type] # what it returns is registered
    for name, function in originals.items():
        setattr(nn.init, name, _skipping_meta(function))
    try:
        yield
    finally:
        handle.remove()
        for name, function in originals.items():
            setattr(nn.init, name, function)


def _skipping_meta(initialise: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``initialise``, but a meta tensor is returned at once: even a no-op costs 20 us through the dispatcher."""

    def wrapper(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return tensor if tensor.is_meta else initialise(tensor, *args, **kwargs)

    return wrapper
