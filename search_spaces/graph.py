"""An architecture drawn as a graph: from the input through its blocks, in order of declaration, to the output.

The choices of a space belong to the node that begins it, which for the outermost space is the input. Choices with `per`
make one block a position, which shows the values of all choices of the same `per`; a nested space is a chain itself.
Nodes are named by path and carry `label`, `kind`, `path` and `values`, all of them JSON.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from search_spaces.architecture import Architecture
from search_spaces.declaration import Declaration, Per, Subspace
from search_spaces.values import Json

if TYPE_CHECKING:
    import networkx

Graph: TypeAlias = "networkx.DiGraph[str]"


def chain(declaration: Declaration, arch: Architecture) -> Graph:
    """The graph of one architecture of the declared space."""
    import networkx  # takes as long as all the rest of this package, and few draw graphs

    graph: Graph = networkx.DiGraph(name=arch.kind)
    last = _Chain(graph).space(declaration, arch, "", None)
    graph.add_node("output", label="output", kind="output", path="", values={})
    graph.add_edge(last, "output")
    return graph


class _Chain:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def space(self, declaration: Declaration, arch: Architecture, path: str, last: str | None) -> str:
        """Append a space after the node `last`; returns the node it ends with."""
        groups: dict[Per, list[str]] = {}
        values: dict[str, Json] = {}
        nested: list[str] = []
        for name, value in arch.items():
            per = declaration.fields[name].per
            if per is not None:
                groups.setdefault(per, []).append(name)
            elif isinstance(value, Architecture):
                nested.append(name)
            else:
                values[name] = _json(value)
        last = self._node(path or "input", arch.kind if path else "input", arch.kind, path, values, last)
        done: set[str] = set()
        for name in arch:
            per = declaration.fields[name].per
            if name in nested:
                last = self._nested(declaration, name, arch[name], f"{path}.{name}" if path else name, last)
            elif per is not None and name not in done:
                last = self._blocks(declaration, arch, groups[per], path, last)
                done.update(groups[per])
        return last

    def _blocks(self, declaration: Declaration, arch: Architecture, names: Sequence[str], path: str, last: str) -> str:
        prefix = f"{path}." if path else ""
        for position in range(len(arch[names[0]])):
            row = {name: arch[name][position] for name in names if arch[name][position] is not None}
            plain = {name: _json(value) for name, value in row.items() if not isinstance(value, Architecture)}
            if plain or not row:
                last = self._node(f"{prefix}{names[0]}.{position}", f"block {position}", "block", path, plain, last)
            for name, value in row.items():
                if isinstance(value, Architecture):
                    inner = f"{prefix}{name}.{position}"
                    last = self._nested(declaration, name, value, inner, last, clash=bool(plain) and name == names[0])
        return last

    def _nested(
        self, declaration: Declaration, name: str, value: Architecture, path: str, last: str, clash: bool = False
    ) -> str:
        options = declaration.fields[name].options
        inner = next(o._declared for o in options if isinstance(o, Subspace) and o.name == value.kind)
        return self.space(inner, value, f"{path}.{value.kind}" if clash else path, last)

    def _node(self, name: str, label: str, kind: str, path: str, values: Mapping[str, Json], last: str | None) -> str:
        shown = ", ".join(f"{key}={value}" for key, value in values.items())
        self.graph.add_node(
            name, label=f"{label}: {shown}" if shown else label, kind=kind, path=path, values=dict(values)
        )
        if last is not None:
            self.graph.add_edge(last, name)
        return name


def _json(value: Any) -> Json:
    return [_json(item) for item in value] if isinstance(value, tuple) else value
