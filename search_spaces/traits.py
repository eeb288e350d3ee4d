"""Position-independent features of a network's graphs, in which similar graphs are close to each other.

The choices of a graph are tied to positions: node 3 is a product in one graph and a sigmoid in another, although both
graphs multiply. Models that compare choices position by position learn little from such choices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search_spaces.layout import Slot
from search_spaces.space import Space

Codes = npt.NDArray[np.int16]
Counts = npt.NDArray[np.int64]

_MOST = 3  # largest count of a primitive or input; higher counts are clipped
_MOST_NODES = 10
_BETWEEN = "_"  # separates words in the name of a primitive, as in std_wh


@dataclass(frozen=True)
class _Graph:
    """The slots of one graph in a space."""

    size: int
    op: tuple[int, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]


class GraphTraits:
    """Features over all graphs of a network: the counts of each primitive, of each word in primitives' names and of
    each input, the last primitive, the longest path and the number of nodes.

    Counts are clipped at `most`. `graph_traits` creates instances.
    """

    def __init__(self, graphs: Sequence[_Graph], primitives: Sequence[str], num_inputs: int) -> None:
        self._graphs, self._num_primitives, self._num_inputs = graphs, len(primitives), num_inputs
        words = dict.fromkeys(word for name in primitives if _BETWEEN in name for word in name.split(_BETWEEN))
        self._words = [[code for code, name in enumerate(primitives) if word in name.split(_BETWEEN)] for word in words]
        counted = len(primitives) + len(words) + num_inputs
        self.most = (*[_MOST] * counted, *[1] * len(primitives), _MOST_NODES, _MOST_NODES)
        """The largest value of each trait."""
        self.slots = frozenset(slot for one in graphs for slot in (one.size, *one.op, *one.left, *one.right))
        """The slots that the traits represent."""

    def __call__(self, codes: Codes) -> Counts:
        """Return the k traits of n networks, (n, k), from their codes."""
        found = np.zeros((len(codes), len(self.most)), dtype=np.int64)
        for one in self._graphs:
            found += self._of(codes, one)
        return np.minimum(found, np.array(self.most, dtype=np.int64))

    def _of(self, codes: Codes, graph: _Graph) -> Counts:
        op, left, right = (codes[:, list(slots)].astype(np.int64) for slots in (graph.op, graph.left, graph.right))
        ops = np.stack([(op == code).sum(1) for code in range(self._num_primitives)], 1)
        words = [ops[:, members].sum(1) for members in self._words]
        inputs = [(left == code).sum(1) + (right == code).sum(1) for code in range(self._num_inputs)]
        size = (op >= 0).sum(1)
        last = np.where(size > 0, op[np.arange(len(op)), size - 1], -1)
        outputs = [(last == code).astype(np.int64) for code in range(self._num_primitives)]
        return np.column_stack([ops, *words, *inputs, *outputs, self._depth(left, right, size), size])

    def _depth(self, left: Counts, right: Counts, size: Counts) -> Counts:
        """Return the number of nodes on the longest path to the output, (n,)."""
        longest = np.zeros((len(left), left.shape[1] + 1), dtype=np.int64)  # the last column stands for inputs
        rows = np.arange(len(left))
        for node in range(left.shape[1]):
            read = [np.maximum(side[:, node] - self._num_inputs, -1) for side in (left, right)]
            longest[:, node] = 1 + np.maximum(*(longest[rows, one] for one in read))
        return np.where(size > 0, longest[rows, size - 1], 0)


def graph_traits(space: Space) -> GraphTraits | None:
    """Return the traits of a space's graphs; None if it has no graphs, or graphs over different primitives."""
    graphs = list(_graphs(space.slots))
    primitives = {space.slots[one.op[0]].options for one in graphs}
    if len(primitives) != 1:
        return None
    inputs = sum(isinstance(option, str) for option in space.slots[graphs[0].left[0]].options)
    return GraphTraits(graphs, [str(name) for name in primitives.pop()], inputs)


def _graphs(slots: Sequence[Slot]) -> Iterator[_Graph]:
    """Yield the graphs of a space: the slots of each `Computations`."""
    places = {slot.path: place for place, slot in enumerate(slots)}
    for path, size in places.items():
        head, name = path.removesuffix("size"), path.rpartition(".")[2]
        if name != "size" or any(f"{head}{one}.0" not in places for one in ("op", "left", "right")):
            continue
        nodes = [node for node in range(len(slots)) if f"{head}op.{node}" in places]
        op, left, right = (tuple(places[f"{head}{one}.{node}"] for node in nodes) for one in ("op", "left", "right"))
        yield _Graph(size, op, left, right)
