"""The gradient search of a run: learnt once, on weights that stay as they are, and what the study begins with."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas import learning, targets
from nas.errors import NasError
from nas.evaluators import CostModel
from nas.records import Distribution
from nas.run import Run, as_trained, load
from nas.searchers.gradient.config import GradientConfig
from nas.storage import Repository
from nas.targets import CPUTarget
from nas.workflow import Workflow
from supernets.relaxation import Mixture
from tests.nas.command import TINY

QUICK = GradientConfig(steps=8, train_weights=False, lr_arch=0.1, checkpoint_every=4)


@pytest.fixture(scope="module")
def run() -> Run:
    tiny = load(TINY)
    return replace(
        tiny,
        searcher="gradient",
        gradient_search=QUICK,
        training=replace(tiny.training, steps=8, evaluate_every=0),
        evaluations=12,
        trust=0,
    )


def opened(run: Run, folder: Path) -> Workflow:
    repository = Repository(f"sqlite:///{folder / 'nas.db'}")
    return Workflow(run, repository, folder / "runs" / run.name, TINY, progress=False)


def searched(run: Run, folder: Path) -> tuple[list[Distribution], list[Any]]:
    """What was learnt for a run, and the architectures of its study."""
    with opened(run, folder) as workflow:
        study = workflow.study(workflow.measure())
        study.run(run.evaluations)
        return workflow.repository.distributions(run.name), [e.arch for e in study.evaluations]


@pytest.fixture
def never_again(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def forbid() -> None:
        def never(*_: object, **__: object) -> Any:
            raise AssertionError("learnt again")

        monkeypatch.setattr(learning, "learn", never)

    return forbid


def test_a_study_begins_with_what_was_learnt_and_learns_it_once(
    run: Run, tmp_path: Path, never_again: Callable[[], None]
) -> None:
    (found,), archs = searched(run, tmp_path)
    assert (found.study, found.method, found.steps[-1]) == ("tiny", "drnas", 8)
    assert archs[0] == found.arch
    assert len(set(archs)) == 12
    with Repository(f"sqlite:///{tmp_path / 'nas.db'}", read_only=True) as stored:
        assert stored.study("tiny").settings["distributions"] == [found.digest]
        assert stored.study("tiny").searcher == "gradient"
    never_again()
    assert searched(run, tmp_path) == ([found], archs)


@pytest.mark.parametrize("train_weights", [False, True])
def test_the_trained_weights_stay_as_they_are(run: Run, tmp_path: Path, train_weights: bool) -> None:
    with opened(replace(run, gradient_search=replace(QUICK, train_weights=train_weights)), tmp_path) as workflow:
        before = workflow.weights
        assert workflow.distributions({})[0].settings["train_weights"] is train_weights
        assert workflow.supernet.digest() == before


@pytest.mark.parametrize("searcher", ["evolution", "bayesian"])
def test_other_searchers_take_it_for_their_first_batch(
    run: Run, tmp_path: Path, searcher: str, never_again: Callable[[], None]
) -> None:
    first, _ = searched(run, tmp_path)
    never_again()
    found, archs = searched(replace(run, name="other", searcher=searcher, gradient="drnas"), tmp_path)
    runs = tmp_path / "runs"
    assert [one.digest for one in found] == [one.digest for one in first], "of the same weights and settings"
    assert archs[0] == first[0].arch
    assert [one.study for one in (*first, *found)] == ["tiny", "other"]
    assert not (runs / "other" / "gradient").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"gradient": "darts"},
        {"gradient_search": replace(QUICK, seed=1)},
        {"objectives": ("error",)},
        {"limits": ("params <= 1500",)},
        {"training": "other"},
    ],
)
def test_what_differs_is_learnt_anew_and_never_in_place_of_another(
    run: Run, tmp_path: Path, changes: dict[str, Any]
) -> None:
    (first,), _ = searched(run, tmp_path)
    if "training" in changes:
        changes = {"training": replace(run.training, seed=1)}
    else:
        with (
            opened(replace(run, **changes), tmp_path) as workflow,
            pytest.raises(NasError, match=r"study 'tiny' is there and began otherwise .* a name of its own"),
        ):
            workflow.distributions({})
    (other,), _ = searched(replace(run, name="other", **changes), tmp_path)
    with Repository(f"sqlite:///{tmp_path / 'nas.db'}", read_only=True) as stored:
        assert stored.distributions("tiny") == [first]
    assert other.final != first.final


def test_saving_more_often_is_the_same_search(run: Run) -> None:
    often = replace(run, gradient_search=replace(QUICK, checkpoint_every=1))
    assert learning.key(often, "w") == learning.key(run, "w") != learning.key(run, "v")


def test_limits_are_kept_by_the_derived_architecture(run: Run, tmp_path: Path) -> None:
    limits = ("params <= 2500", "macs <= 2400", "error <= 0.95")
    (found,), archs = searched(replace(run, limits=limits, objectives=("error",)), tmp_path)
    with opened(run, tmp_path) as workflow:
        model = CostModel(workflow.supernet, run.task, {})
        for name, most in (("params", 2500), ("macs", 2400)):
            assert model.metric(name, [found.arch, *archs]).max() <= most
    assert found.settings["limits"] == list(limits[:2]), "errors are left to the study"


def test_latency_is_fitted_to_what_is_predicted(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(targets.TARGETS, "cpu", partial(CPUTarget, budget_s=0.02, warmup=1))  # type: ignore[arg-type]
    timed = replace(run, objectives=("error", "latency_ms@cpu"))
    with opened(timed, tmp_path) as workflow:
        predictors = workflow.measure()
        model = CostModel(workflow.supernet, run.task, predictors)
        costs = learning.expected(timed, workflow.supernet, model, ["latency_ms@cpu", "params", "latency_ms@cpu"])
        archs = run.space.sample_many(50, np.random.default_rng(0))
        exact = [cost.of(arch) for cost in (costs["params"],) for arch in archs]
        assert exact == model.metric("params", archs).tolist()
        fit, told = (
            np.array([costs["latency_ms@cpu"].of(arch) for arch in archs]),
            model.metric("latency_ms@cpu", archs),
        )
        assert np.square(fit - told).sum() < 0.1 * np.square(told - told.mean()).sum()
        assert costs["latency_ms@cpu"](Mixture(run.space)).item() > 0
        (found,) = workflow.distributions(predictors)
    assert found.settings["objectives"] == ["error", "latency_ms@cpu"]


def test_a_rough_fit_is_warned_of(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = learning.fitted
    monkeypatch.setattr(learning, "fitted", lambda *data: replace(fitted(*data), r2=0.42))
    few = replace(run, objectives=("error", "activation_bytes"))
    with opened(few, tmp_path) as workflow:
        (found,) = workflow.distributions({})
    assert found.warnings[-1].startswith("the expected activation_bytes explains 42% of how networks differ in it")


def test_a_study_goes_on_from_the_settings_it_was_begun_with(
    run: Run, tmp_path: Path, never_again: Callable[[], None]
) -> None:
    begun = replace(run, searcher="evolution", gradient="gdas(temperature=5)")
    found, archs = searched(begun, tmp_path)
    never_again()
    since = replace(run, searcher="random", gradient="", gradient_search=GradientConfig())
    with Repository(f"sqlite:///{tmp_path / 'nas.db'}", read_only=True) as stored:
        study = stored.study("tiny")
        assert study.supernet_digest is not None
        restored = as_trained(since, study, stored.supernet(study.supernet_digest), stored.distributions("tiny"))
    assert (restored.searcher, restored.gradient) == ("evolution", "gdas(temperature=5)")
    assert searched(restored, tmp_path) == (found, archs)
