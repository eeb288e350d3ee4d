"""The computation graphs of one network: what each computes, as a text and drawn."""

from collections.abc import Iterator

import streamlit as st

from search_spaces import Architecture, Computation

_CHOICES = {"size", "op", "left", "right"}
"""Of a `search_spaces.Computations`."""


def show_graphs(arch: Architecture) -> None:
    """Nothing where the network has none."""
    for path, graph in graphs(arch):
        st.subheader(path, anchor=False)
        st.code(graph.text(), language=None, wrap_lines=True)
        st.graphviz_chart(dot(graph))


def graphs(arch: Architecture, path: str = "") -> Iterator[tuple[str, Computation]]:
    """Every graph within an architecture, by its path."""
    if set(arch) == _CHOICES:
        yield path or arch.kind, Computation.of(arch)
        return
    for name, value in arch.items():
        several = isinstance(value, tuple)
        for position, one in enumerate(value if several else (value,)):
            if isinstance(one, Architecture):
                yield from graphs(one, ".".join(part for part in (path, name, str(position) * several) if part))


def dot(graph: Computation) -> str:
    """The graph in the language of Graphviz, from left to right."""
    drawn = graph.graph()
    nodes = [
        f'"{node}" [label="{told["label"]}", shape={"plaintext" if told["kind"] in ("input", "output") else "box"}];'
        for node, told in drawn.nodes(data=True)
    ]
    edges = [f'"{source}" -> "{target}";' for source, target in drawn.edges]
    return "\n".join(["digraph {", 'rankdir=LR; node [fontname="sans-serif"];', *nodes, *edges, "}"])
