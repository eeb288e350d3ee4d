"""Cheap checks before an evaluation: what fails one is stored with the reason and not evaluated, in any search."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.errors import NasError
from nas.execution.executors import evaluate_one
from nas.objectives.hurdles import Cleared, Hurdle, rejections
from nas.run import RunError
from nas.searchers import EvolutionarySearch, RandomSearch, SurrogateSearch
from nas.storage import Repository
from nas.study import Study
from search_spaces import Architecture, LayerSpace, Space, choice
from supernets.alone import OverModels, Pushed, TrainedAlone
from supernets.errors import SupernetError
from supernets.scaled import scaled_in
from supernets.skeleton import build_initialised
from supernets.training import TrainingConfig
from tests.nas import layer_run
from tests.nas.command import Nas, caller
from tests.supernets import toy


class Widths(Space):
    width = choice(*range(1, 41))
    depth = choice(1, 2, 3)


class Counting:
    """An evaluator that knows what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Architecture] = []

    def __call__(self, arch: Architecture) -> Mapping[str, float]:
        self.asked.append(arch)
        return {"error": 1 / arch.width, "params": float(arch.width * arch.depth)}


HURDLES = (Hurdle("width <= 30", lambda arch: arch.width), Hurdle("depth > 1", lambda arch: arch.depth))


@pytest.fixture
def nas(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Nas:
    return caller(monkeypatch, capsys)


def study(evaluate: Any, searcher: Any = RandomSearch, **settings: Any) -> Study:
    repository = Repository("sqlite://")
    return Study(
        "widths", Widths(), evaluate, ("error", "params"), repository, searcher=searcher, batch=8, settings=settings
    )


@pytest.mark.parametrize(
    ("searcher", "settings"),
    [(RandomSearch, {}), (EvolutionarySearch, {"population": 8}), (SurrogateSearch, {"startup": 6})],
)
def test_any_search_stores_what_was_rejected_and_why(searcher: Any, settings: dict[str, int]) -> None:
    evaluate = Counting()
    search = study(Cleared(HURDLES, evaluate), searcher, **settings)
    search.run(48)
    kept = [found for found in search.evaluations if found.error is None]
    rejected = [found for found in search.evaluations if found.error is not None]
    assert len(search.evaluations) == 48 and kept and rejected
    assert [found.arch for found in kept] == evaluate.asked, "nothing that is rejected is evaluated"
    assert all(found.arch.width <= 30 and found.arch.depth > 1 for found in kept)
    for found in rejected:
        width = found.arch.width > 30
        rule = f"width <= 30 does not hold: {found.arch.width:.2g}" if width else "depth > 1 does not hold: 1"
        assert found.error == f"Rejected: {rule}"
    counted = rejections(found.error for found in search.evaluations)
    assert sum(counted.values()) == len(rejected) and set(counted) == {"width <= 30", "depth > 1"}


def test_a_later_hurdle_is_not_asked_of_what_an_earlier_one_rejects() -> None:
    asked: list[Architecture] = []
    second = Hurdle("anything > 0", lambda arch: asked.append(arch) or 1.0)
    evaluate = Cleared((HURDLES[0], second), Counting())
    wide, narrow = (Widths().architecture({"width": width, "depth": 1}) for width in (40, 4))
    assert evaluate_one(evaluate, wide, "").error == "Rejected: width <= 30 does not hold: 40"
    assert evaluate_one(evaluate, narrow, "").error is None
    assert asked == [narrow]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_clears_no_hurdle(value: float) -> None:
    found = evaluate_one(Cleared((Hurdle("it <= 3", lambda arch: value),), Counting()), Widths().smallest(), "")
    assert found.error == f"Rejected: it <= 3 does not hold: {value}"


def test_other_failures_are_no_rejections() -> None:
    assert rejections([None, "ValueError: it <= 3 does not hold: 4", "Rejected: a < 1 does not hold: 2"]) == {
        "a < 1": 1
    }


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Hurdle("quick", abs), "'quick' is not a limit"),
        (lambda: Hurdle("quick <= 0.5x", abs), "the hurdle 'quick <= 0.5x' is relative, but hurdles have no parent"),
        (lambda: Hurdle("quick <= 1", 3), "the hurdle 'quick <= 1' has tell = 3, which is not callable: give"),
        (lambda: replace(layer_run.run, hurdles=("a",)), "hurdles = ('a',): give a tuple such as (Hurdle("),
        (lambda: replace(layer_run.run, measures={"error": abs}), "measures has a metric called 'error': give it a"),
        (lambda: replace(layer_run.run, measures={"mine": 1}), "measures['mine'] = 1: give a function of an arch"),
        (lambda: replace(layer_run.run, objectives=("other",)), "'other' is no metric of this run: choose of error"),
        (lambda: Pushed(layer_run.convolutions, layer_run.task, steps=0), "steps = 0 and share = 0.05: give 1 step"),
        (lambda: OverModels([]), "no measures to average; give one for each model"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(make: Callable[[], Any], said: str) -> None:
    with pytest.raises((NasError, RunError, SupernetError)) as caught:
        make()
    assert said in str(caught.value) and "\n" not in str(caught.value)


def layer(text: str) -> Architecture:
    return layer_run.Layers().architecture({"layer": LayerSpace().write(text)})


def test_quality_and_stability_reject_planted_layers() -> None:
    """A layer that is constant learns nothing; one that explodes cannot be trained. ReLU passes."""
    stability, quality = layer_run.run.hurdles
    constant, exploding, relu = map(layer, ("mul(x, zero)", "exp(exp(x))", "max(x, zero)"))
    stability.clear(relu), quality.clear(relu)
    with pytest.raises(NasError, match=r"quick_error <= 0\.87 does not hold"):
        quality.clear(constant)
    with pytest.raises(NasError, match=r"gradient_norm <= 10000 does not hold: inf"):
        stability.clear(exploding)


def test_a_push_makes_the_gradient_grow_and_is_repeated() -> None:
    once, often = (Pushed(layer_run.convolutions, layer_run.task, steps=steps) for steps in (1, 6))
    arch = layer("max(x, zero)")
    assert often(arch) > 1.5 * once(arch) > 0
    assert often(arch) == often(arch)


def test_a_short_training_has_the_rate_that_scaling_gives() -> None:
    """Relative to the largest network of the space, as every training alone."""
    task, build, config = toy.Digits(), toy.build, TrainingConfig(steps=3, lr=0.05, precision="fp32")
    space, scaled = toy.ToySpace(), replace(config, scaling="paths")
    small = space.smallest()
    with pytest.raises(SupernetError, match=r"'paths' gives rates relative .*TrainedAlone\(\.\.\., space=space\)"):
        TrainedAlone(build, task, scaled)
    rate = scaled_in(scaled, build_initialised(build, small, 0), space, build, task.example(2)).lr
    assert rate != config.lr
    found = TrainedAlone(build, task, scaled, space=space)(small)
    assert (
        found == TrainedAlone(build, task, replace(config, lr=rate))(small) != TrainedAlone(build, task, config)(small)
    )


def test_measures_over_models_are_averaged() -> None:
    dense, depthwise = layer_run.run.measures.values()
    assert isinstance(dense, TrainedAlone)
    arch = layer("tanh(x)")
    assert OverModels([dense, depthwise])(arch) == pytest.approx(np.mean([dense(arch), depthwise(arch)]))


@pytest.mark.slow
def test_a_search_of_layers_resumes_to_the_same_study(nas: Nas, tmp_path: Path, monkeypatch: Any) -> None:
    """Both proxy models' errors are objectives; the study is cut and goes on."""
    file = Path(layer_run.__file__)
    whole = nas("search", file, "--storage", f"sqlite:///{tmp_path / 'whole.db'}", "--runs", tmp_path / "whole")
    assert whole.status == 0, whole.err
    assert "candidates were rejected before their evaluation" in whole.out and "dense error" in whole.out
    cut = ("--storage", f"sqlite:///{tmp_path / 'cut.db'}", "--runs", tmp_path / "cut")
    begun: list[Architecture] = []
    evaluate = Cleared.__call__

    def stopped(self: Cleared, arch: Architecture) -> Mapping[str, float]:
        begun.append(arch)
        if len(begun) == 11:
            raise KeyboardInterrupt
        return evaluate(self, arch)

    monkeypatch.setattr(Cleared, "__call__", stopped)
    assert nas("search", file, *cut).status != 0
    monkeypatch.setattr(Cleared, "__call__", evaluate)
    assert nas("search", file, *cut).status == 0
    stored = [
        [(found.arch, found.metrics, found.error) for found in Repository(url).evaluations("layers")]
        for url in (f"sqlite:///{tmp_path / 'whole.db'}", f"sqlite:///{tmp_path / 'cut.db'}")
    ]
    assert stored[0] == stored[1] and len(stored[0]) == 16
    reasons = {found[0].layer.op: found[2] for found in stored[0][:5]}
    assert reasons[("exp", "exp")] == "Rejected: gradient_norm <= 10000 does not hold: inf"
    assert (reasons[("mul",)] or "").startswith("Rejected: quick_error <= 0.87 does not hold: ")
    assert reasons[("max",)] is None and reasons[("tanh",)] is None
