"""A supernet: a function from an architecture to the parameters of the ordinary module the architecture describes."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from search_spaces import Architecture, Space
from supernets.errors import MemoryLimitError, ShapeError
from supernets.layout import Layouts, Shape
from supernets.optim import Optimizer, OptimizerConfig
from supernets.profile import Profile, profile_network
from supernets.sharing import Entangled, Sharing
from supernets.skeleton import Build, build_initialised, build_skeleton
from supernets.store import SharedTensor, Store, leading
from supernets.survey import Coverage, Survey, survey

Example = Tensor | tuple[Tensor, ...]


class Supernet:
    """Shared weights for every architecture of a space, derived from the shapes of a user's ordinary modules.

    Args:
        space: the architectures.
        build: the user's function from an architecture to a plain ``nn.Module``, the same every time it is called.
        sharing: how architectures share weights.
        layout: fused axes and centred axes of parameters, by name pattern: ``{"*.qkv.*": Blocks(3)}``. Convolution
            kernels, ``nn.MultiheadAttention``, LSTM and GRU are known.
        init: values for the stored tensors by name, at full size, as from a pretrained state dict; what it does not
            name keeps the module's own initialisation.
        also: architectures to look at besides the largest with each option in turn, where a parameter exists only under
            a combination of choices.
        seed: of the initial values.
        dtype: of floating parameters and buffers; None keeps the modules' own.
        memory_limit: bytes that weights, gradients and an Adam optimiser's state may take together; None means what the
            machine has free. Checked before anything is allocated.

    Raises:
        BuildError: ``build`` failed.
        ShapeError: two architectures give one name tensors of different rank, or ``init`` has another shape.
        MemoryLimitError: it would not fit.
        SupernetError: a layout names nothing.
    """

    def __init__(
        self,
        space: Space,
        build: Build,
        *,
        sharing: Sharing | None = None,
        layout: Layouts | None = None,
        init: Mapping[str, Tensor] | None = None,
        also: Sequence[Architecture] = (),
        seed: int = 0,
        dtype: torch.dtype | None = None,
        device: str | torch.device = "cpu",
        memory_limit: int | None = None,
    ) -> None:
        self.space = space
        self.build = build
        self.sharing = sharing or Entangled()
        self.device = torch.device(device)
        self._dtype = dtype
        self._survey = survey(space, build, layout or {}, also)
        self._check_memory(memory_limit)
        self._store = _allocate(self._survey, build, seed, dtype)
        if init is not None:
            self._initialise(init)
        self._store.to(self.device)

    def __repr__(self) -> str:
        return f"Supernet({self.space.name}, {self.num_parameters:,} parameters, {self.sharing.name}, {self.device})"

    # --- networks -------------------------------------------------------------------------------------------------

    def subnet(self, arch: Architecture) -> nn.Module:
        """The module of ``arch`` over views of the shared weights: an object of the user's class.

        Backward puts its gradients into the shared tensors, where ``optimizer`` finds them; its parameters' own
        ``grad`` stays None. Each call gives a fresh module and changes nothing in the supernet; running it in training
        mode updates the shared batch-norm statistics. A fused parameter (see ``layout``) is put together from its
        blocks whenever it is read.
        """
        return self._bind(arch, lambda shared, shape: self.sharing.tensor(shared, arch, shape), leading)

    def extract(self, arch: Architecture) -> nn.Module:
        """An independent ordinary module of ``arch`` with its own copy of the weights."""

        def parameter(shared: SharedTensor, shape: Shape) -> nn.Parameter:
            return nn.Parameter(self.sharing.copy(shared, arch, shape), shared.trainable)

        return self._bind(arch, parameter, lambda buffer, shape: leading(buffer, shape).clone())

    def _bind(
        self,
        arch: Architecture,
        parameter: Callable[[SharedTensor, Shape], Tensor],
        buffer: Callable[[Tensor, Shape], Tensor],
    ) -> nn.Module:
        if arch not in self.space:
            self.space.architecture(arch.to_dict())  # says what is wrong with it
        module = build_skeleton(self.build, arch)
        bound: dict[int, Tensor] = {}  # tied parameters are one object under several names
        for path, owner in module.named_modules():
            prefix = path + "." if path else ""
            scattered: dict[str, Shape] = {}
            for attribute, meta in list(owner._parameters.items()):
                if meta is None:
                    continue
                shape = tuple(meta.shape)
                tensor = bound.get(id(meta))
                if tensor is None:
                    tensor = bound[id(meta)] = parameter(self._shared(prefix + attribute, shape, arch), shape)
                if isinstance(owner, nn.RNNBase):
                    setattr(owner, attribute, tensor)  # it keeps a list of its weights beside the attributes
                else:
                    owner._parameters[attribute] = cast(nn.Parameter, tensor)
                if tensor.dim() != len(shape) or (isinstance(owner, _GATHERING) and not tensor.is_contiguous()):
                    scattered[attribute] = shape
            if scattered:
                _gather_when_read(owner, scattered)
            for attribute, own in owner._buffers.items():
                if own is not None:
                    stored = self._store.buffers.get(prefix + attribute)
                    if stored is not None:
                        owner._buffers[attribute] = buffer(stored, tuple(own.shape))
                    else:
                        owner._buffers[attribute] = self._cast(own).to(self.device)
        return module

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._dtype) if self._dtype is not None and tensor.is_floating_point() else tensor

    def _shared(self, name: str, shape: Shape, arch: Architecture) -> SharedTensor:
        shared = self._store.parameters.get(name)
        if shared is None:
            raise ShapeError(
                f"build({arch.json()}) has a parameter {name} that no single choice brings forth; "
                "show the supernet such an architecture: Supernet(..., also=[arch])"
            )
        if len(shape) != len(shared.shape) or any(n > full for n, full in zip(shape, shared.shape, strict=True)):
            raise ShapeError(
                f"build({arch.json()}) has {name} of shape {shape}, but the largest known is {shared.shape}; "
                "show the supernet such an architecture: Supernet(..., also=[arch])"
            )
        return shared

    # --- what there is --------------------------------------------------------------------------------------------

    @property
    def num_parameters(self) -> int:
        return sum(shared.value.numel() for shared in self._store.parameters.values())

    def coverage(self) -> Coverage:
        """Which parameters are elastic, along which axes, under which choices."""
        return self._survey.coverage()

    def count_parameters(self, arch: Architecture) -> int:
        """Parameters of the network of ``arch``, tied ones once."""
        return sum(parameter.numel() for parameter in build_skeleton(self.build, arch).parameters())

    def profile(self, arch: Architecture, example: Example) -> Profile:
        """Parameters, multiply-accumulates and activation bytes of ``arch``, counted on the meta device."""
        return profile_network(build_skeleton(self.build, arch), example)

    def profiles(self, example: Example, sample: int = 3, seed: int = 0) -> dict[str, Profile]:
        """The smallest, the largest and some uniformly sampled architectures."""
        rng = np.random.default_rng(seed)
        archs = {"smallest": self.space.smallest(), "largest": self.space.largest()}
        archs |= {f"random {i + 1}": self.space.sample(rng) for i in range(sample)}
        return {label: self.profile(arch, example) for label, arch in archs.items()}

    # --- weights --------------------------------------------------------------------------------------------------

    def optimizer(self, config: OptimizerConfig) -> Optimizer:
        """An optimiser over the shared weights that steps only what backward has touched."""
        return Optimizer(self._store, config)

    def gradients(self) -> dict[str, Tensor]:
        """The gradient of every touched parameter at full size, zero outside what was touched."""
        full = {name: shared.full_grad() for name, shared in self._store.parameters.items()}
        return {name: grad for name, grad in full.items() if grad is not None}

    def state_dict(self) -> dict[str, Tensor]:
        """Every stored tensor at full size (the very tensors: copy them to keep them)."""
        return dict(self._store.named_tensors())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copy values in place; networks bound before see them.

        Raises:
            ShapeError: a name is missing or unknown, or a shape differs.
        """
        own = self.state_dict()
        _check_names(own, state, "these weights belong to another space or model")
        _check_shapes(own, state, own)
        self._store.copy_(state)

    @property
    def version(self) -> int:
        """Grows with every change of the shared tensors, buffers too, in this process; see `digest`."""
        return sum(tensor._version for _, tensor in self._store.named_tensors())

    def digest(self) -> str:
        """A hash of the weights: 16 hex digits."""
        sha = hashlib.sha256()
        for name, tensor in self._store.named_tensors():
            sha.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
            sha.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return sha.hexdigest()[:16]

    def to(self, device: str | torch.device) -> "Supernet":
        """Move the shared weights; networks bound before keep the old ones."""
        self.device = torch.device(device)
        self._store.to(self.device)
        return self

    def _initialise(self, init: Mapping[str, Tensor]) -> None:
        own = self.state_dict()
        unknown = [name for name in init if name not in own]
        if unknown:
            raise ShapeError(
                f"init names {unknown[0]!r}, which the supernet does not have ({len(unknown)} such names); "
                f"its tensors are called like {next(iter(own))!r}: rename or leave out the others"
            )
        _check_shapes(own, init, init)
        self._store.copy_({**own, **init})

    def _check_memory(self, limit: int | None) -> None:
        widths = {name: (self._dtype or dtype).itemsize for name, dtype in self._survey.dtypes.items()}
        weights = sum(torch.Size(shape).numel() * widths[name] for name, shape in self._survey.shapes.items())
        needed, available = 4 * weights, limit if limit is not None else _free_memory(self.device)
        if available is not None and needed > available:
            name, shape = max(self._survey.shapes.items(), key=lambda item: torch.Size(item[1]).numel())
            raise MemoryLimitError(
                f"the supernet needs {_gib(needed)} (weights {_gib(weights)}, the rest gradients and Adam's state) but "
                f"{_gib(available)} are available; its largest tensor is {name} {shape}: "
                "narrow the space with where(), or raise memory_limit"
            )


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2f} GiB"


def _free_memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # pragma: no cover - the platform does not say
        return None


def _check_names(own: Mapping[str, Tensor], given: Mapping[str, Tensor], remedy: str) -> None:
    for word, names in (("lacks", own.keys() - given.keys()), ("has an unknown", given.keys() - own.keys())):
        if names:
            raise ShapeError(f"the state dict {word} {min(names)!r} ({len(names)} such names): {remedy}")


def _check_shapes(own: Mapping[str, Tensor], given: Mapping[str, Tensor], names: Mapping[str, Any]) -> None:
    for name in names:
        if own[name].shape != given[name].shape:
            raise ShapeError(
                f"{name} is {tuple(given[name].shape)} in the given weights and {tuple(own[name].shape)} in the "
                "supernet; they must be at the size of the largest architecture"
            )


# --- initial values -----------------------------------------------------------------------------------------------


def _allocate(surveyed: Survey, build: Build, seed: int, dtype: torch.dtype | None) -> Store:
    """The stored tensors, with the values that the modules' own initialisation gives."""
    by_source: dict[Architecture, list[str]] = {}
    for name in surveyed.shapes:
        by_source.setdefault(surveyed.source(name).arch, []).append(name)
    values: dict[str, Tensor] = {}
    for index, (arch, names) in enumerate(by_source.items()):
        initial = dict(build_initialised(build, arch, seed + index).named_parameters())
        for name in names:
            values[name] = _at_size(initial[name].detach(), surveyed, name)

    def cast(tensor: Tensor) -> Tensor:
        return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor

    parameters = {
        name: SharedTensor(name, cast(values[name]), surveyed.axes[name], surveyed.trainable[name])
        for name in surveyed.shapes
    }
    return Store(parameters, {name: cast(buffer) for name, buffer in surveyed.buffers.items()})


def _at_size(value: Tensor, surveyed: Survey, name: str) -> Tensor:
    """``value`` at the stored shape; where no single architecture has all of it, the rest repeats what there is.

    Repeating keeps the scale that the module's own initialisation chose.
    """
    for axis, size in enumerate(surveyed.shapes[name]):
        if value.shape[axis] < size:
            value = value.index_select(axis, torch.arange(size) % value.shape[axis])
    return value


# --- parameters that lie scattered --------------------------------------------------------------------------------

_GATHERING = (nn.Linear, nn.modules.conv._ConvNd)


def _gather_when_read(owner: nn.Module, shapes: dict[str, Shape]) -> None:
    """Let ``owner`` put scattered parameters together each time they are read.

    Fused ones must be. For matrix products and convolutions it is cheaper: one copy of the weight in forward, where a
    strided one would have its gradient transposed and copied in backward.
    """
    owner.__dict__["_gathered_shapes"] = shapes
    owner.__class__ = _gathering(type(owner), tuple(shapes))  # type: ignore[arg-type] # classes are hashable


@cache
def _gathering(owner: type[nn.Module], attributes: tuple[str, ...]) -> type[nn.Module]:
    def gathered(attribute: str) -> property:
        return property(lambda self: self._parameters[attribute].contiguous().view(self._gathered_shapes[attribute]))

    namespace: dict[str, Any] = {attribute: gathered(attribute) for attribute in attributes}
    if issubclass(owner, nn.RNNBase):
        namespace["_flat_weights"] = property(
            lambda self: [getattr(self, name) for name in self._flat_weights_names], lambda self, value: None
        )
    return type(owner.__name__, (owner,), namespace | {"__module__": owner.__module__})
