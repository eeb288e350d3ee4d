"""Additional columns from the graph of an architecture: its live parts."""

from collections.abc import Iterable, Iterator
from typing import Any

import networkx
import numpy as np
import numpy.typing as npt

from nas.predictors.models import FloatArray
from nas.predictors.option_counts import OptionCounts
from nas.predictors.rows import Archs, Features, codes_of
from search_spaces import Space
from search_spaces.graph import Graph

_REMEMBERED = 50_000  # most graphs in the cache


def together(*features: Features) -> Features:
    """Combine feature functions: the columns of all, side by side."""
    return lambda archs: np.hstack([np.asarray(given(archs), dtype=float) for given in features])


def graph_features(space: Space) -> Features:
    """Return columns that describe the live part of `space.graph`: nodes on a path from input to output.

    The columns count how often each option of a choice with several positions occurs there. For a space with its own
    graph, there are also columns for each option of each choice, 0 if its part is dead, and the numbers of live parts,
    of edges between them and of parts on the longest path. Otherwise the graph is a chain in which everything is live,
    and codes suffice.
    """
    if type(space).graph is not Space.graph:
        return _Live(space).columns
    counts = OptionCounts(space)
    return lambda archs: counts.of(codes_of(space, archs))


class _Live:
    """Columns of the live part; every graph is built once and its numbers are cached."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self._slot = {slot.path: index for index, slot in enumerate(space.slots)}
        self._counts = OptionCounts(space)
        self._options = [(index, code) for index, slot in enumerate(space.slots) for code in range(len(slot.options))]
        graphs = (space.graph(arch) for _, arch in space.variants())
        self._drawn = {slot for graph in graphs for slot in self._slots(graph, graph)}
        self._known: dict[bytes, FloatArray] = {}

    def columns(self, archs: Archs) -> FloatArray:
        codes = codes_of(self.space, archs).astype(np.int16, copy=False)
        live, paths = codes.copy(), np.zeros((len(codes), 3))
        for row, text in enumerate(map(bytes, codes)):
            if text not in self._known:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[text] = self._numbers(codes[row])
            found = self._known[text]
            live[row, found[3:].astype(int)] = -1
            paths[row] = found[:3]
        options = [live[:, slot] == code for slot, code in self._options]
        return np.hstack([np.stack(options, axis=1).astype(float), self._counts.of(live), paths])

    def _numbers(self, codes: npt.NDArray[np.int16]) -> FloatArray:
        """Return the numbers of parts, edges and parts on the longest path, then the dead slots."""
        graph = self.space.graph(self.space.decode(codes[None])[0])
        alive = graph.subgraph(
            (networkx.descendants(graph, "input") | {"input"}) & (networkx.ancestors(graph, "output") | {"output"})
        )
        dead = self._drawn - set(self._slots(graph, alive))
        longest = networkx.dag_longest_path_length(alive, weight=None) if len(alive) else 0
        return np.array([len(alive), alive.number_of_edges(), longest, *sorted(dead)], dtype=float)

    def _slots(self, graph: Graph, nodes: Iterable[str]) -> Iterator[int]:
        """Yield the slots whose values some of the nodes show."""
        for node in nodes:
            path, values = graph.nodes[node]["path"], graph.nodes[node]["values"]
            for shown in (path, *_paths(path, values)):
                if shown in self._slot:
                    yield self._slot[shown]


def _paths(path: str, values: dict[str, Any]) -> Iterator[str]:
    """Yield the paths of a node's choices: `kernel.0` and `op.0` of a block, `stages.0.width` of a stage."""
    *before, last = path.split(".")
    for name in values:
        yield ".".join([*before[:-1], name, last]) if last.isdigit() else ".".join([*path.split("."), name]).strip(".")
