"""The published tables: every cell with its error and its latencies."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from benchmarks.tables import CELL_OPERATIONS, TableError, read
from search_spaces import Architecture, Space
from search_spaces.nasbench201 import EDGES, NASBench201Space

if TYPE_CHECKING:
    from pandas import DataFrame

Vector = npt.NDArray[np.float64]

ACCURACY, LATENCY = "nasbench201_accuracy.parquet", "nasbench201_latency.parquet"
PARAMETER_FREE = ("none", "skip_connect", "avg_pool_3x3")
QUALITY = "cifar10_test_e200"
TARGETS = ("pixel3", "1080ti_1")
"""Machines that rank cells differently: with a correlation of 0.59."""


@dataclass(frozen=True, eq=False)  # equal only to itself: arrays have no hash
class Tables:
    """Published figures of n cells."""

    codes: npt.NDArray[np.int16]
    """(n, 6) options of the space."""
    error: Vector
    """(n,) errors in percent, on the test images of CIFAR-10 after 200 epochs."""
    latency: dict[str, Vector]
    """Latencies by target, (n,) in milliseconds."""

    @cached_property
    def space(self) -> NASBench201Space:
        return NASBench201Space()

    def row(self, arch: Architecture) -> int:
        """Return the row of a cell; raise TableError if there is none."""
        key = tuple(self.space.codes([arch])[0].tolist())
        if key not in self._rows:
            raise TableError(f"the tables lack the cell {arch.json()}: give the whole tables")
        return self._rows[key]

    def archs(self, rows: npt.ArrayLike) -> list[Architecture]:
        return self.space.decode(self.codes[np.asarray(rows)])

    def within(self, space: Space) -> npt.NDArray[np.int64]:
        """Return the rows of the cells of a narrowed space."""
        kept = [np.isin(column, options) for column, options in zip(self.codes.T, space.domains, strict=True)]
        return np.flatnonzero(np.all(kept, axis=0))

    def latencies(self, arch: Architecture) -> dict[str, float]:
        """Return the latencies as metrics, by target."""
        row = self.row(arch)
        return {metric(target): float(values[row]) for target, values in self.latency.items()}

    @cached_property
    def regret(self) -> Vector:
        """(n,) points of error above the best cell."""
        regret: Vector = self.error - self.error.min()
        return regret

    @cached_property
    def free(self) -> Vector:
        """(n,) shares of edges without parameters."""
        options = self.space.slots[0].options
        of_option = np.array([option in PARAMETER_FREE for option in options])
        share: Vector = of_option[self.codes].mean(1)
        return share

    @cached_property
    def digest(self) -> str:
        digest = hashlib.sha256()
        for values in (self.codes, self.error, *self.latency.values()):
            digest.update(np.ascontiguousarray(values).data)
        return digest.hexdigest()[:12]

    @cached_property
    def _rows(self) -> dict[tuple[int, ...], int]:
        return {tuple(codes): row for row, codes in enumerate(self.codes.tolist())}


def metric(target: str) -> str:
    """Return the name of a target's latency in objectives and limits."""
    return f"latency_ms@{target}"


def load(folder: Path) -> Tables:
    """Read the tables.

    Raises:
        TableError: the folder, a file or a column is missing, or a value is.
    """
    edges = [f"op_{source}{target}" for source, target in EDGES]
    accuracy = _columns(folder, ACCURACY, ["arch_index", *edges, QUALITY])
    latency = _columns(folder, LATENCY, ["arch_index", *TARGETS])
    both = accuracy.merge(latency, on="arch_index", validate="one_to_one").sort_values("arch_index")
    if not len(both) or both.isna().to_numpy().any():
        raise TableError(f"{folder} has {len(both)} cells in both tables, or gaps in them: give the published tables")
    options = NASBench201Space().slots[0].options
    ours = np.array([options.index(name) for name in CELL_OPERATIONS], dtype=np.int16)
    return Tables(
        ours[both[edges].to_numpy()],
        100 - both[QUALITY].to_numpy(dtype=np.float64),
        {target: both[target].to_numpy(dtype=np.float64) for target in TARGETS},
    )


def _columns(folder: Path, name: str, columns: list[str]) -> DataFrame:
    return read(folder, name, columns)[columns]
