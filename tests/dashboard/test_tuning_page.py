"""Trainings that `nas tune` logged: read as they are, drawn with what had been forecast of them."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from dashboard import app, chart, tuning
from dashboard.figures import tuning as figures
from nas.errors import NasError
from nas.fidelity.ledger import Ledger, Trial
from search_spaces import Space, choice

LARGEST = 4


class Widths(Space):
    width = choice(8, 16, 32)


ARCHS = [Widths().architecture({"width": width}) for width in (8, 16, 32)]
TRIALS = [
    Trial(ARCHS[0], 1, LARGEST, {"error": 0.5}),
    Trial(ARCHS[1], 1, LARGEST, {"error": 0.6}),
    Trial(ARCHS[0], 2, LARGEST, {"error": 0.4}, forecast=(0.38, 0.05)),
    Trial(ARCHS[2], 1, LARGEST, {}, "diverged: loss is nan", forecast=(0.45, 0.1)),
    Trial(ARCHS[0], 3, LARGEST, {"error": 0.1}, forecast=(0.35, 0.05)),
    Trial(ARCHS[0], 4, LARGEST, {"error": 0.2}, forecast=(0.2, 0.05)),
]


def write(runs: Path, trials: list[Trial], run: str = "digits", method: str = "forecast") -> Path:
    path = runs / run / "tune" / f"{method}.jsonl"
    ledger = Ledger(path, {"objective": "error", "largest": LARGEST})
    for trial in trials:
        ledger.add(trial)
    return path


@pytest.fixture
def browse(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    def open_page() -> AppTest:
        monkeypatch.setenv("NAS_STORAGE", url)
        monkeypatch.setenv("NAS_RUNS", str(tmp_path))
        monkeypatch.setattr("sys.argv", ["app.py"])
        test = AppTest.from_file(str(app.__file__), default_timeout=30)
        test.switch_page("views/tuning.py")
        return test.run()

    return open_page


def test_curves_say_where_each_training_ended_and_how(tmp_path: Path) -> None:
    shown = tuning.read(write(tmp_path, TRIALS))
    curves = tuning.curves_table(shown)
    fates = dict(zip(curves["training"], curves["fate"], strict=True))
    assert [fates[arch.digest] for arch in ARCHS] == [tuning.ENDED, tuning.STOPPED, tuning.FAILED]
    own = curves[curves["training"] == ARCHS[0].digest]
    assert own["value"].tolist() == [0.5, 0.4, 0.1, 0.2] and own["last"].tolist() == [False] * 3 + [True]
    assert tuning.best(curves) == ARCHS[0].digest
    assert tuning.best(curves[curves["fate"] == tuning.FAILED]) is None


def test_forecasts_stand_beside_outcomes_and_values_before(tmp_path: Path) -> None:
    shown = tuning.read(write(tmp_path, TRIALS))
    rows = tuning.forecasts_table(shown)
    assert rows["outcome"].tolist() == [0.4, 0.1, 0.2], (
        "the first epochs were not forecast, and what failed has no outcome"
    )
    assert rows["before"].tolist() == [0.5, 0.4, 0.1]
    assert rows["inside"].tolist() == [True, False, True]
    assert rows["high"][0] - rows["expected"][0] == pytest.approx(1.645 * 0.05)
    told = tuning.facts(shown, tuning.curves_table(shown), rows)
    assert told["outcomes within their interval"] == pytest.approx(2 / 3)
    assert told["mean miss, later epochs"] == pytest.approx((0.02 + 0.25 + 0) / 3)
    assert told["of the value before, later epochs"] == pytest.approx((0.1 + 0.3 + 0.1) / 3)
    assert "mean miss, first epochs" not in told


def test_the_interval_holds_its_share_of_a_normal_distribution() -> None:
    draws = np.random.default_rng(0).normal(size=200_000)
    assert np.mean(np.abs(draws) < tuning._REACH) == pytest.approx(tuning.COVERAGE, abs=0.003)


def test_each_training_is_a_line_of_its_own_and_ends_in_a_mark() -> None:
    table = pd.DataFrame(
        [("a", 1, 0.5, False), ("a", 2, 0.4, True), ("b", 1, 0.6, True), ("c", 1, 0.3, True)],
        columns=["training", "budget", "value", "last"],
    ).assign(fate=tuning.STOPPED)
    figure = figures.curves_figure(table, "error", "epochs", "c")
    lines, ends, best, best_end = figure.data
    assert [None if math.isnan(one) else one for one in lines.y] == [50, 40, None, 60, None], "no line from a to b"
    assert (list(ends.x), list(ends.y)) == ([2, 1], [40, 60])
    assert best_end.name == "best" and list(best_end.y) == [30] and list(best.text) == ["c", "c"]
    assert figure.layout.xaxis.title.text == "epochs" and figure.layout.yaxis.title.text == "error (%)"


def test_forecasts_outside_their_interval_look_different(tmp_path: Path) -> None:
    rows = tuning.forecasts_table(tuning.read(write(tmp_path, TRIALS)))
    line, inside, outside = figures.forecasts_figure(rows, "error").data
    assert list(inside.x) == [40, 20] and list(outside.x) == [10]
    assert inside.marker.symbol != outside.marker.symbol and inside.error_y.array[0] == pytest.approx(8.225)
    assert line.x[0] < 10 and line.x[1] > 40 + 1.645 * 5 - 2 and list(line.x) == list(line.y)
    many = pd.concat([rows] * 100, ignore_index=True)
    assert not figures.forecasts_figure(many, "error").data[1].error_y.array, "bars would hide the points"


def test_the_page_shows_both_figures_and_the_failures(browse: Any, tmp_path: Path) -> None:
    path = write(tmp_path, TRIALS)
    before = path.read_bytes()
    test = browse()
    assert not test.exception and not test.error
    assert [one.value for one in test.subheader] == ["Curves, and where each was stopped", "Forecast against outcome"]
    charts = [json.loads(c.proto.bytes) for c in test.get("bidi_component") if c.proto.component_name == chart.NAME]
    assert len([one for one in charts if "figure" in one]) == 2
    assert "error 20 % at 4 of 4 epochs" in test.caption[0].value
    facts = test.table[0].value["value"]
    assert facts["trainings"] == "3" and facts["failed"] == "1" and facts["outcomes within their interval"] == "67%"
    assert test.expander[0].label == "1 failed" and "diverged" in test.expander[0].markdown[0].value
    assert path.read_bytes() == before


def test_hyperband_has_curves_and_no_forecasts(browse: Any, tmp_path: Path) -> None:
    write(tmp_path, TRIALS[:2], method="hyperband")
    test = browse()
    assert not test.exception
    assert "Hyperband forecasts nothing" in test.info[0].value


def test_a_log_that_cannot_be_read_harms_no_other(browse: Any, tmp_path: Path) -> None:
    write(tmp_path, TRIALS, run="a").write_text('{"format": 1}\nnonsense\n')
    write(tmp_path, TRIALS, run="b")
    test = browse()
    assert not test.exception and "is damaged" in test.error[0].value
    test.selectbox(key="log").set_value("b  ·  forecast").run()
    assert not test.exception and not test.error and len(test.table) == 1


def test_what_has_only_begun_and_what_is_not_there_are_said(browse: Any, tmp_path: Path) -> None:
    assert "nas tune RUN_FILE --method forecast" in browse().markdown[0].value
    write(tmp_path, [])
    assert "No training has ended yet" in browse().info[0].value


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    elsewhere = write(tmp_path / "elsewhere", TRIALS)
    write(tmp_path / "runs", TRIALS, run="own")
    (tmp_path / "runs" / "stolen" / "tune").mkdir(parents=True)
    (tmp_path / "runs" / "stolen" / "tune" / "forecast.jsonl").symlink_to(elsewhere)
    assert list(tuning.found(tmp_path / "runs")) == ["own  ·  forecast"]
    with pytest.raises(NasError, match="is empty"):
        (tmp_path / "none.jsonl").touch()
        tuning.read(tmp_path / "none.jsonl")
