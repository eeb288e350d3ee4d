"""Every page, run without a browser by Streamlit's own test driver."""

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from dashboard import app, chart, importance, planes, shell, text
from dashboard.queries import StudyView
from nas.records import Life, Origin, SpaceRecord, StudyRecord
from nas.results import front as fronts
from nas.storage import Repository
from tests.dashboard.seeding import ConvSpace, evaluations

PAGES = (
    "studies",
    "targets",
    "tuning",
    "front",
    "architecture",
    "space",
    "gradient",
    "history",
    "training",
    "trust",
    "settings",
)
Open = Callable[..., AppTest]


@pytest.fixture
def browse(url: str, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens a page of the dashboard as a link to it does."""

    def open_page(page: str, study: str | None = None, *, storage: str = url, **address: str) -> AppTest:
        monkeypatch.setenv("NAS_STORAGE", storage)
        monkeypatch.setattr("sys.argv", ["app.py"])
        test = AppTest.from_file(app.__file__, default_timeout=30)
        if page != "studies":
            test.switch_page(f"views/{page}.py")
        for name, value in {**({"study": study} if study else {}), **address}.items():
            test.query_params[name] = value
        return test.run()

    return open_page


def figures_of(test: AppTest) -> list[dict[str, Any]]:
    """The figures of a page, as Plotly's JSON."""
    charts = [one.proto for one in test.get("bidi_component") if one.proto.component_name == chart.NAME]
    return [told["figure"] for told in (json.loads(one.bytes) for one in charts) if "figure" in told]


def texts(test: AppTest) -> str:
    kinds = (test.title, test.subheader, test.markdown, test.caption, test.info, test.error, test.warning, test.success)
    return "\n".join(plain(element.value) for kind in kinds for element in kind)


def plain(markdown: object) -> str:
    """Markdown as it is read: escaped signs as they are, code without its marks."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", str(markdown)).replace("`", "")


@pytest.fixture(autouse=True)
def quick_importances(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of few networks and halves: what they say has tests of its own."""
    for name, value in (("MOST", 40), ("REPEATS", 1)):
        monkeypatch.setattr(importance, name, value)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("study", ["digits-cnn", "digits-cnn-wide", "fresh"])
def test_every_page_shows_every_study(browse: Open, page: str, study: str) -> None:
    test = browse(page, study)
    assert not test.exception
    assert not test.error
    assert test.title[0].value == page.capitalize()
    if page not in ("studies", "targets", "tuning"):
        assert f"**{study}**" in texts(test)


def test_the_list_has_all_studies(browse: Open) -> None:
    table = browse("studies").dataframe[0].value
    assert sorted(table["study"]) == ["digits-cnn", "digits-cnn-wide", "fresh"]
    assert sorted(table["evaluations"]) == [0, 60, 120]


def test_an_empty_database_says_what_to_run(browse: Open, tmp_path: Path) -> None:
    empty = f"sqlite:///{tmp_path / 'empty.db'}"
    Repository(empty).close()
    assert "nas demo" in texts(browse("studies", storage=empty))
    assert "nas demo" in texts(browse("front", storage=empty))


def test_a_missing_database_is_one_line_with_a_remedy(browse: Open, tmp_path: Path) -> None:
    test = browse("studies", storage=f"sqlite:///{tmp_path / 'none.db'}")
    assert not test.exception
    assert len(test.error) == 1
    assert "\n" not in test.error[0].value
    assert "none.db" in test.error[0].value
    assert not (tmp_path / "none.db").exists()


def test_a_database_of_another_version_names_the_upgrade(browse: Open, tmp_path: Path) -> None:
    old = tmp_path / "old.db"
    Repository(f"sqlite:///{old}").close()
    with sqlite3.connect(old) as connection:
        connection.execute("UPDATE nas_version SET version_num = '0000'")
    connection.close()
    test = browse("studies", storage=f"sqlite:///{old}")
    assert not test.exception
    assert "nas storage upgrade" in test.error[0].value


def test_without_a_database_the_page_says_how_to_name_one(browse: Open) -> None:
    assert "NAS_STORAGE" in plain(browse("studies", storage="").error[0].value)


@pytest.mark.parametrize("page", ["front", "history", "settings"])
def test_a_study_that_is_not_there_is_said_and_no_other_is_shown(browse: Open, page: str) -> None:
    test = browse(page, "gone")
    assert "there is no study 'gone'" in plain(test.error[0].value)
    assert "digits-cnn" in plain(test.error[0].value), "those there are"
    assert test.title[0].value == page.capitalize()
    assert not test.table and not test.dataframe
    assert test.selectbox(key="study").value is None


def test_the_front_shows_the_best_network_and_its_export_command(browse: Open, shown: StudyView, url: str) -> None:
    test = browse("front", "digits-cnn")
    assert test.selectbox(key="digits-cnn network").value == shown.front.index[0]
    best = str(shown.front["_digest"].iloc[0])
    command = f"nas export digits-cnn --architecture {best[:8]} --to {best[:8]} --storage {url}"
    assert text.code(command) in [one.value for one in test.markdown]
    values = test.table[0].value
    assert values["verified"].iloc[0].endswith(" %") and "±" in values[best[:8]].iloc[0]
    assert "is on the front" in texts(test)


def test_the_front_says_how_far_its_order_and_its_latencies_can_be_believed(browse: Open) -> None:
    trusted = [link.proto.label for link in browse("front", "digits-cnn").get("page_link")]
    doubted = [link.proto.label for link in browse("front", "digits-cnn-wide").get("page_link")]
    assert any("order of networks\\: reliable" in label and ":green-badge" in label for label in trusted)
    assert any("not reliable" in label and "No better than ranking by parameters" in label for label in doubted)
    assert any("latency on cpu\\: may decide on limits" in label for label in trusted)


def test_an_address_opens_a_network_that_is_not_on_the_front(browse: Open, shown: StudyView) -> None:
    place = int(shown.table.index[shown.table["_feasible"] & ~shown.table["_front"]][0])
    digest = str(shown.table["_digest"].iloc[place])
    test = browse("front", "digits-cnn", architecture=digest[:8])
    assert test.selectbox(key="digits-cnn network").value == place
    assert f"{digest[:8]} is not on the front" in texts(test)


def test_a_network_over_a_limit_says_which(browse: Open, shown: StudyView) -> None:
    rows = shown.table[~shown.table["_failed"] & ~shown.table["_feasible"]]
    test = browse("front", "digits-cnn", architecture=str(rows["_digest"].iloc[0])[:8])
    assert "it breaks" in texts(test)


def test_a_network_that_breaks_a_limit_as_measured_is_offered_and_said_so(browse: Open, shown: StudyView) -> None:
    digest, place = str(shown.refuted["_digest"].iloc[0]), int(shown.refuted.index[0])
    test = browse("front", "digits-cnn")
    choice = test.selectbox(key="digits-cnn network")
    offered = [text for text in choice.options if text.endswith("breaks a limit")]
    assert len(offered) == len(shown.refuted) and any(text.startswith(digest[:8]) for text in offered)
    choice.set_value(place).run()
    assert f"{digest[:8]} is not on the front; as measured it breaks latency on cpu ≤ 9 ms" in texts(test)
    assert test.query_params["architecture"] in (digest[:12], [digest[:12]])


def test_a_running_study_is_refreshed_and_a_large_one_less_often(shown: StudyView) -> None:
    assert shell.pace(shown) is None
    running = replace(shown, study=replace(shown.study, status="running"))
    assert shell.pace(running) == shell.REFRESH_SECONDS
    large = replace(running, table=pd.concat([running.table] * (shell.LARGE // len(running.table) + 1)))
    assert shell.pace(large) == shell.LARGE_SECONDS


def test_what_was_measured_meanwhile_is_seen_without_more_evaluations(
    browse: Open, url: str, shown: StudyView, tmp_path: Path
) -> None:
    shutil.copy(url.removeprefix("sqlite:///"), tmp_path / "own.db")
    storage = f"sqlite:///{tmp_path / 'own.db'}"
    place = browse("front", "digits-cnn", storage=storage).selectbox(key="digits-cnn network").value
    best = str(shown.table["_digest"].iloc[place])
    with Repository(storage) as repository:
        repository.add_verified("digits-cnn", {best: {"latency_ms@cpu": 99.0}})
    other = browse("front", "digits-cnn", storage=storage)
    assert other.selectbox(key="digits-cnn network").value != place
    assert any(text.startswith(best[:8]) for text in other.selectbox(key="digits-cnn network").options)


def test_two_networks_are_compared_and_the_address_says_so(browse: Open, shown: StudyView) -> None:
    test = browse("front", "digits-cnn")
    other = int(shown.front.index[1])
    test.selectbox(key="digits-cnn compared").set_value(other).run()
    assert not test.exception
    assert list(test.table[0].value.columns)[-1] == "change"
    digest = str(shown.table["_digest"].iloc[other])
    assert test.query_params["compare"] in (digest[:12], [digest[:12]])
    again = browse("front", "digits-cnn", compare=digest[:12])
    assert again.selectbox(key="digits-cnn compared").value == other


@pytest.mark.parametrize("axis", ["params", "macs", "error"])
def test_any_metric_may_be_an_axis_also_logarithmic(browse: Open, axis: str) -> None:
    test = browse("front", "digits-cnn")
    test.selectbox(key="digits-cnn x ").set_value(axis).run()
    test.get("button_group")[0].set_value([axis, "error"] if axis != "error" else ["error"]).run()
    assert not test.exception
    assert test.query_params["x"] in (axis, [axis])


def test_an_address_restores_axes_colour_limits_and_evaluations(browse: Open, shown: StudyView) -> None:
    test = browse("front", "digits-cnn", x="params", y="error", z="macs", upto="80", limit="params<=900000")
    assert [test.selectbox(key=f"digits-cnn {name} ").value for name in "xyz"] == ["params", "error", "macs"]
    assert test.slider(key="digits-cnn upto").value == 80
    bound = float(test.select_slider(key="digits-cnn limit params").value)
    assert bound == pytest.approx(900_000, rel=0.05)
    moved = planes.plane(shown, ("params", "error", "macs"), moved={"params": bound}, upto=80)
    assert test.selectbox(key="digits-cnn network").value == moved.best()


def test_a_moved_limit_chooses_the_best_network_that_keeps_it(browse: Open, shown: StudyView) -> None:
    test = browse("front", "digits-cnn")
    before = test.selectbox(key="digits-cnn network").value
    slider = test.select_slider(key="digits-cnn limit latency_ms@cpu")
    bound = planes.bounds(shown.table["latency_ms@cpu"], 9.0)[20]
    slider.set_value(bound).run()
    after = test.selectbox(key="digits-cnn network").value
    assert after != before
    assert after == planes.plane(shown, ("latency_ms@cpu", "error"), moved={"latency_ms@cpu": bound}).best()
    assert test.query_params["limit"] in (f"latency_ms@cpu<={bound:g}", [f"latency_ms@cpu<={bound:g}"])


def test_under_a_limit_that_nothing_keeps_no_network_is_offered(browse: Open, shown: StudyView) -> None:
    test = browse("front", "digits-cnn", limit=f"latency_ms@cpu<={shown.table['latency_ms@cpu'].min()}")
    assert "No network of this study keeps" in plain(test.warning[0].value)
    assert "comes nearest" in plain(test.warning[0].value)
    assert not test.code, "no command to export one"


def test_nonsense_in_an_address_is_left_aside(browse: Open) -> None:
    test = browse("front", "digits-cnn", x="nothing", upto="many", limit="params<=soon", architecture="zz", log="?")
    assert not test.exception and not test.error
    assert test.selectbox(key="digits-cnn x ").value == "latency_ms@cpu"


def test_the_sidebar_changes_the_study_and_the_address(browse: Open) -> None:
    test = browse("history", "digits-cnn")
    test.selectbox(key="study").set_value("digits-cnn-wide").run()
    assert "**digits-cnn-wide**" in texts(test)
    assert test.query_params["study"] in ("digits-cnn-wide", ["digits-cnn-wide"])


def test_failures_are_counted_by_reason(browse: Open, shown: StudyView) -> None:
    test = browse("history", "digits-cnn")
    assert test.dataframe[0].value["count"].tolist() == [shown.num_failed]


def test_trust_is_told_in_words(browse: Open) -> None:
    trusted, doubted = browse("trust", "digits-cnn"), browse("trust", "digits-cnn-wide")
    assert "can be trusted" in trusted.success[0].value and not trusted.warning
    assert "No better than ranking by parameters" in doubted.warning[0].value
    assert "not reliable" in doubted.warning[1].value
    assert "no supernet" in browse("trust", "fresh").info[0].value


def test_the_trust_page_has_the_figures_and_the_curves(browse: Open) -> None:
    test = browse("trust", "digits-cnn")
    facts = test.table[0].value["value"]
    assert plain(facts["Kendall's tau"]) == "0.76 (0.52 to 0.94)"
    assert facts["of small networks"] == "mean +2.8 %, mean distance 2.1 %"
    assert "Error with inherited weights" in texts(test) and "standard deviation" in texts(test)


def test_settings_tell_the_seed_and_the_run_file(browse: Open) -> None:
    facts = browse("settings", "digits-cnn").table[0].value["value"]
    assert facts["seed"] == "3"
    assert facts["run file"] == "examples/digits.py"


def test_a_learnt_distribution_is_shown_with_what_was_derived(browse: Open, url: str) -> None:
    test = browse("gradient", "digits-cnn")
    with Repository(url, read_only=True) as repository:
        first, _, collapsed = repository.distributions("digits-cnn")
        told = fronts.row(repository, "digits-cnn", first.arch.digest).judged()
    assert f"Derived network {first.arch.digest[:8]}" in texts(test)
    assert "2,000 steps of drnas" in texts(test) and f"error {100 * told['error']:.2f} %" in texts(test)
    assert [warning.value for warning in test.warning] == ["Read the warnings of **cpu 1.00** too."]
    pick = test.selectbox(key="digits-cnn distribution")
    assert pick.label == "One of 3 distributions, by the weight of latency on cpu (of 1 in all)"
    pick.set_value(2).run()
    assert not test.exception
    assert f"Derived network {collapsed.arch.digest[:8]}" in texts(test) and "not evaluated in this study" in texts(
        test
    )
    assert [plain(warning.value) for warning in test.warning] == list(collapsed.warnings)


def test_positions_of_one_choice_are_shown_on_request(browse: Open) -> None:
    test = browse("gradient", "digits-cnn-wide")
    family = test.selectbox(key="digits-cnn-wide family")
    assert family.options[:2] == ["all choices", "early.op"] and len(family.options) == 10
    family.set_value("late.kernel").run()
    assert not test.exception
    steps = figures_of(test)[1]
    titles = [note["text"] for note in steps["layout"]["annotations"]]
    assert titles == [f"late.kernel.{position}" for position in range(4)]


def test_a_study_without_a_gradient_search_says_how_to_have_one(browse: Open) -> None:
    assert "nas search --gradient drnas" in browse("gradient", "fresh").info[0].value


def test_the_life_of_a_network_leads_to_its_parents(browse: Open, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'lives.db'}"
    parent, child = [one for one in evaluations(30, seed=3) if not one.failed][:2]
    born = Life(stored=1_700_000_000.0, origin=Origin("mutation", (parent.arch.digest,)))
    space = ConvSpace()
    with Repository(storage) as repository:
        repository.add_space(SpaceRecord(space.digest, space.name, space.declaration()))
        repository.create_study(StudyRecord("s", space.digest, None, ("error", "params"), (), "evolution", 0))
        repository.store_evaluations("s", {0: parent, 1: child}, "", "d", {1: born})
    test = browse("architecture", "s", storage=storage, architecture=child.arch.digest[:12])
    facts = next(one.value for one in test.table if "proposed by" in one.value.index)["value"]
    assert facts["how"] == f"mutation of {parent.arch.digest[:8]}"
    assert plain(facts["stored"]) == "2023-11-14 22:13:20 UTC"
    assert f"Beside its parent {parent.arch.digest[:8]}" in [one.proto.label for one in test.get("page_link")]
