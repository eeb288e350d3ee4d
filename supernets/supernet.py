"""A supernet: a function from an architecture to the parameters of the ordinary module the architecture describes."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor, nn

from search_spaces import Architecture, Space
from supernets.errors import MemoryLimitError, ShapeError, SupernetError
from supernets.joined import whole
from supernets.layout import Axes, Layouts, Shape
from supernets.opening import Opened, open_into
from supernets.optim import Optimizer, OptimizerConfig
from supernets.parametrized import follow_weights, settle
from supernets.planning import Example as Example  # others import it from here
from supernets.planning import Plan
from supernets.profile import Profile
from supernets.relaxation.anatomy import Anatomy
from supernets.relaxation.check import check
from supernets.relaxation.cost import Cost, counted_macs, counted_params
from supernets.relaxation.mixture import Mixture
from supernets.sharing import Entangled, Ground, Sharing
from supernets.skeleton import Build, build_initialised, build_skeleton
from supernets.spelling import spell
from supernets.store import Reading, SharedTensor, Store, leading
from supernets.survey import Coverage, Survey
from supernets.views import digest as digest_of
from supernets.weight_files import Weights

SEED_STRIDE = 1_000_003
"""Between the seeds of independent initialisations: each uses one seed for every variant that is built."""


class Supernet:
    """Shared weights for every architecture of a space, derived from the shapes of a user's ordinary modules.

    Args:
        space: the architectures.
        build: the user's function from an architecture to a plain ``nn.Module``, the same every time it is called.
        sharing: how architectures share weights.
        layout: fused axes and centred axes of parameters, by name pattern: ``{"*.qkv.*": Blocks(3)}``. Convolution
            kernels, ``nn.MultiheadAttention``, LSTM, GRU and the attention of well-known families are known, see
            `families`; a function of the architecture may be given, where the number of blocks depends on it.
        example: an input of the networks. Some are run on it, on shapes alone where they are large, and axes that they
            split in parts are cut in blocks; `coverage` tells which.
        init: pretrained values at full size: a state dict, a module, a safetensors file, or a folder with such files.
            `opened` lists what is not used, and what keeps the module's own initialisation.
        also: architectures to look at besides the largest with each option in turn, where a parameter exists only under
            a combination of choices.
        seed: of the initial values.
        dtype: of floating parameters and buffers; None keeps the modules' own.
        memory_limit: bytes that weights, gradients and an Adam optimiser's state may take together; None means what the
            machine has free. Checked before anything is allocated.

    Raises:
        BuildError: ``build`` failed.
        ShapeError: two architectures give one name tensors of different rank, or ``init`` has another shape.
        WeightsError: ``init`` cannot be read; `supernets.opening.open_into` tells what else may be wrong with it.
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
        example: Example | None = None,
        init: Weights | None = None,
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
        self.plan = Plan(space, build, layout=layout, example=example, also=also)
        self._build = self.plan.build  # whose modules have the names of the stored tensors
        self._survey = self.plan.survey
        self._check_memory(memory_limit)

        def initial(index: int) -> dict[str, Tensor]:
            return _initial_values(self._survey, self._build, seed + index * SEED_STRIDE, dtype)

        self._store = _allocate(self._survey, initial(0), dtype)
        self.opened: Opened | None = None if init is None else open_into(self._store, self._survey, self._build, init)
        self.weights = self.sharing.bind(Ground(space, self._store, self._survey, seed, initial))
        self._store.to(self.device)

    def __repr__(self) -> str:
        how = ": ".join([spell(self.sharing), *self.weights.notes])
        return f"Supernet({self.space.name}, {self.num_parameters:,} parameters, {how}, {self.device})"

    # --- networks -------------------------------------------------------------------------------------------------

    def subnet(self, arch: Architecture, route: int | None = None) -> nn.Module:
        """The module of ``arch`` over views of the shared weights: an object of the user's class.

        Backward puts its gradients into the shared tensors, where ``optimizer`` finds them; its parameters' own
        ``grad`` stays None. Each call gives a fresh module and changes nothing in the supernet; running it in training
        mode updates the shared batch-norm statistics (those of fused channels are a copy). A parameter that is fused
        (see ``layout``) or mixed (see ``sharing``) is put together whenever it is read; a mixed one is none of the
        module's own ``parameters()``.

        Args:
            route: of a sharing with several whole models, which one; None is the one the architecture belongs to.
        """
        skeleton = build_skeleton(self._build, arch)
        return self._bind(skeleton, self._readings(skeleton, arch, route), leading)

    def extract(self, arch: Architecture, *, apart: bool = False) -> nn.Module:
        """An independent ordinary module of ``arch`` with its own copy of the weights, dense where they are mixed.

        Args:
            apart: leave parts of unequal sizes apart that the module's own class has in one parameter; they are called
                as the supernet's tensors then.
        """
        skeleton = build_skeleton(self._build, arch)
        read = self._readings(skeleton, arch)

        def parameter(name: str, shape: Shape) -> nn.Parameter:
            value = _value(read(name, shape)).clone(memory_format=torch.contiguous_format)
            return nn.Parameter(value.view(shape), self._survey.trainable[name])

        bound = self._bind(skeleton, parameter, lambda *stored: leading(*stored).clone())
        return bound if apart else whole(bound)

    def relax(self, mixture: Mixture) -> nn.Module:
        """The module of the largest architecture, computing the expectation over a mixture of architectures.

        Every parameter is the expectation of the padded slices that architectures read, blocks of a `stack` are gated,
        operations of a `one_of` are mixed, and layer, RMS and group norm are the mixture of the widths': a
        differentiable function of the mixture's probabilities at about the cost of the largest network. Where they are
        one-hot it is the subnet. Weights that are computed from others (weight norm, spectral norm) are computed from
        their expectations. The module follows the mixture (`Mixture.update`); backward fills the shared gradients
        as that of a subnet does. Source: TangleNAS (arXiv:2312.10440) for the idea, weights put together in another
        way.

        Raises:
            RelaxationError: the model has alternatives that neither sizes, `stack` nor `one_of` express.
            SupernetError: the mixture is of another space, or weights are not entangled.
        """
        if mixture.space.slots != self.space.slots:
            raise SupernetError(
                f"the mixture is over {mixture.space.name}, the supernet over {self.space.name}: "
                "give Mixture(supernet.space)"
            )
        if not isinstance(self.sharing, Entangled):
            raise SupernetError(
                f"sharing is {spell(self.sharing)}: only entangled weights can be relaxed, so leave it out"
            )

        def expected(name: str, shape: Shape) -> Reading:
            return self._anatomy.reading(name, self._store.parameters[name].leaf(self._survey.shapes[name]), mixture)

        return follow_weights(self._bind(self._anatomy.skeleton(mixture), expected, leading))

    def check_relaxation(self, example: Example) -> None:
        """Make sure that `relax` is right for this model: where a mixture is one network, it computes that network.

        Raises:
            RelaxationError: it does not; the message names what in the model stands against it.
        """
        parts = example if isinstance(example, tuple) else (example,)
        check(self.space, self._build, self.subnet, self.relax, tuple(part.to(self.device) for part in parts))

    def expected(self, metric: str, example: Example | None = None) -> Cost:
        """The cost "params", or "macs" of an ``example``, whose expectation over a mixture is exact.

        Raises:
            SupernetError: another metric, or no example for "macs".
        """
        if metric == "params":
            return counted_params(self.space, self.build)
        if metric == "macs" and example is not None:
            return counted_macs(self.space, self.build, example)
        raise SupernetError(f"expected({metric!r}): there is 'params', and 'macs' with an example of the input")

    @cached_property
    def _anatomy(self) -> Anatomy:
        return Anatomy(self.space, self._build, self._survey)

    def route(self, arch: Architecture) -> int:
        """Which of several whole models an architecture belongs to now; 0 where there is one."""
        return self.weights.route(arch)

    def _readings(
        self, skeleton: nn.Module, arch: Architecture, route: int | None = None
    ) -> Callable[[str, Shape], Reading]:
        if arch not in self.space:
            self.space.architecture(arch.to_dict())  # says what is wrong with it
        extents = self._survey.extents(skeleton, arch)
        at = self.weights.at(arch, self.weights.route(arch) if route is None else route)

        def read(name: str, shape: Shape) -> Reading:
            self._check_known(name, shape, arch)
            return at(name, extents.get(name, shape))

        return read

    def _bind(
        self,
        module: nn.Module,
        parameter: Callable[[str, Shape], Reading],
        buffer: Callable[[Tensor, Shape, Axes | None], Tensor],
    ) -> nn.Module:
        """Put tensors in the place of the skeleton's parameters and buffers."""
        bound: dict[int, Reading] = {}  # tied parameters are one object under several names
        for path, owner in module.named_modules():
            prefix = path + "." if path else ""
            computed: dict[str, _Computed] = {}
            for attribute, meta in list(owner._parameters.items()):
                if meta is None:
                    continue
                shape = tuple(meta.shape)
                reading = bound.get(id(meta))
                if reading is None:
                    reading = bound[id(meta)] = parameter(prefix + attribute, shape)
                if not isinstance(reading, nn.Parameter):
                    del owner._parameters[attribute]
                    computed[attribute] = _Computed(shape, reading)
                    continue
                if isinstance(owner, nn.RNNBase):
                    setattr(owner, attribute, reading)  # it keeps a list of its weights beside the attributes
                else:
                    owner._parameters[attribute] = reading
                if reading.dim() != len(shape) or (isinstance(owner, _GATHERING) and not reading.is_contiguous()):
                    computed[attribute] = _Computed(shape)
            if computed:
                _compute_when_read(owner, computed)
            for attribute, own in owner._buffers.items():
                if own is not None:
                    stored = self._store.buffers.get(prefix + attribute)
                    if stored is not None:
                        axes = self._survey.buffer_axes.get(prefix + attribute)
                        owner._buffers[attribute] = buffer(stored, tuple(own.shape), axes)
                    else:
                        owner._buffers[attribute] = _cast(own, self._dtype).to(self.device)
        settle(module)
        return module

    def _check_known(self, name: str, shape: Shape, arch: Architecture) -> None:
        largest = self._survey.shapes.get(name)
        if largest is None:
            raise ShapeError(
                f"build({arch.json()}) has a parameter {name} that no single choice brings forth; "
                "show the supernet such an architecture: Supernet(..., also=[arch])"
            )
        if len(shape) != len(largest) or any(n > full for n, full in zip(shape, largest, strict=True)):
            raise ShapeError(
                f"build({arch.json()}) has {name} of shape {shape}, but the largest known is {largest}; "
                "show the supernet such an architecture: Supernet(..., also=[arch])"
            )

    # --- what there is --------------------------------------------------------------------------------------------

    @property
    def num_parameters(self) -> int:
        return sum(shared.value.numel() for shared in self._store.parameters.values())

    @property
    def survey(self) -> Survey:
        """The survey of the networks of the space: names, shapes, and the choices that change them."""
        return self._survey

    def coverage(self) -> Coverage:
        """Which parameters are elastic, along which axes, under which choices; and what is to be noted."""
        coverage = self.plan.coverage()
        return replace(coverage, notes=(*coverage.notes, *self.weights.notes))

    def count_parameters(self, arch: Architecture) -> int:
        """Parameters of the network of ``arch``, tied ones once."""
        return self.plan.count_parameters(arch)

    def profile(self, arch: Architecture, example: Example) -> Profile:
        """Parameters, multiply-accumulates and activation bytes of ``arch``, counted on the meta device."""
        return self.plan.profile(arch, example)

    def profiles(self, example: Example, sample: int = 3, seed: int = 0) -> dict[str, Profile]:
        """The smallest, the largest and some uniformly sampled architectures."""
        return self.plan.profiles(example, sample, seed)

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
        _check_shapes(own, state)
        self._store.copy_(state)

    @property
    def version(self) -> int:
        """Grows with every change of the shared tensors, buffers too, in this process; see `digest`."""
        return sum(tensor._version for _, tensor in self._store.named_tensors())

    def digest(self) -> str:
        """A hash of the weights: 16 hex digits."""
        return digest_of(self._store.named_tensors())

    def to(self, device: str | torch.device) -> "Supernet":
        """Move the shared weights; networks bound before keep the old ones."""
        self.device = torch.device(device)
        self._store.to(self.device)
        return self

    def _check_memory(self, limit: int | None) -> None:
        width = max((self._dtype or dtype).itemsize for dtype in self._survey.dtypes.values())
        weights = width * self.sharing.num_elements(self._survey.shapes)
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


def _check_shapes(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    for name, tensor in own.items():
        if tensor.shape != given[name].shape:
            raise ShapeError(
                f"{name} is {tuple(given[name].shape)} in the given weights and {tuple(tensor.shape)} in the "
                "supernet; they must be at the size of the largest architecture"
            )


# --- initial values -----------------------------------------------------------------------------------------------


def _initial_values(surveyed: Survey, build: Build, seed: int, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Values at full size of every parameter, as the modules' own initialisation gives them."""
    by_source: dict[Architecture, list[str]] = {}
    for name in surveyed.shapes:
        by_source.setdefault(surveyed.source(name).arch, []).append(name)
    values: dict[str, Tensor] = {}
    for index, (arch, names) in enumerate(by_source.items()):
        initial = dict(build_initialised(build, arch, seed + index).named_parameters())
        for name in names:
            values[name] = _cast(_at_size(initial[name].detach(), surveyed, name), dtype)
    return values


def _allocate(surveyed: Survey, values: Mapping[str, Tensor], dtype: torch.dtype | None) -> Store:
    parameters = {
        name: SharedTensor(name, values[name], surveyed.axes[name], surveyed.trainable[name])
        for name in surveyed.shapes
    }
    return Store(parameters, {name: _cast(buffer, dtype) for name, buffer in surveyed.buffers.items()})


def _cast(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor


def _at_size(value: Tensor, surveyed: Survey, name: str) -> Tensor:
    """``value`` at the stored shape; where no single architecture has all of it, the rest repeats what there is.

    Repeating keeps the scale that the module's own initialisation chose.
    """
    for axis, size in enumerate(surveyed.shapes[name]):
        if value.shape[axis] < size:
            value = value.index_select(axis, torch.arange(size) % value.shape[axis])
    return value


# --- parameters that are computed -----------------------------------------------------------------------------------

_GATHERING = (nn.Linear, nn.modules.conv._ConvNd)


@dataclass(frozen=True)
class _Computed:
    """How a parameter comes about when it is read: put together from a scattered leaf, or by a sharing's function."""

    shape: Shape
    function: Callable[[], Tensor] | None = None

    def __call__(self, leaf: Tensor | None) -> Tensor:
        tensor = self.function() if leaf is None and self.function is not None else leaf
        assert tensor is not None
        return tensor.contiguous().view(self.shape)


@torch.no_grad()
def _value(reading: Reading) -> Tensor:
    return (reading if isinstance(reading, nn.Parameter) else reading()).detach()


def _compute_when_read(owner: nn.Module, computed: dict[str, _Computed]) -> None:
    """Let ``owner`` put scattered and mixed parameters together each time they are read.

    Fused and mixed ones must be. For matrix products and convolutions it is cheaper: one copy of the weight in forward,
    where a strided one would have its gradient transposed and copied in backward.
    """
    owner.__dict__["_computed"] = computed
    owner.__class__ = _computing(type(owner), tuple(computed))  # type: ignore[arg-type] # classes are hashable


@cache
def _computing(owner: type[nn.Module], attributes: tuple[str, ...]) -> type[nn.Module]:
    def read(attribute: str) -> property:
        return property(lambda self: self._computed[attribute](self._parameters.get(attribute)))

    namespace: dict[str, Any] = {attribute: read(attribute) for attribute in attributes}
    if issubclass(owner, nn.RNNBase):
        namespace["_flat_weights"] = property(
            lambda self: [getattr(self, name) for name in self._flat_weights_names], lambda self, value: None
        )
    return type(owner.__name__, (owner,), namespace | {"__module__": owner.__module__})
