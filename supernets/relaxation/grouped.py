"""Grouped convolutions whose channels per group depend on the architecture.

A group of a smaller network covers other channels than the same group of the largest, so its kernel is not a slice of
the largest kernel. Written as a block-diagonal dense kernel, every network's kernel has a definite place, and their
expectation is a dense kernel. Depthwise convolutions, and groups with a fixed number of channels, do not need this.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from supernets.layout import Shape
from supernets.relaxation.masks import Mask
from supernets.relaxation.mixture import Mixture
from supernets.relaxation.tables import Table


def keeps_groups(table: Table) -> bool:
    """Return whether all networks have the same channels per group; values are (out, in, groups, transposed)."""
    return len({(out // groups, into // groups) for out, into, groups, _ in table.values}) == 1


class Regrouped:
    """The expectation of kernels placed on the block diagonal of a dense kernel.

    Args:
        table: (out channels, in channels, groups, transposed) by combination.
        shape: shape of the stored kernel: (out, in / groups, ...), or (in, out / groups, ...) if transposed.
        kernel: mask of the other axes.
    """

    def __init__(self, table: Table, shape: Shape, kernel: Mask) -> None:
        self.table = table
        self.kernel = kernel
        self.full = _ends(max(table.values, key=lambda value: value[0] * value[1]))[:2]
        self.places = [_place(value, shape[1], self.full[1]) for value in table.values]

    def widen(self, convolution: Any) -> None:
        """Change a convolution so that it takes the dense kernel."""
        inner = convolution.weight.shape[2:]
        convolution.groups = 1
        convolution.weight = nn.Parameter(torch.empty(*self.full, *inner, device="meta"))

    def apply(self, kernel: Tensor, mixture: Mixture) -> Tensor:
        """Return the dense kernel (rows, columns, ...) from the stored one (rows, columns / groups, ...)."""
        kernel = self.kernel.apply(kernel, mixture)
        inner = tuple(kernel.shape[2:])
        flat = kernel.flatten(0, 1)
        dense = flat.new_zeros(self.full[0] * self.full[1], *inner)
        chances = mixture.chances(self.table.joint).to(flat)
        for chance, (source, target) in zip(chances, self.places, strict=True):
            dense = dense.index_add(0, target.to(flat.device), chance * flat[source.to(flat.device)])
        return dense.view(*self.full, *inner)


def _ends(value: Any) -> tuple[int, int, int]:
    """Return the rows and columns of the dense kernel, and the groups."""
    out, into, groups, transposed = value
    return (into, out, groups) if transposed else (out, into, groups)


def _place(value: Any, stored_columns: int, full_columns: int) -> tuple[Tensor, Tensor]:
    """Return the flat positions of one network's kernel in the stored kernel and in the dense one."""
    rows, columns, groups = _ends(value)
    row, column = torch.arange(rows)[:, None], torch.arange(columns // groups)
    source = row * stored_columns + column
    target = row * full_columns + row // (rows // groups) * (columns // groups) + column
    return source.flatten(), target.flatten()
