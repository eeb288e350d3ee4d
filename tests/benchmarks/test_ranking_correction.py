"""The benchmark of corrections: no label is held against itself, and what is read is one line a run."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.finding import find
from benchmarks.ranking import correction, rows
from benchmarks.ranking.rows import Job, Outcome
from benchmarks.truths import TOY
from nas.results.correction import Correction, Label, Network, correct


def test_networks_without_a_label_are_held_against_the_mean_and_all_against_the_second_training() -> None:
    truth = find(TOY)
    n = len(truth.archs)
    rest = np.arange(2, n)
    of_mean = correction.scores(truth, truth.values.mean(1), rest)
    assert (of_mean.tau, of_mean.gap) == (1.0, 0.0) and of_mean.gap_all > 0
    of_second = correction.scores(truth, truth.values[:, 1], rest)
    assert (of_second.tau_all, of_second.gap_all) == (1.0, 0.0) and of_second.gap > 0


def test_the_first_training_of_the_labelled_is_all_that_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = find(TOY)
    given: list[Sequence[Label]] = []

    def told(labels: Sequence[Label], networks: Sequence[Network], *, inherited: bool = True) -> Correction:
        given.append(labels)
        return correct(labels, networks, inherited=inherited)

    monkeypatch.setattr(correction, "correct", told)
    chosen = correction.sample(truth, 4, [0, 0])
    found = correction.outcome(truth, np.linspace(0.1, 0.9, len(truth.archs)), 4, [0, 0])
    assert len(set(chosen)) == 4 and found.refused and found.corrected == found.raw
    for labels in given:
        assert [one.network.arch for one in labels] == [truth.archs[i] for i in chosen]
        assert [one.trainings for one in labels] == [(truth.values[i, 0],) for i in chosen]


def test_runs_of_one_method_and_truth_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, path = find(TOY), tmp_path / "rows.jsonl"
    monkeypatch.setattr(correction, "ROWS", path)
    for seed, strategy, sharing, error in (
        (1, "fair", "entangled", ""),
        (0, "fair", "entangled", ""),
        (2, "fair", "entangled", "failed"),
        (0, "fair", "split", ""),
        (0, "uniform", "entangled", ""),
    ):
        values = tuple(float(seed) for _ in truth.archs)
        rows.append(path, Job(TOY, strategy, sharing, seed, 40, truth.digest), Outcome(error=error, inherited=values))
    assert [run[0] for run in correction.inherited(truth, "fair")] == [0.0, 1.0]
