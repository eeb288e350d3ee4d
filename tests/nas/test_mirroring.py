"""A study as Optuna shows it."""

from pathlib import Path
from typing import Any

import optuna
import pytest

from nas.errors import NasError
from nas.records import Evaluation, SpaceRecord, StudyRecord
from nas.storage import Repository
from nas.storage.mirroring import mirror
from search_spaces import Space, choice
from tests.nas.command import caller


class Mixer(Space):
    kernel = choice(3, 5)


class Net(Space):
    depth = choice(0, 1, 2)
    hidden = choice(16, 32, per="depth")
    mixer = choice("none", Mixer())
    shape = choice((1, 2), (2, 4))


NET = Net()
SMALL = NET.architecture({"is": "Net", "depth": 1, "hidden": [16], "mixer": "none", "shape": [1, 2]})
LARGE = NET.architecture(
    {"is": "Net", "depth": 2, "hidden": [16, 32], "mixer": {"is": "Mixer", "kernel": 5}, "shape": [2, 4]}
)
FAILING = NET.architecture({"is": "Net", "depth": 1, "hidden": [32], "mixer": "none", "shape": [1, 2]})
FOUND = {
    0: Evaluation(SMALL, {"error": 0.5, "params": 10.0, "macs": 7.0}, seconds=1.5, worker="local"),
    1: Evaluation(FAILING, {}, error="MemoryError: too large", worker="local"),
    3: Evaluation(LARGE, {"error": 0.25, "params": 40.0, "macs": 9.0}, seconds=2.0, worker="local"),
}


def stored(url: str = "sqlite://") -> Repository:
    repository = Repository(url)
    repository.add_space(SpaceRecord(NET.digest, NET.name, NET.declaration()))
    repository.create_study(StudyRecord("net", NET.digest, None, ("error", "params"), (), "random", 0))
    return repository


def trials(url: str) -> list[Any]:
    storage = optuna.storages.RDBStorage(url)
    try:
        study = optuna.load_study(study_name="net", storage=storage)
        assert [direction.name for direction in study.directions] == ["MINIMIZE", "MINIMIZE"]
        assert study.metric_names == ["error", "params"]
        return study.trials
    finally:
        storage.remove_session()
        storage.engine.dispose()


def test_trials_are_the_evaluations_and_come_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    with stored() as repository:
        repository.store_evaluations("net", {position: FOUND[position] for position in (0, 1)}, "", "d")
        assert mirror(repository, "net", url) == 2
        repository.store_evaluations("net", FOUND, "", "d")
        assert mirror(repository, "net", url) == 1
        assert mirror(repository, "net", url) == 0
    assert "".join(capfd.readouterr()) == "", "Optuna is quiet"
    first, failed, last = trials(url)
    assert [trial.state.name for trial in (first, failed, last)] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert (first.values, last.values) == ([0.5, 10.0], [0.25, 40.0])
    assert first.params == {"depth": 1, "hidden.0": 16, "mixer": "none", "shape": "[1, 2]"}
    assert last.params == {
        **{"depth": 2, "hidden.0": 16, "hidden.1": 32},
        **{"mixer": "Mixer", "mixer.Mixer.kernel": 5, "shape": "[2, 4]"},
    }
    assert last.distributions["hidden.1"].choices == (16, 32)
    assert last.distributions["mixer"].choices == ("none", "Mixer")
    assert last.user_attrs["macs"] == 9.0 and last.user_attrs["digest"] == LARGE.digest
    assert failed.user_attrs["failed"] == "MemoryError: too large" and not failed.values
    assert last.duration.total_seconds() == pytest.approx(2.0)


def test_a_network_without_blocks_has_no_choice_of_theirs(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    empty = NET.architecture({"is": "Net", "depth": 0, "hidden": [], "mixer": "none", "shape": [1, 2]})
    with stored() as repository:
        repository.store_evaluations("net", {0: Evaluation(empty, {"error": 0.5, "params": 1.0})}, "", "d")
        assert mirror(repository, "net", url) == 1
    assert trials(url)[0].params == {"depth": 0, "mixer": "none", "shape": "[1, 2]"}


def test_a_database_of_ours_and_another_study_are_refused(tmp_path: Path) -> None:
    ours, theirs = f"sqlite:///{tmp_path}/nas.db", f"sqlite:///{tmp_path}/optuna.db"
    with stored(ours) as repository:
        with pytest.raises(NasError, match="is a database of this package; name another one for Optuna"):
            mirror(repository, "net", ours)
        storage = optuna.storages.RDBStorage(theirs)
        optuna.create_study(study_name="net", storage=storage, direction="maximize")
        storage.remove_session()
        storage.engine.dispose()
        with pytest.raises(NasError, match=r"study 'net' .*, not error, params; name another database"):
            mirror(repository, "net", theirs)
        with pytest.raises(NasError, match="there is no study 'other'"):
            mirror(repository, "other", theirs)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:////nowhere/optuna.db", "the folder /nowhere does not exist"),
        ("postgresql://u:SECRET@127.0.0.1:1/db", "see that the server runs"),
        ("mysql://u:SECRET@h/db", "database 'mysql'"),
    ],
)
def test_a_database_that_cannot_be_opened_is_one_line_without_secrets(
    url: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(f"sqlite:///{tmp_path}/nas.db").close()
    monkeypatch.chdir(tmp_path)
    answer = caller(monkeypatch, capsys)("storage", "mirror", "net", "--to", url)
    assert answer.status == 1 and answer.err.count("\n") == 1
    assert message in answer.err and "SECRET" not in answer.err
