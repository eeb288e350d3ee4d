"""Columns beside the encoding: what the graph of an architecture says of the parts that do any work."""

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

_REMEMBERED = 50_000  # graphs whose numbers are kept


def together(*features: Features) -> Features:
    """The columns of all, side by side."""
    return lambda archs: np.hstack([np.asarray(given(archs), dtype=float) for given in features])


def graph_features(space: Space) -> Features:
    """Columns that tell what lies on a path from the input to the output of `space.graph`.

    How often each option of a choice with several positions occurs there. Where a space draws its own graph, also
    each option of each choice, 0 where its part is dead, and the numbers of parts alive, of edges between them and of
    parts on the longest path. Where it does not, the graph is a chain, in which all is alive, and codes suffice.
    """
    if type(space).graph is not Space.graph:
        return _Live(space).columns
    counts = OptionCounts(space)
    return lambda archs: counts.of(codes_of(space, archs))


class _Live:
    """The same of what is alive; every graph is drawn once, and its numbers are kept."""

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
        """Parts, edges, longest path; then the slots that are dead."""
        graph = self.space.graph(self.space.decode(codes[None])[0])
        alive = graph.subgraph(
            (networkx.descendants(graph, "input") | {"input"}) & (networkx.ancestors(graph, "output") | {"output"})
        )
        dead = self._drawn - set(self._slots(graph, alive))
        longest = networkx.dag_longest_path_length(alive, weight=None) if len(alive) else 0
        return np.array([len(alive), alive.number_of_edges(), longest, *sorted(dead)], dtype=float)

    def _slots(self, graph: Graph, nodes: Iterable[str]) -> Iterator[int]:
        """The slots whose values some of the nodes show."""
        for node in nodes:
            path, values = graph.nodes[node]["path"], graph.nodes[node]["values"]
            for shown in (path, *_paths(path, values)):
                if shown in self._slot:
                    yield self._slot[shown]


def _paths(path: str, values: dict[str, Any]) -> Iterator[str]:
    """The paths of the choices a node shows: `kernel.0` and `op.0` of a block, `stages.0.width` of a stage."""
    *before, last = path.split(".")
    for name in values:
        yield ".".join([*before[:-1], name, last]) if last.isdigit() else ".".join([*path.split("."), name]).strip(".")
