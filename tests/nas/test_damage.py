"""What a disk or a stranger has made of the database: found when it is read, named in one line, never another front."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.errors import NasError
from nas.records import StudyRecord, Trust
from nas.results import front
from nas.storage import Repository, rows
from tests.contracts.repository import (
    CPU,
    SPACE,
    SUPERNET,
    batch,
    evaluation,
    learnt,
    measurement,
    predictor,
)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stored") / "nas.db"
    with Repository(f"sqlite:///{path}") as repository:
        repository.add_space(SPACE)
        repository.add_supernet(SUPERNET)
        repository.create_study(
            StudyRecord("first", "space-1", None, ("error", "params"), ("params <= 90",), "random", 7)
        )
        repository.append_evaluations("first", batch(*range(40)), "w", "d")
        repository.append_evaluations("first", [evaluation(40, metrics={}, error="failed")], "w", "d")
        shown = front.front(repository, "first")
        repository.add_verified("first", {row.arch.digest: {"params": 1.0} for row in shown})
        repository.add_target(CPU)
        repository.add_measurements([measurement(0)])
        repository.put_predictor(predictor())
        repository.put_trust("weights-1", Trust("Trusted.", "rough"))
        repository.put_distributions("first", "k", [learnt()])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    return path


@pytest.fixture
def path(stored: Path, tmp_path: Path) -> Path:
    """A copy, to be damaged."""
    return Path(shutil.copy(stored, tmp_path))


def everything(path: Path) -> Any:
    """All that is read of the study."""
    with Repository(f"sqlite:///{path}", read_only=True) as repository:
        rows = front.front(repository, "first")
        return (
            [(row.arch.json(), row.metrics, row.verified, row.broken) for row in rows],
            repository.evaluations("first"),
        )


def change(path: Path, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        assert connection.execute(statement, values).rowcount > 0


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        (
            "UPDATE evaluations SET metric_values = zeroblob(16) WHERE architecture_id = 3",
            "evaluation \\d+ of study 'first'",
        ),
        ("UPDATE evaluations SET metric_values = 'text' WHERE architecture_id = 3", "evaluation \\d+ of study 'first'"),
        ("UPDATE evaluations SET error = 'x' WHERE architecture_id = 3", "evaluation \\d+ of study 'first'"),
        ("UPDATE evaluations SET error = NULL WHERE error = 'failed'", "evaluation 40 of study 'first'"),
        ("UPDATE evaluations SET seconds = 9 WHERE architecture_id = 3", "evaluation \\d+ of study 'first'"),
        ("UPDATE evaluations SET worker = 7 WHERE architecture_id = 3", "evaluation \\d+ of study 'first'"),
        ("UPDATE evaluations SET attempt = 5 WHERE architecture_id = 3", "evaluation \\d+ of study 'first'"),
        ("DELETE FROM evaluations WHERE architecture_id = 3", "evaluation \\d+ of study 'first'"),
        ("UPDATE study_evaluations SET architecture_id = 99 WHERE position = 2", "evaluation \\d+ of study 'first'"),
        ("UPDATE architectures SET digest = 'x' WHERE id = 3", "evaluation \\d+ of study 'first'"),
        ('UPDATE metric_sets SET names = \'["error", "parans"]\'', "the names of metrics"),
        ("UPDATE architectures SET json = '{}'", "architecture [0-9a-f]{16}"),
        (
            "UPDATE verified SET metrics = '{\"params\": 91.0}'",
            "what architecture [0-9a-f]{16} of study 'first' showed",
        ),
    ],
)
def test_a_changed_row_is_named_with_the_remedy(path: Path, statement: str, what: str) -> None:
    change(path, statement)
    with pytest.raises(
        NasError, match=rf"{what}.* in sqlite.* is not what was stored, .*: nas storage check"
    ) as caught:
        everything(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "7", "null", "[" * 100_000, '{"a":' * 200 + "1" + "}" * 200])
@pytest.mark.parametrize(
    ("column", "read"),
    [
        ("spaces.declaration", lambda r: r.spaces()),
        ("supernets.settings", lambda r: r.supernets()),
        ("studies.settings", lambda r: r.studies()),
        ("targets.description", lambda r: r.targets()),
        ("measurements.conditions", lambda r: r.measurements("cpu")),
        ("predictors.quality", lambda r: r.predictors()),
        ("trust.report", lambda r: r.trust("weights-1")),
        ("distributions.content", lambda r: r.distributions("first")),
        ("verified.metrics", lambda r: r.verified("first")),
    ],
)
def test_a_row_that_is_no_json_object_is_one_line(path: Path, column: str, read: Any, text: str) -> None:
    table, name = column.split(".")
    change(path, f"UPDATE {table} SET {name} = ?", text)
    wrong = pytest.raises(NasError, match="is not what was stored, so the file is damaged: bring")
    with Repository(f"sqlite:///{path}", read_only=True) as repository, wrong as caught:
        read(repository)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "7", "[]", "[1]", "[" * 100_000])
def test_an_origin_that_is_none_is_one_line(path: Path, text: str) -> None:
    change(path, "UPDATE study_evaluations SET origin = ?", text)
    wrong = pytest.raises(NasError, match=r"how an architecture was proposed .* is not what was stored")
    with Repository(f"sqlite:///{path}", read_only=True) as repository, wrong:
        repository.lives("first")


def test_a_derived_architecture_nested_deep_is_one_line(path: Path) -> None:
    change(path, "UPDATE distributions SET content = json_set(content, '$.derived', ?)", "[" * 100_000)
    wrong = pytest.raises(NasError, match=r"a distribution that was learnt by gradients .* is not what was stored")
    with Repository(f"sqlite:///{path}", read_only=True) as repository, wrong:
        repository.distributions("first")


def test_a_row_larger_than_is_read_is_refused_before_it_is_stored(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MOST_BYTES", 1000)
    with Repository(f"sqlite:///{path}") as repository:
        with pytest.raises(NasError, match=r"trust.* has 1,\d{3} characters as JSON, and 1,000 are read: store less"):
            repository.put_trust("weights-1", Trust("x" * 1000, "rough"))
        assert repository.trust("weights-1") == Trust("Trusted.", "rough")


def flipped(path: Path, number: int, seed: int) -> list[str]:
    """What is read of the study with one bit flipped, so many times: "as it was", "an error" or "another"."""
    before, whole, rng = everything(path), path.read_bytes(), np.random.default_rng(seed)
    outcomes = []
    for _ in range(number):
        content = bytearray(whole)
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        try:
            outcomes.append("as it was" if everything(path) == before else "another")
        except NasError as error:
            assert "\n" not in str(error)
            outcomes.append("an error")
    path.write_bytes(whole)
    return outcomes


def test_a_flipped_bit_never_makes_another_front(path: Path) -> None:
    outcomes = flipped(path, 60, seed=0)
    assert "another" not in outcomes


@pytest.mark.slow
def test_thousands_of_flipped_bits_never_make_another_front(path: Path) -> None:
    outcomes = flipped(path, 2000, seed=1)
    assert outcomes.count("another") == 0
    assert outcomes.count("an error") > 100
