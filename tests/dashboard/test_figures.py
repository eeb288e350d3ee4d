import math
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from dashboard import progress, queries, theme
from dashboard.figures import history, training
from dashboard.figures import trust as figures
from dashboard.queries import StudyView
from nas.records import Trust
from tests.dashboard.seeding import curve, trust


def trace(figure: go.Figure, name: str) -> Any:
    return next(one for one in figure.data if one.name == name)


def test_a_line_over_the_evaluations_ends_at_the_last(shown: StudyView) -> None:
    grown = progress.hypervolume_history(shown.table, shown.study.objectives)
    line = history.hypervolume_figure(grown).data[0]
    assert line.x[-1] == len(shown.table) and line.y[-1] == pytest.approx(100 * grown[-1])
    assert len(line.x) < len(shown.table), "what does not change is not sent"
    best = history.best_figure(shown.table, shown.study.objectives)
    assert [axis.title.text for axis in (best.layout.yaxis, best.layout.yaxis2)] == ["error (%)", "latency (ms) on cpu"]


def test_six_objectives_have_panels_of_a_size_to_be_read(shown: StudyView) -> None:
    names = ["error", "latency_ms@cpu", "params", "macs", "inherited_error"]
    rows = history.best_figure(shown.table, names).layout
    assert rows.yaxis5.title.text == "inherited error (%)" and rows.height > 600
    assert rows.yaxis.domain[0] > rows.yaxis5.domain[1], "in a second row"


def test_failures_are_another_colour_on_the_timeline(shown: StudyView) -> None:
    figure = history.timeline_figure(progress.timeline(shown.table, [5.0 + place for place in shown.table.index]))
    assert len(trace(figure, "failed").x) == shown.num_failed
    assert len(trace(figure, "evaluated").x) == len(shown.table) - shown.num_failed
    bars = trace(figure, "evaluated")
    assert set(bars.y) == {"worker-1", "this machine"}


def test_no_bar_of_a_worker_begins_before_the_one_before_it_ends(shown: StudyView) -> None:
    stored = np.cumsum(np.random.default_rng(0).uniform(0.1, 3, len(shown.table))).tolist()
    rows = progress.timeline(shown.table, stored)
    assert len(rows) == len(shown.table)
    for _, own in rows.groupby("worker"):
        starts = own["end"] - pd.to_timedelta(own["seconds"], unit="s")
        waited = starts.iloc[1:].reset_index(drop=True) - own["end"].iloc[:-1].reset_index(drop=True)
        assert (waited >= -pd.Timedelta("1us")).all()
    alone = rows[rows["seconds"] == shown.table["_seconds"].to_numpy()[rows["place"] - 1]]
    assert 0 < len(alone) < len(rows), "some waited, and some were stored sooner than they can have taken here"


def test_evaluations_without_a_time_are_no_bars(shown: StudyView) -> None:
    rows = progress.timeline(shown.table, [None] * (len(shown.table) - 1) + [7.0])
    assert rows["place"].tolist() == [len(shown.table)]
    assert rows["end"].tolist() == [pd.Timestamp(7, unit="s", tz="UTC")]


def test_every_colour_of_a_figure_has_a_partner_on_a_dark_ground(shown: StudyView) -> None:
    grown = history.hypervolume_figure(progress.hypervolume_history(shown.table, shown.study.objectives))
    dark = theme.darkened(grown.to_json())
    assert theme.PAPER in str(grown.to_dict()) and theme.PAPER not in dark
    assert theme.INK not in dark and theme.ACCENT not in dark


def test_curves_of_three_sizes_and_the_loss() -> None:
    curves = queries.curve_table(curve(np.random.default_rng(0), 500))
    figure = training.curves_figure(curves, "error")
    assert [one.name for one in figure.data] == ["smallest", "random", "largest"]
    assert figure.data[0].y[0] == pytest.approx(90, abs=3)
    raw, smooth = training.loss_figure(curves).data
    assert np.std(np.diff(smooth.y)) < np.std(np.diff(raw.y))


def test_ranks_lie_about_one_diagonal_of_equal_axes() -> None:
    rows = queries.trust_table(trust(np.random.default_rng(0)))
    figure = figures.ranks_figure(rows, noise=0.005)
    assert list(trace(figure, "both agree").x) == list(trace(figure, "both agree").y)
    assert figure.layout.xaxis.range == figure.layout.yaxis.range
    assert len(trace(figure, "networks").x) == len(rows) == 12
    assert trace(figure, "networks").error_x.value == pytest.approx(0.5), "in per cent, as the axis"
    again = trace(figure, "trained again")
    assert len(again.x) == 4 and set(again.y) <= set(trace(figure, "networks").y)


def test_ranks_of_one_network_and_of_equal_ones_have_a_range() -> None:
    rows = pd.DataFrame({"digest": ["a"], "inherited": [0.1], "standalone": [0.1], "again": [math.nan]})
    figure = figures.ranks_figure(rows)
    low, high = figure.layout.xaxis.range
    assert low < 10 < high and len(figure.data) == 2


def test_agreement_is_shown_beside_what_it_is_held_against() -> None:
    figure = figures.agreement_figure(trust(np.random.default_rng(0)))
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
    assert not figures.agreement_figure(Trust("Not determined.", "unknown")).data
