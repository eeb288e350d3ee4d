"""Evaluations are plain and finite from the start, and the package is light to import."""

import math
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

import nas
from nas.errors import NasError
from nas.records import Evaluation, StudyRecord, now
from search_spaces import Architecture

ARCH = Architecture.from_json('{"is":"Net","width":64}')


def test_metrics_become_plain_floats():
    evaluation = Evaluation(ARCH, {"error": np.float32(0.5), "params": 10, "macs": np.int64(3)})
    assert evaluation.metrics == {"error": 0.5, "params": 10.0, "macs": 3.0}
    assert {type(value) for value in evaluation.metrics.values()} == {float}
    assert not evaluation.failed


def test_metrics_are_a_copy():
    metrics = {"error": 0.5}
    evaluation = Evaluation(ARCH, metrics)
    metrics["error"] = 0.1
    assert evaluation.metrics == {"error": 0.5}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_cannot_be_ranked_is_a_failure(value):
    evaluation = Evaluation(ARCH, {"error": value, "params": 3})
    assert evaluation.failed
    assert evaluation.metrics == {}
    assert evaluation.error == f"not a finite number: error is {value}"


def test_an_error_is_made_storable():
    assert Evaluation(ARCH, {}, error="a\x00b\ud800").error == "a\\x00b\\ud800"


@pytest.mark.parametrize("value", ["0.5", None, [1.0, 2.0], 10**400])
def test_metrics_must_be_numbers(value):
    with pytest.raises(NasError, match=r"metric 'error' is .*, not a number; an evaluator returns one number"):
        Evaluation(ARCH, {"error": value})


def test_an_error_excludes_metrics():
    with pytest.raises(NasError, match="give one of the two"):
        Evaluation(ARCH, {"error": 0.1}, error="out of memory")


def test_records_are_frozen_and_survive_pickling():
    evaluation = Evaluation(ARCH, {"error": 0.5}, None, 1.5, "worker 1")
    with pytest.raises(FrozenInstanceError):
        evaluation.seconds = 2.0
    assert pickle.loads(pickle.dumps(evaluation)) == evaluation


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "  "}, "a study's name is"),
        ({"name": "a\nb"}, "printable"),
        ({"objectives": ()}, "no objective; name at least one metric"),
        ({"seed": -1}, r"take one from 0 to 2\*\*63 - 1"),
        ({"seed": 2**63}, "take one from 0"),
    ],
)
def test_a_study_must_make_sense(changes, message):
    values = {"name": "a", "objectives": ("error",), "seed": 0} | changes
    with pytest.raises(NasError, match=message):
        StudyRecord(space_digest="s", supernet_digest=None, limits=(), searcher="random", **values)


def test_times_are_in_utc():
    assert now().endswith("+00:00")


def test_names_are_found_on_first_use():
    assert nas.Evaluation is Evaluation
    assert "Repository" in dir(nas)
    with pytest.raises(AttributeError, match="no attribute 'Repositories'"):
        _ = nas.Repositories


def test_import_is_light():
    heavy = "{'torch', 'ray', 'streamlit', 'sqlalchemy'}"
    code = f"import sys, nas, nas.records, nas.limits; print(*{heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
