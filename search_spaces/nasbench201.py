"""The cells of NAS-Bench-201 (arXiv:2001.00326), exhaustive tables of which are published.

Four nodes, six edges, one of five operations on each: 15,625 cells. Built by `supernets.models.nasbench201.build`.
"""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from search_spaces.architecture import Architecture
from search_spaces.declaration import choice
from search_spaces.errors import SpaceError
from search_spaces.graph import Graph
from search_spaces.space import Space

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""The nodes each edge leaves and enters, in the order of `op`."""

_NONE = 0  # the code of the operation "none"
_EDGE = re.compile(r"\|?([^|~]+)~(\d)\|")


class NASBench201Space(Space):
    """One operation for each of the six `EDGES`; the largest cell is the one of 3x3 convolutions."""

    op = choice("none", "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3", per=6)

    def graph(self, arch: Architecture) -> Graph:
        """The cell: its four nodes, with a node for each operation between them; there is none for "none"."""
        import networkx

        graph: Graph = networkx.DiGraph(name=arch.kind)
        for node, label in enumerate(("input", "sum", "sum", "output")):
            name = label if label != "sum" else f"node.{node}"
            graph.add_node(name, label=label, kind=label, path="", values={})
        names = list(graph)
        for index, ((source, target), op) in enumerate(zip(EDGES, arch.op, strict=True)):
            if op != "none":
                graph.add_node(f"op.{index}", label=op, kind=op, path=f"op.{index}", values={"op": op})
                graph.add_edge(names[source], f"op.{index}")
                graph.add_edge(f"op.{index}", names[target])
        return graph

    def effective_codes(self, codes: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """An operation has an effect where a path from the input to the output leads through it; else it is "none"."""
        passes = codes != _NONE
        reached, leads_on = np.zeros((2, len(codes), 1 + EDGES[-1][1]), dtype=bool)
        reached[:, 0] = leads_on[:, -1] = True
        for edge, (source, target) in enumerate(EDGES):  # they stand in the order of the nodes they enter
            reached[:, target] |= reached[:, source] & passes[:, edge]
        for edge, (source, target) in reversed(list(enumerate(EDGES))):
            leads_on[:, source] |= leads_on[:, target] & passes[:, edge]
        sources, targets = np.array(EDGES).T
        return np.where(reached[:, sources] & leads_on[:, targets], codes, np.int16(_NONE))


def arch_str(arch: Architecture) -> str:
    """The official string of a cell: nodes 1 to 3 joined by +, each the operations that enter it as `op~from`."""
    return _spelled(arch.op)


def from_arch_str(text: str) -> Architecture:
    """The architecture of an official string, `|nor_conv_3x3~0|+|none~0|skip_connect~1|+|...|`.

    Raises:
        SpaceError: the string is not of this form, or names an operation that is none of the five.
    """
    ops = [op for op, _ in _EDGE.findall(text)]
    if len(ops) != len(EDGES) or _spelled(ops) != text:
        raise SpaceError(f"{text!r} is no NAS-Bench-201 string; write it as {_spelled(['none'] * 6)!r}")
    return NASBench201Space().architecture({"op": ops})


def _spelled(ops: Sequence[str]) -> str:
    edges = list(zip(ops, EDGES, strict=True))
    nodes = ("".join(f"{op}~{source}|" for op, (source, target) in edges if target == node) for node in (1, 2, 3))
    return "+".join(f"|{node}" for node in nodes)
