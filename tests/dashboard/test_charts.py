import math
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from dashboard import charts, queries
from dashboard.queries import StudyView
from nas.limits import parse
from nas.records import Trust
from tests.dashboard.seeding import curve, trust


def trace(figure: go.Figure, name: str) -> Any:
    return next(one for one in figure.data if one.name == name)


def test_every_evaluation_that_worked_is_on_the_front_chart_once(shown: StudyView) -> None:
    figure = charts.front_figure(shown.table, "latency_ms@cpu", "error", shown.study.objectives, shown.limits)
    digests = [data[0] for one in figure.data if one.customdata is not None for data in one.customdata]
    assert sorted(digests) == sorted(shown.table["_digest"][~shown.table["_failed"]])
    front = [data[0] for data in trace(figure, "front").customdata]
    assert sorted(front) == sorted(shown.front["_digest"])


def test_what_breaks_a_limit_as_measured_has_a_mark_of_its_own(shown: StudyView) -> None:
    figure = charts.front_figure(shown.table, "latency_ms@cpu", "error", shown.study.objectives, shown.limits)
    marked = {data[0] for data in trace(figure, "breaks a limit as measured").customdata}
    assert marked == set(shown.refuted["_digest"]) and marked
    assert not marked & {data[0] for data in trace(figure, "breaks a limit").customdata}


def test_errors_are_shown_as_per_cent_and_axes_carry_units(shown: StudyView) -> None:
    figure = charts.front_figure(shown.table, "params", "error", shown.study.objectives)
    assert figure.layout.yaxis.title.text == "error (%)"
    assert figure.layout.xaxis.title.text == "parameters"
    assert figure.layout.xaxis.tickformat == "~s"
    values = [y for one in figure.data if one.customdata is not None for y in one.y]
    assert max(values) == pytest.approx(100 * shown.table["error"].max())


def test_the_step_line_never_rises(shown: StudyView) -> None:
    figure = charts.front_figure(shown.table, "latency_ms@cpu", "error", ("error", "latency_ms@cpu"))
    line = trace(figure, "best in these two")
    assert (np.diff(line.x) >= 0).all()
    assert (np.diff(line.y) <= 0).all()
    assert line.line.shape == "hv"
    assert not line.showlegend


def test_limits_on_the_shown_axes_are_lines_in_shown_units(shown: StudyView) -> None:
    limits = (parse("error <= 0.1"), parse("latency_ms@cpu <= 9"), parse("macs <= 5"))
    figure = charts.front_figure(shown.table, "latency_ms@cpu", "error", (), limits, log_x=True)
    vertical, horizontal = sorted(figure.layout.shapes, key=lambda shape: shape.x0, reverse=True)
    assert (vertical.x0, vertical.x1) == (9, 9)
    assert horizontal.y0 == pytest.approx(10)
    places = {note.text: note.x for note in figure.layout.annotations}
    assert places["latency on cpu ≤ 9 ms"] == pytest.approx(math.log10(9))


def test_listed_architectures_are_marked_as_chosen(shown: StudyView) -> None:
    digest = str(shown.front["_digest"].iloc[2])
    figure = charts.front_figure(shown.table, "params", "error", listed=(digest,))
    chosen = [
        one.customdata[place][0] for one in figure.data if one.customdata is not None for place in one.selectedpoints
    ]
    assert chosen == [digest]


def test_many_points_are_drawn_by_the_graphics_card(shown: StudyView) -> None:
    few = charts.front_figure(shown.table, "params", "error")
    copies = math.ceil(charts.WEBGL_ABOVE / len(shown.table)) + 1
    many = charts.front_figure(pd.concat([shown.table] * copies, ignore_index=True), "params", "error")
    assert trace(few, "evaluated").type == "scatter"
    assert trace(many, "evaluated").type == "scattergl"


def test_a_logarithmic_axis_leaves_out_what_it_cannot_show() -> None:
    table = pd.DataFrame(
        {
            "_digest": ["a" * 16, "b" * 16],
            "_feasible": True,
            "_refuted": False,
            "_front": [True, False],
            "error": [0.0, 0.2],
            "params": [5.0, 7.0],
        }
    )
    figure = charts.front_figure(table, "params", "error", log_y=True)
    assert [data[0] for one in figure.data if one.customdata is not None for data in one.customdata] == ["b" * 16]


def test_history_has_a_point_an_evaluation(shown: StudyView) -> None:
    history = queries.hypervolume_history(shown.table, shown.study.objectives)
    figure = charts.hypervolume_figure(history)
    assert len(figure.data[0].x) == len(shown.evaluations)
    best = charts.best_figure(shown.table, shown.study.objectives)
    assert [axis.title.text for axis in (best.layout.yaxis, best.layout.yaxis2)] == ["error (%)", "latency (ms) on cpu"]


def test_curves_of_three_sizes_and_the_loss() -> None:
    curves = queries.curve_table(curve(np.random.default_rng(0), 500))
    figure = charts.curves_figure(curves, "error")
    assert [one.name for one in figure.data] == ["smallest", "random", "largest"]
    assert figure.data[0].y[0] == pytest.approx(90, abs=3)
    raw, smooth = charts.loss_figure(curves).data
    assert np.std(np.diff(smooth.y)) < np.std(np.diff(raw.y))


def test_ranks_lie_about_one_diagonal_of_equal_axes() -> None:
    rows = queries.trust_table(trust(np.random.default_rng(0)))
    figure = charts.ranks_figure(rows, noise=0.005)
    assert list(trace(figure, "both agree").x) == list(trace(figure, "both agree").y)
    assert figure.layout.xaxis.range == figure.layout.yaxis.range
    assert len(trace(figure, "networks").x) == len(rows) == 12
    assert trace(figure, "networks").error_x.value == pytest.approx(0.5), "in per cent, as the axis"
    again = trace(figure, "trained again")
    assert len(again.x) == 4 and set(again.y) <= set(trace(figure, "networks").y)


def test_ranks_of_one_network_and_of_equal_ones_have_a_range() -> None:
    rows = pd.DataFrame({"digest": ["a"], "inherited": [0.1], "standalone": [0.1], "again": [math.nan]})
    figure = charts.ranks_figure(rows)
    low, high = figure.layout.xaxis.range
    assert low < 10 < high and len(figure.data) == 2


def test_agreement_is_shown_beside_what_it_is_held_against() -> None:
    figure = charts.agreement_figure(trust(np.random.default_rng(0)))
    points = {one.y[0]: one.x[0] for one in figure.data if one.mode == "markers"}
    assert points == {
        "inherited metrics, τ": 0.76,
        "inherited metrics, ρ": 0.88,
        "a second training alone, τ": 0.85,
        "parameters alone, τ": 0.55,
        "MACs alone, τ": 0.55,
    }
    intervals = {one.y[0]: tuple(one.x) for one in figure.data if one.mode == "lines"}
    assert intervals["inherited metrics, τ"] == (0.52, 0.94) and len(intervals) == 3


def test_what_is_not_determined_has_an_axis_but_no_point() -> None:
    assert not charts.agreement_figure(Trust("Not determined.", "unknown")).data
