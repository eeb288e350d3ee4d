"""What the graphs of a network have, wherever their nodes stand: numbers in which equal graphs are near one another.

The choices of a graph are bound to places: node 3 is a product here and a sigmoid there, though both graphs multiply.
Models of a space that compare choices place by place learn little from that.
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

_MOST = 3  # of one primitive or input that are told apart
_MOST_NODES = 10
_BETWEEN = "_"  # words of the name of a primitive, as in std_wh


@dataclass(frozen=True)
class _Graph:
    """Where one graph stands among the slots of a space."""

    size: int
    op: tuple[int, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]


class GraphTraits:
    """Of all graphs of a network together: how often each primitive, word of their names and input occurs, which
    primitive is last, the longest path and the number of nodes.

    Counts beyond a few are not told apart. Made by `graph_traits`.
    """

    def __init__(self, graphs: Sequence[_Graph], primitives: Sequence[str], num_inputs: int) -> None:
        self._graphs, self._num_primitives, self._num_inputs = graphs, len(primitives), num_inputs
        words = dict.fromkeys(word for name in primitives if _BETWEEN in name for word in name.split(_BETWEEN))
        self._words = [[code for code, name in enumerate(primitives) if word in name.split(_BETWEEN)] for word in words]
        counted = len(primitives) + len(words) + num_inputs
        self.most = (*[_MOST] * counted, *[1] * len(primitives), _MOST_NODES, _MOST_NODES)
        """The largest number of each trait."""
        self.slots = frozenset(slot for one in graphs for slot in (one.size, *one.op, *one.left, *one.right))
        """What traits stand for."""

    def __call__(self, codes: Codes) -> Counts:
        """(n, k) of n networks by their codes."""
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
        """(n,) nodes on the longest path to the output."""
        longest = np.zeros((len(left), left.shape[1] + 1), dtype=np.int64)  # the last column is of inputs
        rows = np.arange(len(left))
        for node in range(left.shape[1]):
            read = [np.maximum(side[:, node] - self._num_inputs, -1) for side in (left, right)]
            longest[:, node] = 1 + np.maximum(*(longest[rows, one] for one in read))
        return np.where(size > 0, longest[rows, size - 1], 0)


def graph_traits(space: Space) -> GraphTraits | None:
    """The traits of a space's graphs; None where it has none, or graphs over several sets of primitives."""
    graphs = list(_graphs(space.slots))
    primitives = {space.slots[one.op[0]].options for one in graphs}
    if len(primitives) != 1:
        return None
    inputs = sum(isinstance(option, str) for option in space.slots[graphs[0].left[0]].options)
    return GraphTraits(graphs, [str(name) for name in primitives.pop()], inputs)


def _graphs(slots: Sequence[Slot]) -> Iterator[_Graph]:
    """Where graphs stand: the choices of a `Computations` at one place."""
    places = {slot.path: place for place, slot in enumerate(slots)}
    for path, size in places.items():
        head, name = path.removesuffix("size"), path.rpartition(".")[2]
        if name != "size" or any(f"{head}{one}.0" not in places for one in ("op", "left", "right")):
            continue
        nodes = [node for node in range(len(slots)) if f"{head}op.{node}" in places]
        op, left, right = (tuple(places[f"{head}{one}.{node}"] for node in nodes) for one in ("op", "left", "right"))
        yield _Graph(size, op, left, right)
