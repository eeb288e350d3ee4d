"""The application for `streamlit run`: the pages, and Plotly's library, which browsers preload and cache.

Streamlit sends no cache lifetime for files of components, and a page requests them only for its first chart. Browsers
also cache the compiled code of a cacheable script; compiling takes longer than the rest of a page.
"""

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.starlette import App

from dashboard import app as pages  # so that the first visitor need not wait for imports
from dashboard import chart

_LASTS = {"Cache-Control": "public, max-age=31536000, immutable"}  # the URL contains the version


async def library(request: Request) -> FileResponse:
    """Serve Plotly's library."""
    return FileResponse(chart.LIBRARY_FILE, media_type="text/javascript", headers=_LASTS)


class Preloading:
    """Tells browsers with every page that it needs the library."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("content-type", "").startswith("text/html"):
                    headers["Link"] = f"<{chart.LIBRARY}>; rel=preload; as=script"
            await send(message)

        await self.app(scope, receive, told)


app = App(pages.__file__, routes=[Route(chart.LIBRARY, library)], middleware=[Middleware(Preloading)])
