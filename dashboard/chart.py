"""A Plotly figure that the browser updates in place.

Streamlit's own chart is rebuilt whenever its figure changes, so a click or a refresh would reset zoom, hover and
keyboard focus. The JavaScript library comes from Plotly's Python package.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly
import streamlit as st

_JS = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
NAME = "nas_chart"
LIBRARY = f"/plotly/{plotly.__version__}.js"
"""The address of Plotly's library on this server."""
LIBRARY_FILE = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"


def _component() -> Callable[..., Any]:
    found: Callable[..., Any] = st.components.v2.component(
        NAME, html='<div class="chart"></div>', js=_JS, isolate_styles=False
    )
    return found


def begin_loading() -> None:
    """Let the browser load Plotly's library while the server still builds the page."""
    _component()(key="plotly", data=json.dumps({"library": LIBRARY}).encode())


def show(
    figure: str,
    key: str,
    alt: str,
    config: Mapping[str, Any],
    on_select: Callable[[Sequence[int]], None] | None = None,
) -> None:
    """Show a figure.

    Args:
        figure: Plotly's JSON.
        key: identifies the chart to update in place.
        alt: description for screen readers.
        config: Plotly's configuration, such as its toolbar.
        on_select: called with the `customdata`, integers, of points that are clicked or selected by box or lasso.
    """
    rest = json.dumps({"library": LIBRARY, "alt": alt, "config": {"displaylogo": False, **config}})
    told = f'{{"figure":{figure},{rest[1:]}'.encode()

    def selected() -> None:
        if on_select is not None:
            on_select(st.session_state[key]["selected"] or ())

    _component()(key=key, data=told, on_selected_change=selected)
