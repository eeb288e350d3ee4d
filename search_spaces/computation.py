"""Small computation graphs as values, for example the computation of a layer.

A node applies a primitive to inputs, identified by name, and to earlier nodes, identified by number; the last node is
the output. The normal form of equal graphs is the same: nodes have one order, unused nodes are dropped, and arguments
of commutative primitives have one order. Primitives have no further meaning here: add(x, x) and mul(2, x) differ.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces.computation_text import MOST_CHARACTERS, MOST_NODES, Argument, Node, check_word, parsed
from search_spaces.errors import SpaceError
from search_spaces.graph import Graph
from search_spaces.reading import MalformedError, json_value
from search_spaces.values import show

MOST_ARGUMENTS = 2
"""Largest number of arguments of a node."""


@dataclass(frozen=True)
class Computation:
    """A graph as a value: nodes in order, each a primitive and its arguments; the last is the output.

    Raises:
        SpaceError: a node reads a node that is not before it, or there are no nodes or more than `MOST_NODES`.
    """

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        _check_nodes(self.nodes)

    @classmethod
    def of(cls, arch: Any) -> Computation:
        """Return the graph of an architecture of a `Computations`, whose `op`, `left` and `right` have a value a
        node."""
        rows = zip(arch.op, arch.left, arch.right, strict=True)
        return cls(tuple((op, left) if right is None else (op, left, right) for op, left, right in rows))

    @classmethod
    def from_json(cls, text: str | bytes) -> Computation:
        """Return the graph that `json` wrote: a list of nodes, each a list of a primitive and its arguments.

        Raises:
            SpaceError: the text is not such a list, too long, nested too deep, or not a graph.
        """
        try:
            value = json_value(text, most_bytes=MOST_CHARACTERS, most_depth=2)
        except MalformedError as error:
            raise SpaceError(f'{show(text)} {error}; write a graph like [["square","x"],["mul",0,"x"]]') from None
        if not isinstance(value, list) or not all(isinstance(node, list) for node in value):
            raise SpaceError(f'{show(value)} is no list of nodes; write a graph like [["square","x"],["mul",0,"x"]]')
        return cls(tuple(map(tuple, value)))

    @classmethod
    def parse(cls, text: str) -> Computation:
        """Return the graph that `text` wrote: ``a = square(x); mul(a, add(a, x))``. The last expression is the output.

        Raises:
            SpaceError: the text is malformed or too long.
        """
        return cls(tuple(parsed(text)))

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs that nodes read, sorted, without duplicates."""
        return tuple(sorted({argument for node in self.nodes for argument in node[1:] if isinstance(argument, str)}))

    def json(self) -> str:
        """Return the nodes as JSON lists, without spaces."""
        nodes = ",".join(f"[{','.join(_quoted(part) for part in node)}]" for node in self.nodes)
        return f"[{nodes}]"

    def text(self) -> str:
        """Return an expression that names nodes with several readers: ``a = square(x); mul(a, add(a, x))``."""
        reads = Counter(argument for node in self.nodes for argument in node[1:] if isinstance(argument, int))
        shown: dict[Argument, str] = {}
        statements = []
        letters = (name for name in _names() if name not in self.inputs)
        for number, (op, *arguments) in enumerate(self.nodes):
            expression = f"{op}({', '.join(shown.get(argument, str(argument)) for argument in arguments)})"
            if reads[number] > 1:
                shown[number] = next(letters)
                statements.append(f"{shown[number]} = {expression}")
            else:
                shown[number] = expression
        return "; ".join([*statements, shown[len(self.nodes) - 1]])

    def normal(self, commutative: frozenset[str] = frozenset()) -> Computation:
        """Return the normal form of the graph; the order of arguments of `commutative` primitives does not matter."""
        names = _digests(self.nodes, commutative)
        places: dict[str, int] = {}
        nodes: list[Node] = []
        waiting = [len(self.nodes) - 1]
        while waiting:  # depth first, arguments before what reads them
            number = waiting[-1]
            op, *given = self.nodes[number]
            arguments = _sorted(given, names) if op in commutative else given
            missing = [one for one in arguments if isinstance(one, int) and names[one] not in places]
            if missing and names[number] not in places:
                waiting.append(missing[0])
                continue
            waiting.pop()
            if names[number] not in places:
                places[names[number]] = len(nodes)
                nodes.append((op, *(places[names[one]] if isinstance(one, int) else one for one in arguments)))
        return Computation(tuple(nodes))

    def graph(self) -> Graph:
        """Return a networkx graph from the inputs to ``output``, with JSON attributes as in `Space.graph`."""
        import networkx

        graph: Graph = networkx.DiGraph(name="computation")
        for name in self.inputs:
            graph.add_node(name, label=name, kind="input", path="", values={})
        for number, (op, *arguments) in enumerate(self.nodes):
            graph.add_node(f"node.{number}", label=op, kind=op, path=f"op.{number}", values={})
            for argument in arguments:
                graph.add_edge(argument if isinstance(argument, str) else f"node.{argument}", f"node.{number}")
        graph.add_node("output", label="output", kind="output", path="", values={})
        graph.add_edge(f"node.{len(self.nodes) - 1}", "output")
        return graph


def _digests(nodes: Sequence[Node], commutative: frozenset[str]) -> list[str]:
    """Return a digest of each node's computation, equal for equal subgraphs in any notation."""
    names: list[str] = []
    for op, *given in nodes:
        arguments = _sorted(given, names) if op in commutative else given
        read = ",".join(one if isinstance(one, str) else names[one] for one in arguments)
        names.append(hashlib.sha256(f"{op}({read})".encode()).hexdigest())
    return names


def _sorted(arguments: Sequence[Argument], names: Sequence[str]) -> list[Argument]:
    """Return the arguments in a canonical order, inputs before nodes."""
    return sorted(arguments, key=lambda one: (0, one) if isinstance(one, str) else (1, names[one]))


def _quoted(part: Argument) -> str:
    return f'"{part}"' if isinstance(part, str) else str(part)


def _names() -> Iterator[str]:
    """Yield names: a, b, ..., z, a1, b1, ..."""
    for number in range(MOST_NODES):
        yield from (f"{chr(97 + letter)}{number or ''}" for letter in range(26))


def _check_nodes(nodes: Sequence[Node]) -> None:
    if not 1 <= len(nodes) <= MOST_NODES:
        raise SpaceError(f"a graph of {len(nodes)} nodes; give it from 1 to {MOST_NODES}")
    for number, node in enumerate(nodes):
        if not 1 < len(node) <= 1 + MOST_ARGUMENTS:
            raise SpaceError(f"node {number} is {show(node)}; write a primitive and its 1 or 2 arguments")
        check_word(f"node {number}: primitive", node[0])
        for argument in node[1:]:
            if type(argument) is int and 0 <= argument < number:
                continue
            if type(argument) is int:
                raise SpaceError(f"node {number} reads node {argument}; a node reads inputs and nodes before it")
            check_word(f"node {number}: input", argument)
