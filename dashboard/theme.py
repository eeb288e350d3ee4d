"""The colours and the figure template of all charts, and the server's matching theme settings.

The colours are Okabe and Ito's, which colour-blind readers can distinguish; marks also differ in shape. Figures use the
light theme; `darkened` replaces every colour by its dark counterpart.
"""

import re

import plotly.graph_objects as go

INK = "#1f2933"
MUTED = "#5f6b7a"
FAINT = "#a9b4c0"
GRID = "#e9edf1"
PAPER = "#ffffff"
PANEL = "#f6f8fa"
ACCENT = "#0072b2"
PICKED = "#d55e00"
OTHER = "#009e73"
WARM = "#e69f00"
SKY = "#56b4e9"
PINK = "#cc79a7"
PLAIN = "#8d9aa8"
BROKEN = "#b08a72"
REFUTED = "#8c4a1e"
QUALITATIVE = (ACCENT, WARM, OTHER, PINK, SKY, PICKED, MUTED)
LOW_HIGH = ((0.0, "#3f78b5"), (0.5, "#9aa3a8"), (1.0, "#e0b030"))
"""Scale of a third metric; colour-blind readers can distinguish it on light and dark backgrounds."""
TINTS = ("#d6e6f2", "#fbe8c8", "#cfeae0", "#f3dfe9", "#dcf0fb", "#f9dcc8", "#e4e8ec")
"""Pale counterparts of the qualitative colours, for areas with text."""

FONT = "Source Sans, Source Sans Pro, DejaVu Sans, sans-serif"


def _axis() -> dict[str, object]:
    return {
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": FAINT,
        "showline": True,
        "ticks": "outside",
        "tickcolor": FAINT,
        "ticklen": 4,
        "tickfont": {"color": MUTED, "size": 12},
        "title": {"font": {"color": INK, "size": 13}, "standoff": 10},
        "automargin": True,
        "exponentformat": "SI",
    }


TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": 13, "color": INK},
        "paper_bgcolor": PAPER,
        "plot_bgcolor": PAPER,
        "colorway": list(QUALITATIVE),
        "margin": {"l": 12, "r": 16, "t": 36, "b": 12},
        "xaxis": _axis(),
        "yaxis": _axis(),
        "hoverlabel": {"bgcolor": PAPER, "bordercolor": FAINT, "font": {"color": INK, "family": FONT, "size": 13}},
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1.02,
            "xanchor": "left",
            "yanchor": "bottom",
            "font": {"color": MUTED, "size": 12},
            "itemclick": "toggle",
        },
        "hovermode": "closest",
    }
)


ICON = f"""<svg viewBox="0 0 16 16" xmlns="http://www.w3.org/2000/svg"><path d="M3 3.5V10h3v3h7" fill="none"
stroke="{SKY}" stroke-width="1.4"/><g fill="{ACCENT}"><circle cx="3" cy="3.5" r="2.2"/><circle cx="6" cy="10" r="2.2"/>
<circle cx="13" cy="13" r="2.2"/></g></svg>"""
"""The browser tab's icon, a front of three points. An icon by name would be loaded from an external server."""

_DARK = {
    INK: "#e3e8ed",
    MUTED: "#a4b0bd",
    FAINT: "#5d6977",
    GRID: "#242d37",
    PAPER: "#10161c",
    PANEL: "#171e26",
    ACCENT: "#4fa8dd",
    PICKED: "#ff8b45",
    OTHER: "#3cc79c",
    WARM: "#f0b63c",
    PLAIN: "#74818f",
    BROKEN: "#a5826b",
    REFUTED: "#d68a5c",
    **dict(zip(TINTS, ("#17384f", "#4d3a10", "#124233", "#472c3b", "#173a4a", "#51301a", "#2a333d"), strict=True)),
    "rgba(255,255,255,": "rgba(16,22,28,",
    "rgba(0,114,178,": "rgba(79,168,221,",
}
"""Counterparts of colours on a dark background."""
_COLOR = re.compile("|".join(map(re.escape, _DARK)))


def darkened(figure: str) -> str:
    """Return a figure in Plotly's JSON with colours for a dark background."""
    return _COLOR.sub(lambda color: _DARK[color.group()], figure)


def _colors(partner: dict[str, str], border: str) -> dict[str, str]:
    return {
        "primaryColor": partner.get(ACCENT, ACCENT),
        "backgroundColor": partner.get(PAPER, PAPER),
        "secondaryBackgroundColor": partner.get(PANEL, PANEL),
        "textColor": partner.get(INK, INK),
        "linkColor": partner.get(ACCENT, ACCENT),
        "borderColor": border,
    }


SERVER_THEME = {
    **{f"theme.light.{name}": color for name, color in _colors({}, "#dde3e9").items()},
    **{f"theme.dark.{name}": color for name, color in _colors(_DARK, "#2c3742").items()},
    "theme.light.sidebar.backgroundColor": PANEL,
    "theme.dark.sidebar.backgroundColor": _DARK[PANEL],
    "theme.baseRadius": "small",
    "theme.showWidgetBorder": "true",
    "theme.headingFontWeights": "[600,600,600,600,600,600]",
    "theme.headingFontSizes": '["1.75rem","1.3rem","1.1rem","1rem","1rem","1rem"]',
}
"""Streamlit's own colours, light and dark, as command flags, which need no file in the user's folder."""
