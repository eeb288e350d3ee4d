"""`nas tune`: Hyperband over networks and CARBS over settings, from the command line; stopped ones go on."""

from dataclasses import replace
from pathlib import Path

import pytest

from nas.errors import NasError
from nas.stages import tuning
from search_spaces import Architecture
from tests.nas.command import TINY, Nas, caller
from tests.nas.tiny_run import run

SHORT = replace(run, training=replace(run.training, steps=3, evaluate_every=0))


@pytest.fixture
def nas(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Nas:
    return caller(monkeypatch, capsys)


def ledger(folder: Path, name: str) -> list[str]:
    return (folder / "tiny" / "tune" / name).read_text().splitlines()


def test_hyperband_trains_and_a_larger_budget_goes_on(nas: Nas, tmp_path: Path) -> None:
    words = ("tune", TINY, "--steps", 1, "--schedule", "constant", "--runs", tmp_path)
    first = nas(*words, "--largest", 3)
    assert first.status == 0, first.err
    assert "Hyperband up to 3 x 1 steps" in first.out
    assert "best: " in first.out and "--largest 9" in first.out
    there = ledger(tmp_path, "hyperband.jsonl")
    again = nas(*words, "--largest", 3)
    assert again.out == first.out and ledger(tmp_path, "hyperband.jsonl") == there
    raised = nas(*words, "--largest", 9)
    assert raised.status == 0, raised.err
    assert ledger(tmp_path, "hyperband.jsonl")[: len(there)] == there
    table = [line.split() for line in raised.out.splitlines()]
    budgets = [line[0] for line in table if line and line[0].isdigit()]
    assert budgets == ["1", "3", "9"]


def test_carbs_trains_and_goes_on(nas: Nas, tmp_path: Path) -> None:
    words = ("tune", TINY, "--method", "carbs", "--of", "network", "--settings", "lr, batch_size", "--runs", tmp_path)
    first = nas(*words, "--trials", 2)
    assert first.status == 0, first.err
    assert "CARBS: 2 trainings" in first.out and "batch_size" in first.out
    there = ledger(tmp_path, "carbs-network.jsonl")
    assert len(there) == 3, "a header, and a line for each training"
    more = nas(*words, "--trials", 3)
    assert "CARBS: 3 trainings" in more.out
    assert ledger(tmp_path, "carbs-network.jsonl")[:3] == there


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--method", "grid"), "method 'grid' is unknown: choose one of hyperband, carbs"),
        (("--largest", 10), "the largest budget is 10: it must be a power of eta, 3"),
        (("--reuse", "all"), "reuse is 'all'"),
        (("--schedule", "steep"), "schedule = 'steep' is unknown"),
        (("--method", "carbs", "--settings", "depth"), "setting 'depth' cannot be tuned"),
        (("--method", "carbs", "--of", "cell"), "settings are tuned of 'cell': choose one of supernet, network"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(nas: Nas, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    answer = nas("tune", TINY, "--runs", tmp_path, *words)
    assert answer.status == 1
    assert said in answer.err and answer.err.count("\n") == 1
    assert not list(tmp_path.glob("**/*.jsonl"))


def test_another_search_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    tuning.carbs(SHORT, tmp_path, ["lr"]).run(1)
    with pytest.raises(NasError, match="is of another search: tuned is"):
        tuning.carbs(SHORT, tmp_path, ["lr", "clip"])


@pytest.mark.parametrize("of", tuning.OF)
def test_the_settings_are_those_trained_with(tmp_path: Path, of: str) -> None:
    evaluate = tuning.SettingsTraining(SHORT, of, str(tmp_path))
    given = {"lr": 1e-3, "batch_size": 8, "number": 0}
    found = evaluate(Architecture("Settings", given))
    assert found["cost"] == 3 * 8
    assert SHORT.task.batch_size == 16, "the run's own task is left as it is"
    assert found == evaluate(Architecture("Settings", given)), "a finished training is found again"
    others = [{"lr": 3e-2}, {"batch_size": 4}, {"number": 1}]
    assert all(evaluate(Architecture("Settings", given | other)) != found for other in others)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["hyperband", "carbs"])
def test_on_a_cluster_it_finds_the_same(nas: Nas, tmp_path: Path, method: str) -> None:
    """CARBS asks for as many at once as there are workers, so that one worker asks as this process does."""
    words = ("tune", TINY, "--method", method, "--largest", 3, "--steps", 1, "--trials", 3)
    here = nas(*words, "--runs", tmp_path / "here")
    there = nas(*words, "--runs", tmp_path / "there", "--cluster", "local", "--workers", 1)
    assert there.status == 0, there.err
    assert there.out == here.out
