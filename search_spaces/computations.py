"""Choices whose values are small computation graphs.

    class Layer(Computations, primitives=(Primitive("square", 1), Primitive("mul", 2, commutative=True)), nodes=6):
        "Graphs of at most 6 nodes over an input called x."

    class Networks(Space):
        layer = Layer()
        width = choice(16, 32)

    Computation.of(space.sample(rng).layer).text()  # "square(mul(x, square(x)))"

A graph is a nested space of its nodes; equal graphs are equal values, because architectures use the normal form.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from search_spaces.architecture import Architecture
from search_spaces.computation import MOST_ARGUMENTS, Computation
from search_spaces.computation_text import MOST_NODES, Argument, Node, check_word
from search_spaces.declaration import choice
from search_spaces.errors import SpaceError
from search_spaces.graph import Graph
from search_spaces.normal import Values, normal_form
from search_spaces.space import Space
from search_spaces.values import listing, show, suggestion


@dataclass(frozen=True)
class Primitive:
    """An operation of a node: its name, which the model interprets, and its number of arguments, 1 or 2."""

    name: str
    arity: int
    commutative: bool = False

    def __post_init__(self) -> None:
        check_word("primitive", self.name)
        if self.arity not in range(1, MOST_ARGUMENTS + 1):
            raise SpaceError(f"primitive {self.name!r} has {self.arity} arguments; give it 1 or 2")
        if self.commutative and self.arity != MOST_ARGUMENTS:
            raise SpaceError(f"primitive {self.name!r} has one argument; commutative are those of 2")


class Computations(Space):
    """Graphs over primitives and named inputs, which each subclass sets as arguments of its class statement.

    Args:
        primitives: the operations of nodes.
        inputs: names that nodes may read in addition to nodes: actual inputs, constants and learnable vectors.
        nodes: number of nodes of the largest graph, from 2 to `MOST_NODES`.

    Sampling draws a number of nodes and, for each, a random primitive and arguments, then drops dead nodes, so small
    graphs are more likely than in a uniform draw from all graphs. Mutation first inserts dead nodes up to the largest
    number, then redraws one node, so that a graph can grow anywhere. Crossover takes whole graphs.

    Raises:
        SpaceError: a name is invalid or duplicated, no primitive has 2 arguments, or `nodes` is out of range.
    """

    _primitives: ClassVar[tuple[Primitive, ...]] = ()
    _inputs: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(
        cls,
        *,
        primitives: Sequence[Primitive] = (),
        inputs: Sequence[str] = ("x",),
        nodes: int = 8,
        **kwargs: Any,
    ) -> None:
        if primitives:
            _check_declared(cls.__name__, primitives, inputs, nodes)
            cls._primitives, cls._inputs = tuple(primitives), tuple(inputs)
            binary = tuple(one.name for one in primitives if one.arity == MOST_ARGUMENTS)
            arguments = choice(*inputs, *range(nodes - 1), per="size")
            cls.size = choice(*range(1, nodes + 1))  # type: ignore[attr-defined]
            cls.op = choice(*(one.name for one in primitives), per="size")  # type: ignore[attr-defined]
            cls.left = arguments  # type: ignore[attr-defined]
            if binary:
                cls.right = choice(*arguments.options, per="size", when={"op": binary})  # type: ignore[attr-defined]
            else:
                raise SpaceError(
                    f"{cls.__name__}: no primitive has 2 arguments, so graphs are chains; add one that has"
                )
            cls.written = normal_form(cls._written, spread=cls._spread)  # type: ignore[attr-defined]
        super().__init_subclass__(**kwargs)
        if primitives:
            for slot, one in enumerate(cls._layout.slots):
                name, _, position = one.path.partition(".")
                if name in ("left", "right"):  # nodes read only earlier ones
                    cls._layout.domains[slot] = tuple(range(len(inputs) + int(position)))

    def write(self, graph: Computation | str) -> Architecture:
        """Return the architecture of a graph or its text, as in `space.architecture({"layer": Layer().write(text)})`.

        Raises:
            SpaceError: the text is not a graph, or the graph is not in this space.
        """
        found = (Computation.parse(graph) if isinstance(graph, str) else graph).normal(self._commutative())
        self._check_known(found)
        return self.architecture(_values(found.nodes))

    def graph(self, arch: Architecture) -> Graph:
        """Return the computation of the architecture as a graph, from the inputs that it reads to the output."""
        return Computation.of(arch).graph()

    @classmethod
    def _commutative(cls) -> frozenset[str]:
        return frozenset(one.name for one in cls._primitives if one.commutative)

    @classmethod
    def _written(cls, size: int, op: Sequence[str], left: Sequence[Argument], right: Sequence[Any]) -> dict[str, Any]:
        rows = zip(op, left, right, strict=True)
        nodes = tuple((name, a) if b is None else (name, a, b) for name, a, b in rows)
        return _values(Computation(nodes).normal(cls._commutative()).nodes)

    @classmethod
    def _spread(cls, values: Values, rng: np.random.Generator) -> dict[str, Any]:
        """Return the same graph with the largest number of nodes: random, unused ones between its own."""
        most, size = max(cls._layout.slots[0].options), values["size"]
        places = [*sorted(rng.choice(most - 1, size - 1, replace=False).tolist()), most - 1]
        own = {place: number for number, place in enumerate(places)}
        moved = dict(enumerate(places))
        rows: list[Node] = []
        for place in range(most):
            if place in own:
                row = tuple(values[name][own[place]] for name in ("op", "left", "right"))
                rows.append((row[0], *(moved[a] if isinstance(a, int) else a for a in row[1:] if a is not None)))
            else:
                one = cls._primitives[int(rng.integers(len(cls._primitives)))]
                there = (*cls._inputs, *range(place))
                rows.append((one.name, *(there[int(rng.integers(len(there)))] for _ in range(one.arity))))
        return _values(rows)

    def _check_known(self, graph: Computation) -> None:
        arities = {one.name: one.arity for one in self._primitives}
        for op, *arguments in graph.nodes:
            if op not in arities:
                raise SpaceError(f"{self.name}: {op!r} is no primitive here; {suggestion(op, arities)}")
            if len(arguments) != arities[op]:
                raise SpaceError(f"{self.name}: {op!r} has {len(arguments)} arguments; give it {arities[op]}")
        for name in graph.inputs:
            if name not in self._inputs:
                raise SpaceError(f"{self.name}: {name!r} is no input here; {suggestion(name, self._inputs)}")


def _values(nodes: Sequence[Node]) -> dict[str, Any]:
    """Return nodes as the values of the choices of a `Computations`."""
    return {
        "size": len(nodes),
        "op": tuple(node[0] for node in nodes),
        "left": tuple(node[1] for node in nodes),
        "right": tuple(node[2] if len(node) > MOST_ARGUMENTS else None for node in nodes),
    }


def _check_declared(kind: str, primitives: Sequence[Primitive], inputs: Sequence[str], nodes: int) -> None:
    if not inputs:
        raise SpaceError(f"{kind}: no inputs; give at least one name, as in inputs=('x',)")
    for name in inputs:
        check_word(f"{kind}: input", name)
    names = Counter([*inputs, *(one.name for one in primitives)])
    if twice := [name for name, count in names.items() if count > 1]:
        raise SpaceError(f"{kind}: {listing(twice)} is given twice; primitives and inputs have names of their own")
    if isinstance(nodes, bool) or not isinstance(nodes, int) or not 2 <= nodes <= MOST_NODES:
        raise SpaceError(f"{kind}: nodes={show(nodes)}; the largest graph has from 2 to {MOST_NODES}")
