"""Weight multiplexing: consecutive layers of equal shape share matrices, each through its own small transform.

MiniViT (arXiv:2204.07154) mixes attention maps over heads, before and after the softmax, which requires a model written
for it. Here the transform acts on the rows of the shared weights, so it works for any module and folds into dense
weights on extraction. Only matrices and their biases are shared; each layer keeps its own norms and other parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod
from typing import ClassVar

import torch
from torch import Tensor

from search_spaces import Architecture
from supernets.errors import SupernetError
from supernets.layout import Axes, Shape
from supernets.sharing.base import Ground, Sharing, Weights, check_blocks
from supernets.store import Reading, SharedTensor

TRANSFORMS = ("gain", "heads", "none")


@dataclass(frozen=True)
class Multiplexed(Sharing):
    """Each `repeat` consecutive layers share their matrices, with a transform of the rows for each layer.

    A layer contains the parameters under a number in their names (``blocks.3``); layers share if all their parameters
    have equal names and largest shapes. The transforms start as the identity: "gain", a factor for each row of every
    shared matrix and bias; "heads", a mixing of whole heads by one h x h matrix for each module that `mixed` matches
    (for queries and values 2 h^2 values per layer, as in MiniViT); or "none".

    Raises:
        SupernetError: `repeat` is below 1, the transform is unknown, no layers can share, or rows do not divide into
            whole heads.
    """

    name: ClassVar[str] = "multiplexed"

    repeat: int = 2
    transform: str = "gain"
    head_size: int = 16
    """Rows per head."""
    mixed: tuple[str, ...] = ("*query", "*value", "*.q_proj", "*.v_proj")
    """Name patterns of the modules whose heads are mixed."""

    def __post_init__(self) -> None:
        if self.repeat < 1:
            raise SupernetError(f"repeat = {self.repeat}: a layer is used at least once")
        if self.transform not in TRANSFORMS:
            raise SupernetError(f"transform = {self.transform!r} is unknown: choose one of {', '.join(TRANSFORMS)}")
        if self.head_size < 1:
            raise SupernetError(f"head_size = {self.head_size}: a head has at least one row")

    def bind(self, ground: Ground) -> Weights:
        return _Multiplexed(self, ground)

    def num_elements(self, shapes: Mapping[str, Shape]) -> int:
        dropped = sum(prod(shapes[name]) for name, first in shared(shapes, self.repeat).items() if name != first)
        return super().num_elements(shapes) - dropped

    def _mixes(self, module: str) -> bool:
        return any(fnmatchcase(module, pattern) for pattern in self.mixed)


def shared(shapes: Mapping[str, Shape], repeat: int) -> dict[str, str]:
    """Return the name of each shared parameter with the name of the first layer's parameter that replaces it."""
    found: dict[str, str] = {}
    for layers in _lists_of_layers(shapes):
        for index, layer in layers.items():
            first = layers.get(index - index % repeat)
            names = [name for rest, name in layer.items() if _is_of_matrix(rest, layer, shapes)]
            if first is layer or first is None or not names or _shapes(layer, shapes) != _shapes(first, shapes):
                continue
            if any(name in found for name in names):  # layers of an outer list already share them
                continue
            firsts = {name: rest for rest, name in layer.items() if name in names}
            found |= {name: first[rest] for name, rest in firsts.items()}
            found |= {first[rest]: first[rest] for rest in firsts.values()}
    return found


Layers = dict[int, dict[str, str]]
"""Maps a layer's number to its parameters: the part of the name after the number, and the full name."""


def _lists_of_layers(shapes: Mapping[str, Shape]) -> list[Layers]:
    """Return the numbered layers under each prefix, outer prefixes first."""
    lists: dict[str, Layers] = {}
    for name in shapes:
        parts = name.split(".")
        for at, part in enumerate(parts):
            if part.isdigit():
                layers = lists.setdefault(".".join(parts[:at]), {})
                layers.setdefault(int(part), {})[".".join(parts[at + 1 :])] = name
    return [lists[prefix] for prefix in sorted(lists, key=lambda prefix: len(prefix.split(".")) if prefix else 0)]


def _shapes(layer: Mapping[str, str], shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    return {rest: shapes[name] for rest, name in layer.items()}


def _is_of_matrix(rest: str, layer: Mapping[str, str], shapes: Mapping[str, Shape]) -> bool:
    """Return whether a parameter is a weight with two axes or more, or its bias."""
    owner, _, attribute = rest.rpartition(".")
    siblings = (other for other in layer if other.rpartition(".")[0] == owner and "weight" in other.rpartition(".")[2])
    return any(len(shapes[layer[other]]) > 1 for other in siblings) and ("weight" in attribute or "bias" in attribute)


class _Multiplexed(Weights):
    def __init__(self, sharing: Multiplexed, ground: Ground) -> None:
        super().__init__(ground)
        self._sharing = sharing
        shapes = ground.survey.shapes
        self._first = shared(shapes, sharing.repeat)
        if not self._first and sharing.repeat > 1:
            known = ", ".join(list(shapes)[:4])
            raise SupernetError(
                f"multiplexed(repeat={sharing.repeat}) found no layers to share: they are what follows a number in the "
                f"names of parameters, and must have equal shapes; the model has {known}, ..."
            )
        if sharing.transform != "none":
            check_blocks(self._first, self.store, 'use transform="none"')
        for name, first in self._first.items():
            self._add_transform(name)
            if name != first:
                del self.store.parameters[name]

    def _add_transform(self, name: str) -> None:
        stored, transform = self.store.parameters[name], self._transform_of(name)
        if transform is None or transform in self.store.parameters:
            return
        rows, axes = stored.shape[0], Axes(stored.axes.blocks[:1], frozenset())
        value = torch.ones(rows, dtype=stored.value.dtype)
        if self._sharing.transform == "heads":
            heads, rest = divmod(rows // axes.blocks[0], self._sharing.head_size)
            if rest:
                raise SupernetError(
                    f"{name} has {rows} rows, which are no whole heads of {self._sharing.head_size}: set head_size"
                )
            value, axes = torch.eye(heads, dtype=stored.value.dtype), Axes((1, 1), frozenset())
        self.store.parameters[transform] = SharedTensor(transform, value, axes, stored.trainable)

    def _transform_of(self, name: str) -> str | None:
        """Return the name of a shared parameter's transform, one for each module of each layer; None without one."""
        module = name.rpartition(".")[0]
        if self._sharing.transform == "none" or (
            self._sharing.transform == "heads" and not self._sharing._mixes(module)
        ):
            return None
        return f"@{self._sharing.transform}.{module}"

    def at(self, arch: Architecture, route: int) -> Callable[[str, Shape], Reading]:
        def read(name: str, shape: Shape) -> Reading:
            first = self._first.get(name)
            stored = self.store.parameters[name if first is None else first]
            transform = None if first is None else self._transform_of(name)
            if transform is None:
                return stored.leaf(shape)
            return self._transformed(stored, self.store.parameters[transform], shape)

        return read

    def _transformed(self, stored: SharedTensor, transform: SharedTensor, shape: Shape) -> Callable[[], Tensor]:
        leaf = stored.leaf(shape)
        if self._sharing.transform == "gain":
            gain = transform.leaf(shape[:1])
            return lambda: leaf * gain.view(*gain.shape, *[1] * (leaf.dim() - gain.dim()))
        axis, size = int(stored.axes.blocks[0] > 1), self._sharing.head_size  # fused rows: each block has its heads
        heads, rest = divmod(leaf.shape[axis], size)
        if rest:
            raise SupernetError(f"{stored.name} of {shape[0]} rows has no whole heads of {size}: set head_size")
        mixing = transform.leaf((heads, heads))

        def mixed() -> Tensor:
            apart = leaf.view(*leaf.shape[:axis], heads, size, *leaf.shape[axis + 1 :])
            mixed_heads: Tensor = torch.tensordot(mixing, apart, dims=([1], [axis]))
            return mixed_heads.movedim(0, axis).flatten(axis, axis + 1)

        return mixed
