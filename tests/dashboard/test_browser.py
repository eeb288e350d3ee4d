"""What a reader does, in a real browser: Streamlit's test driver has no charts, no addresses and no way back."""

import re
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.browsing import CHROMIUM, FLAGS, served
from dashboard import text
from dashboard.planes import MOST_POINTS
from dashboard.queries import StudyView
from nas.storage import Repository
from tests.dashboard.seeding import ConvSpace, evaluations, seed_database
from tests.dashboard.seeding_odd import EMOJI, HTML, MARKDOWN, RIGHT_TO_LEFT, SQL, add, seed_odd

WAIT = 60_000  # ms; a chart takes seconds where the machine is busy
LARGE = 100_000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path; apt-get install chromium"),
]


@pytest.fixture(scope="module")
def address(url: str) -> Iterator[str]:
    with served(url) as server:
        yield server.base


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    url = f"sqlite:///{tmp_path_factory.mktemp('odd') / 'odd.db'}"
    seed_odd(url, 40)
    with Repository(url) as repository:
        add(repository, ConvSpace(), "large", LARGE, seed=99)
    with served(url) as server:
        yield server.base


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; it is in the dev extra")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page of a browser that has seen nothing yet; it lists in `outside` what it asked of other machines."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    found = context.new_page()
    found.set_default_timeout(WAIT)
    found.outside = []
    found.on("request", lambda one: None if "127.0.0.1" in one.url else found.outside.append(one.url))
    yield found
    assert not [one for one in found.outside if one.startswith("http")], "the pages fetch nothing from elsewhere"
    context.close()


def chart(page: Any) -> Any:
    """The first chart, once it is painted and nothing is running any more."""
    found = page.locator(".js-plotly-plot").first
    found.locator(".xtick").first.wait_for(state="attached")
    settle(page)
    return found


def settle(page: Any) -> None:
    page.wait_for_timeout(400)
    page.locator('[data-testid="stStatusWidget"]').wait_for(state="detached")
    page.wait_for_timeout(600)


def place_on_screen(page: Any, name: str, point: int) -> tuple[float, float]:
    """Where a point of a trace is, as Plotly drew it."""
    found = page.evaluate(
        """([name, point]) => {
            const plot = document.querySelector('.js-plotly-plot'), layout = plot._fullLayout
            const trace = plot._fullData.find(one => one.name === name)
            const box = plot.getBoundingClientRect(), size = layout._size
            const x = layout.xaxis.d2p(trace.x[point]), y = layout.yaxis.d2p(trace.y[point])
            return [box.x + size.l + x, box.y + size.t + y]
        }""",
        [name, point],
    )
    return float(found[0]), float(found[1])


def plot_on_screen(page: Any) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the area between the axes."""
    found = page.evaluate(
        """() => {
            const plot = document.querySelector('.js-plotly-plot'), size = plot._fullLayout._size
            const box = plot.getBoundingClientRect(), left = box.x + size.l, top = box.y + size.t
            return [left, top, left + size.w, top + size.h]
        }"""
    )
    return found[0], found[1], found[2], found[3]


def click_point(page: Any, name: str, point: int) -> None:
    for _ in range(4):  # a busy machine may miss the pointer coming to rest
        x, y = place_on_screen(page, name, point)
        page.mouse.move(x - 3, y)
        page.mouse.move(x, y)
        page.wait_for_timeout(500)
        page.mouse.click(x, y)
        page.wait_for_timeout(4000)
        if "architecture=" in page.url:
            return


def ring(page: Any) -> tuple[float, float]:
    """Where the chosen network stands in the chart, in shown units."""
    found = page.evaluate(
        """() => { const one = document.querySelector('.js-plotly-plot')._fullData.find(t => t.name === 'chosen')
                   return [one.x[0], one.y[0]] }"""
    )
    return float(found[0]), float(found[1])


def test_a_click_on_a_point_leads_to_its_architecture_and_back(address: str, shown: StudyView, page: Any) -> None:
    page.goto(f"{address}/front?study=digits-cnn")
    chart(page)
    place = len(shown.front) // 2
    digest = str(shown.front.sort_index()["_digest"].iloc[place])
    click_point(page, "front", place)
    page.wait_for_url(re.compile("architecture=" + digest[:12]))
    page.get_by_text(f"nas export digits-cnn --architecture {digest[:8]}").wait_for()
    page.get_by_role("link", name=f"Architecture {digest[:8]}").click()
    page.get_by_role("heading", name=f"Network {digest[:8]}").wait_for()
    page.get_by_text(f"nas finetune digits-cnn --architecture {digest[:8]}").wait_for()
    page.go_back()
    chart(page)
    assert ring(page)[1] == pytest.approx(100 * float(shown.front.sort_index()["error"].iloc[place]))


def test_what_was_looked_at_survives_other_pages_and_a_reload(address: str, shown: StudyView, page: Any) -> None:
    early = shown.front[shown.front.index < 100]
    digest = str(early["_digest"].iloc[1])
    page.goto(f"{address}/front?study=digits-cnn&x=params&architecture={digest[:12]}&upto=100")
    chart(page)
    for there in ("Trust", "History"):
        page.get_by_role("link", name=there, exact=True).click()
        page.get_by_role("heading", name=there, exact=True).wait_for()
    page.get_by_role("link", name="Front", exact=True).click()
    chart(page)
    for part in ("x=params", f"architecture={digest[:12]}", "upto=100"):
        assert part in page.url
    page.reload()
    chart(page)
    assert page.locator(".js-plotly-plot").first.locator(".xtitle").text_content() == "parameters"
    assert ring(page)[0] == pytest.approx(float(early["params"].iloc[1]))


def test_axes_are_chosen_from_lists(address: str, page: Any) -> None:
    page.goto(f"{address}/front?study=digits-cnn")
    chart(page)
    page.get_by_role("combobox", name=re.compile("Across")).click()
    page.get_by_role("option", name="MACs", exact=True).click()
    page.wait_for_url(re.compile("x=macs"))
    settle(page)
    assert page.locator(".js-plotly-plot").first.locator(".xtitle").text_content() == "MACs"


def test_the_chosen_network_follows_a_limit_that_is_slid(address: str, shown: StudyView, page: Any) -> None:
    page.goto(f"{address}/front?study=digits-cnn")
    chart(page)
    before = ring(page)
    page.get_by_role("slider", name=re.compile("latency on cpu at most")).focus()
    for _ in range(30):
        page.keyboard.press("ArrowLeft")
    page.wait_for_url(re.compile("limit="))
    settle(page)
    bound = float(re.findall(r"limit=latency_ms(?:@|%40)cpu%3C%3D([\d.]+)", page.url)[0])
    after = ring(page)
    assert after[0] <= bound < before[0] and after[1] > before[1]
    page.reload()
    chart(page)
    assert ring(page) == after


def test_a_zoom_stays_when_a_point_is_clicked(address: str, shown: StudyView, page: Any) -> None:
    page.goto(f"{address}/front?study=digits-cnn")
    chart(page)
    span = "() => document.querySelector('.js-plotly-plot')._fullLayout.xaxis.range"
    whole, place = page.evaluate(span), len(shown.front) // 2
    x, y = place_on_screen(page, "front", place)
    left, top, right, bottom = plot_on_screen(page)  # a drag that begins beside the plot moves an axis instead
    page.mouse.move(max(x - 60, left + 4), max(y - 60, top + 4))
    page.mouse.down()
    page.mouse.move(min(x + 60, right - 4), min(y + 60, bottom - 4), steps=5)
    page.mouse.up()
    page.wait_for_timeout(500)
    zoomed = page.evaluate(span)
    assert zoomed[1] - zoomed[0] < 0.5 * (whole[1] - whole[0])
    click_point(page, "front", place)
    page.wait_for_url(re.compile("architecture="))
    settle(page)
    assert page.evaluate(span) == pytest.approx(zoomed)


def test_the_first_visitor_of_a_server_sees_the_page_asked_for(url: str, page: Any) -> None:
    with served(url) as server:
        page.goto(f"{server.base}/trust?study=digits-cnn")
        page.get_by_role("heading", name="Trust", exact=True).wait_for()
        page.get_by_text("can be trusted").first.wait_for()
        assert page.get_by_test_id("stSidebarNav").count() == 0, "no list of files"


def test_plotly_is_asked_for_with_the_page_and_kept(address: str, page: Any) -> None:
    page.goto(f"{address}/front?study=digits-cnn")
    chart(page)
    told = """() => performance.getEntriesByType('resource').filter(one => one.name.includes('/plotly/'))
                                 .map(one => [one.initiatorType, one.startTime])"""
    (how, start), *_ = page.evaluate(told)
    socket = "() => performance.getEntriesByType('resource').find(one => one.name.includes('_stcore')).startTime"
    assert how == "link" and start < page.evaluate(socket), "before Streamlit itself asks for anything"
    page.reload()
    chart(page)
    sizes = "() => performance.getEntriesByType('resource').filter(one => one.name.includes('/plotly/'))"
    assert page.evaluate(f"{sizes}.every(one => one.transferSize === 0)")


def test_hostile_names_are_text(odd: str, page: Any) -> None:
    dialogs: list[str] = []
    page.on("dialog", lambda one: (dialogs.append(one.message), one.dismiss()))
    for name in (MARKDOWN, HTML, SQL, RIGHT_TO_LEFT, EMOJI):
        page.goto(f"{odd}/front?study={urllib.request.quote(name)}")
        chart(page)
        said = page.get_by_test_id("stMainBlockContainer").get_by_test_id("stMarkdown").first.inner_text()
        assert text.shortened(name) in said.replace("\u2068", "").replace("\u2069", "")
        links = page.get_by_test_id("stMainBlockContainer").locator("a").all()
        assert not [one for one in links if (one.get_attribute("href") or "").startswith("http")]
        assert page.title() != "taken" and not dialogs
        assert page.locator("img[src='x']").count() == 0


def test_a_name_of_ten_thousand_characters_is_opened_and_reloaded(odd: str, page: Any) -> None:
    page.goto(odd)
    page.get_by_role("heading", name="Studies", exact=True).wait_for()
    page.get_by_role("combobox", name=re.compile("Study")).click()
    page.get_by_role("option", name=re.compile("^long")).click()
    settle(page)
    page.get_by_role("link", name="Front", exact=True).click()
    chart(page)
    assert len(page.url) < 400
    page.reload()
    chart(page)
    assert "long xxx" in page.get_by_test_id("stMainBlockContainer").inner_text()


def test_a_limit_that_is_none_leaves_the_list_and_says_what_is_wrong(odd: str, page: Any) -> None:
    page.goto(odd)
    page.get_by_text("broken limit cannot be read").wait_for()
    page.get_by_text("latency_ms@cpu <= soon").first.wait_for()
    page.goto(f"{odd}/front?study=broken%20limit")
    page.get_by_text("'latency_ms@cpu <= soon' has the bound 'soon'").wait_for()


def test_a_study_without_evaluations_and_one_that_is_not_there(odd: str, page: Any) -> None:
    page.goto(f"{odd}/front?study=nothing%20yet")
    page.get_by_text("has no evaluations yet").wait_for()
    page.goto(f"{odd}/front?study=none")
    page.get_by_text("there is no study 'none'").wait_for()
    assert page.locator(".js-plotly-plot").count() == 0


def test_a_large_study_is_drawn_by_few_points_that_can_be_clicked(odd: str, page: Any) -> None:
    page.goto(f"{odd}/front?study=large")
    chart(page)
    sent = page.evaluate("() => document.querySelector('.js-plotly-plot')._fullData[0].x.length")
    assert MOST_POINTS / 4 < sent <= MOST_POINTS
    assert page.get_by_text(f"{LARGE:,} evaluations").count()
    click_point(page, "front", 2)
    page.wait_for_url(re.compile("architecture="))


def test_a_broken_database_is_one_line(tmp_path: Path, page: Any) -> None:
    path = tmp_path / "broken.db"
    seed_database(f"sqlite:///{path}", 20)
    for more in path.parent.glob("broken.db-*"):
        more.unlink()
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 200_000)
    with served(f"sqlite:///{path}") as server:
        page.goto(f"{server.base}/front?study=digits-cnn")
        alert = page.get_by_test_id("stAlert").first
        alert.wait_for()
        said = alert.inner_text()
        assert "broken.db" in said and "Traceback" not in said


def test_a_running_search_is_followed_without_losing_what_was_chosen(url: str, tmp_path: Path, page: Any) -> None:
    path = tmp_path / "live.db"
    shutil.copy(url.removeprefix("sqlite:///"), path)
    with served(f"sqlite:///{path}") as server, Repository(f"sqlite:///{path}") as repository:
        page.goto(f"{server.base}/front?study=digits-cnn-wide")
        chart(page)
        page.get_by_text("60 evaluations").first.wait_for()
        click_point(page, "front (3 objectives)", 1)
        page.wait_for_url(re.compile("architecture="))
        settle(page)
        chosen, digest = ring(page), re.findall(r"architecture=(\w+)", page.url)[0]
        known = {one.arch for one in repository.evaluations("digits-cnn-wide")}
        more = [one for one in evaluations(80, seed=4711) if one.arch not in known][:15]
        repository.append_evaluations("digits-cnn-wide", more, "b" * 16, "digits")
        page.get_by_text("75 evaluations").first.wait_for()
        settle(page)
        assert ring(page)[0] == chosen[0] and digest in page.url, "the correction may have moved it up or down"
        repository.set_status("digits-cnn-wide", "finished")


def test_studies_that_are_ticked_are_compared_and_one_that_is_clicked_opens(address: str, page: Any) -> None:
    page.goto(address)
    page.get_by_role("heading", name="Studies", exact=True).wait_for()
    settle(page)
    page.wait_for_timeout(3000)
    box = page.get_by_test_id("stDataFrame").first.bounding_box()
    assert page.locator(".js-plotly-plot").count() == 0
    for row in (0, 1, 2):  # the table is a canvas: 36 pixels of header, 44 a row
        page.mouse.click(box["x"] + 16, box["y"] + 58 + 44 * row)
        page.wait_for_timeout(3000)
    chart(page)
    assert page.get_by_text("Hypervolume over the evaluations").count() == 1
    page.get_by_text("fresh has no evaluations yet and is left out").wait_for()
    compared = "() => document.querySelector('.js-plotly-plot')._fullData.map(one => one.name)"
    assert set(page.evaluate(compared)) == {"digits-cnn", "digits-cnn-wide"}
    page.goto(address)
    page.get_by_role("heading", name="Studies", exact=True).wait_for()
    settle(page)
    page.wait_for_timeout(3000)
    page.mouse.click(box["x"] + 90, box["y"] + 58)
    page.wait_for_url(re.compile(r"/front\?study="))
    page.get_by_role("heading", name="Front", exact=True).wait_for()


def test_a_box_round_points_lists_their_networks(address: str, page: Any) -> None:
    page.goto(f"{address}/front?study=digits-cnn")
    chart(page).hover()
    page.locator('.modebar-btn[data-title="Box Select"]').first.click()
    (x0, y0), (x1, y1) = place_on_screen(page, "front", 0), place_on_screen(page, "front", 4)
    page.mouse.move(min(x0, x1) - 15, min(y0, y1) - 15)
    page.mouse.down()
    page.mouse.move(max(x0, x1) + 15, max(y0, y1) + 15, steps=5)
    page.mouse.up()
    page.get_by_text("networks chosen").wait_for()
    assert page.url.count("among=") >= 3
    settle(page)
    page.get_by_role("button", name="Clear").click()
    page.get_by_text("networks chosen").wait_for(state="detached")
    assert "among=" not in page.url


def test_the_front_is_taken_away_as_a_table_and_as_a_picture(address: str, shown: StudyView, page: Any) -> None:
    page.goto(f"{address}/front?study=digits-cnn")
    chart(page)
    with page.expect_download() as table:
        page.get_by_role("button", name="Table (CSV)").click()
    rows = Path(table.value.path()).read_text()
    assert str(shown.front["_digest"].iloc[0]) in rows and "measured_error" in rows
    with page.expect_download() as picture:
        page.get_by_role("button", name="Picture (HTML)").click()
    assert "plotly" in Path(picture.value.path()).read_text()[:5000].lower()


def test_an_export_that_exists_is_downloaded_by_an_id(shown: StudyView, url: str, tmp_path: Path, page: Any) -> None:
    import json

    best = shown.at(int(shown.front.index[0])).arch
    folder = tmp_path / "runs" / "digits-cnn" / "best"
    folder.mkdir(parents=True)
    (folder / "architecture.json").write_text(json.dumps({"architecture": best.to_dict(), "metadata": {}}))
    with served(url, NAS_RUNS=str(tmp_path / "runs")) as server:
        page.goto(f"{server.base}/architecture?study=digits-cnn&architecture={best.digest[:12]}")
        with page.expect_download() as found:
            page.get_by_role("button", name=re.compile("Download export")).click()
        assert found.value.suggested_filename == f"{best.digest[:8]}.zip"
        assert Path(found.value.path()).read_bytes()[:2] == b"PK"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_have_the_ground_of_the_page(address: str, browser: Any, scheme: str) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(WAIT)
    page.goto(f"{address}/history?study=digits-cnn")
    chart(page)
    ground = page.evaluate("() => getComputedStyle(document.querySelector('.stApp')).backgroundColor")
    drawn = page.evaluate("() => document.querySelector('.js-plotly-plot')._fullLayout.paper_bgcolor")
    numbers = [int(drawn[i : i + 2], 16) for i in (1, 3, 5)]
    assert ground == f"rgb({', '.join(map(str, numbers))})"
    assert (np.mean(numbers) > 128) == (scheme == "light")
    context.close()
