"""CARBS over the settings of trainings: it finds good ones, a stopped one goes on, and failures are told."""

import math
from pathlib import Path

import pytest

from nas.errors import NasError
from nas.fidelity.settings import TUNABLE, SettingsSearch, variables
from search_spaces import Architecture

CENTRES = {"lr": 1e-4, "weight_decay": 0.0, "warmup": 0.0, "clip": 1.0, "steps": 10, "batch_size": 16}
NAMES = ["lr", "steps"]


def train(settings: Architecture) -> dict[str, float]:
    """Best with a learning rate of 0.01 and many steps."""
    if settings["lr"] > 1:
        raise ValueError("diverged")
    steps = settings.get("steps", 1)
    return {"error": (math.log10(settings["lr"]) + 2) ** 2 + 1 / steps, "cost": float(steps)}


class Stopping:
    """As `train`, stopped as by a kill after so many."""

    def __init__(self, after: float = math.inf) -> None:
        self.after, self.numbers = after, list[int]()

    def __call__(self, settings: Architecture) -> dict[str, float]:
        if len(self.numbers) >= self.after:
            raise KeyboardInterrupt
        self.numbers.append(settings["number"])
        return train(settings)


def search(evaluate: Stopping, path: Path | None = None, at_once: int = 1) -> SettingsSearch:
    return SettingsSearch(variables(NAMES, CENTRES, 160), evaluate, "error", at_once=at_once, path=path)


def test_it_comes_nearer_to_the_best_learning_rate() -> None:
    done = search(Stopping()).run(30)
    assert min(trial.metrics["error"] for trial in done[-10:]) < 0.2 * done[0].metrics["error"]


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("after", [2, 7])
def test_stopped_and_made_anew_it_ends_as_one_never_stopped(tmp_path: Path, at_once: int, after: int) -> None:
    whole = search(Stopping(), at_once=at_once).run(12)
    with pytest.raises(KeyboardInterrupt):
        search(Stopping(after), tmp_path / "carbs.jsonl", at_once).run(12)
    rest = Stopping()
    again = search(rest, tmp_path / "carbs.jsonl", at_once)
    assert [(t.config, t.metrics) for t in again.run(12)] == [(t.config, t.metrics) for t in whole]
    assert rest.numbers == list(range(after, 12)), "no finished training is done again"


def test_more_trainings_go_on_from_fewer(tmp_path: Path) -> None:
    first, then = Stopping(), Stopping()
    search(first, tmp_path / "carbs.jsonl").run(5)
    done = search(then, tmp_path / "carbs.jsonl").run(8)
    assert first.numbers + then.numbers == list(range(8))
    assert [t.config for t in done] == [t.config for t in search(Stopping()).run(8)]


def test_a_training_that_fails_is_told_and_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    hot = SettingsSearch(variables(["lr"], CENTRES | {"lr": 1.0}, 160), train, "error")
    done = hot.run(6)
    assert any(trial.error == "ValueError: diverged" for trial in done)
    assert "diverged" in caplog.text
    assert all(settings["lr"] <= 1 for settings, _, _ in hot.carbs.front())


def test_an_evaluator_without_the_metric_is_refused() -> None:
    with pytest.raises(NasError, match="returned loss, cost but not 'error'"):
        SettingsSearch(variables(NAMES, CENTRES, 160), lambda _: {"loss": 1.0, "cost": 1.0}, "error").run(1)


def test_what_is_tuned_begins_with_the_settings_there_are() -> None:
    made = {one.name: one for one in variables(TUNABLE, CENTRES, 12)}
    assert made["lr"].centre == 1e-4
    assert made["weight_decay"].centre > 0 and made["warmup"].centre > 0, "where there is none to begin with"
    assert made["batch_size"].centre == made["batch_size"].most == 12
    assert variables(["steps"], {"steps": 1}, 12)[0].integer


@pytest.mark.parametrize(("names", "said"), [(["depth"], "setting 'depth' cannot be tuned"), ([], "setting ''")])
def test_other_settings_are_refused(names: list[str], said: str) -> None:
    with pytest.raises(NasError, match=said):
        variables(names, CENTRES, 160)


def test_what_has_no_number_to_begin_with_is_refused() -> None:
    with pytest.raises(NasError, match="clip is inf in the run file: give it a number"):
        variables(["clip"], CENTRES | {"clip": math.inf}, 160)


def test_none_at_once_is_refused() -> None:
    with pytest.raises(NasError, match="at_once is 0"):
        search(Stopping(), at_once=0)
