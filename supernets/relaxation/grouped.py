"""Grouped convolutions whose groups move with their channels.

A smaller network's group covers other channels than the same group of the largest, so its kernel is no part of the
largest's as the convolution lays it out. As the blocks of a dense kernel all of them have a place of their own; their
expectation is a dense kernel. Depthwise convolutions, and groups of a fixed number of channels, need none of this.
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
    """Whether channel and group go together alike in all networks; values are (out, in, groups, transposed)."""
    return len({(out // groups, into // groups) for out, into, groups, _ in table.values}) == 1


class Regrouped:
    """The expectation of kernels in their places on the block diagonal of a dense kernel.

    Args:
        table: (out channels, in channels, groups, transposed) by combination.
        shape: of the stored kernel: (out, in / groups, ...), transposed (in, out / groups, ...).
        kernel: mask of its other axes.
    """

    def __init__(self, table: Table, shape: Shape, kernel: Mask) -> None:
        self.table = table
        self.kernel = kernel
        self.full = _ends(max(table.values, key=lambda value: value[0] * value[1]))[:2]
        self.places = [_place(value, shape[1], self.full[1]) for value in table.values]

    def widen(self, convolution: Any) -> None:
        """Let a convolution take the dense kernel."""
        inner = convolution.weight.shape[2:]
        convolution.groups = 1
        convolution.weight = nn.Parameter(torch.empty(*self.full, *inner, device="meta"))

    def apply(self, kernel: Tensor, mixture: Mixture) -> Tensor:
        """(rows, columns, ...) dense, from the stored (rows, columns / groups, ...)."""
        kernel = self.kernel.apply(kernel, mixture)
        inner = tuple(kernel.shape[2:])
        flat = kernel.flatten(0, 1)
        dense = flat.new_zeros(self.full[0] * self.full[1], *inner)
        chances = mixture.chances(self.table.joint).to(flat)
        for chance, (source, target) in zip(chances, self.places, strict=True):
            dense = dense.index_add(0, target.to(flat.device), chance * flat[source.to(flat.device)])
        return dense.view(*self.full, *inner)


def _ends(value: Any) -> tuple[int, int, int]:
    """Rows and columns of the dense kernel, and groups."""
    out, into, groups, transposed = value
    return (into, out, groups) if transposed else (out, into, groups)


def _place(value: Any, stored_columns: int, full_columns: int) -> tuple[Tensor, Tensor]:
    """Flat positions of one network's kernel in the stored one and in the dense one."""
    rows, columns, groups = _ends(value)
    row, column = torch.arange(rows)[:, None], torch.arange(columns // groups)
    source = row * stored_columns + column
    target = row * full_columns + row // (rows // groups) * (columns // groups) + column
    return source.flatten(), target.flatten()
