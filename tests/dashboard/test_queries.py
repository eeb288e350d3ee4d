import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dashboard import progress, queries
from dashboard.queries import StudyView
from nas.objectives.limits import parse
from nas.records import CurvePoint, Evaluation, StudyRecord, Trust
from nas.results import front as fronts
from nas.storage import Repository
from tests.dashboard.seeding import ConvSpace, as_columns


def study(**changes: Any) -> StudyRecord:
    known: dict[str, Any] = {
        "name": "s",
        "space_digest": "0",
        "supernet_digest": None,
        "objectives": ("error", "params"),
        "limits": (),
        "searcher": "random",
        "seed": 0,
    }
    return StudyRecord(**{**known, **changes})


def found(*rows: dict[str, float] | str) -> list[Evaluation]:
    archs = ConvSpace().sample_many(len(rows), np.random.default_rng(0), distinct=True)
    return [
        Evaluation(arch, {}, row) if isinstance(row, str) else Evaluation(arch, row)
        for arch, row in zip(archs, rows, strict=True)
    ]


def viewed(study: StudyRecord, evaluations: Sequence[Evaluation], **more: Any) -> StudyView:
    known = {one.arch.digest: one.arch for one in evaluations}
    return queries.view(study, as_columns(evaluations), lambda digests: known, **more)


def brute_force_front(table: pd.DataFrame, names: list[str]) -> list[bool]:
    rows = table[names].to_numpy(float)
    feasible = table["_feasible"].to_numpy(bool)
    return [
        bool(feasible[i])
        and not any(feasible[j] and (rows[j] <= rows[i]).all() and (rows[j] < rows[i]).any() for j in range(len(rows)))
        for i in range(len(rows))
    ]


def test_the_front_is_that_of_the_quadratic_definition(shown: StudyView) -> None:
    assert shown.table["_front"].tolist() == brute_force_front(shown.table, ["error", "latency_ms@cpu"])
    assert shown.front["error"].is_monotonic_increasing


def test_a_targets_own_limit_takes_evaluations_out_of_its_front_alone() -> None:
    near, far = {"error": 0.2, "latency_ms@cpu": 9.0, "latency_ms@pi5": 1.0}, {"error": 0.3, "latency_ms@cpu": 4.0}
    targets = {"cpu": ["latency_ms@cpu <= 5"], "pi5": []}
    several = study(objectives=("error", "latency_ms@cpu", "latency_ms@pi5"), settings={"targets": targets})
    view = viewed(several, found(near, far | {"latency_ms@pi5": 2.0}))
    assert view.table["_front@cpu"].tolist() == [False, True]
    assert view.table["_front@pi5"].tolist() == [True, False]
    assert view.table["_front"].tolist() == [True, True]


def test_limits_and_failures_take_evaluations_out_of_the_front() -> None:
    view = viewed(
        study(limits=("params <= 5",)),
        found({"error": 0.1, "params": 9}, {"error": 0.2, "params": 5}, "out of memory", {"error": 0.3, "params": 6}),
    )
    assert view.table["_feasible"].tolist() == [False, True, False, False]
    assert view.table["_front"].tolist() == [False, True, False, False]
    assert view.num_failed == 1
    assert view.table["_reason"].tolist()[2] == "out of memory"
    assert view.table["error"].tolist()[0] == 0.1


def test_a_network_that_breaks_a_limit_as_measured_dominates_nothing() -> None:
    rows = found({"error": 0.1, "params": 4}, {"error": 0.2, "params": 4}, {"error": 0.1, "params": 9}, "diverged")
    digests = [one.arch.digest for one in rows]
    limited = study(limits=("params <= 5",))
    assert viewed(limited, rows).table["_front"].tolist() == [True, False, False, False]
    seen = {digests[0]: {"params": 6.0}, digests[1]: {"params": 5.0, "error": 0.3}, digests[2]: {"params": 6.0}}
    view = viewed(limited, rows, verified=seen)
    assert view.table["_front"].tolist() == [False, True, False, False]
    assert view.table["_feasible"].tolist() == [False, True, False, False]
    assert view.table["_refuted"].tolist() == [True, False, False, False], "the third never promised to keep it"
    assert view.refuted["_digest"].tolist() == digests[:1]
    assert [str(limit) for limit in view.broken_as_measured(digests[0])] == ["params <= 5"]
    assert progress.best_so_far(view.table, "error").tolist()[1:] == [0.2, 0.2, 0.2]


def test_the_front_is_that_of_the_command_line(shown: StudyView, url: str) -> None:
    with Repository(url, read_only=True) as repository:
        rows = fronts.front(repository, shown.study.name)
    assert len(shown.refuted) and len(shown.front)
    assert {row.arch.digest for row in rows if row.broken} == set(shown.refuted["_digest"])
    assert {row.arch.digest for row in rows if not row.broken} == set(shown.front["_digest"])


def test_a_limit_on_what_was_not_measured_is_not_broken() -> None:
    view = viewed(study(limits=("latency_ms@pi5 <= 5",)), found({"error": 0.1, "params": 9}))
    assert view.table["_front"].tolist() == [True]


def test_an_objective_that_one_evaluation_lacks_leaves_that_one_out() -> None:
    view = viewed(study(), found({"error": 0.1}, {"error": 0.2, "params": 3}))
    assert view.table["_front"].tolist() == [False, True]
    assert view.metrics == ("error", "params")


def test_a_study_without_evaluations_is_an_empty_table() -> None:
    view = viewed(study(), [])
    assert not len(view.front)
    assert progress.hypervolume_history(view.table, ("error",)).tolist() == []
    assert progress.best_so_far(view.table, "error").tolist() == []
    assert "no evaluations yet" in str(queries.why_empty(view))


def test_a_study_of_failures_says_why() -> None:
    view = viewed(study(), found("out of memory", "diverged"))
    assert queries.why_empty(view) == "All 2 evaluations of 's' failed; the first with: out of memory"
    assert progress.hypervolume_history(view.table, ("error", "params")).tolist() == [0, 0]


def test_an_evaluation_is_found_by_the_start_of_its_digest(shown: StudyView) -> None:
    (first,) = shown.archs([0])
    found = shown.evaluation(first.digest[:8])
    assert found is not None and found.arch == first
    assert shown.evaluation("") is None
    assert shown.evaluation("zz") is None


def test_hypervolume_grows_and_ends_at_the_whole_front(shown: StudyView) -> None:
    names = list(shown.study.objectives)
    history = progress.hypervolume_history(shown.table, names)
    assert (np.diff(history) >= 0).all()
    assert 0 < history[-1] <= 1
    feasible = shown.table[shown.table["_feasible"]][names].to_numpy(float)
    worst, best = feasible.max(axis=0), feasible.min(axis=0)
    reference = worst + 0.1 * (worst - best)
    draws = np.random.default_rng(0).uniform(best, reference, (4000, 2))
    share = (draws[:, None, :] >= feasible[None]).all(axis=2).any(axis=1).mean()
    assert history[-1] == pytest.approx(share, abs=0.03)


def test_best_so_far_is_of_feasible_values_only() -> None:
    view = viewed(
        study(limits=("params <= 5",)),
        found({"error": 0.1, "params": 9}, {"error": 0.4, "params": 1}, {"error": 0.2, "params": 2}),
    )
    best = progress.best_so_far(view.table, "error")
    assert math.isnan(best[0])
    assert best[1:].tolist() == [0.4, 0.2]


def test_the_list_of_studies_has_the_newest_first() -> None:
    old = viewed(study(name="old", created="2026-01-01T00:00:00+00:00"), found({"error": 0.1, "params": 1}))
    new = viewed(study(name="new", created="2026-02-01T00:00:00+00:00"), [])
    table = progress.studies_table([old, new])
    assert table["study"].tolist() == ["new", "old"]
    assert table["evaluations"].tolist() == [0, 1]
    assert table["front"].tolist() == [0, 1]
    assert not len(progress.studies_table([]))


def test_limits_are_written_as_people_read_them() -> None:
    assert queries.limit_text(parse("latency_ms@cpu <= 9")) == "latency on cpu ≤ 9 ms"
    assert queries.limit_text(parse("params < 2500000")) == "parameters < 2.50M"


def test_rows_of_a_trust_report_without_both_values_are_left_out() -> None:
    rows = (
        {"digest": "a", "inherited": 0.1, "standalone": 0.2, "again": [0.3]},
        {"digest": "b", "inherited": 0.1, "standalone": None, "again": [0.2]},
        {"digest": "c", "inherited": 0.1, "standalone": 0.2, "again": [None]},
    )
    table = queries.trust_table(Trust("", "rough", rows=rows))
    assert table["digest"].tolist() == ["a", "c"] and table["again"].tolist()[0] == 0.3
    assert table["again"].isna().tolist() == [False, True]


def test_a_diverged_point_is_not_on_the_curve() -> None:
    points = [CurvePoint(10, "train", "loss", math.nan), CurvePoint(5, "train", "loss", 2.0)]
    assert queries.curve_table(points)["step"].tolist() == [5]
