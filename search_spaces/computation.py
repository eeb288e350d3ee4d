"""Choices whose values are small computation graphs: what a layer computes, say.

    class Layer(Computations, primitives=(Primitive("square", 1), Primitive("mul", 2, commutative=True)), nodes=6):
        "Graphs of at most 6 nodes over an input called x."

    class Networks(Space):
        layer = Layer()
        width = choice(16, 32)

    Computation.of(space.sample(rng).layer).text()  # "square(mul(x, square(x)))"

A node applies a primitive to inputs, which have names, and to nodes before it, which have numbers; the last node is the
output. Equal graphs are equal values: nodes have one order, what nothing reads is left out, and the arguments of a
commutative primitive have one order too. Nothing more is known of the primitives: add(x, x) and mul(2, x) differ.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np

from search_spaces.architecture import Architecture
from search_spaces.declaration import choice
from search_spaces.errors import SpaceError
from search_spaces.graph import Graph
from search_spaces.normal import Values, normal_form
from search_spaces.reading import MalformedError, json_value
from search_spaces.space import Space
from search_spaces.values import listing, show, suggestion

Argument: TypeAlias = str | int
"""An input by its name, or a node before this one by its number."""
Node: TypeAlias = tuple[Any, ...]
"""A primitive by its name, and its arguments."""

MOST_NODES = 64
"""Of one graph."""
MOST_CHARACTERS = 20_000
"""Of a text that is read."""
_MOST_ARGUMENTS = 2
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOKEN = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*|[(),;=])")


@dataclass(frozen=True)
class Primitive:
    """What a node may do: a name for whoever computes it, and the number of its arguments, 1 or 2."""

    name: str
    arity: int
    commutative: bool = False

    def __post_init__(self) -> None:
        _check_word("primitive", self.name)
        if self.arity not in range(1, _MOST_ARGUMENTS + 1):
            raise SpaceError(f"primitive {self.name!r} has {self.arity} arguments; give it 1 or 2")
        if self.commutative and self.arity != _MOST_ARGUMENTS:
            raise SpaceError(f"primitive {self.name!r} has one argument; commutative are those of 2")


@dataclass(frozen=True)
class Computation:
    """A graph as a value: nodes in order, each a primitive and its arguments; the last is the output.

    Raises:
        SpaceError: a node that reads what is not before it, no node, or more than `MOST_NODES`.
    """

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        _check_nodes(self.nodes)

    @classmethod
    def of(cls, arch: Any) -> Computation:
        """Of an architecture of a `Computations`: one of the choices `op`, `left` and `right` a node."""
        rows = zip(arch.op, arch.left, arch.right, strict=True)
        return cls(tuple((op, left) if right is None else (op, left, right) for op, left, right in rows))

    @classmethod
    def from_json(cls, text: str | bytes) -> Computation:
        """The inverse of `json`: a list of nodes, each a list of a primitive and its arguments.

        Raises:
            SpaceError: it is no such list, too long, too deep or no graph.
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
        """The inverse of `text`: ``a = square(x); mul(a, add(a, x))``. The last expression is the output.

        Raises:
            SpaceError: it is no such text, or too long.
        """
        return cls(tuple(_Parser(text).nodes()))

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names that its nodes read, each once, sorted."""
        return tuple(sorted({argument for node in self.nodes for argument in node[1:] if isinstance(argument, str)}))

    def json(self) -> str:
        """Nodes as lists, without spaces."""
        nodes = ",".join(f"[{','.join(_quoted(part) for part in node)}]" for node in self.nodes)
        return f"[{nodes}]"

    def text(self) -> str:
        """As an expression, in which nodes that are read twice have letters: ``a = square(x); mul(a, add(a, x))``."""
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
        """The graph as it is always written; the arguments of `commutative` primitives have no order."""
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
        """From its inputs to ``output``, with JSON attributes as `Space.graph` has them."""
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


class Computations(Space):
    """Graphs over primitives and named inputs; each subclass says which, as arguments of its class statement.

    Args:
        primitives: what nodes may do.
        inputs: names of what nodes may read beside nodes: inputs proper, constants and learnable vectors alike.
        nodes: of the largest graph, from 1 to `MOST_NODES`.

    It draws a number of nodes, and for each a primitive and arguments at random; what then is dead is left out, so
    small graphs are likelier than in a list of all. Mutation first writes the graph with dead nodes between its own,
    up to the largest number, and then draws one node anew, so that a graph grows anywhere. A crossover takes a whole
    graph.

    Raises:
        SpaceError: names that are none, or given twice; a number of nodes that cannot be.
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
            binary = tuple(one.name for one in primitives if one.arity == _MOST_ARGUMENTS)
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
                if name in ("left", "right"):  # nodes read those before them
                    cls._layout.domains[slot] = tuple(range(len(inputs) + int(position)))

    def write(self, graph: Computation | str) -> Architecture:
        """The architecture of a graph, or of its text; as `space.architecture({"layer": Layer().write(text)})`.

        Raises:
            SpaceError: the text is no graph, or one that is not in this space.
        """
        found = (Computation.parse(graph) if isinstance(graph, str) else graph).normal(self._commutative())
        self._check_known(found)
        return self.architecture(_values(found.nodes))

    def graph(self, arch: Architecture) -> Graph:
        """What the architecture computes, from the inputs it reads to the output."""
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
        """The same graph with as many nodes as there may be: random ones, which nothing reads, between its own."""
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
    """Nodes as the choices of a `Computations`."""
    return {
        "size": len(nodes),
        "op": tuple(node[0] for node in nodes),
        "left": tuple(node[1] for node in nodes),
        "right": tuple(node[2] if len(node) > _MOST_ARGUMENTS else None for node in nodes),
    }


def _digests(nodes: Sequence[Node], commutative: frozenset[str]) -> list[str]:
    """A name for what each node computes: equal for equal graphs, however they are written."""
    names: list[str] = []
    for op, *given in nodes:
        arguments = _sorted(given, names) if op in commutative else given
        read = ",".join(one if isinstance(one, str) else names[one] for one in arguments)
        names.append(hashlib.sha256(f"{op}({read})".encode()).hexdigest())
    return names


def _sorted(arguments: Sequence[Argument], names: Sequence[str]) -> list[Argument]:
    """Inputs before nodes."""
    return sorted(arguments, key=lambda one: (0, one) if isinstance(one, str) else (1, names[one]))


def _quoted(part: Argument) -> str:
    return f'"{part}"' if isinstance(part, str) else str(part)


def _names() -> Iterator[str]:
    """a, b, ..., z, a1, b1, ..."""
    for number in range(MOST_NODES):
        yield from (f"{chr(97 + letter)}{number or ''}" for letter in range(26))


# What is read is checked


def _check_word(what: str, name: Any) -> None:
    if not isinstance(name, str) or not _WORD.fullmatch(name):
        raise SpaceError(f"{what} {show(name)} is no name; use letters, digits and '_', beginning with a letter")


def _check_nodes(nodes: Sequence[Node]) -> None:
    if not 1 <= len(nodes) <= MOST_NODES:
        raise SpaceError(f"a graph of {len(nodes)} nodes; give it from 1 to {MOST_NODES}")
    for number, node in enumerate(nodes):
        if not 1 < len(node) <= 1 + _MOST_ARGUMENTS:
            raise SpaceError(f"node {number} is {show(node)}; write a primitive and its 1 or 2 arguments")
        _check_word(f"node {number}: primitive", node[0])
        for argument in node[1:]:
            if type(argument) is int and 0 <= argument < number:
                continue
            if type(argument) is int:
                raise SpaceError(f"node {number} reads node {argument}; a node reads inputs and nodes before it")
            _check_word(f"node {number}: input", argument)


def _check_declared(kind: str, primitives: Sequence[Primitive], inputs: Sequence[str], nodes: int) -> None:
    if not inputs:
        raise SpaceError(f"{kind}: no inputs; give at least one name, as in inputs=('x',)")
    for name in inputs:
        _check_word(f"{kind}: input", name)
    names = Counter([*inputs, *(one.name for one in primitives)])
    if twice := [name for name, count in names.items() if count > 1]:
        raise SpaceError(f"{kind}: {listing(twice)} is given twice; primitives and inputs have names of their own")
    if isinstance(nodes, bool) or not isinstance(nodes, int) or not 2 <= nodes <= MOST_NODES:
        raise SpaceError(f"{kind}: nodes={show(nodes)}; the largest graph has from 2 to {MOST_NODES}")


class _Parser:
    """One text: statements ``name = expression`` apart by semicolons, the last an expression alone."""

    def __init__(self, text: str) -> None:
        if not isinstance(text, str) or len(text) > MOST_CHARACTERS:
            given = f"{len(text):,} characters" if isinstance(text, str) else show(text)
            raise SpaceError(f"{given} are no graph; give a text of at most {MOST_CHARACTERS:,} characters")
        self._text = text
        self._tokens = self._split()
        self._nodes: list[Node] = []
        self._named: dict[str, Argument] = {}

    def nodes(self) -> list[Node]:
        output: Argument = ""
        while self._tokens:
            name = self._tokens[0][0] if len(self._tokens) > 1 and self._tokens[1][0] == "=" else None
            if name is not None:
                self._take(), self._take()
            output = self._expression()
            if name is not None:
                self._named[name] = output
            if self._tokens:
                self._expect(";")
        if output != len(self._nodes) - 1:  # an input, a name alone, or nothing
            raise self._error("has no primitive as its last expression")
        return self._nodes

    def _split(self) -> list[tuple[str, int]]:
        tokens, place = [], 0
        stripped = self._text.rstrip()
        while place < len(stripped):
            found = _TOKEN.match(stripped, place)
            if found is None:
                raise self._error(f"has {show(stripped[place : place + 10].strip())} at {place}")
            tokens.append((found[1], found.start(1)))
            place = found.end()
        return tokens

    def _take(self) -> str:
        if not self._tokens:
            raise self._error("ends too early")
        return self._tokens.pop(0)[0]

    def _expect(self, *wanted: str) -> str:
        place = self._tokens[0][1] if self._tokens else len(self._text)
        token = self._take()
        if token not in wanted:
            raise self._error(f"has {token!r} at {place} in place of {' or '.join(map(repr, wanted))}")
        return token

    def _expression(self) -> Argument:
        """One expression, without recursion: so deep a text as there may be is read."""
        calls: list[list[Argument]] = []
        while True:
            word = self._take()
            if not _WORD.fullmatch(word):
                raise self._error(f"has {word!r} in place of a name")
            if self._tokens and self._tokens[0][0] == "(":
                self._take()
                calls.append([word])
                continue
            value: Argument = self._named.get(word, word)
            while calls:
                calls[-1].append(value)
                if self._expect(",", ")") == ",":
                    break
                self._nodes.append(tuple(calls.pop()))
                if len(self._nodes) > MOST_NODES:
                    raise self._error(f"has more than {MOST_NODES} nodes")
                value = len(self._nodes) - 1
            else:
                return value

    def _error(self, what: str) -> SpaceError:
        return SpaceError(f"the graph {show(self._text)} {what}; write it like 'a = square(x); mul(a, x)'")
