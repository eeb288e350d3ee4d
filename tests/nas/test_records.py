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
from nas.records import Distribution, Evaluation, StudyRecord, TargetRecord, now
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
        ({"seed": -1}, r"give one from 0 to 2\*\*63 - 1"),
        ({"seed": 2**63}, "give one from 0"),
    ],
)
def test_a_study_must_make_sense(changes, message):
    values = {"name": "a", "objectives": ("error",), "seed": 0} | changes
    with pytest.raises(NasError, match=message):
        StudyRecord(space_digest="s", supernet_digest=None, limits=(), searcher="random", **values)


LEARNT = {
    "study": "digits",
    "method": "drnas",
    "label": "",
    "steps": (0, 10),
    "probabilities": {"width": [[0.5, 0.5], [1.0, 0.0]], "depth.0": [[1.0], [1.0]]},
    "derived": ARCH.json(),
}


def test_a_distribution_is_plain_and_says_what_was_learnt():
    rows = np.array([[0.25, 0.75], [0.9, 0.1]], dtype=np.float32)
    learnt = Distribution(**LEARNT | {"probabilities": {"width": rows}, "steps": [np.int64(0), np.int64(5)]})
    assert learnt.steps == (0, 5)
    assert learnt.final == {"width": (pytest.approx(0.9), pytest.approx(0.1))}
    assert {type(value) for value in learnt.final["width"]} == {float}
    assert learnt.arch == ARCH
    assert learnt == Distribution(**LEARNT | {"probabilities": {"width": rows.tolist()}, "steps": (0, 5)})


def test_weights_of_a_distribution_are_above_zero():
    assert Distribution(**LEARNT).weights() == {"width": (1.0, 1e-12), "depth.0": (1.0,)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": ()}, r"steps of distribution '' are \(\); give ascending ones from 0 on"),
        ({"steps": (5, 5)}, "give ascending ones"),
        ({"steps": (-1, 5)}, "give ascending ones"),
        ({"steps": (0, 5, 10)}, "width has probabilities at 2 steps of 3; give one vector for each step"),
        ({"probabilities": {"width": [[1.0], [0.5, 0.5]]}}, "width has vectors of 1 and of 2 options; give one length"),
        ({"probabilities": {"width": [[1.0], [0.9]]}}, r"width has probabilities \(0.9\); give numbers from 0 to 1"),
        ({"probabilities": {"width": [[1.5, -0.5]] * 2}}, "that sum to 1"),
        ({"probabilities": {"width": [[math.nan, 1.0]] * 2}}, "that sum to 1"),
        ({"probabilities": {"width": [[], []]}}, "that sum to 1"),
        ({"derived": "[]"}, "the derived architecture of distribution '' is '\\[\\]'; give the canonical JSON"),
        ({"derived": "width"}, "give the canonical JSON"),
    ],
)
def test_a_distribution_must_make_sense(changes, message):
    with pytest.raises(NasError, match=message):
        Distribution(**LEARNT | changes)


def test_times_are_in_utc():
    assert now().endswith("+00:00")


def test_names_are_found_on_first_use():
    assert nas.Evaluation is Evaluation
    assert "Repository" in dir(nas)
    with pytest.raises(AttributeError, match="no attribute 'Repositories'"):
        _ = nas.Repositories


def test_import_is_light():
    heavy = "{'torch', 'ray', 'streamlit', 'sqlalchemy'}"
    code = f"import sys, nas, nas.records, nas.objectives.limits; print(*{heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


@pytest.mark.parametrize(
    ("description", "words"),
    [
        ({}, ""),
        ({"processor": "Cortex-A76", "threads": 4, "precision": "float32"}, "Cortex-A76, 4 threads, float32"),
        ({"table": "t4.csv", "rows": 15625}, "t4.csv, 15,625 rows"),
    ],
)
def test_a_machine_in_words(description, words):
    assert TargetRecord("x", "cpu", description).machine == words
