"""A click in a real browser, which the page tests cannot make: Streamlit's test driver has no charts."""

import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from dashboard.queries import StudyView
from dashboard.serve import command

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path; apt-get install chromium"),
]


@pytest.fixture(scope="module")
def address(url: str) -> Iterator[str]:
    """A server of its own on a free port, ended with the tests."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    server = subprocess.Popen(
        command(url, port=port), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        base = f"http://127.0.0.1:{port}"
        wait_until_healthy(base, server)
        yield base
    finally:
        server.terminate()
        server.wait(30)


def wait_until_healthy(base: str, server: "subprocess.Popen[bytes]", seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{base}/_stcore/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(f"the server at {base} did not come up within {seconds} s")


def test_a_click_on_a_point_shows_its_network(address: str, shown: StudyView) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; it is in the dev extra")
    front = shown.front
    place = len(front) // 2
    digest = str(front.sort_index()["_digest"].iloc[place])
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        outside: list[str] = []
        page.on("request", lambda request: None if request.url.startswith(address) else outside.append(request.url))
        page.goto(f"{address}/front?study=digits-cnn")
        traces = page.locator(".js-plotly-plot").first.locator(".scatterlayer .trace")
        traces.last.locator("path.point").nth(place).wait_for(state="attached", timeout=60_000)
        page.wait_for_timeout(1000)
        box = traces.last.locator("path.point").nth(place).bounding_box()
        assert box is not None
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_for_url(re.compile("architecture=" + digest[:8]), timeout=30_000)
        page.get_by_text(f"nas export digits-cnn --architecture {digest[:8]}").wait_for(timeout=30_000)
        page.get_by_role("heading", name=f"Network {digest[:8]}").wait_for(timeout=30_000)
        assert not [link for link in outside if link.startswith("http")], "the pages fetch nothing from elsewhere"
        browser.close()
