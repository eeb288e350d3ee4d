"""Draws the graphs of a network: computations of its layers, and the paths of an ensemble."""

from collections.abc import Iterator

import streamlit as st

from search_spaces import Architecture, Computation, EnsembleSpace
from search_spaces.ensemble import paths
from search_spaces.graph import Graph

_CHOICES = {"size", "op", "left", "right"}
"""Of a `search_spaces.Computations`."""


def show_graphs(arch: Architecture) -> None:
    """Show the graphs of a network; nothing if it has none."""
    if is_ensemble(arch):
        st.subheader(f"{len(list(paths(arch)))} paths, {arch.split} layers in common", anchor=False)
        st.graphviz_chart(dot(EnsembleSpace().graph(arch)))
    for path, graph in graphs(arch):
        st.subheader(path, anchor=False)
        st.code(graph.text(), language=None, wrap_lines=True)
        st.graphviz_chart(dot(graph.graph()))


def is_ensemble(arch: Architecture) -> bool:
    """Return whether the choices are those of an `EnsembleSpace`, with paths of equal length that split inside."""
    found = [arch[name] for name in paths(arch)]
    tuples = all(isinstance(one, tuple) and len(one) == len(found[0]) for one in found)
    return len(found) > 1 and tuples and isinstance(arch.get("split"), int) and 0 <= arch.split <= len(found[0])


def graphs(arch: Architecture, path: str = "") -> Iterator[tuple[str, Computation]]:
    """Return every graph in an architecture, by path."""
    if set(arch) == _CHOICES:
        yield path or arch.kind, Computation.of(arch)
        return
    for name, value in arch.items():
        several = isinstance(value, tuple)
        for position, one in enumerate(value if several else (value,)):
            if isinstance(one, Architecture):
                yield from graphs(one, ".".join(part for part in (path, name, str(position) * several) if part))


def dot(drawn: Graph) -> str:
    """Return a graph in Graphviz's language, from left to right."""
    nodes = [
        f'"{node}" [label="{told["label"]}", shape={"plaintext" if told["kind"] in ("input", "output") else "box"}];'
        for node, told in drawn.nodes(data=True)
    ]
    edges = [f'"{source}" -> "{target}";' for source, target in drawn.edges]
    return "\n".join(["digraph {", 'rankdir=LR; node [fontname="sans-serif"];', *nodes, *edges, "}"])
