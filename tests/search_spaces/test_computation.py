"""Graphs as values: equal ones are equal, whatever the order of nodes and arguments; spaces of them obey all laws."""

import itertools
import json
import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import Architecture, Computation, Computations, Primitive, Space, SpaceError, choice, normal_form

FUNCTIONS: dict[str, Any] = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "sub": lambda a, b: a - b,
    "neg": lambda a: -a,
    "tanh": math.tanh,
}
PRIMITIVES = tuple(Primitive(name, 1 if name in ("neg", "tanh") else 2, name in ("add", "mul")) for name in FUNCTIONS)
COMMUTATIVE = frozenset(("add", "mul"))


class Layer(Computations, primitives=PRIMITIVES, inputs=("x", "one", "v"), nodes=6):
    """At most six nodes."""


class Few(Computations, primitives=(Primitive("add", 2, commutative=True), Primitive("neg", 1)), nodes=3):
    """Few enough to count by hand."""


class Net(Space):
    width = choice(4, 8)
    layer = Layer()


class Mixed(Space):
    depth = choice(1, 2)
    norm = choice("batch", Layer(), per="depth")


def compute(graph: Computation) -> float:
    values: dict[Any, float] = {"x": 0.3, "one": 1.0, "v": -0.7}
    for number, (op, *arguments) in enumerate(graph.nodes):
        values[number] = FUNCTIONS[op](*(values[argument] for argument in arguments))
    return values[len(graph.nodes) - 1]


@st.composite
def graphs(draw: st.DrawFn, most: int = 8) -> Computation:
    nodes: list[tuple[Any, ...]] = []
    for number in range(draw(st.integers(1, most))):
        one = draw(st.sampled_from(PRIMITIVES))
        arguments = st.sampled_from(["x", "one", "v", *range(number)])
        nodes.append((one.name, *(draw(arguments) for _ in range(one.arity))))
    return Computation(tuple(nodes))


@st.composite
def rewritten(draw: st.DrawFn, graph: Computation) -> Computation:
    """The same graph: other nodes between its own that nothing reads, another order, arguments swapped."""
    nodes = list(graph.nodes)
    output = len(nodes) - 1
    nodes += [("neg", draw(st.sampled_from(["x", *range(len(nodes))]))) for _ in range(draw(st.integers(0, 3)))]
    order: list[int] = []
    while len(order) < len(nodes):
        ready = [i for i in range(len(nodes)) if i not in order and set(nodes[i][1:]) - {"x", "one", "v"} <= {*order}]
        order.append(draw(st.sampled_from(ready)))
    order = order[: order.index(output) + 1]  # the last one is the output
    places = {number: place for place, number in enumerate(order)}
    moved = []
    for number in order:
        op, *arguments = (places.get(part, part) if isinstance(part, int) else part for part in nodes[number])
        swap = op in COMMUTATIVE and draw(st.booleans())
        moved.append((op, *(reversed(arguments) if swap else arguments)))
    return Computation(tuple(moved))


@given(st.data())
def test_equal_graphs_have_one_normal_form(data: st.DataObject) -> None:
    graph = data.draw(graphs())
    normal = graph.normal(COMMUTATIVE)
    assert data.draw(rewritten(graph)).normal(COMMUTATIVE) == normal
    assert normal.normal(COMMUTATIVE) == normal
    assert compute(normal) == pytest.approx(compute(graph), abs=1e-12)
    read = {argument for node in normal.nodes for argument in node[1:]}
    assert set(range(len(normal.nodes) - 1)) <= read, "no node is dead"
    assert len(set(normal.nodes)) == len(normal.nodes), "no node is there twice"


def test_arguments_that_have_an_order_keep_it() -> None:
    one, other = (Computation.parse(text).normal(COMMUTATIVE) for text in ("sub(x, v)", "sub(v, x)"))
    assert one != other
    assert Computation.parse("add(x, v)").normal() != Computation.parse("add(v, x)").normal()


@given(graphs())
def test_text_and_json_are_read_back(graph: Computation) -> None:
    assert Computation.parse(graph.text()).normal(COMMUTATIVE) == graph.normal(COMMUTATIVE)
    assert Computation.from_json(graph.json()) == graph
    assert json.loads(graph.json()) == [list(node) for node in graph.nodes]


def test_a_text_names_what_is_read_twice() -> None:
    assert Computation((("neg", "x"), ("mul", 0, 0), ("add", 1, "one"))).text() == "a = neg(x); add(mul(a, a), one)"
    assert Computation((("neg", "a"), ("mul", 0, 0))).text() == "b = neg(a); mul(b, b)"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the graph '' has no primitive as its last expression; write it like 'a = square(x); mul(a, x)'"),
        ("x", "the graph 'x' has no primitive as its last expression; write it like"),
        ("neg(x); x", "the graph 'neg(x); x' has no primitive as its last expression; write it like"),
        ("neg(x", "the graph 'neg(x' ends too early; write it like"),
        ("neg(x) neg(x)", "has 'neg' at 7 in place of ';'; write it like"),
        ("neg(x,)", "has ')' in place of a name; write it like"),
        ("neg x", "has 'x' at 4 in place of ';'; write it like"),
        ("neg(x); é", "has 'é' at 7; write it like"),
        ("add(x, x, x)", "node 0 is ('add', 'x', 'x', 'x'); write a primitive and its 1 or 2 arguments"),
        ("neg(" * 70 + "x" + ")" * 70, "has more than 64 nodes; write it like"),
        ("neg(" * 6000 + "x", "24,001 characters are no graph; give a text of at most 20,000 characters"),
        (7, "7 are no graph; give a text of at most 20,000 characters"),
    ],
)
def test_what_is_no_graph_is_said_in_one_line(text: Any, said: str) -> None:
    with pytest.raises(SpaceError) as caught:
        Computation.parse(text)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "{} is no list of nodes; write a graph like"),
        ("[[", "is not JSON"),
        ("[[[[]]]]", "is nested deeper than 2 levels"),
        ("[1]", "is no list of nodes"),
        ("[]", "a graph of 0 nodes; give it from 1 to 64"),
        ('[["neg","x"]' + ',["neg",0]' * 64 + "]", "a graph of 65 nodes; give it from 1 to 64"),
        ('[["neg",0]]', "node 0 reads node 0; a node reads inputs and nodes before it"),
        ('[["neg",-1]]', "node 0 reads node -1; a node reads inputs and nodes before it"),
        ('[["neg",true]]', "node 0: input True is no name"),
        ('[["neg","a b"]]', "node 0: input 'a b' is no name"),
        ("[[1,2]]", "node 0: primitive 1 is no name"),
        ('[["neg"]]', "node 0 is ('neg',); write a primitive and its 1 or 2 arguments"),
        ('["' + "x" * 30_000 + '"]', "more than the 20,000 that are read"),
    ],
)
def test_json_is_read_within_limits(text: str, said: str) -> None:
    with pytest.raises(SpaceError) as caught:
        Computation.from_json(text)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("space", [Net(), Mixed(), Layer(), Net(width=8), Layer().where(op=("add", "neg"))])
@pytest.mark.parametrize("seed", range(3))
def test_a_space_of_graphs_obeys_the_laws(space: Space, seed: int) -> None:
    rng = np.random.default_rng(seed)
    archs = [*space.sample_many(20, rng), *space.sample_many(5, rng, uniform="choices")]
    archs += [space.largest(), space.smallest(), *(arch for _, arch in space.variants())]
    for arch, other in itertools.pairwise(archs):
        mutant, cross = space.mutate(arch, rng), space.crossover(arch, other, rng)
        assert arch in space and mutant in space and cross in space
        assert mutant != arch
        assert space.architecture(arch.json()) == arch == Architecture.from_json(arch.json())
        assert all(near in space and near != arch for near in itertools.islice(space.neighbours(arch), 5))
    codes = space.codes(archs)
    assert space.decode(codes) == archs
    assert len({row.tobytes() for row in codes}) == len({arch.digest for arch in archs})
    near = space.neighbour_codes(codes[0])
    assert set(space.decode(near)) == set(space.neighbours(archs[0])) and len(set(map(bytes, near))) == len(near)
    assert space.encode(archs).shape == (len(archs), len(space.feature_names()))
    assert len(np.unique(space.encode(codes), axis=0)) == len(set(archs)), "different graphs have different features"
    moved = space.mutated_codes(codes[0], rng)
    assert space.codes(space.decode(moved[None])).tolist() == [moved.tolist()]
    assert pickle.loads(pickle.dumps(space)) == space


def test_however_a_graph_is_written_the_architecture_is_one() -> None:
    space = Net()
    one = {"size": 3, "op": ["neg", "tanh", "add"], "left": ["x", "v", 0], "right": [None, None, "one"]}
    other = {"size": 2, "op": ["neg", "add"], "left": ["x", "one"], "right": [None, 0]}
    first, second = (space.architecture({"width": 4, "layer": {"is": "Layer", **layer}}) for layer in (one, other))
    assert first == second == space.architecture({"width": 4, "layer": Layer().write("add(neg(x), one)")})
    assert first.digest == second.digest and space.codes([first]).tolist() == space.codes([second]).tolist()
    assert Computation.of(first.layer).text() == "add(one, neg(x))"
    by_hand = Architecture("Net", {"width": 4, "layer": Architecture("Layer", {**one, "op": tuple(one["op"])})})
    assert by_hand not in space, "it is not as networks of this space are written"


def test_small_spaces_are_counted_and_listed_graph_by_graph() -> None:
    """At most 3 nodes over x, of add and neg: by hand, as sets of expressions."""

    def graphs_of(most: int) -> set[frozenset[str]]:
        """The sets of nodes, by expression, that end in a node which reads all others."""
        found: set[tuple[str, ...]] = {()}
        for _ in range(most):
            for known in list(found):
                there = ["x", *known]
                for a, b in itertools.combinations_with_replacement(sorted(there), 2):
                    found.add((*known, f"({a}+{b})"))
                found.update((*known, f"(-{a})") for a in there)
        return {frozenset(_alive(nodes[-1])) for nodes in found if nodes}

    assert Few().count() == len(graphs_of(3)) == len(set(Few().enumerate())) == Few().count_bound()
    assert Few().how_many() == str(Few().count())


def _alive(expression: str) -> set[str]:
    """All parts of an expression that are in brackets."""
    opened, parts = [], set()
    for place, character in enumerate(expression):
        if character == "(":
            opened.append(place)
        elif character == ")":
            parts.add(expression[opened.pop() : place + 1])
    return {part for part in parts if len(part) > 1}


def test_many_graphs_are_too_many_to_count() -> None:
    with pytest.raises(SpaceError, match="Net: too many to count: 'Layer' can be written"):
        Net().count()
    assert Net().count_bound() > 10**9
    assert Net().how_many().startswith("at most ")


def test_draws_differ_and_mutation_grows_and_shrinks_graphs() -> None:
    rng = np.random.default_rng(0)
    archs = Layer().sample_many(200, rng)
    sizes = [arch.size for arch in archs]
    assert min(sizes) == 1 and max(sizes) >= 5
    of_three = [arch for arch in archs if arch.size == 3]
    changes = [Layer().mutate(arch, rng).size - 3 for arch in of_three * 3]
    assert min(changes) < 0 < max(changes) and 0 in changes
    assert len(Layer().sample_many(50, rng, distinct=True)) == len(set(Layer().sample_many(50, rng, distinct=True)))


def test_mutation_of_one_node_leaves_the_others() -> None:
    """Of the parts of a mutant that its parent does not have, one is new, and those that read it."""
    rng = np.random.default_rng(1)
    parent = Layer().write("add(neg(x), tanh(mul(v, one)))")
    kept = 0
    for _ in range(100):
        mutant = Computation.of(Layer().mutate(parent, rng))
        kept += any(node in (("neg", "x"), ("mul", "one", "v")) for node in mutant.nodes)
    assert kept > 60


def test_a_crossover_takes_a_whole_graph() -> None:
    rng = np.random.default_rng(2)
    a, b = Net().sample_many(2, rng)
    layers = {Net().crossover(a, b, rng).layer for _ in range(20)}
    assert layers == {a.layer, b.layer}


def test_a_graph_is_drawn() -> None:
    graph = Layer().graph(Layer().write("a = neg(x); mul(a, tanh(a))"))
    assert {graph.nodes[node]["label"] for node in graph} == {"x", "neg", "mul", "tanh", "output"}
    assert list(graph.predecessors("output")) == ["node.2"]
    assert Net().graph(Net().sample(np.random.default_rng(0))).has_node("output")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"nodes": 1}, "Bad: nodes=1; the largest graph has from 2 to 64"),
        ({"nodes": 65}, "Bad: nodes=65; the largest graph has from 2 to 64"),
        ({"inputs": ()}, "Bad: no inputs; give at least one name, as in inputs=('x',)"),
        ({"inputs": ("x", "x")}, "Bad: 'x' is given twice; primitives and inputs have names of their own"),
        ({"inputs": ("add",)}, "Bad: 'add' is given twice"),
        ({"inputs": ("0",)}, "Bad: input '0' is no name"),
        ({"primitives": (Primitive("neg", 1),)}, "Bad: no primitive has 2 arguments, so graphs are chains"),
    ],
)
def test_what_cannot_be_declared_is_said_in_one_line(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(SpaceError) as caught:
        type("Bad", (Computations,), {}, **{"primitives": PRIMITIVES, **arguments})
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_primitives_are_checked() -> None:
    with pytest.raises(SpaceError, match="primitive 'sum' has 3 arguments; give it 1 or 2"):
        Primitive("sum", 3)
    with pytest.raises(SpaceError, match="primitive 'neg' has one argument; commutative are those of 2"):
        Primitive("neg", 1, commutative=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("addd(x, x)", "Layer: 'addd' is no primitive here; did you mean 'add'?"),
        ("add(x)", "Layer: 'add' has 1 arguments; give it 2"),
        ("neg(y)", "Layer: 'y' is no input here; there are: x, one, v"),
        ("neg(" * 7 + "x" + ")" * 7, "Layer.size: got 7; the options are 1, 2, 3, 4, 5, 6"),
    ],
)
def test_a_graph_of_another_space_is_refused(text: str, said: str) -> None:
    with pytest.raises(SpaceError) as caught:
        Layer().write(text)
    assert said in str(caught.value)


def test_any_space_may_have_a_normal_form() -> None:
    class Pair(Space):
        """Two numbers without order."""

        first = choice(1, 2, 3)
        second = choice(1, 2, 3)

        @normal_form
        def written(first: int, second: int) -> dict[str, int]:
            return {"first": min(first, second), "second": max(first, second)}

    assert Pair().count() == 6 == len(set(Pair().enumerate()))
    assert Pair().architecture({"first": 3, "second": 1}) == Pair().architecture({"first": 1, "second": 3})
    assert Pair().where(first=3).count() == 1
    assert all(arch.first <= arch.second for arch in Pair().sample_many(20, np.random.default_rng(0)))
    with pytest.raises(SpaceError, match="are in it once written in normal form; narrow less"):
        Pair().where(first=3, second=(1, 2)).sample(np.random.default_rng(0))


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (lambda a: None, "Odd: the normal form returned None; return a mapping of its choices"),
        (lambda a: {"b": 1}, "Odd: the normal form returned {'b': 1}; return a mapping of its choices"),
        (lambda a: 1 / 0, "Odd: the normal form raised ZeroDivisionError"),
        (lambda c: {}, "Odd.form: the normal form names 'c', which is no choice here"),
    ],
)
def test_a_normal_form_that_is_none_is_said_in_one_line(form: Any, said: str) -> None:
    with pytest.raises(SpaceError) as caught:
        space = type("Odd", (Space,), {"a": choice(1, 2), "form": normal_form(form)})()
        space.sample(np.random.default_rng(0))
    assert said in str(caught.value)
