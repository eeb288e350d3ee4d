"""Fronts as pictures and as planes: which points there are, which are marked, and what a moved limit does."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from dashboard import planes, queries
from dashboard.figures.axes import log_ticks
from dashboard.figures.front import MOST_BARS, front_figure, fronts_figure
from dashboard.planes import Plane, plane
from dashboard.queries import StudyView
from dashboard.views import networks
from nas.objectives.limits import parse
from tests.dashboard.test_queries import found, study, viewed

AXES = ("latency_ms@cpu", "error")


def trace(figure: go.Figure, name: str) -> Any:
    return next(one for one in figure.data if one.name == name)


def drawn(figure: go.Figure) -> list[int]:
    return [int(place) for one in figure.data if one.customdata is not None for place in one.customdata]


def many(count: int, seed: int = 0) -> Plane:
    """Random points, all of which keep all limits."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.1, 1.0, (count, 3))
    table = pd.DataFrame(values, columns=["error", "params", "macs"]).assign(_feasible=True, _refuted=False)
    front = queries.non_dominated(table, ("error", "params"))
    return Plane(table.assign(_front=front), ("params", "error"), ("error", "params"), ())


def test_every_evaluation_that_worked_is_on_the_chart_once(shown: StudyView) -> None:
    figure = front_figure(plane(shown, AXES))
    measured = trace(figure, "measured")
    assert sorted(set(drawn(figure))) == np.flatnonzero(~shown.table["_failed"]).tolist()
    assert len(drawn(figure)) - len(measured.x) == (~shown.table["_failed"]).sum()
    assert sorted(trace(figure, "front").customdata) == sorted(shown.front.index)


def test_what_breaks_a_limit_as_measured_has_a_mark_of_its_own(shown: StudyView) -> None:
    figure = front_figure(plane(shown, AXES))
    marked = set(trace(figure, "breaks a limit as measured").customdata)
    assert marked == set(shown.refuted.index) and marked
    assert not marked & set(trace(figure, "breaks a limit").customdata)


def test_measured_values_stand_apart_from_predicted_ones(shown: StudyView) -> None:
    figure = front_figure(plane(shown, AXES))
    measured = trace(figure, "measured")
    assert set(measured.customdata) == set(shown.front.index)
    place = int(measured.customdata[0])
    own = shown.verified[str(shown.table["_digest"].iloc[place])]
    assert measured.x[0] == pytest.approx(own["latency_ms@cpu"])
    assert measured.y[0] == pytest.approx(100 * own["error"])
    assert measured.x[0] != pytest.approx(shown.table["latency_ms@cpu"].iloc[place])


def test_bars_reach_from_where_to_where_measured_values_lay(shown: StudyView) -> None:
    marks = trace(front_figure(plane(shown, AXES), shares={"latency_ms@cpu": (0.9, 1.2)}), "front")
    assert marks.error_x.array == pytest.approx(marks.x * 0.2)
    assert marks.error_x.arrayminus == pytest.approx(marks.x * 0.1)
    spread = shown.table["spread error"].loc[list(marks.customdata)]
    assert marks.error_y.array == pytest.approx(100 * spread.to_numpy(float))


def test_a_large_front_has_no_bars() -> None:
    angles = np.linspace(0, math.pi / 2, MOST_BARS + 2)
    table = pd.DataFrame({"error": 2 - np.cos(angles), "params": 2 - np.sin(angles)})
    table = table.assign(_feasible=True, _refuted=False, _front=True)
    few = Plane(table.head(5), ("params", "error"), ("error", "params"), ())
    all_of_them = Plane(table, ("params", "error"), ("error", "params"), ())
    assert trace(front_figure(few, shares={"params": (0.9, 1.1)}), "front").error_x.array is not None
    assert trace(front_figure(all_of_them, shares={"params": (0.9, 1.1)}), "front").error_x.array is None


def test_errors_are_shown_as_per_cent_and_axes_carry_units(shown: StudyView) -> None:
    figure = front_figure(plane(shown, ("params", "error")))
    assert figure.layout.yaxis.title.text == "error (%)"
    assert figure.layout.xaxis.title.text == "parameters"
    assert figure.layout.xaxis.tickformat == "~s"
    values = [y for one in figure.data if one.name in ("front", "evaluated", "breaks a limit") for y in one.y]
    assert max(values) == pytest.approx(100 * shown.table["error"].max())


def test_a_third_metric_is_the_colour(shown: StudyView) -> None:
    figure = front_figure(plane(shown, (*AXES, "params")))
    marks = trace(figure, "front")
    assert marks.marker.color == pytest.approx(shown.table["params"].loc[list(marks.customdata)].to_numpy(float))
    assert marks.marker.colorbar.title.text == "parameters"


def test_the_step_line_never_rises(shown: StudyView) -> None:
    line = trace(front_figure(plane(shown, AXES)), "best in these two")
    assert (np.diff(line.x) >= 0).all()
    assert (np.diff(line.y) <= 0).all()
    assert line.line.shape == "hv"
    assert not line.showlegend


def test_limits_on_the_shown_axes_are_lines_in_shown_units(shown: StudyView) -> None:
    limits = (parse("error <= 0.1"), parse("latency_ms@cpu <= 9"), parse("macs <= 5"))
    base = plane(shown, AXES)
    figure = front_figure(Plane(base.table, AXES, base.objectives, limits), logs=("latency_ms@cpu",))
    vertical, horizontal = sorted(figure.layout.shapes, key=lambda shape: shape.x0, reverse=True)
    assert (vertical.x0, vertical.x1) == (9, 9)
    assert horizontal.y0 == pytest.approx(10)
    places = {note.text: note.x for note in figure.layout.annotations}
    assert places["latency on cpu ≤ 9 ms"] == pytest.approx(math.log10(9))


def test_the_chosen_and_the_compared_network_have_rings(shown: StudyView) -> None:
    first, second = (int(place) for place in shown.front.index[:2])
    figure = front_figure(plane(shown, ("params", "error")), chosen=first, compared=second)
    for name, place in (("chosen", first), ("compared", second)):
        assert list(trace(figure, name).x) == [shown.table["params"].iloc[place]]


def test_many_points_are_few_on_the_wire_and_the_front_is_whole() -> None:
    shown = many(60_000)
    figure = front_figure(shown)
    evaluated = trace(figure, "evaluated")
    assert evaluated.type == "scatter", "the first use of WebGL takes a browser a second"
    assert planes.MOST_POINTS / 4 < len(evaluated.x) <= planes.MOST_POINTS
    assert set(trace(figure, "front").customdata) == set(shown.front.index)
    assert len(figure.to_json()) < 200_000


def test_what_is_left_out_lies_beside_what_is_shown() -> None:
    rows = many(60_000).table
    kept = planes.thinned(rows, ("params", "error"))
    apart = np.abs(rows[["params", "error"]].to_numpy(float)[:500, None] - kept[["params", "error"]].to_numpy(float))
    assert apart.max(axis=2).min(axis=1).max() < 0.06, "of a range of 0.9"
    assert planes.thinned(rows.head(10), ("params", "error")) is not kept
    assert len(planes.thinned(rows.head(10), ("params", "error"))) == 10


def test_a_logarithmic_axis_leaves_out_what_it_cannot_show() -> None:
    table = pd.DataFrame({"_feasible": True, "_refuted": False, "_front": [True, False], "error": [0.0, 0.2]})
    shown = Plane(table.assign(params=[5.0, 7.0]), ("params", "error"), ("error", "params"), ())
    assert drawn(front_figure(shown, logs=("error",))) == [1]
    assert sorted(drawn(front_figure(shown))) == [0, 1]


# --- planes


def test_a_moved_limit_makes_another_front_and_another_best(shown: StudyView) -> None:
    whole, tight = plane(shown, AXES), plane(shown, AXES, moved={"latency_ms@cpu": 4.0})
    assert (tight.front["latency_ms@cpu"] <= 4.0).all() and len(tight.front)
    best, other = whole.best(), tight.best()
    assert best is not None and other is not None and best != other
    kept = shown.table[shown.table["_feasible"] & (shown.table["latency_ms@cpu"] <= 4.0)]
    measured = kept[queries.measured("latency_ms@cpu")]
    assert other == kept[~(measured > 4.0)]["error"].idxmin(), "what was measured over the limit does not keep it"
    assert [str(limit) for limit in tight.limits] == ["params <= 2500000", "latency_ms@cpu <= 4"]


def test_a_limit_where_there_was_none_is_added() -> None:
    moved = planes.moved_limits((parse("params <= 5"), parse("error >= 0.1")), {"params": 3.0, "error": 0.4})
    assert [str(limit) for limit in moved] == ["params <= 3", "error >= 0.1", "error <= 0.4"]


def test_limits_nothing_keeps_leave_no_network_and_name_the_nearest() -> None:
    view = viewed(study(limits=("params <= 1",)), found({"error": 0.1, "params": 9}, {"error": 0.2, "params": 3}))
    none = plane(view, ("params", "error"))
    assert none.best() is None and not len(none.front)
    near = networks.nearest(view, none)
    assert near is not None and near[0].metrics["params"] == 3 and "parameters 3" in near[1]


def test_a_front_after_some_evaluations_knows_nothing_of_later_ones(shown: StudyView) -> None:
    early = plane(shown, AXES, upto=40)
    assert len(early.table) == 40
    inherited = replace(shown, corrected=None)
    evaluations = [inherited.at(place) for place in range(len(shown.table))]
    first = viewed(shown.study, evaluations[:40], verified=shown.verified)
    raw = viewed(shown.study, evaluations, verified=shown.verified)
    assert set(plane(raw, AXES, upto=40).front["_digest"]) == set(first.front["_digest"])


def test_the_front_of_six_objectives_is_crowded_and_that_of_two_is_not() -> None:
    rng = np.random.default_rng(0)
    names = ("error", "params", "macs", "a", "b", "c")
    rows = [dict(zip(names, map(float, rng.uniform(0, 1, 6)), strict=True)) for _ in range(150)]
    view = viewed(study(objectives=names), found(*rows))
    assert view.table["_front"].mean() > 0.5
    assert planes.is_crowded(view)
    two = plane(view, ("params", "error"), whole=False)
    assert two.table["_front"].mean() < 0.1
    assert two.objectives == ("error", "params"), "in the order in which the study wants them"


def test_each_target_has_a_front_of_its_own() -> None:
    settings = {"targets": {"cpu": ["latency_ms@cpu <= 5"], "pi5": []}}
    rows = [
        {"error": 0.3, "latency_ms@cpu": 1.0, "latency_ms@pi5": 9.0},
        {"error": 0.3, "latency_ms@cpu": 2.0, "latency_ms@pi5": 2.0},
        {"error": 0.1, "latency_ms@cpu": 6.0, "latency_ms@pi5": 9.0},
    ]
    objectives = ("error", "latency_ms@cpu", "latency_ms@pi5")
    view = viewed(study(objectives=objectives, settings=settings), found(*rows))
    assert view.targets == ("cpu", "pi5")
    assert plane(view, ("latency_ms@cpu", "error"), target="cpu").front.index.tolist() == [0]
    assert sorted(plane(view, ("latency_ms@pi5", "error"), target="pi5").front.index) == [1, 2]
    assert view.table["_front"].tolist() == [True, True, True]
    fronts = {name: view.table[view.table[f"_front@{name}"]] for name in view.targets}
    figure = fronts_figure(fronts, {name: f"latency_ms@{name}" for name in fronts}, "error", "latency (ms)")
    assert [one.name for one in figure.data] == ["cpu", "pi5"]
    assert list(figure.data[1].x) == [2.0, 9.0]


def test_changes_are_points_of_what_is_in_per_cent_and_shares_of_the_rest() -> None:
    assert networks.change("error", 0.05, 0.04) == "−1.00 points"
    assert networks.change("error", -0.01, 0.01) == "+2.00 points", "a corrected metric may be below 0"
    assert networks.change("latency_ms@cpu", 2.0, 3.0) == "+50.0 %"
    assert networks.change("params", 0.0, 3.0) == networks.change("params", math.nan, 3.0) == "–"


def test_wide_bars_do_not_press_the_points_together() -> None:
    table = pd.DataFrame({"error": [0.1, 0.2], "params": [2.0, 1.0], "spread error": [5.0, 5.0]})
    shown = Plane(table.assign(_feasible=True, _refuted=False, _front=True), ("params", "error"), ("error",), ())
    clip = front_figure(shown).layout.yaxis.autorangeoptions
    assert 5 < clip.clipmin < 10 and 20 < clip.clipmax < 25


def test_the_table_to_download_has_all_values_of_the_front(shown: StudyView) -> None:
    import io

    read = pd.read_csv(io.StringIO(networks.as_csv(shown, shown.front)))
    assert read["digest"].tolist() == shown.front["_digest"].tolist()
    assert read["error"].tolist() == pytest.approx(shown.front["error"].tolist())
    assert {"measured_error", "measured_latency_ms@cpu", "error_std", "architecture"} <= set(read)


def test_ticks_of_a_logarithmic_axis_are_whole_numbers() -> None:
    found = log_ticks(pd.Series([0.16, 6.8]), True)
    assert found["ticktext"][found["tickvals"].index(0.5)] == "0.5" and {0.2, 1.0, 2.0, 5.0} <= set(found["tickvals"])
    assert log_ticks(pd.Series([1000.0, 90000.0]), True)["ticktext"][3:6] == ["1,000", "2,000", "5,000"]
    assert log_ticks(pd.Series([0.16, 6.8]), False) == log_ticks(pd.Series([1.0, 2.0]), True) == {}
