"""A database looked through, mended and copied."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas.errors import NasError
from nas.records import CurvePoint, Trust
from nas.storage import Repository
from nas.storage.checking import problems
from nas.storage.copying import copy
from tests.contracts.repository import (
    CPU,
    OTHER_CPU,
    STUDY,
    SUPERNET,
    batch,
    digests,
    evaluation,
    learnt,
    measurement,
    predictor,
    with_study,
)
from tests.nas.command import Nas, caller
from tests.nas.test_study import counting, found, study


@pytest.fixture
def nas_(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Nas:
    monkeypatch.chdir(tmp_path)
    return caller(monkeypatch, capsys)


def full(repository: Repository) -> Repository:
    """One of everything."""
    with_study(repository)
    repository.add_supernet(SUPERNET)
    second = replace(STUDY, name="second", supernet_digest="weights-1", objectives=("error", "latency_ms@cpu"))
    repository.create_study(replace(second, status="finished"))
    repository.add_curve("weights-1", [CurvePoint(0, "train", "loss", 2.0)])
    repository.add_curve("gone", [CurvePoint(0, "train", "loss", float("nan"))])
    repository.put_trust("weights-1", Trust("Trusted.", "rough"))
    for target in (CPU, OTHER_CPU, replace(CPU, name="pi5")):
        repository.add_target(target)
    repository.add_measurements([measurement(0), measurement(1, OTHER_CPU)])
    repository.put_predictor(predictor())
    repository.put_predictor(predictor(space_digest="space-2"))
    with_study(repository, "deleted").append_evaluations("deleted", batch(9), "w", "d")
    repository.delete_study("deleted")
    repository.store_evaluations("first", {i: evaluation(i) for i in (0, 1, 3, 5)}, "w", "d")
    repository.store_evaluations("first", {2: evaluation(2, metrics={}, error="failed")}, "other", "d")
    repository.append_evaluations("second", [evaluation(1, seconds=9.0), *batch(2)], "w", "d")
    repository.add_verified("first", {digests(1)[0]: {"params": 1.5}})
    repository.put_distributions("second", "k", [learnt(study="second")])
    return repository


def content(repository: Repository) -> dict[str, Any]:
    names = [one.name for one in repository.studies()]
    return {
        "records": (repository.spaces(), repository.supernets(), repository.studies(), repository.target_versions()),
        "evaluations": {name: repository.placed_evaluations(name) for name in names},
        "contexts": {name: repository.contexts(name) for name in names},
        "verified": {name: repository.verified(name) for name in names},
        "distributions": {name: repository.distributions(name) for name in names},
        "known": repository.known_distributions("k"),
        "unclaimed": repository.unclaimed_evaluations(),
        "measurements": (repository.measurements("cpu"), repository.predictors()),
        "curves": [str(repository.curve(digest)) for digest in repository.trained()],
        "trust": repository.trust("weights-1"),
    }


def check_copies(here: str, there: str) -> None:
    with Repository(here) as source, Repository(there) as destination:
        full(source)
        for _ in range(2):
            copy(source, destination)
            assert content(destination) == content(source)
        assert list(problems(source)) == list(problems(destination)) == []


def test_a_copy_is_equal_and_may_be_repeated(tmp_path: Path) -> None:
    check_copies(f"sqlite:///{tmp_path}/here.db", f"sqlite:///{tmp_path}/there.db")


def test_one_study_is_copied_with_what_it_needs(tmp_path: Path) -> None:
    with Repository("sqlite://") as source, Repository(f"sqlite:///{tmp_path}/there.db") as there:
        full(source)
        copy(source, there, "second")
        assert [one.name for one in there.studies()] == ["second"]
        assert there.evaluations("second") == source.evaluations("second")
        assert there.supernets() == [SUPERNET] and there.curve("weights-1") == source.curve("weights-1")
        assert there.distributions("second") == source.distributions("second")
        assert [target.name for target in there.targets()] == ["cpu"]
        assert there.measurements("cpu") == source.measurements("cpu") and there.predictors() == [predictor()]
        assert there.unclaimed_evaluations() == {}
        with pytest.raises(NasError, match="there is no study 'third'"):
            copy(source, there, "third")


def test_a_copy_that_is_repeated_takes_what_came_since() -> None:
    with Repository("sqlite://") as source, Repository("sqlite://") as there:
        copy(full(source), there)
        source.append_evaluations("first", batch(6, 7), "w", "d")
        copy(source, there)
        assert content(there) == content(source)


def test_another_study_of_the_name_is_not_mixed_with(tmp_path: Path) -> None:
    with Repository("sqlite://") as source, Repository(f"sqlite:///{tmp_path}/there.db") as there:
        with_study(source)
        there.add_space(source.spaces()[0])
        there.create_study(replace(STUDY, seed=8))
        with pytest.raises(NasError, match="study 'first' is another search"):
            copy(source, there)


def test_the_commands_copy_and_check(nas_: Nas) -> None:
    with Repository("sqlite:///nas.db") as repository:
        full(repository)
    answer = nas_("storage", "copy", "sqlite:///nas.db", "sqlite:///other.db")
    lines = "first: 5 evaluations\nsecond: 2 evaluations\ncopied sqlite:///nas.db to sqlite:///other.db\n"
    assert answer == (0, lines, "")
    answer = nas_("storage", "check", "--storage", "sqlite:///other.db")
    assert answer == (0, "sqlite:///other.db: all is as it was stored\n", "")


def test_what_is_damaged_is_listed_and_evaluated_again(nas_: Nas) -> None:
    with Repository("sqlite:///nas.db") as repository:
        whole = study(repository)
        whole.run(20)
        other = study(repository, "other", data="d")
        other.run(6)
    with closing(sqlite3.connect("nas.db")) as connection, connection:
        stored = "SELECT architecture_id FROM study_evaluations WHERE study_id = 1 AND position = {}"
        of = f"WHERE architecture_id = ({stored})"
        connection.execute(f"UPDATE evaluations SET metric_values = zeroblob(16) {of.format(3)} AND context_id = 1")
        connection.execute(f"UPDATE evaluations SET seconds = 77 {of.format(8)}")
    answer = nas_("storage", "check")
    assert answer.status == 1 and answer.err.startswith("error: sqlite:///nas.db has 2 problems: bring it back from a")
    lines = [f"evaluation {position} of study 's' (counted from 0) is not what was stored" for position in (3, 8)]
    assert answer.out.splitlines() == lines
    answer = nas_("storage", "check", "--forget")
    assert answer.status == 1 and answer.out.startswith("s: 2 damaged evaluations taken out; nas resume s\n")
    assert "study 's' lacks 2 evaluations before its last batch, at positions 3, 8" in answer.out
    calls: list[str] = []
    with Repository("sqlite:///nas.db") as repository:
        study(repository, run=counting(calls)).run(20)
        assert len(calls) == 2 and found(repository.evaluations("s")) == found(whole.evaluations)
    assert nas_("storage", "check").status == 0
