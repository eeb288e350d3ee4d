"""The few lines that a demo ends with."""

import math
from dataclasses import replace

import pytest

from nas.commands import brief
from nas.records import StudyRecord, Trust
from nas.results.front import Row
from search_spaces import Space, choice


class Sizes(Space):
    size = choice(1, 2, 3)


SMALL, MIDDLE, LARGE = Sizes().enumerate()
STUDY = StudyRecord("mine", "s", "w", ("error", "latency_ms@cpu"), (), "random", 0)
ROWS = [
    Row(LARGE, {"error": 0.02, "latency_ms@cpu": 8.0}, {"latency_ms@cpu": 10.0, "test_error": 0.03}, ()),
    Row(MIDDLE, {"error": 0.05, "latency_ms@cpu": 4.2}, {"latency_ms@cpu": 4.0, "test_error": 0.06}, ()),
    Row(SMALL, {"error": 0.10, "latency_ms@cpu": 0.9}, {"latency_ms@cpu": 1.0, "test_error": 0.12}, ()),
]
BETTER = Trust(
    "They can be trusted.",
    "reliable",
    tau=0.9,
    baselines=({"name": "parameters", "tau": -0.2, "margin_low": 0.7}, {"name": "MACs", "tau": 0.3, "margin_low": 0.2}),
    rows=({"again": []},) * 24,
    steps=190,
    share=0.25,
    seconds=39,
)


def test_all_is_said_in_a_line_each() -> None:
    assert brief.lines(STUDY, ROWS, 160, BETTER) == [
        "front: 3 of 160 evaluated networks, error 2 % to 10 %, latency on cpu 1 ms to 10 ms (10.0 times)",
        "latency on cpu: predicted and measured lie 10.0% apart in the median",
        "They can be trusted.",
        "Better than ranking by size: tau 0.90, against −0.20 by parameters alone, 0.30 by MACs alone "
        "(difference at least 0.20, 95 %)",
        "trained alone for this: 24 networks, 190 steps each; 25 % of the supernet's computation, 39 s",
    ]


def test_latencies_of_batches_are_said_to_be_that() -> None:
    said = brief.lines(replace(STUDY, settings={"latency_batch": 8}), ROWS, 160, None)
    assert said[0].endswith("latency on cpu 1 ms to 10 ms (10.0 times), latencies of batches of 8")


def test_a_banner_stands_in_place_of_the_praise() -> None:
    said = brief.lines(STUDY, ROWS, 160, replace(BETTER, banner="No better than ranking by MACs: ..."))
    assert said[3] == "No better than ranking by MACs: ..."
    assert not any("Better" in line for line in said)


def test_without_a_report_or_sizes_nothing_is_claimed() -> None:
    assert len(brief.lines(STUDY, ROWS, 160, None)) == 2
    assert brief.lines(STUDY, ROWS, 160, replace(BETTER, baselines=()))[3] == "Not compared with ranking by size."


def test_an_empty_front_is_a_line_too() -> None:
    assert brief.lines(STUDY, [], 160, None) == ["front: 0 of 160 evaluated networks"]
    assert brief.middle(STUDY, []) is None


def test_the_limit_lies_between_the_ends_as_measured() -> None:
    limit = brief.middle(STUDY, ROWS)
    assert limit is not None
    assert float(limit.removeprefix("latency_ms@cpu <= ")) == pytest.approx(math.sqrt(1 * 10), rel=0.05)
    assert brief.middle(replace(STUDY, objectives=("error",)), ROWS) is None


def test_what_is_taken_home_stands_beside_the_front() -> None:
    text = brief.taken_home(ROWS[1], "latency_ms@cpu <= 5", "there", {"error": 0.05, "test_error": 0.07})
    assert text == (
        f"exported the best under latency_ms@cpu <= 5, {MIDDLE.digest[:8]}, to there: error 5 % (on the front 5 %), "
        "test error 7 % (on the front 6 %)"
    )
