"""Limits read back what they print, and miss a bound exactly when they do not hold."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import NasError
from nas.objectives.limits import Limit, parse

numbers = st.floats(allow_nan=False, allow_infinity=False)
limits = st.builds(
    Limit, st.sampled_from(["error", "latency_ms@pi5"]), st.sampled_from(["<=", "<", ">=", ">"]), numbers
)
relative = st.builds(
    Limit, st.just("params"), st.sampled_from(["<=", ">"]), st.floats(0.001, 1000), relative=st.just(True)
)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("latency_ms@cpu <= 2", Limit("latency_ms@cpu", "<=", 2.0)),
        ("latency_ms@cpu<=2", Limit("latency_ms@cpu", "<=", 2.0)),
        ("  params   <  1e6 ", Limit("params", "<", 1e6)),
        ("tau >= -.5", Limit("tau", ">=", -0.5)),
        ("macs > 0", Limit("macs", ">", 0.0)),
        ("params <= 0.5x", Limit("params", "<=", 0.5, relative=True)),
        ("latency_ms@cpu<2x", Limit("latency_ms@cpu", "<", 2.0, relative=True)),
    ],
)
def test_parse(text, limit):
    assert parse(text) == limit


@given(st.one_of(limits, relative))
def test_a_limit_reads_back_what_it_prints(limit):
    assert parse(str(limit)) == limit


def test_whole_bounds_print_without_a_fraction():
    assert str(parse("params <= 1000000.0")) == "params <= 1000000"


@given(limits, st.one_of(numbers, st.floats()))
def test_a_bound_is_missed_exactly_where_the_limit_does_not_hold(limit, value):
    metrics = {limit.metric: value}
    assert (limit.violation(metrics) == 0) is limit.holds(metrics)
    assert limit.violation(metrics) >= 0


@pytest.mark.parametrize(
    ("text", "value", "holds", "violation"),
    [
        ("latency_ms <= 2", 2, True, 0),
        ("latency_ms <= 2", 3, False, 0.5),
        ("latency_ms < 2", 2, False, 2.3e-16),
        ("tau >= 0.8", 0.6, False, 0.25),
        ("drop <= 0", 0.25, False, 0.25),
        ("gain >= -2", -3, False, 0.5),
        ("error <= 1", math.nan, False, math.inf),
        ("error <= 1", math.inf, False, math.inf),
    ],
)
def test_violation_is_a_share_of_the_bound(text, value, holds, violation):
    limit = parse(text)
    metrics = {limit.metric: value, "other": 1.0}
    assert limit.holds(metrics) is holds
    assert limit.violation(metrics) == pytest.approx(violation, abs=1e-16)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a limit.*write it like 'latency_ms@cpu <= 2'"),
        ("latency_ms", "is not a limit"),
        ("latency_ms <=", "is not a limit"),
        ("<= 2", "is not a limit"),
        ("latency ms <= 2", "is not a limit"),
        ("latency_ms == 2", "operator '=='; use one of <=, <, >=, >"),
        ("latency_ms =< 2", "operator '=<'"),
        ("latency_ms <= fast", "bound 'fast', which is not a number; write it like"),
        ("latency_ms <= 2 ms", "bound '2 ms'"),
        ("2 <= latency_ms", "bound 'latency_ms'"),
        ("latency_ms <= nan", "bound nan; it must be a finite number"),
        ("latency_ms <= inf", "bound inf"),
    ],
)
def test_errors_show_the_right_form(text, message):
    with pytest.raises(NasError, match=message):
        parse(text)


def test_a_limit_on_what_was_not_measured_names_what_was():
    with pytest.raises(
        NasError, match=r"'latency_ms@pi5 <= 2' is on a metric that was not measured; use one .*: error"
    ):
        parse("latency_ms@pi5 <= 2").holds({"error": 0.1, "latency_ms@cpu": 1.0})


def test_a_relative_limit_is_a_multiple_of_what_the_parent_has():
    limit = parse("params <= 0.5x")
    assert limit.of({"params": 1000.0, "error": 0.1}) == parse("params <= 500")
    assert parse("params <= 3").of({}) == parse("params <= 3")
    with pytest.raises(NasError, match=r"is relative to the parent's params, which is not known .*are error"):
        limit.of({"error": 0.1})
    with pytest.raises(NasError, match="relative to a parent, which is not known"):
        limit.holds({"params": 1.0})
