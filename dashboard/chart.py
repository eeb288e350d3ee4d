"""A Plotly figure that the browser changes in place.

Streamlit's own chart is built anew whenever its figure is another one: a click or a refresh would end a zoom, a hover
and the focus of the keyboard. Plotly's library is the one that its Python package brings.
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
    """Lets the browser load Plotly's library while the page is still being made."""
    _component()(key="plotly", data=json.dumps({"library": LIBRARY}).encode())


def show(
    figure: str,
    key: str,
    alt: str,
    config: Mapping[str, Any],
    on_select: Callable[[Sequence[int]], None] | None = None,
) -> None:
    """Shows a figure.

    Args:
        figure: as Plotly's JSON.
        key: what is changed in place when the page is shown again.
        alt: what it shows, for those who do not see it.
        config: Plotly's, of the toolbar say.
        on_select: called with the `customdata` of the points, whole numbers, that are clicked or lie in a box or lasso.
    """
    rest = json.dumps({"library": LIBRARY, "alt": alt, "config": {"displaylogo": False, **config}})
    told = f'{{"figure":{figure},{rest[1:]}'.encode()

    def selected() -> None:
        if on_select is not None:
            on_select(st.session_state[key]["selected"] or ())

    _component()(key=key, data=told, on_selected_change=selected)
