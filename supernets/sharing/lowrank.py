"""Low-rank adapters: what was stored stays as it is, and a product of two thin matrices is learnt beside it.

A network reads W[:out, :in] + (alpha / rank) B[:out] A[:, :in], slices of a frozen W and of its adapter (LoRA,
arXiv:2106.09685); so its networks share the adapter as they share W. B begins as zeros, with which every network is the
entangled one. Extraction folds the product into dense weights, so inference costs nothing.
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
    """Trains low-rank adapters of frozen weights, as pretrained ones are; extraction folds them in.

    With `rank` r a matrix (out x in) has r (out + in) numbers to train; gradients that are kept and an optimiser's
    state are theirs alone, while a step computes as much as one of all weights. Axes behind the first count as one, as
    of convolution kernels, which have adapters too.

    Raises:
        SupernetError: a setting that cannot be, or a pattern that names no matrix.
    """

    name: ClassVar[str] = "lowrank"

    rank: int = 8
    """Of a matrix with fewer rows or columns, as many as there are."""
    alpha: float = 16.0
    """The product is multiplied by alpha / rank."""
    adapted: tuple[str, ...] = ("*",)
    """Name patterns; of those parameters, the ones with two axes or more have adapters."""
    vectors: bool = True
    """Train biases and norms too; everything else is frozen."""

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
        """The parameters that have adapters.

        Raises:
            SupernetError: a pattern names none.
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
        """The shapes of B and A for a parameter of this shape."""
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
    """The shapes of B and A of a network, in as many blocks as its W."""
    up, down = (shape[0], rank), (rank, *shape[1:])
    if not isinstance(shape, Extent):
        return up, down
    first, *others = shape.counts
    return Extent.of(up, (first, ())), Extent.of(down, ((), *others))


def _add_adapter(
    sharing: LowRank, store: dict[str, SharedTensor], name: str, trainable: bool, generator: torch.Generator
) -> None:
    """B of zeros, sliced along its rows as W is, and A uniform as `nn.Linear` draws, sliced along W's other axes."""
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
