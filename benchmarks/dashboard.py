"""How long a front takes to be seen, what memory the server holds, and what an open dashboard costs a search.

Loading: studies of so many evaluations in SQLite, a server each, and Chromium with a folder of its own, as people have
it. Of each server the first page is the first that this browser sees of it; then rounds of new pages, the sizes in
turn. Seconds go from navigation to the second frame after the points of the front are in the page. `work` is the
processor's time of the page's main thread until then: it is hardly longer where the machine is busy.

Cost: a search whose evaluations compute so long that it stores about 50 a second goes on for thirty seconds at a time,
by turns with the page of its front open and with an empty page. The server runs all the time. A ratio is that of two
portions that follow one another; the page's own work, on the same two cores, counts as well.

    python -m benchmarks.dashboard [--rounds 7] [--sizes 360 10000 100000] [--pairs 7] [--held 5000]
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")  # before numpy is imported

import argparse
import hashlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.progress import track

from benchmarks.browsing import CHROMIUM, FLAGS, Server, served
from benchmarks.reading import SPACE, fill
from benchmarks.report import machine, markdown
from nas.records import Evaluation
from nas.searchers import RandomSearch
from nas.storage import Repository
from nas.study import Study
from search_spaces import Architecture

RESULTS = Path("benchmarks/results/dashboard.md")
PORTION_S = 30.0
"""Seconds of a search in one measurement: two refreshes of the page of a large study."""
RATE = 50
"""Evaluations a second."""
_SEEN = """(() => {
  const points = ".js-plotly-plot .scatterlayer .point"
  const watch = new MutationObserver(() => {
    if (!document.querySelector(points)) return
    watch.disconnect()
    requestAnimationFrame(() => requestAnimationFrame(() => { window.seen = performance.now() }))
  })
  watch.observe(document, { childList: true, subtree: true })
})()"""


@dataclass
class Loads:
    """Of one study: what the first page took, what later ones took, and what the server holds in the end."""

    first: float = 0.0
    seconds: list[float] = field(default_factory=list)
    work: list[float] = field(default_factory=list)
    megabytes: float = 0.0


@contextmanager
def browsers() -> Iterator[Any]:
    """Opens browsers that have seen nothing yet."""
    if CHROMIUM is None:
        raise SystemExit("no chromium on the path; apt-get install chromium")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder, ExitStack() as stack:

        def opened(name: str) -> Any:
            context = playwright.chromium.launch_persistent_context(
                Path(folder) / name, executable_path=CHROMIUM, args=FLAGS, viewport={"width": 1440, "height": 900}
            )
            context.add_init_script(_SEEN)
            stack.callback(context.close)
            return context

        yield opened


def load(browser: Any, server: Server) -> tuple[float, float]:
    """Seconds from navigation to a painted front, and of the main thread's work until then."""
    page = browser.new_page()
    told = browser.new_cdp_session(page)
    told.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(f"{server.base}/front?study=study", wait_until="commit")
    page.wait_for_function("() => window.seen", timeout=120_000)
    found = {one["name"]: one["value"] for one in told.send("Performance.getMetrics")["metrics"]}
    seconds = page.evaluate("() => window.seen") / 1000
    page.wait_for_timeout(1500)  # a browser keeps what it compiled when it has nothing else to do
    page.close()
    return float(seconds), float(found["TaskDuration"])


def loads(sizes: Sequence[int], rounds: int, folder: Path) -> dict[int, Loads]:
    """By the number of evaluations."""
    found = {size: Loads() for size in sizes}
    with browsers() as opened, ExitStack() as stack:
        servers, contexts = {}, {}
        for size in track(sizes, "filling databases", console=Console(stderr=True)):
            fill(url(folder, size), size)
            servers[size], contexts[size] = stack.enter_context(served(url(folder, size))), opened(str(size))
            found[size].first = load(contexts[size], servers[size])[0]
            for _ in range(2):
                load(contexts[size], servers[size])  # of the second use a browser keeps what it compiled
        for _ in track(range(rounds), "rounds of loading", console=Console(stderr=True)):
            for size in sizes:
                seconds, work = load(contexts[size], servers[size])
                found[size].seconds.append(seconds)
                found[size].work.append(work)
        for size in sizes:
            found[size].megabytes = servers[size].megabytes
    return found


def url(folder: Path, size: int) -> str:
    return f"sqlite:///{folder / f'{size}.db'}"


class Busy:
    """An evaluation that computes as much every time, for about so many seconds of a free core once it is `hard`."""

    def __init__(self, seconds: float) -> None:
        self.hard = False
        self.iterations = int(20_000 * seconds / min(_hashing(20_000) for _ in range(20)))

    def __call__(self, arch: Architecture) -> dict[str, float]:
        if self.hard:
            _hashing(self.iterations)
        cost = 1 + int(arch.digest[:6], 16) % 9000 / 1000
        return {"error": 1 / cost + int(arch.digest[6:9], 16) / 40_000, "latency_ms@cpu": cost, "params": cost * 1e6}


def _hashing(iterations: int) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    hashlib.pbkdf2_hmac("sha256", b"nas", b"", iterations)
    return time.perf_counter() - began


@dataclass
class Cost:
    """Evaluations a second without and with an open page, and the share of a core that the server used with one."""

    closed: list[float]
    opened: list[float]
    server: list[float]

    @property
    def ratios(self) -> list[float]:
        """Seconds with a page by seconds without, pair by pair."""
        return [alone / beside for alone, beside in zip(self.closed, self.opened, strict=True)]


def cost(held: int, pairs: int, folder: Path) -> Cost:
    """Of a search that has stored so many evaluations before."""
    place, found, done = url(folder, held), Cost([], [], []), held
    busy, portion, batch = Busy(0.9 / RATE), int(PORTION_S * RATE), 10
    asked: list[str] = []
    began = used = 0.0

    def start(study: Study, evaluations: Sequence[Evaluation]) -> None:
        """Opens the page once the search is running, or it would not look again; then the clock."""
        nonlocal began, used
        if asked:
            page.goto(asked.pop())
            page.wait_for_timeout(3000)
            began, used = time.perf_counter(), server.processor_seconds

    with Repository(place) as repository, browsers() as opened, served(place) as server:
        objectives = ("error", "latency_ms@cpu")
        study = Study("study", SPACE, busy, objectives, repository, searcher=RandomSearch, batch=batch, on_batch=start)
        study.run(held)
        busy.hard = True
        page = opened("cost").new_page()
        for pair in track(range(pairs), "pairs of portions", console=Console(stderr=True)):
            for beside in (pair % 2 == 0, pair % 2 == 1):
                asked.append(f"{server.base}/front?study=study" if beside else "about:blank")
                done += batch + portion
                study.run(done)
                seconds = time.perf_counter() - began
                (found.opened if beside else found.closed).append(portion / seconds)
                if beside:
                    found.server.append((server.processor_seconds - used) / seconds)
    return found


def spread(values: Sequence[float], form: str) -> str:
    """Median and quartiles."""
    low, _, high = quantiles(values, n=4)
    return f"{median(values):{form}} ({low:{form}} to {high:{form}})"


def report(found: dict[int, Loads], measured: dict[int, Cost], rounds: int, pairs: int) -> str:
    header = ["evaluations", "first page, s", "later pages, s", "work of the page, s", "server, MB"]
    rows = [
        [f"{size:,}", f"{one.first:.2f}", spread(one.seconds, ".2f"), spread(one.work, ".2f"), f"{one.megabytes:.0f}"]
        for size, one in found.items()
    ]
    costs = [
        [
            f"{held:,}",
            spread(one.closed, ".1f"),
            spread(one.opened, ".1f"),
            spread(one.ratios, ".3f"),
            spread(one.server, ".0%"),
        ]
        for held, one in measured.items()
    ]
    load_now = f"{machine()}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    what = "\n\n".join((__doc__ or "").split("\n\n")[1:3])
    parts = [
        "# How fast the dashboard shows a front, and what it costs a search",
        what,
        f"{load_now}. Medians (quartiles) of {rounds} rounds and {pairs} pairs.",
        markdown(header, rows),
    ]
    if costs:
        beside = ["stored before", "evaluations a second", "with the page open", "time with it by time without"]
        parts.append(markdown([*beside, "server with it, of a core"], costs))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.dashboard", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sizes", type=int, nargs="*", default=[360, 10_000, 100_000])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--held", type=int, nargs="*", default=[5000])
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        found = loads(given.sizes, given.rounds, Path(name))
    measured = {}
    for held in given.held:
        with tempfile.TemporaryDirectory() as name:
            measured[held] = cost(held, given.pairs, Path(name))
    told = report(found, measured, given.rounds, given.pairs)
    given.out.write_text(told, encoding="utf-8")
    Console().print(told, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
