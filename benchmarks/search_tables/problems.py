"""The problems: spaces whose networks all have a published error and cost, and how much of the best front was found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.search_tables.regression import Regression
from benchmarks.tables import CELL_OPERATIONS, TableError, read
from nas.objectives import pareto
from search_spaces import Architecture, Space, choice
from search_spaces.nasbench201 import EDGES, NASBench201Space

Values = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int16]

ERROR_QUANTILE = 0.75
"""Of the errors in a table: what is worse counts nothing."""
COST_MARGIN = 1.1
"""Times the largest cost on the front: what is dearer counts nothing."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Error and cost of the networks of a space, both minimised."""

    space: Space
    of: Callable[[Codes], Values]
    """Returns (n, 2) values of (n, num_slots) codes; NaN if there is no such network."""
    table: Values
    """(N, 2) values of all networks, or of many."""
    best: Values
    """(k, 2) front of all networks, or the best known front."""

    def __call__(self, archs: Sequence[Architecture]) -> Values:
        return self.of(self.space.codes(archs))

    def feasible(self, archs: Sequence[Architecture]) -> npt.NDArray[np.bool_]:
        """Return which codes are in the table."""
        return ~np.isnan(self(archs)).any(axis=1)

    def share(self, values: Values) -> float:
        """Return the hypervolume of (n, 2) values as a share of the best front's."""
        return pareto.hypervolume(values, self._reference) / self._best_volume

    @cached_property
    def _reference(self) -> Values:
        most = np.quantile(self.table[:, 0], ERROR_QUANTILE)
        return np.array([most, COST_MARGIN * self.best[self.best[:, 0] < most, 1].max()])

    @cached_property
    def _best_volume(self) -> float:
        return pareto.hypervolume(self.best, self._reference)


class Macro(Space):
    """NAS-Bench-Macro (arXiv:2103.11922)."""

    block = choice("identity", "k3_e3", "k5_e6", per=8)


class Graph(Space):
    """NAS-Bench-Graph (arXiv:2206.09166): where the inputs of nodes 2, 3 and 4 come from, and four operations."""

    links = choice("000", "001", "011", "012", "013", "111", "112", "122", "123")
    op = choice("gat", "gcn", "gin", "cheb", "sage", "arma", "graph", "fc", "skip", per=4)


class Accel(Space):
    """The MnasNet-like space of Accel-NASBench (Ahmad et al. 2024), seven blocks."""

    expansion = choice(1, 4, 6, per=7)
    kernel = choice(3, 5, per=7)
    layers = choice(1, 2, 3, per=7)
    squeeze = choice(False, True, per=7)


def _listed(space: Space, codes: Codes, values: Values) -> Problem:
    """Return a problem whose table has every network, indexed in mixed radix."""
    sizes = [len(slot.options) for slot in space.slots]
    radix = np.cumprod([1, *sizes[:-1]])
    held = np.full((int(np.prod(sizes)), 2), np.nan)
    held[codes @ radix] = values
    return Problem(space, lambda some: held[some @ radix], values, values[pareto.non_dominated(values)])


def cells(folder: Path, error: str, device: str) -> Problem:
    edges = [f"op_{source}{target}" for source, target in EDGES]
    accuracy = read(folder, "nasbench201_accuracy.parquet", ["arch_index", *edges, error])
    latency = read(folder, "nasbench201_latency.parquet", ["arch_index", device])
    both = accuracy[["arch_index", *edges, error]].merge(latency[["arch_index", device]], on="arch_index")
    options = NASBench201Space().slots[0].options
    ours = np.array([options.index(name) for name in CELL_OPERATIONS])
    values = np.column_stack([100 - both[error].to_numpy(float), both[device].to_numpy(float)])
    return _listed(NASBench201Space(), ours[both[edges].to_numpy()], values)


def _macro(folder: Path, cost: str) -> Problem:
    blocks = [f"block_{position}" for position in range(8)]
    table = read(folder, "nasbench_macro.parquet", [*blocks, "test_acc_mean", cost])
    values = np.column_stack([100 - table["test_acc_mean"].to_numpy(float), table[cost].to_numpy(float)])
    return _listed(Macro(), table[blocks].to_numpy(int), values)


def _graph(folder: Path, dataset: str) -> Problem:
    links, ops = [f"link_{node}" for node in (1, 2, 3)], [f"op_{node}" for node in range(4)]
    table = read(folder, "nasbench_graph.parquet", ["dataset", *links, *ops, "valid_perf", "latency"])
    table = table[table["dataset"] == dataset]
    if table.empty:
        raise TableError(f"nasbench_graph.parquet has no rows of {dataset}: give the published table")
    spelled = ["".join(map(str, row)) for row in table[links].to_numpy(int)]
    options = Graph().slots[0].options
    codes = np.column_stack([[options.index(text) for text in spelled], table[ops].to_numpy(int)])
    values = np.column_stack([1 - table["valid_perf"].to_numpy(float), table["latency"].to_numpy(float)])
    return _listed(Graph(), codes, values)


def _accel(folder: Path, column: str) -> Problem:
    names = [f"block{block}_{part}" for part in ("e", "k", "l", "se") for block in range(7)]
    table = read(folder, "accel_nasbench.parquet", [*names, "val_top1", column])
    codes = np.stack([np.unique(table[name], return_inverse=True)[1] for name in names], axis=1)
    cost = table[column].to_numpy(float)
    values = np.column_stack([100 - table["val_top1"].to_numpy(float), 1e3 / cost if "throughput" in column else cost])
    inside = ~np.isnan(values).any(axis=1) & (codes < [len(slot.options) for slot in Accel().slots]).all(axis=1)
    regression = Regression(codes[inside], values[inside])
    return Problem(Accel(), regression, values[inside], regression.front(Accel()))


CIFAR10, CIFAR100 = "cifar10_test_e200", "cifar100_test_e200"

DEVELOPED_ON: dict[str, Callable[[Path], Problem]] = {
    "nb201 c10/1080ti_1": partial(cells, error=CIFAR10, device="1080ti_1"),
    "nb201 c100/pixel3": partial(cells, error=CIFAR100, device="pixel3"),
    "macro/flops": partial(_macro, cost="flops"),
    "accel/a100": partial(_accel, column="throughput_a100"),
}
HELD_BACK: dict[str, Callable[[Path], Problem]] = {
    "nb201 c10/gold_6240": partial(cells, error=CIFAR10, device="gold_6240"),
    "nb201 c10/essential_ph_1": partial(cells, error=CIFAR10, device="essential_ph_1"),
    "nb201 c100/titanx_256": partial(cells, error=CIFAR100, device="titanx_256"),
    "nb201 c100/2080ti_32": partial(cells, error=CIFAR100, device="2080ti_32"),
    "graph/cora": partial(_graph, dataset="cora"),
    "accel/zcu102": partial(_accel, column="latency_zcu102"),
}


@cache
def load(name: str, folder: Path) -> Problem:
    """Read a problem.

    Raises:
        TableError: the folder, a file or a column is missing.
    """
    return {**DEVELOPED_ON, **HELD_BACK}[name](folder)
