"""Ensembles that share their beginning (NEAS, CVPR 2021): two paths of layers, the second of which begins at the split.

Built by `supernets.models.ensemble.build`. For other sizes narrow it (`where`), or subclass: a third path is one choice
more, ``third = choice(*LAYERS, per=8, start="split")``, and another number of layers all of them anew.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from search_spaces.architecture import Architecture
from search_spaces.declaration import choice
from search_spaces.space import Space

if TYPE_CHECKING:
    from search_spaces.graph import Graph

LAYERS = ("skip", "k3e2", "k3e4", "k5e2", "k5e4")
"""No layer; inverted residuals of a kernel and an expansion: ``k5e4`` filters 5 x 5 in 4 times as many channels."""
PATHS = ("first", "second", "third", "fourth")
"""Names of paths."""


class EnsembleSpace(Space):
    """Two paths of eight layers that share their first `split` layers: those of `first`."""

    split = choice(8, 6, 4, 2, 0)
    first = choice(*LAYERS, per=8)
    second = choice(*LAYERS, per=8, start="split")

    def graph(self, arch: Architecture) -> "Graph":
        """The trunk, followed by one branch per path."""
        import networkx

        graph: Graph = networkx.DiGraph(name=arch.kind)
        graph.add_node("input", label="input", kind="input", path="", values={})
        trunk = _append(graph, arch, "first", range(arch.split), "input")
        graph.add_node("output", label="output", kind="output", path="", values={})
        for name in paths(arch):
            graph.add_edge(_append(graph, arch, name, range(arch.split, len(arch.first)), trunk), "output")
        return graph


def paths(arch: Architecture) -> Iterator[str]:
    """The names of the paths of an architecture."""
    return (name for name in PATHS if name in arch)


def _append(graph: "Graph", arch: Architecture, name: str, positions: range, last: str) -> str:
    for position in positions:
        node, value = f"{name}.{position}", arch[name][position]
        graph.add_node(node, label=f"layer {position}: {value}", kind="block", path="", values={name: value})
        graph.add_edge(last, node)
        last = node
    return last
