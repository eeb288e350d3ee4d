"""Graphs within a network are found by their path, and drawn."""

import numpy as np
from streamlit.testing.v1 import AppTest

from dashboard.views import layers
from search_spaces import LayerSpace, Space, choice


class Stage(Space):
    width = choice(8, 16)
    layer = LayerSpace()


class Net(Space):
    head = LayerSpace()
    norm = choice("batch", LayerSpace(), per=2)
    stage = choice(Stage(), per=1)


def test_every_graph_is_found_where_it_stands() -> None:
    swish = LayerSpace().write("mul(x, sigmoid(mul(v1, x)))")
    value = {"head": swish, "norm": ["batch", swish], "stage": [{"is": "Stage", "width": 8, "layer": swish}]}
    found = dict(layers.graphs(Net().architecture(value)))
    assert list(found) == ["head", "norm.1", "stage.0.layer"]
    assert {graph.text() for graph in found.values()} == {"mul(x, sigmoid(mul(v1, x)))"}
    assert [path for path, _ in layers.graphs(swish)] == ["LayerSpace"]


def test_a_graph_is_drawn_from_its_inputs_to_its_output() -> None:
    ((_, graph),) = layers.graphs(LayerSpace().write("div(x, std_wh(x))"))
    drawn = layers.dot(graph.graph()).splitlines()
    assert '"x" -> "node.0";' in drawn and '"node.0" -> "node.1";' in drawn and '"node.1" -> "output";' in drawn
    assert '"node.0" [label="std_wh", shape=box];' in drawn and '"x" [label="x", shape=plaintext];' in drawn


def test_the_panel_shows_the_text_and_the_drawing() -> None:
    def page() -> None:
        from dashboard.views.layers import show_graphs
        from search_spaces import LayerSpace

        show_graphs(LayerSpace().write("div(x, std_wh(x))"))

    shown = AppTest.from_function(page, default_timeout=30).run()
    assert not shown.exception
    assert [code.value for code in shown.code] == ["div(x, std_wh(x))"]
    assert len(shown.get("graphviz_chart")) == 1


def test_a_network_without_graphs_shows_nothing() -> None:
    class Plain(Space):
        width = choice(1, 2)

    assert not list(layers.graphs(Plain().sample(np.random.default_rng(0))))


def test_the_paths_of_an_ensemble_are_drawn_from_where_they_part() -> None:
    def page() -> None:
        from dashboard.views.layers import show_graphs
        from search_spaces import EnsembleSpace

        second = [None] * 6 + ["k5e4", "skip"]
        show_graphs(EnsembleSpace().architecture({"split": 6, "first": ["k3e2"] * 8, "second": second}))

    shown = AppTest.from_function(page, default_timeout=30).run()
    assert not shown.exception
    assert [one.value for one in shown.subheader] == ["2 paths, 6 layers in common"]
    (drawn,) = shown.get("graphviz_chart")
    assert '"first.5" -> "first.6";' in drawn.proto.spec and '"first.5" -> "second.6";' in drawn.proto.spec
    assert '"second.7" -> "output";' in drawn.proto.spec


class Splits(Space):
    split = choice(1, 9)
    first = choice("a", "b", per=2)


def test_choices_of_those_names_alone_are_no_ensemble() -> None:
    assert not any(layers.is_ensemble(arch) for arch in Splits().enumerate())
