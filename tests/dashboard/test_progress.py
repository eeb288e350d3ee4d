"""What is told of how searches go."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from dashboard import progress
from dashboard.progress import Unreadable
from dashboard.queries import StudyView
from tests.dashboard.test_queries import found, study, viewed

BEGUN = "2026-03-01T10:00:00+00:00"
NOW = datetime(2026, 3, 1, 10, 1, 40, tzinfo=UTC)


def running(**more: Any) -> StudyView:
    rows = [{"error": 0.5 - i / 100, "params": 1.0 + i} for i in range(10)]
    return viewed(study(status="running", created=BEGUN, **more), found(*rows))


def test_progress_and_time_left_are_known_where_the_study_says_what_was_asked() -> None:
    shown = running(wanted=40)
    shown.table["_seconds"] = 8.0
    assert progress.share_done(shown) == 0.25
    assert progress.seconds_left(shown, NOW) == pytest.approx(30 * 100 / 10), "100 s for ten"
    assert progress.share_done(running()) is None and progress.seconds_left(running(), NOW) is None


def test_a_night_between_two_runs_is_no_work() -> None:
    shown = running(wanted=20)
    shown.table["_seconds"] = 1.0
    assert progress.seconds_left(shown, NOW.replace(day=2)) == pytest.approx(20), "at most twice the time worked"


@pytest.mark.parametrize(("seconds", "said"), [(40, "40 s"), (200, "3 min"), (9000, "2.5 h")])
def test_durations_have_the_unit_that_people_use(seconds: float, said: str) -> None:
    assert progress.duration(seconds) == said


def test_a_sparkline_is_the_history_at_a_few_moments(shown: StudyView) -> None:
    history = progress.hypervolume_history(shown.table, shown.study.objectives)
    line = progress.sparkline(shown)
    assert len(line) <= 24 and line[-1] == pytest.approx(100 * history[-1], abs=0.01)
    assert line == sorted(line)


def test_many_objectives_have_no_sparkline() -> None:
    names = ("a", "b", "c", "d", "e")
    assert progress.sparkline(viewed(study(objectives=names), found(dict.fromkeys(names, 1.0)))) == []


def test_histories_of_several_studies_have_one_box() -> None:
    good = viewed(study(name="good"), found({"error": 0.1, "params": 1.0}, {"error": 0.05, "params": 2.0}))
    poor = viewed(study(name="poor"), found({"error": 0.9, "params": 9.0}))
    both = progress.shared_histories([good, poor], ("error", "params"))
    assert both["good"].shape == (2,) and both["poor"].shape == (1,)
    assert both["good"][-1] > 0.9 > both["poor"][-1] > 0
    alone = progress.hypervolume_history(good.table, ("error", "params"))
    assert both["good"][-1] != pytest.approx(alone[-1])


def test_chunks_make_no_difference_to_a_history(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows = [dict(zip(("error", "params"), map(float, rng.uniform(0, 1, 2)), strict=True)) for _ in range(300)]
    view = viewed(study(), found(*rows))
    whole = progress.hypervolume_history(view.table, ("error", "params"))
    monkeypatch.setattr(progress, "_AT_ONCE", 7)
    assert progress.hypervolume_history(view.table, ("error", "params")) == pytest.approx(whole)


def test_failures_are_counted_by_reason_the_most_frequent_first() -> None:
    view = viewed(study(), found("diverged", {"error": 0.1, "params": 1}, "out of memory", "out of memory"))
    table = progress.failures(view.table)
    assert table["reason"].tolist() == ["out of memory", "diverged"]
    assert table["count"].tolist() == [2, 1] and table["last"].tolist() == [4, 1]


def test_a_study_that_cannot_be_read_is_a_row_like_others() -> None:
    broken = Unreadable("odd", "running", BEGUN, "'x' is no limit", 7)
    table = progress.studies_table([broken, running()])
    assert set(table["study"]) == {"odd", "s"}
    row = table[table["study"] == "odd"].iloc[0]
    assert "is no limit" in row["status"] and row["evaluations"] == 7
