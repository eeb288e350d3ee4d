"""Every page, run without a browser by Streamlit's own test driver."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.queries import StudyView
from dashboard.serve import APP
from nas import front as fronts
from nas.storage import Repository

PAGES = ("studies", "targets", "front", "gradient", "history", "training", "trust", "settings")
Open = Callable[..., AppTest]


@pytest.fixture
def browse(url: str, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens a page of the dashboard as a link to it does."""

    def open_page(page: str, study: str | None = None, *, storage: str = url, **address: str) -> AppTest:
        monkeypatch.setenv("NAS_STORAGE", storage)
        monkeypatch.setattr("sys.argv", ["app.py"])
        test = AppTest.from_file(str(APP), default_timeout=30)
        if page != "studies":
            test.switch_page(f"pages/{page}.py")
        for name, value in {**({"study": study} if study else {}), **address}.items():
            test.query_params[name] = value
        return test.run()

    return open_page


def texts(test: AppTest) -> str:
    kinds = (test.title, test.subheader, test.markdown, test.caption, test.info, test.error, test.warning, test.success)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("study", ["digits-cnn", "digits-cnn-wide", "fresh"])
def test_every_page_shows_every_study(browse: Open, page: str, study: str) -> None:
    test = browse(page, study)
    assert not test.exception
    assert not test.error
    assert test.title[0].value == page.capitalize()
    if page not in ("studies", "targets"):
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
    assert "NAS_STORAGE" in browse("studies", storage="").error[0].value


def test_a_study_that_is_not_there_is_named(browse: Open) -> None:
    test = browse("history", "gone")
    assert "gone" in test.warning[0].value
    assert test.title[0].value == "History"


def test_the_front_shows_the_best_network_and_its_export_command(browse: Open, shown: StudyView, url: str) -> None:
    test = browse("front", "digits-cnn")
    best = str(shown.front["_digest"].iloc[0])
    assert test.selectbox(key="digits-cnn network").value == best
    assert test.code[0].value == f"nas export digits-cnn --architecture {best[:8]} --to {best[:8]} --storage {url}"
    assert test.table[0].value["verified"].iloc[0].endswith(" %")
    assert "is on the front" in texts(test)


def test_an_address_opens_a_network_that_is_not_on_the_front(browse: Open, shown: StudyView) -> None:
    dominated = str(shown.table[shown.table["_feasible"] & ~shown.table["_front"]]["_digest"].iloc[0])
    test = browse("front", "digits-cnn", architecture=dominated[:8])
    assert test.selectbox(key="digits-cnn network").value == dominated
    assert f"{dominated[:8]} is not on the front" in texts(test)


def test_a_network_over_a_limit_says_which(browse: Open, shown: StudyView) -> None:
    rows = shown.table[~shown.table["_failed"] & ~shown.table["_feasible"]]
    test = browse("front", "digits-cnn", architecture=str(rows["_digest"].iloc[0])[:8])
    assert "it breaks" in texts(test)


def test_a_network_that_breaks_a_limit_as_measured_is_offered_and_said_so(browse: Open, shown: StudyView) -> None:
    digest = str(shown.refuted["_digest"].iloc[0])
    test = browse("front", "digits-cnn")
    choice = test.selectbox(key="digits-cnn network")
    assert choice.value == str(shown.front["_digest"].iloc[0])
    offered = [text for text in choice.options if text.endswith("breaks a limit")]
    assert len(offered) == len(shown.refuted) and offered[0].startswith(digest[:8])
    choice.set_value(digest).run()
    assert f"{digest[:8]} is not on the front; as measured it breaks latency on cpu ≤ 9 ms" in texts(test)


def test_what_was_measured_meanwhile_is_seen_without_more_evaluations(browse: Open, url: str, tmp_path: Path) -> None:
    shutil.copy(url.removeprefix("sqlite:///"), tmp_path / "own.db")
    storage = f"sqlite:///{tmp_path / 'own.db'}"
    best = browse("front", "digits-cnn", storage=storage).selectbox(key="digits-cnn network").value
    with Repository(storage) as repository:
        repository.add_verified("digits-cnn", {best: {"latency_ms@cpu": 99.0}})
    other = browse("front", "digits-cnn", storage=storage)
    assert other.selectbox(key="digits-cnn network").value != best
    assert any(text.startswith(best[:8]) for text in other.selectbox(key="digits-cnn network").options)


def test_two_networks_are_compared(browse: Open, shown: StudyView) -> None:
    test = browse("front", "digits-cnn")
    other = str(shown.front["_digest"].iloc[1])
    test.selectbox(key="digits-cnn compared").set_value(other).run()
    assert not test.exception
    first = shown.evaluation(str(shown.front["_digest"].iloc[0]))
    second = shown.evaluation(other)
    assert first and second
    assert test.expander[0].label == f"{len(first.arch.diff(second.arch))} values differ"
    assert list(test.table[0].value.columns)[-1] == "change"


@pytest.mark.parametrize("axis", ["params", "macs", "error"])
def test_any_metric_may_be_an_axis_also_logarithmic(browse: Open, axis: str) -> None:
    test = browse("front", "digits-cnn")
    test.selectbox(key="digits-cnn x").set_value(axis).run()
    test.get("button_group")[0].set_value(["x", "y"]).run()
    assert not test.exception


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
    assert facts["Kendall's tau"] == "0.76 (0.52 to 0.94)"
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
    assert [warning.value for warning in test.warning] == list(collapsed.warnings)


def test_positions_of_one_choice_are_shown_on_request(browse: Open) -> None:
    test = browse("gradient", "digits-cnn-wide")
    family = test.selectbox(key="digits-cnn-wide family")
    assert family.options[:2] == ["all choices", "early.op"] and len(family.options) == 10
    family.set_value("late.kernel").run()
    assert not test.exception
    steps = json.loads(test.get("plotly_chart")[1].proto.spec)
    titles = [note["text"] for note in steps["layout"]["annotations"]]
    assert titles == [f"late.kernel.{position}" for position in range(4)]


def test_a_study_without_a_gradient_search_says_how_to_have_one(browse: Open) -> None:
    assert "nas search --gradient drnas" in browse("gradient", "fresh").info[0].value
