"""The gradient search of a run: learnt once, on weights that stay as they are, and what the study begins with."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nas import targets
from nas.errors import NasError
from nas.records import Distribution
from nas.run import Run
from nas.run_file import load
from nas.run_variants import as_trained
from nas.searchers.gradient.config import GradientConfig
from nas.searchers.gradient.front import FrontConfig
from nas.stages import gradient
from nas.stages.evaluators import CostModel
from nas.stages.gradient import distributions
from nas.stages.predicting import latencies
from nas.stages.studying import open_study
from nas.stages.workflow import Workflow
from nas.storage import Repository
from nas.targets import CPUTarget
from supernets.errors import SupernetError
from supernets.relaxation import Mixture
from tests.nas.command import TINY

QUICK = GradientConfig("drnas", steps=8, train_weights=False, lr_arch=0.1, checkpoint_every=4)


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
        study = open_study(workflow, latencies(workflow))
        study.run(run.evaluations)
        return workflow.repository.distributions(run.name), [e.arch for e in study.evaluations]


@pytest.fixture
def never_again(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def forbid() -> None:
        def never(*_: object, **__: object) -> Any:
            raise AssertionError("learnt again")

        monkeypatch.setattr(gradient, "learn", never)

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
        assert distributions(workflow, {})[0].settings["train_weights"] is train_weights
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
        pytest.param({"gradient_search": replace(QUICK, seed=1)}, marks=pytest.mark.slow),
        pytest.param({"objectives": ("error",)}, marks=pytest.mark.slow),
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
            distributions(workflow, {})
    (other,), _ = searched(replace(run, name="other", **changes), tmp_path)
    with Repository(f"sqlite:///{tmp_path / 'nas.db'}", read_only=True) as stored:
        assert stored.distributions("tiny") == [first]
    assert other.final != first.final


def test_saving_more_often_is_the_same_search(run: Run) -> None:
    often = replace(run, gradient_search=replace(QUICK, checkpoint_every=1))
    assert gradient.key(often, "w") == gradient.key(run, "w") != gradient.key(run, "v")


def test_limits_are_kept_by_the_derived_architecture(run: Run, tmp_path: Path) -> None:
    limits = ("params <= 2500", "error <= 0.95")
    (found,), archs = searched(replace(run, limits=limits, objectives=("error",)), tmp_path)
    with opened(run, tmp_path) as workflow:
        model = CostModel(workflow.supernet, run.task, {})
        assert model.metric("params", [found.arch, *archs]).max() <= 2500
    assert found.settings["limits"] == ["params <= 2500"], "errors are left to the study"


def test_latency_is_fitted_to_what_is_predicted(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(targets.TARGETS, "cpu", partial(CPUTarget, budget_s=0.02, warmup=1))  # type: ignore[arg-type]
    timed = replace(run, objectives=("error", "latency_ms@cpu"))
    with opened(timed, tmp_path) as workflow:
        predictors = latencies(workflow)
        model = CostModel(workflow.supernet, run.task, predictors)
        costs = gradient.expected(timed, workflow.supernet, model, ["latency_ms@cpu", "params", "latency_ms@cpu"])
        archs = run.space.sample_many(50, np.random.default_rng(0))
        exact = [cost.of(arch) for cost in (costs["params"],) for arch in archs]
        assert exact == model.metric("params", archs).tolist()
        fit, told = (
            np.array([costs["latency_ms@cpu"].of(arch) for arch in archs]),
            model.metric("latency_ms@cpu", archs),
        )
        assert np.square(fit - told).sum() < 0.1 * np.square(told - told.mean()).sum()
        assert costs["latency_ms@cpu"](Mixture(run.space)).item() > 0
        (found,) = distributions(workflow, predictors)
    assert found.settings["objectives"] == ["error", "latency_ms@cpu"]


def test_a_rough_fit_is_warned_of(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = gradient.fitted
    monkeypatch.setattr(gradient, "fitted", lambda *data: replace(fitted(*data), r2=0.42))
    monkeypatch.setattr(gradient, "NUM_SAMPLED", 20)
    few = replace(run, objectives=("error", "activation_bytes"))
    with opened(few, tmp_path) as workflow:
        (found,) = distributions(workflow, {})
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


# --- one distribution or a front


def test_where_a_cost_is_an_objective_the_usual_search_is_a_front(run: Run) -> None:
    usual = replace(run, gradient_search=None, gradient="")
    learning_of = {
        names: replace(usual, objectives=names).gradient_settings for names in (("error",), ("error", "params"))
    }
    alone, front = learning_of.values()
    assert isinstance(alone, GradientConfig) and isinstance(front, FrontConfig)
    assert not alone.train_weights and not front.search.train_weights
    assert alone.method == GradientConfig().method and front.search.method == FrontConfig().search.method


def test_a_front_has_a_distribution_for_each_trade_off(run: Run, tmp_path: Path) -> None:
    begun = replace(run, searcher="evolution", gradient="gdas", gradient_search=FrontConfig(QUICK, divisions=2))
    found, archs = searched(begun, tmp_path)
    assert [one.label for one in found] == ["0.00", "0.50", "1.00"]
    derived = list(dict.fromkeys(one.arch for one in found))
    assert archs[: len(derived)] == derived
    since = replace(
        begun, gradient_search=FrontConfig(replace(QUICK, steps=3), divisions=2), searcher="random", gradient=""
    )
    with Repository(f"sqlite:///{tmp_path / 'nas.db'}", read_only=True) as stored:
        study = stored.study("tiny")
        restored = as_trained(since, study, stored.supernets()[0], stored.distributions("tiny"))
    assert gradient.key(restored, "w") == gradient.key(begun, "w") != gradient.key(replace(begun, gradient="snas"), "w")


class Scaled(nn.Module):
    """What it computes depends on the architecture by a plain number, which no mixture can follow."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.factor = float(width)
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x) * self.factor


def test_a_model_that_does_not_relax_is_refused_before_it_is_trained(run: Run, tmp_path: Path) -> None:
    odd = replace(run, build=lambda arch: Scaled(arch["width"]))
    with opened(odd, tmp_path) as workflow, pytest.raises(SupernetError, match="these change with it: factor"):
        _ = workflow.supernet
    assert not (tmp_path / "runs").exists()
    with opened(replace(odd, searcher="random", gradient=""), tmp_path) as workflow:
        assert workflow.result.steps == 8
