"""Draws an architecture: its blocks in order, with widths as heights and the values of each block below."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx
import plotly.graph_objects as go

from dashboard import theme
from dashboard.blocks import Block, blocks, changed_cells, declared_fields, is_number, kind_field, size_field
from search_spaces import Architecture, Space, SpaceError
from search_spaces.nasbench201 import NASBench201Space

_DRAWN: Mapping[str, type[Space]] = {"NASBench201Space": NASBench201Space}
"""Ready-made spaces whose networks branch, by the kind of their architectures."""

_MAX_WRITTEN = 48
"""Above this many blocks, values appear only in the hover text, since they would overlap."""

_ROW = 0.19
_PIXELS = 128
"""Pixels per unit of height; the tallest box has height 1, and a line of values has height `_ROW`."""


def network_figure(
    arch: Architecture,
    compared: Architecture | None = None,
    declaration: Mapping[str, Any] | None = None,
    color: str = theme.ACCENT,
) -> go.Figure:
    """Return the drawing of a network: a graph for a ready-made space that branches, else a chain of blocks.

    The declaration of its space determines the order of parts and values, the scale of heights and the colours.
    """
    graph = declared_graph(arch)
    if graph is not None:
        return graph_figure(graph)
    options = declared_fields(declaration or {})
    others = blocks(compared, list(options)) if compared else []
    return chain_figure(blocks(arch, list(options)), others, options, color)


def declared_graph(arch: Architecture) -> "nx.DiGraph[str] | None":
    """Return the graph of an architecture of a ready-made space that branches; else None."""
    space = _DRAWN.get(arch.kind)
    try:
        return space().graph(arch) if space else None
    except (SpaceError, ValueError, AttributeError):  # a user's space with the same name
        return None


def chain_figure(
    found: Sequence[Block],
    compared: Sequence[Block] = (),
    options: Mapping[str, Sequence[Any]] | None = None,
    color: str = theme.ACCENT,
) -> go.Figure:
    """Draw a chain of blocks.

    With `compared`, differing values are coloured, and both drawings, made with exchanged roles, have the same scale of
    heights and width. `options` by name fix the scale and the colours for all networks.
    """
    everything = [*found, *compared]
    options = options or {}
    rows = list(dict.fromkeys(name for block in everything for name in block.values))
    places = _places(found)
    extent = max([*places, *_places(compared), 10.0])
    written = rows if len(found) <= _MAX_WRITTEN else []
    changed = changed_cells(found, compared) if compared else set()
    figure = go.Figure()
    _draw_path(figure, places)
    _draw_boxes(figure, places, found, _Look.of(everything, options), color)
    _draw_hover(figure, places, found)
    for row, name in enumerate(written):
        _write_row(figure, places, found, name, -0.72 - _ROW * row, changed)
    _write_parts(figure, places, found)
    top = 0.86 if any(block.part for block in everything) else 0.56
    bottom = -0.72 - _ROW * len(written) + 0.06
    figure.update_layout(
        template=theme.TEMPLATE,
        height=int((top - bottom) * _PIXELS) + 16,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        showlegend=False,
        xaxis={"visible": False, "range": [-2.6, extent + 1.4], "fixedrange": True},
        yaxis={"visible": False, "range": [bottom, top], "fixedrange": True},
    )
    return figure


@dataclass(frozen=True)
class _Look:
    """The meaning of the boxes' heights and colours."""

    size: str
    largest: float
    kind: str
    kinds: Sequence[str]

    @classmethod
    def of(cls, found: Sequence[Block], options: Mapping[str, Sequence[Any]]) -> "_Look":
        size, kind = size_field(found) or "", kind_field(found) or ""
        sizes = [*(block.values.get(size) for block in found), *options.get(size, ())]
        words = sorted(str(block.values[kind]) for block in found if kind in block.values)
        kinds = list(dict.fromkeys([*map(str, options.get(kind, ())), *words]))
        return cls(size, max((value for value in sizes if is_number(value)), default=0), kind, kinds)

    def height(self, block: Block) -> float:
        value = block.values.get(self.size)
        if not is_number(value) or self.largest <= 0:
            return 0.6
        return 0.14 + 0.86 * math.sqrt(max(0.0, value) / self.largest)

    def fill(self, block: Block) -> str:
        if self.kind not in block.values:
            return theme.TINTS[0]
        return theme.TINTS[self.kinds.index(str(block.values[self.kind])) % len(theme.TINTS)]


def _draw_boxes(figure: go.Figure, places: Sequence[float], found: Sequence[Block], look: _Look, color: str) -> None:
    for x, block in zip(places, found, strict=True):
        half = look.height(block) / 2
        figure.add_shape(
            type="rect",
            x0=x - 0.36,
            x1=x + 0.36,
            y0=-half,
            y1=half,
            line={"color": color, "width": 1.4},
            fillcolor=look.fill(block),
        )


def _places(found: Sequence[Block]) -> list[float]:
    """Return the position of each block: at distance 1, with a gap between parts."""
    places: list[float] = []
    x = 0.0
    for index, block in enumerate(found):
        if index:
            x += 1.0 if block.part == found[index - 1].part else 1.35
        places.append(x)
    return places


def _draw_path(figure: go.Figure, places: Sequence[float]) -> None:
    """Draw the data flow behind the boxes, from input to output."""
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
    """Write one value of all blocks below them, with its name at the left."""
    written = [(x, block) for x, block in zip(places, found, strict=True) if name in block.values]
    cells = [_shortened(block.values[name]) for _, block in written]
    longest = max(map(len, cells), default=0)
    size = 10 if len(found) > 24 or longest > 10 else 11 if longest > 8 else 13
    texts = [
        _marked(cell, (block.part, block.index, name) in changed)
        for cell, (_, block) in zip(cells, written, strict=True)
    ]
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


def _shortened(value: Any) -> str:
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 13 else text[:12] + "…"


def _marked(text: str, is_changed: bool) -> str:
    return f"<b style='color:{theme.PICKED}'>{text}</b>" if is_changed else text


def _write_parts(figure: go.Figure, places: Sequence[float], found: Sequence[Block]) -> None:
    """Write the name of each part above a thin bracket."""
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
