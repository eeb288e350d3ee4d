"""What a network makes of its input just before its last layer, and how one network learns another's.

Features are found by listening to a network while it runs, so any module has them:

- what goes into the last leaf module to run that has a matrix of its own: a classifier, a language model's head;
- where the last leaf module with parameters has vectors only, as a norm has, the network's last layer is a function
  (say ``F.linear`` on an embedding): then what comes out of the last leaf module that ran.

They are (batch, ..., width): the channels of a convolution are put last. A teacher's may be wider or narrower; a
linear map without bias leads from the largest network's width to the teacher's, and smaller networks use its leading
columns. It belongs to the training, not to the supernet (LightHuBERT, arXiv:2203.15610).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernets.errors import SupernetError
from supernets.layout import Axes
from supernets.optim import Optimizer, OptimizerConfig
from supernets.parametrized import innermost
from supernets.store import SharedTensor, Store, Touched


class FeatureError(SupernetError):
    """A network has no features, or not at the positions of its teacher's."""


# --- the loss -----------------------------------------------------------------------------------------------------


def frame_loss(features: Tensor, teacher: Tensor) -> Tensor:
    """Mean over positions of mean |f - t| - log sigmoid(cos(f, t)), least at f = t, where it is -log sigmoid(1).

    As DistilHuBERT's (arXiv:2110.01900) and LightHuBERT's; both are (..., width).
    """
    f, t = features.float(), teacher.detach().float()
    return ((f - t).abs().mean(-1) - F.logsigmoid(F.cosine_similarity(f, t, dim=-1))).mean()


# --- listening ----------------------------------------------------------------------------------------------------


@dataclass
class Heard:
    """What came by in a run, of the last leaf module with parameters and of the last one at all."""

    network: nn.Module
    layer: nn.Module | None = None
    into: Any = None
    out: Any = None
    out_of: nn.Module | None = None

    def features(self) -> Tensor:
        """(batch, ..., width).

        Raises:
            FeatureError: no module with parameters ran, or what it takes or gives is no floating point tensor.
        """
        if self.layer is None:
            raise FeatureError(
                f"{type(self.network).__name__} ran no module that has parameters and no modules in it, so it has no "
                "features: distil its outputs"
            )
        through = any(rank > 1 for rank in _ranks(self.layer))
        found, owner = (self.into, self.layer) if through else (self.out, self.out_of)
        if not isinstance(found, Tensor) or not found.is_floating_point():
            what = "goes into" if through else "comes out of"
            raise FeatureError(
                f"what {what} the last {type(owner).__name__} of {type(self.network).__name__} is no floating point "
                "tensor, so it has no features: distil its outputs"
            )
        return found.movedim(1, -1) if isinstance(owner, _CHANNELS_SECOND) and found.dim() > 2 else found


_CHANNELS_SECOND = (nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.GroupNorm)


@contextmanager
def listening(network: nn.Module) -> Iterator[Heard]:
    """Hear what goes by in the runs of a network; the last one counts."""
    heard = Heard(network)

    def hear(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        heard.out, heard.out_of = output, module
        if _ranks(module):
            heard.layer, heard.into = module, inputs[0] if inputs else None

    hooks = [module.register_forward_hook(hear) for module in innermost(network)]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


def _ranks(module: nn.Module) -> list[int]:
    """The number of axes of each of an innermost module's parameters, also of those that are computed when read."""
    parts = list(module.modules())
    computed = [one for part in parts for one in part.__dict__.get("_computed", {}).values()]
    own = [one for part in parts for one in part._parameters.values() if one is not None]
    return [len(one.shape) for one in (*own, *computed)]


# --- the map to the teacher's width -------------------------------------------------------------------------------


class FeatureHead:
    """A linear map without bias from features of any width up to `width` to `target`, with an optimiser of its own.

    Where the widths are equal it begins as the identity, for then the teacher may be the very network that learns;
    otherwise as `nn.Linear` does.
    """

    def __init__(
        self,
        width: int,
        target: int,
        device: torch.device,
        config: OptimizerConfig,
        seed: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        value = torch.eye(width) if width == target else _uniform(target, width, seed)
        self._weight = SharedTensor("weight", value.to(device, dtype), Axes((1, 1), frozenset()))
        self._optimizer = Optimizer(Store({"weight": self._weight}, {}), config)

    def __call__(self, features: Tensor, teacher: Tensor) -> Tensor:
        """(batch, ..., n) to (batch, ..., target), by the leading n columns; the teacher's are that already.

        Raises:
            FeatureError: they differ in more than the last axis, or there are more features than columns.
        """
        if features.shape[:-1] != teacher.shape[:-1]:
            raise FeatureError(
                f"a network has features of shape {tuple(features.shape)} and its teacher of {tuple(teacher.shape)}: "
                "they may differ in the last axis only, so take a teacher with the same positions or distil outputs"
            )
        target, width = self._weight.shape
        if features.shape[-1] > width:
            raise FeatureError(
                f"a network has {features.shape[-1]} features and the largest {width}: let the largest have the most, "
                "or distil outputs"
            )
        mapped: Tensor = F.linear(features, self._weight.leaf((target, features.shape[-1])))
        return mapped

    def touched(self) -> list[Touched]:
        return self._optimizer.touched()

    def step(self, lr: float, clip: float) -> None:
        self._optimizer.step(lr=lr, clip=clip)

    def forget(self) -> None:
        """Drop the gradients of a step that is left out."""
        self._optimizer.zero_grad()

    def state_dict(self) -> dict[str, Tensor]:
        return {"weight": self._weight.value, **self._optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._weight.value.copy_(state["weight"])
        self._optimizer.load_state_dict({name: tensor for name, tensor in state.items() if name != "weight"})


class FeatureHeads:
    """The learnt maps of a training, by name; they are updated and saved together."""

    def __init__(self, device: torch.device, config: OptimizerConfig, seed: int) -> None:
        self._heads: dict[str, FeatureHead] = {}
        self._device, self._config, self._seed = device, config, seed

    def __contains__(self, name: str) -> bool:
        return name in self._heads

    def add(self, name: str, widest: Tensor, taught: Tensor) -> None:
        """Add a map from the width of the largest network's features to the teacher's, unless it exists."""
        dtype = torch.promote_types(widest.dtype, torch.float32)
        if name not in self._heads:
            self._heads[name] = self._made(name, widest.shape[-1], taught.shape[-1], dtype)

    def _made(self, name: str, width: int, target: int, dtype: torch.dtype) -> FeatureHead:
        seed = self._seed + zlib.crc32(name.encode())
        return FeatureHead(width, target, self._device, self._config, seed, dtype)

    def __call__(self, name: str, features: Tensor, teacher: Tensor) -> Tensor:
        """As `FeatureHead`.

        Raises:
            FeatureError: the largest network has no such layer.
        """
        if name not in self._heads:
            raise FeatureError(
                f"the layer {name!r} is not in the largest network, so no map to its teacher's width is known: "
                "let only layers learn that the largest has"
            )
        return self._heads[name](features, teacher)

    def touched(self) -> list[Touched]:
        """What backward has touched since the last step."""
        return [one for head in self._heads.values() for one in head.touched()]

    def step(self, lr: float, clip: float) -> None:
        for head in self._heads.values():
            head.step(lr=lr, clip=clip)

    def forget(self) -> None:
        """Drop the gradients of a step that is left out."""
        for head in self._heads.values():
            head.forget()

    def state_dict(self) -> dict[str, Tensor]:
        """Flat: ``"<name>/<state>"``, of the one without a name the state alone."""
        return {
            f"{name}/{key}" if name else key: tensor
            for name, head in self._heads.items()
            for key, tensor in head.state_dict().items()
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Create the maps in a state, and load it."""
        by_name: dict[str, dict[str, Tensor]] = {}
        for key, tensor in state.items():
            name, _, rest = key.rpartition("/")
            by_name.setdefault(name, {})[rest] = tensor
        for name, own in by_name.items():
            target, width = own["weight"].shape
            self._heads[name] = self._made(name, width, target, own["weight"].dtype)
            self._heads[name].load_state_dict(own)


def _uniform(target: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.empty(target, width).uniform_(-(width**-0.5), width**-0.5, generator=generator)
