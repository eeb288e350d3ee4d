"""What the server adds to Streamlit's: every page asks for Plotly's library, and browsers keep it."""

import asyncio
from collections.abc import Mapping
from typing import Any

import plotly
import pytest
from starlette.responses import HTMLResponse, Response

from dashboard import chart
from dashboard.server import Preloading, library


def headers(app: Any) -> Mapping[str, str]:
    """Of what an ASGI application answers."""
    told: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        told.append(message)

    asyncio.run(app({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, send))
    return {name.decode(): value.decode() for name, value in told[0]["headers"]}


def test_a_page_asks_for_the_library_and_a_file_does_not() -> None:
    link = headers(Preloading(HTMLResponse("<p>")))["link"]
    assert link == f"<{chart.LIBRARY}>; rel=preload; as=script"
    assert "link" not in headers(Preloading(Response("{}", media_type="application/json")))


def test_the_library_is_kept_under_an_address_that_names_its_version() -> None:
    response = asyncio.run(library(None))  # type: ignore[arg-type]
    assert plotly.__version__ in chart.LIBRARY
    assert "immutable" in response.headers["cache-control"]
    assert response.media_type == "text/javascript"
    assert response.path == chart.LIBRARY_FILE and chart.LIBRARY_FILE.stat().st_size > 1e6


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
def test_what_is_no_page_passes(kind: str) -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])
        await send({"type": f"{kind}.something"})

    async def send(message: Any) -> None:
        seen.append(message["type"])

    asyncio.run(Preloading(app)({"type": kind}, None, send))  # type: ignore[arg-type]
    assert seen == [kind, f"{kind}.something"]
