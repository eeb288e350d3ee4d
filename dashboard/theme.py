"""One set of colours and one figure template for every chart, and the server's matching theme settings.

The colours are Okabe and Ito's, which stay apart for colour-blind readers; marks differ in shape as well.
"""

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
QUALITATIVE = (ACCENT, WARM, OTHER, PINK, SKY, PICKED, MUTED)
TINTS = ("#d6e6f2", "#fbe8c8", "#cfeae0", "#f3dfe9", "#dcf0fb", "#f9dcc8", "#e4e8ec")
"""A pale partner of each qualitative colour, for areas that carry text."""

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
"""The browser tab's picture, a front of three points. An icon by name would be fetched from a server elsewhere."""

SERVER_THEME = {
    "theme.base": "light",
    "theme.primaryColor": ACCENT,
    "theme.backgroundColor": PAPER,
    "theme.secondaryBackgroundColor": PANEL,
    "theme.textColor": INK,
    "theme.linkColor": ACCENT,
    "theme.borderColor": "#dde3e9",
    "theme.baseRadius": "small",
    "theme.showWidgetBorder": "true",
    "theme.headingFontWeights": "[600,600,600,600,600,600]",
    "theme.headingFontSizes": '["1.75rem","1.3rem","1.1rem","1rem","1rem","1rem"]',
    "theme.sidebar.backgroundColor": PANEL,
}
"""Streamlit's own colours, handed over as command flags so that no file has to lie in the user's folder."""
