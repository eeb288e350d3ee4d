"""Fronts by what labels make of inherited metrics, from the database alone."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nas.commands import session
from nas.records import Evaluation, SpaceRecord, StudyRecord, SupernetRecord, Trust
from nas.results import front as fronts
from nas.results.corrected import corrected, judged, of_study
from nas.storage import Repository
from search_spaces import Architecture, Space, choice

WEIGHTS = "a" * 16


class Toy(Space):
    width = choice(8, 16, 32, 64)
    depth = choice(1, 2, 3)
    form = choice("a", "b")


ARCHS = list(Toy().enumerate())


def inherited(arch: Architecture) -> float:
    return float(0.9 - 0.08 * np.log2(arch.width) - 0.03 * arch.depth)


def alone(arch: Architecture) -> float:
    """Shared weights hide that form b is better."""
    return inherited(arch) - 0.1 - 0.05 * (arch.form == "b")


def params(arch: Architecture) -> float:
    return float(arch.width * arch.depth + (arch.form == "b"))


def row(arch: Architecture, *, standalone: float | None = None, again: Sequence[float | None] = ()) -> dict[str, Any]:
    return {
        "digest": arch.digest,
        "architecture": arch.json(),
        "inherited": inherited(arch),
        "standalone": standalone,
        "again": list(again),
        "params": params(arch),
        "macs": 2 * params(arch),
        "seconds": 1.0,
    }


TRUST = Trust("", "rough", rows=tuple(row(arch, standalone=alone(arch)) for arch in ARCHS[::2] + ARCHS[1::6]), steps=50)
EVALUATIONS = [Evaluation(arch, {"error": inherited(arch), "params": params(arch)}) for arch in ARCHS]


def repository(trust: Trust | None, limits: tuple[str, ...] = ()) -> Repository:
    found, space = Repository("sqlite://"), Toy()
    found.add_space(SpaceRecord(space.digest, space.name, space.declaration()))
    found.add_supernet(SupernetRecord(WEIGHTS, space.digest, "toy", "entangled", "nowhere", "d" * 16, 10))
    found.create_study(StudyRecord("toy", space.digest, WEIGHTS, ("error", "params"), limits, "random", 0))
    found.append_evaluations("toy", [*EVALUATIONS, Evaluation(Architecture("Toy", {}), {}, "failed")], WEIGHTS, "d")
    if trust is not None:
        found.put_trust(WEIGHTS, trust)
    return found


def test_the_front_is_that_of_corrected_metrics() -> None:
    with repository(None) as before, repository(TRUST) as after:
        raw, rows = fronts.front(before, "toy"), fronts.front(after, "toy")
        stored = after.evaluations("toy")
    assert {found.arch.form for found in raw} == {"a"}, "the same inherited error for fewer parameters"
    large = [found for found in rows if found.arch.width == 64]
    assert {found.arch.form for found in large} == {"a", "b"}
    assert all(found.metrics["error"] == inherited(found.arch) for found in rows)
    assert all(found.corrected["error"].value == pytest.approx(alone(found.arch), abs=0.01) for found in rows)
    assert [found.judged()["error"] for found in rows] == sorted(found.judged()["error"] for found in rows)
    assert stored[0].metrics == EVALUATIONS[0].metrics, "what is stored stays as it was evaluated"


def test_a_front_with_its_report_reads_the_study_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with repository(TRUST) as found:
        reads, read = [], found.evaluations
        monkeypatch.setattr(found, "evaluations", lambda name: reads.append(name) or read(name))
        session.show_front(found, "toy")
    assert reads == ["toy"]


def test_the_best_and_the_limits_are_judged_as_corrected() -> None:
    bound = alone(Toy().largest()) + 0.01
    assert all(one.metrics["error"] > bound for one in EVALUATIONS)
    with repository(TRUST, (f"error <= {bound}",)) as found:
        best = fronts.best(found, "toy")
    assert best.arch.form == "b" and best.arch.width == 64


def test_rows_write_both_values_and_the_spread() -> None:
    with repository(TRUST) as found:
        best = fronts.best(found, "toy")
        (chosen,) = [fronts.row(found, "toy", best.arch.digest)]
        lives = fronts.lived(found, "toy", [best])
    estimate = best.corrected["error"]
    assert chosen == best
    assert best.values()["error"] == inherited(best.arch)
    assert best.values()["corrected_error"] == estimate.value
    assert best.values()["corrected_error_std"] == estimate.std > 0
    (told,) = json.loads(fronts.as_json([best], lives))
    assert told["corrected"] == {"error": {"value": estimate.value, "std": estimate.std}}
    assert "corrected_error,corrected_error_std" in fronts.as_csv([best], lives)


def test_equal_records_give_equal_corrections() -> None:
    with repository(TRUST) as one, repository(TRUST) as other:
        assert fronts.front(one, "toy") == fronts.front(other, "toy")


def test_what_it_rests_on_is_said_in_a_sentence() -> None:
    found = corrected(TRUST, EVALUATIONS)
    assert found is not None
    assert found.sentence.startswith(
        "corrected error: what a network is expected to reach when trained alone for 50 steps, from 16 that were "
    )
    assert found.sentence.endswith(
        "(leave-one-out error 0.0311 %, of inherited metrics 11.2 %; tau 1.00, of inherited 0.92)"
    )


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (TRUST.rows[:3], "error not corrected: 3 networks trained alone are too few"),
        (tuple({**one, "standalone": None, "again": [None]} for one in TRUST.rows), "(16 of 16 have no finite metric)"),
        (tuple({**one, "standalone": 0.5} for one in TRUST.rows), "all stand-alone metrics are equal"),
    ],
)
def test_labels_that_tell_nothing_leave_the_front_as_it_was(rows: tuple[dict[str, Any], ...], told: str) -> None:
    with repository(None) as before, repository(replace(TRUST, rows=rows)) as after:
        assert fronts.front(before, "toy") == fronts.front(after, "toy")
        known = fronts.read(after, "toy").known
    assert known is not None and told in known.sentence and judged(EVALUATIONS, known) == EVALUATIONS


def test_labels_of_very_short_trainings_give_an_order_and_correct_nothing() -> None:
    """The supernet has 10 steps; a label of none is no label of what a network can reach."""
    with repository(None) as before, repository(replace(TRUST, steps=0)) as after, repository(TRUST) as enough:
        assert fronts.front(before, "toy") == fronts.front(after, "toy") != fronts.front(enough, "toy")
        known = fronts.read(after, "toy").known
    assert known is not None and known.estimates == {}
    assert known.sentence == (
        "error is not corrected: the stand-alone trainings had 0 steps, the supernet 10; train for 1 or more, "
        "so that they give values and not only an order"
    )


def test_without_a_report_or_its_metric_there_is_no_correction() -> None:
    with repository(None) as found:
        study = found.study("toy")
        assert of_study(found, study, EVALUATIONS) is None
        assert of_study(found, replace(study, supernet_digest=None), EVALUATIONS) is None
    assert corrected(replace(TRUST, metric="loss"), EVALUATIONS) is None
    assert judged(EVALUATIONS, None) == EVALUATIONS
