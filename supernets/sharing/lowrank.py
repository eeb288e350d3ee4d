"""Low-rank adapters: stored weights stay frozen, and training learns a product of two thin matrices beside them.

A network reads W[:out, :in] + (alpha / rank) B[:out] A[:, :in], slices of a frozen W and of its adapter (LoRA,
arXiv:2106.09685), so networks share the adapter as they share W. B starts at zero, so every network initially equals
the entangled one. Extraction folds the product into dense weights, so inference has no extra cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import inf, prod, sqrt
from typing import ClassVar

import torch

from search_spaces import Architecture
from supernets.errors import SupernetError
from supernets.layout import Axes, Extent, Shape
from supernets.sharing.base import Ground, Sharing, Weights
from supernets.store import Reading, SharedTensor


@dataclass(frozen=True)
class LowRank(Sharing):
    """Trains low-rank adapters of frozen weights, for example pretrained ones; extraction folds them in.

    With `rank` r a matrix (out x in) has r (out + in) trainable values. Stored gradients and optimiser state cover only
    these, but a step computes as much as one that trains all weights. All axes after the first count as one, so
    convolution kernels have adapters too.

    Raises:
        SupernetError: a setting is invalid, or a pattern matches no matrix.
    """

    name: ClassVar[str] = "lowrank"

    rank: int = 8
    """Rank of the adapters, at most the number of rows or columns of each matrix."""
    alpha: float = 16.0
    """Scale of the product, which has the factor alpha / rank."""
    adapted: tuple[str, ...] = ("*",)
    """Name patterns of the parameters with adapters, among those with two or more axes."""
    vectors: bool = True
    """Whether to train biases and norms too; all other stored weights are frozen."""

    def __post_init__(self) -> None:
        for name, holds, rule in (
            ("rank", self.rank >= 1, "1 or more; 8 say"),
            ("alpha", 0 < self.alpha < inf, "above 0 and finite; twice the rank say"),
            ("adapted", bool(self.adapted), "a pattern at least; * is all"),
        ):
            if not holds:
                raise SupernetError(f"lowrank: {name} = {getattr(self, name)!r}: it must be {rule}")

    def bind(self, ground: Ground) -> Weights:
        return _LowRank(self, ground)

    def num_elements(self, shapes: Mapping[str, Shape]) -> int:
        adapters = (sum(map(prod, self.thin(shapes[name]))) for name in self.names(shapes))
        return super().num_elements(shapes) + sum(adapters)

    def names(self, shapes: Mapping[str, Shape]) -> list[str]:
        """Return the parameters with adapters.

        Raises:
            SupernetError: a pattern matches none.
        """
        matrices = [name for name, shape in shapes.items() if len(shape) > 1]
        for pattern in self.adapted:
            if not any(fnmatchcase(name, pattern) for name in matrices):
                listed = ", ".join(matrices[:8]) + ", ..." * (len(matrices) > 8)
                raise SupernetError(
                    f"lowrank: adapted pattern {pattern!r} names no matrix; there is {listed or 'none'}"
                )
        return [name for name in matrices if any(fnmatchcase(name, pattern) for pattern in self.adapted)]

    def thin(self, shape: Shape) -> tuple[Shape, Shape]:
        """Return the shapes of B and A for a parameter of this shape."""
        rank = min(self.rank, shape[0], prod(shape[1:]))
        return (shape[0], rank), (rank, *shape[1:])


class _LowRank(Weights):
    def __init__(self, sharing: LowRank, ground: Ground) -> None:
        super().__init__(ground)
        store = self.store.parameters
        self._sharing = sharing
        self._adapted = frozenset(sharing.names(ground.survey.shapes))
        for shared in list(store.values()):
            shared.trainable &= sharing.vectors and len(shared.shape) < 2
        generator = torch.Generator().manual_seed(ground.seed)
        for name in ground.survey.shapes:
            if name in self._adapted:
                _add_adapter(sharing, store, name, ground.survey.trainable[name], generator)

    def at(self, arch: Architecture, route: int) -> Callable[[str, Shape], Reading]:
        def read(name: str, shape: Shape) -> Reading:
            frozen = self.store.parameters[name].leaf(shape)
            if name not in self._adapted:
                return frozen
            up, down = (self.store.parameters[adapter] for adapter in _adapters(name))
            rank = down.shape[0]
            of_up, of_down = _slices(shape, rank)
            rows, columns = up.leaf(of_up), down.leaf(of_down)
            factor = self._sharing.alpha / rank
            return lambda: frozen + factor * torch.tensordot(rows, columns, dims=1)

        return read


def _adapters(name: str) -> tuple[str, str]:
    return f"@up.{name}", f"@down.{name}"


def _slices(shape: Shape, rank: int) -> tuple[Shape, Shape]:
    """Return the shapes of a network's B and A, with as many blocks as its W."""
    up, down = (shape[0], rank), (rank, *shape[1:])
    if not isinstance(shape, Extent):
        return up, down
    first, *others = shape.counts
    return Extent.of(up, (first, ())), Extent.of(down, ((), *others))


def _add_adapter(
    sharing: LowRank, store: dict[str, SharedTensor], name: str, trainable: bool, generator: torch.Generator
) -> None:
    """Add B, zeros sliced along its rows as W is, and A, uniform as in `nn.Linear` and sliced along W's other axes."""
    frozen = store[name]
    (up, down), (up_shape, down_shape) = _adapters(name), sharing.thin(frozen.shape)
    dtype, (first, *others), centred = frozen.value.dtype, frozen.axes.blocks, frozen.axes.centred
    drawn = torch.rand(down_shape, generator=generator, dtype=torch.promote_types(dtype, torch.float32))
    value = ((2 * drawn - 1) / sqrt(prod(down_shape[1:]))).to(dtype)
    rows = tuple(grid for grid in frozen.axes.grids if grid[0] == 0)
    columns = tuple(grid for grid in frozen.axes.grids if grid[0] > 0)
    up_axes = Axes((first, 1), centred & {0}, rows)
    down_axes = Axes((1, *others), centred - {0}, columns)
    store[up] = SharedTensor(up, torch.zeros(up_shape, dtype=dtype), up_axes, trainable)
    store[down] = SharedTensor(down, value, down_axes, trainable)
