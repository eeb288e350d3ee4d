"""Drawings of one architecture: its blocks in order, tall where they are wide, with each block's values written below.

The values alone decide the picture, so any space can be drawn without its Python class.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import networkx as nx
import pandas as pd
import plotly.graph_objects as go

import search_spaces
from dashboard import theme
from search_spaces import Architecture, Space, SpaceError

_DEPTH_NAMES = ("depth", "layers", "num_layers", "blocks", "num_blocks", "repeats")
_SIZE_NAMES = ("width", "channels", "dim", "hidden", "embed", "size", "features", "filters", "units")
_MAX_WRITTEN = 48
"""Above this many blocks the values are left to the hover text: they would overlap."""


@dataclass(frozen=True, slots=True)
class Block:
    """One box of the drawing: the part it belongs to, its place in that part, and its values by name."""

    part: str
    index: int
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, int]:
        return self.part, self.index


def declared_fields(declaration: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Options of all choices of a space by name, in order of declaration; nested spaces' choices come after it."""
    found: dict[str, list[Any]] = {}
    nested: list[Mapping[str, Any]] = []
    for name, described in (declaration.get("choices") or {}).items():
        options = described.get("options", [])
        found.setdefault(name, []).extend(option for option in options if not isinstance(option, dict))
        nested += [option for option in options if isinstance(option, dict)]
    for inner in nested:
        for name, options in declared_fields(inner).items():
            found.setdefault(name, []).extend(options)
    return found


def is_nested(value: object) -> bool:
    """Whether a value is an architecture of its own, or a tuple that holds one."""
    return isinstance(value, Mapping) or (isinstance(value, tuple) and any(isinstance(item, Mapping) for item in value))


def blocks(arch: Mapping[str, Any], order: Sequence[str] = (), part: str = "") -> list[Block]:
    """The blocks of an architecture in order of the data's path, as far as its values tell.

    A tuple with one value per block spreads over blocks; plain values beside it belong to each of them; a nested
    architecture is a part of its own. `order` lists field names in the order of their declaration (stem, stages, head),
    those of nested spaces too.
    """
    ranks = {name: rank for rank, name in enumerate(order)}
    names = sorted(arch, key=lambda name: ranks.get(name, len(ranks)))
    plain = {name: arch[name] for name in names if not is_nested(arch[name])}
    nested = [name for name in names if is_nested(arch[name])]
    found = _own_blocks(plain, part, alone=not nested)
    for name in nested:
        found.extend(_nested_blocks(arch[name], order, f"{part}.{name}" if part else name))
    return found


def _nested_blocks(value: Any, order: Sequence[str], path: str) -> list[Block]:
    """Blocks of a nested architecture, or of a tuple of them: simple ones are blocks of one part."""
    if isinstance(value, Mapping):
        return blocks(value, order, path) or [Block(path, 0)]
    if all(_is_simple(item) for item in value):
        kinds = {getattr(item, "kind", "") for item in value}
        return [Block(path, index, _simple_values(item, path, len(kinds) > 1)) for index, item in enumerate(value)]
    found: list[Block] = []
    for index, item in enumerate(value):
        label = f"{path}.{index}"
        if isinstance(item, Mapping):
            found.extend(blocks(item, order, label) or [Block(label, 0)])
        else:
            found.append(Block(label, 0, _simple_values(item, path, False)))
    return found


def _is_simple(item: object) -> bool:
    return not isinstance(item, Mapping) or not any(isinstance(value, (tuple, Mapping)) for value in item.values())


def _simple_values(item: Any, path: str, with_kind: bool) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        return {} if item is None else {path.rpartition(".")[2]: item}
    kind = {"kind": item.kind} if with_kind and hasattr(item, "kind") else {}
    return {**kind, **item}


def _own_blocks(plain: Mapping[str, Any], part: str, alone: bool) -> list[Block]:
    """Blocks of one level: one per position of its tuples, or a single one when it has only plain values.

    A None in a tuple says that the choice is not active at that position.
    """
    spread = {name: value for name, value in plain.items() if isinstance(value, tuple)}
    common = {name: value for name, value in plain.items() if name not in spread}
    if not spread:
        return [Block(part, 0, common)] if common and alone else []
    length = max(len(value) for value in spread.values())
    common = {name: value for name, value in common.items() if not (name in _DEPTH_NAMES and value == length)}
    found = []
    for index in range(length):
        here = {name: value[index] for name, value in spread.items() if index < len(value)}
        values = {**common, **{name: value for name, value in here.items() if value is not None}}
        found.append(Block(part, index, values))
    return found


def leaves(arch: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Every value of an architecture by its path: `stages.0.width`."""
    found: dict[str, Any] = {}
    for name, value in arch.items():
        here = f"{path}{name}"
        if isinstance(value, Mapping):
            found |= leaves(value, f"{here}.")
        elif is_nested(value):
            for index, item in enumerate(value):
                found |= leaves(item, f"{here}.{index}.") if isinstance(item, Mapping) else {f"{here}.{index}": item}
        else:
            found[here] = value
    return found


def values_table(arch: Mapping[str, Any]) -> pd.DataFrame:
    """Columns choice and value: every choice of an architecture by its path."""
    found = leaves(arch)
    texts = [", ".join(map(str, value)) if isinstance(value, tuple) else str(value) for value in found.values()]
    return pd.DataFrame({"choice": list(found), "value": texts})


def settings(arch: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values of the whole network that sit beside its parts, such as a resolution."""
    if not any(is_nested(value) for value in arch.values()):
        return {}
    return {name: value for name, value in arch.items() if not is_nested(value) and not isinstance(value, tuple)}


def size_field(found: Sequence[Block]) -> str | None:
    """The value that gives the boxes their height: a width by name, or else the number that varies most."""
    names = list(dict.fromkeys(name for block in found for name in block.values))
    columns = {name: [block.values[name] for block in found if name in block.values] for name in names}
    numeric = {name: values for name, values in columns.items() if all(map(_is_number, values))}
    for known in _SIZE_NAMES:
        for name in numeric:
            if name == known or name.endswith("_" + known):
                return name
    return max(numeric, key=lambda name: _spread(numeric[name])) if numeric else None


def kind_field(found: Sequence[Block]) -> str | None:
    """The value that gives the boxes their colour: the first one written in words."""
    named = (name for block in found for name, value in block.values.items() if isinstance(value, str))
    return next(named, None)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _spread(values: Sequence[float]) -> float:
    return max(values) / max(min(values), 1e-9) if values and max(values) > 0 else 0.0


def changed_cells(found: Sequence[Block], other: Sequence[Block]) -> set[tuple[str, int, str]]:
    """(part, index, name) of every value that another drawing does not have in the same place."""
    theirs = {block.key: block.values for block in other}
    return {
        (block.part, block.index, name)
        for block in found
        for name, value in block.values.items()
        if theirs.get(block.key, {}).get(name, _ABSENT) != value
    }


_ABSENT = object()


def network_figure(
    arch: Architecture,
    compared: Architecture | None = None,
    declaration: Mapping[str, Any] | None = None,
    color: str = theme.ACCENT,
) -> go.Figure:
    """The drawing of a network: its declared graph where that branches, a chain of blocks otherwise.

    The declaration of its space gives parts and values their order, and operations their colours.
    """
    graph = declared_graph(arch)
    if graph is not None:
        return graph_figure(graph)
    fields = declared_fields(declaration or {})
    found = blocks(arch, list(fields))
    others = blocks(compared, list(fields)) if compared else []
    kind = kind_field([*found, *others])
    return architecture_figure(found, others, fields.get(kind, ()) if kind else (), color)


def declared_graph(arch: Architecture) -> "nx.DiGraph[str] | None":
    """The graph that one of the ready-made spaces draws for an architecture, where it branches."""
    space = getattr(search_spaces, arch.kind, None)
    if not (isinstance(space, type) and issubclass(space, Space) and space is not Space):
        return None
    try:
        graph = space().graph(arch)
    except SpaceError:  # a user's space of the same name
        return None
    return None if is_chain(graph) else graph


def architecture_figure(
    found: Sequence[Block], compared: Sequence[Block] = (), kinds: Sequence[str] = (), color: str = theme.ACCENT
) -> go.Figure:
    """Draw a chain of blocks.

    With `compared`, values that differ from it are written in colour, and both drawings, made with the roles exchanged,
    share one scale of heights and one width. `kinds` lists the words that colours stand for, in a fixed order.
    """
    everything = [*found, *compared]
    size, kind = size_field(everything) or "", kind_field(everything) or ""
    largest = max((block.values.get(size, 0) for block in everything), default=0)
    places = _places(found)
    extent = max([*_places(found), *_places(compared), 10.0])
    rows = list(dict.fromkeys(name for block in everything for name in block.values))
    words = list(dict.fromkeys([*kinds, *sorted(str(b.values[kind]) for b in everything if kind in b.values)]))
    changed = changed_cells(found, compared) if compared else set()
    figure = go.Figure()
    _draw_path(figure, places)
    for x, block in zip(places, found, strict=True):
        height = _height(block.values.get(size), largest)
        fill = theme.TINTS[words.index(str(block.values[kind])) % len(theme.TINTS)] if kind in block.values else None
        figure.add_shape(
            type="rect",
            x0=x - 0.36,
            x1=x + 0.36,
            y0=-height / 2,
            y1=height / 2,
            line={"color": color, "width": 1.4},
            fillcolor=fill or theme.TINTS[0],
        )
    _draw_hover(figure, places, found)
    if len(found) <= _MAX_WRITTEN:
        for row, name in enumerate(rows):
            _write_row(figure, places, found, name, -0.72 - 0.2 * row, changed)
    _write_parts(figure, places, found)
    bottom = -0.72 - 0.2 * len(rows) if len(found) <= _MAX_WRITTEN else -0.62
    figure.update_layout(
        template=theme.TEMPLATE,
        height=int(200 + 24 * len(rows)),
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        showlegend=False,
        xaxis={"visible": False, "range": [-2.6, extent + 1.4], "fixedrange": True},
        yaxis={"visible": False, "range": [bottom, 0.86], "fixedrange": True},
    )
    return figure


def _places(found: Sequence[Block]) -> list[float]:
    """Where each block stands: one apart, with a gap between parts."""
    places: list[float] = []
    x = 0.0
    for index, block in enumerate(found):
        if index:
            x += 1.0 if block.part == found[index - 1].part else 1.35
        places.append(x)
    return places


def _height(value: Any, largest: float) -> float:
    if not _is_number(value) or largest <= 0:
        return 0.6
    return 0.14 + 0.86 * math.sqrt(max(0.0, value) / largest)


def _draw_path(figure: go.Figure, places: Sequence[float]) -> None:
    """The data's path behind the boxes, from the input to the output."""
    end = (places[-1] if places else 0.0) + 1.0
    figure.add_trace(
        go.Scatter(
            x=[-0.95, end],
            y=[0, 0],
            mode="lines+markers",
            line={"color": theme.FAINT, "width": 1.5},
            marker={"symbol": ["circle", "triangle-right"], "size": [8, 11], "color": theme.FAINT},
            hoverinfo="skip",
        )
    )


def _draw_hover(figure: go.Figure, places: Sequence[float], found: Sequence[Block]) -> None:
    texts = [
        "<br>".join([f"<b>{block.part or 'block'} {block.index}</b>"] + [f"{k} {v}" for k, v in block.values.items()])
        for block in found
    ]
    figure.add_trace(
        go.Scatter(
            x=list(places),
            y=[0.0] * len(found),
            mode="markers",
            marker={"size": 26, "opacity": 0},
            text=texts,
            hovertemplate="%{text}<extra></extra>",
        )
    )


def _write_row(
    figure: go.Figure,
    places: Sequence[float],
    found: Sequence[Block],
    name: str,
    y: float,
    changed: set[tuple[str, int, str]],
) -> None:
    """One value of all blocks, written below them, with its name at the left."""
    written = [(x, block) for x, block in zip(places, found, strict=True) if name in block.values]
    size = 13 if len(found) <= 24 else 10
    texts = [_cell(block.values[name], (block.part, block.index, name) in changed) for _, block in written]
    figure.add_trace(
        go.Scatter(
            x=[x for x, _ in written],
            y=[y] * len(written),
            mode="text",
            text=texts,
            textfont={"size": size, "color": theme.INK},
            hoverinfo="skip",
        )
    )
    figure.add_annotation(
        x=-2.55, y=y, text=name, showarrow=False, xanchor="left", font={"size": 13, "color": theme.MUTED}
    )


def _cell(value: Any, is_changed: bool) -> str:
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return f"<b style='color:{theme.PICKED}'>{text}</b>" if is_changed else text


def _write_parts(figure: go.Figure, places: Sequence[float], found: Sequence[Block]) -> None:
    """The name of each part over a thin bracket."""
    spans: dict[str, list[float]] = {}
    for x, block in zip(places, found, strict=True):
        spans.setdefault(block.part, []).append(x)
    for part, xs in spans.items():
        if not part:
            continue
        figure.add_shape(
            type="line", x0=min(xs) - 0.36, x1=max(xs) + 0.36, y0=0.6, y1=0.6, line={"color": theme.FAINT, "width": 1}
        )
        figure.add_annotation(
            x=(min(xs) + max(xs)) / 2,
            y=0.62,
            text=part,
            showarrow=False,
            yanchor="bottom",
            font={"size": 12, "color": theme.MUTED},
        )


def graph_figure(graph: "nx.DiGraph[Any]") -> go.Figure:
    """Draw a network that is not a chain: nodes in columns by their longest path from the input, edges as lines."""
    places = _layers(graph)
    figure = go.Figure()
    xs: list[float | None] = []
    ys: list[float | None] = []
    for source, target in graph.edges:
        xs += [places[source][0], places[target][0], None]
        ys += [places[source][1], places[target][1], None]
    figure.add_trace(go.Scatter(x=xs, y=ys, mode="lines", line={"color": theme.FAINT, "width": 1.4}, hoverinfo="skip"))
    labels = [str(graph.nodes[node].get("label", node)) for node in graph.nodes]
    hovers = [
        f"{label}<br>{graph.nodes[node].get('values') or ''}" for label, node in zip(labels, graph.nodes, strict=True)
    ]
    for node, label in zip(graph.nodes, labels, strict=True):
        figure.add_annotation(
            x=places[node][0],
            y=places[node][1],
            text=label,
            showarrow=False,
            bgcolor=theme.TINTS[0],
            bordercolor=theme.ACCENT,
            borderpad=5,
            font={"size": 12},
        )
    figure.add_trace(
        go.Scatter(
            x=[places[node][0] for node in graph.nodes],
            y=[places[node][1] for node in graph.nodes],
            mode="markers",
            marker={"size": 24, "opacity": 0},
            text=hovers,
            hovertemplate="%{text}<extra></extra>",
        )
    )
    tallest = max((y for _, y in places.values()), default=1.0)
    figure.update_layout(
        template=theme.TEMPLATE,
        height=int(180 + 70 * tallest),
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        showlegend=False,
        xaxis={"visible": False, "fixedrange": True},
        yaxis={"visible": False, "fixedrange": True, "range": [-tallest - 0.6, tallest + 0.6]},
    )
    return figure


def _layers(graph: "nx.DiGraph[Any]") -> dict[Any, tuple[float, float]]:
    depth: dict[Any, int] = {}
    for node in nx.topological_sort(graph):
        depth[node] = max((depth[before] + 1 for before in graph.predecessors(node)), default=0)
    columns: dict[int, list[Any]] = {}
    for node, column in depth.items():
        columns.setdefault(column, []).append(node)
    return {
        node: (float(column), row - (len(members) - 1) / 2)
        for column, members in columns.items()
        for row, node in enumerate(members)
    }


def is_chain(graph: "nx.DiGraph[Any]") -> bool:
    return all(degree <= 1 for _, degree in graph.in_degree()) and all(degree <= 1 for _, degree in graph.out_degree())
