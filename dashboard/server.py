"""What `streamlit run` serves: the pages, and Plotly's library, which browsers ask for with the page and then keep.

Of the files of components Streamlit does not say how long they last, and a page asks for them only when it makes its
first chart. Of a script that lasts, browsers also keep what they compiled, which takes longer than the rest of a page.
"""

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.starlette import App

from dashboard import app as pages  # the first visitor does not wait for imports
from dashboard import chart

_LASTS = {"Cache-Control": "public, max-age=31536000, immutable"}  # the address names the version


async def library(request: Request) -> FileResponse:
    """Plotly's library."""
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
