"""The loop: known optima are found, limits are kept as measured, weights stay where they should, resuming is exact."""

import logging
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gains
import normed
import pytest
import torch
from gains import Missing, Price
from torch import Tensor

from nas.errors import NasError
from nas.objectives.limits import parse
from nas.records import Distribution
from nas.searchers.gradient.adam import Adam
from nas.searchers.gradient.config import GradientConfig, GradientSearchError
from nas.searchers.gradient.halves import Halves
from nas.searchers.gradient.loop import relax, search
from nas.searchers.gradient.methods import Darts
from nas.searchers.gradient.operations import parameter_free
from nas.searchers.gradient.stepper import MAX_SKIPPED_IN_A_ROW
from search_spaces import Architecture
from supernets import Supernet
from supernets.calibrate import recalibrate
from supernets.checkpoints import CheckpointError, newest
from supernets.relaxation import Mixture
from supernets.tasks import Classification

METHODS = ["darts(regulariser=none)", "drnas", "gdas", "gdas(sparse=yes)", "snas", "small-temperature"]


class Cut(Exception):
    """Stands for whatever ends a search."""


def cutting(step: int) -> Callable[[int], None]:
    def before(now: int) -> None:
        if now == step:
            raise Cut

    return before


def quietly(supernet: Supernet | None = None, task: Any = None, **settings: Any) -> Distribution:
    apart = ("costs", "objectives", "limits", "measured", "directory")
    given = {name: settings.pop(name) for name in apart if name in settings}
    given["limits"] = [parse(text) for text in given.get("limits", ())]
    (found,) = search(
        supernet or gains.supernet(), task or Missing(), gains.config(**settings), progress=False, **given
    )
    return found


def levels(distribution: Distribution) -> tuple[str, ...]:
    found: tuple[str, ...] = distribution.arch.level
    return found


def price(distribution: Distribution, row: int = -1) -> float:
    """Expected, of what was learnt."""
    shares = list(gains.LEVELS.values())
    return sum(
        sum(p * s for p, s in zip(rows[row], shares, strict=True)) for rows in distribution.probabilities.values()
    )


def untimed(distribution: Distribution) -> Distribution:
    return replace(distribution, seconds=0.0)


def state(supernet: Supernet) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in supernet.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- what is learnt -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [m for m in METHODS if "sparse" not in m])
def test_the_best_architecture_is_found(method: str) -> None:
    found = quietly(method=method, steps=60, lr_arch=0.2)
    assert levels(found) == ("on",) * 4
    assert all(vector[2] > 0.8 for vector in found.final.values())


def test_what_is_seen_one_option_at_a_time_comes_near_it() -> None:
    """It may settle on the second best of a block."""
    assert sum(level == "on" for level in levels(quietly(method="gdas(sparse=yes)", steps=75, lr_arch=0.2))) >= 3


def test_objectives_are_weighed_by_their_ranges() -> None:
    """A block pays where its share of the gains, 1 to 4 of 10, is more than its share of the price, 1 of 4."""
    found = quietly(costs={"price": Price()}, objectives=("price", "error"), steps=100)
    assert levels(found) == ("off", "off", "on", "on")
    assert found.settings["objectives"] == ["error", "price"] and found.settings["preference"] == [0.5, 0.5]


def test_it_is_followed_from_the_beginning_to_the_end() -> None:
    found = quietly(steps=200)
    assert found.steps[0] == 0 and found.steps[-1] == 200 and 95 <= len(found.steps) <= 101
    assert all(len(rows) == len(found.steps) for rows in found.probabilities.values())
    assert price(found, 0) == pytest.approx(2, abs=0.01) and price(found) > 3.9


def test_every_choice_is_recorded_with_every_option_of_its_declaration() -> None:
    space = gains.Blocks().where(level=("off", "on"))
    found = quietly(Supernet(space, gains.Sum), steps=40)
    assert set(found.final) == {slot.path for slot in space.slots}
    assert all(len(vector) == 3 and vector[1] == 0 for vector in found.final.values())
    assert levels(found) == ("on",) * 4


# --- limits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bounds", ["projection", "lagrangian"])
@pytest.mark.parametrize("method", ["darts(regulariser=none)", "drnas"])
def test_limits_are_kept_and_used_up_by_what_gains_most(method: str, bounds: str) -> None:
    found = quietly(
        method=method, bounds=bounds, costs={"price": Price()}, limits=["price <= 2"], steps=75, lr_arch=0.2
    )
    assert Price().of(found.arch) <= 2 and price(found) <= 2.0001 and found.warnings == ()
    if bounds == "projection":  # all gradients lead beyond the bound, and those of the last two blocks most
        assert levels(found) == ("off", "off", "on", "on")


def test_bounds_come_down_by_and_by() -> None:
    found = quietly(costs={"price": Price()}, limits=["price <= 1"], steps=100, annealing=1.0)
    halfway = len(found.steps) // 2
    assert price(found, 0) == pytest.approx(2, abs=0.01) and price(found, halfway) == pytest.approx(1.5, abs=0.02)
    assert levels(found) == ("off", "off", "off", "on")


def test_limits_from_below_are_kept_too() -> None:
    found = quietly(costs={"price": Price()}, objectives=("error", "price"), limits=["price >= 3"], steps=100)
    assert levels(found) == ("off", "on", "on", "on")


def test_what_is_measured_counts() -> None:
    """Networks cost twice what is counted, so the bound on the expectation is tightened until one fits."""
    found = quietly(
        costs={"price": Price()}, limits=["price <= 2"], steps=100, measured=lambda a: {"price": 2 * Price().of(a)}
    )
    assert 0 < 2 * Price().of(found.arch) <= 2 and price(found) < 2
    assert not any("limit" in line for line in found.warnings)


def test_a_limit_that_no_measurement_keeps_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    def measured(arch: Architecture) -> dict[str, float]:
        return {"price": 5 + Price().of(arch)}

    with caplog.at_level(logging.WARNING):
        found = quietly(costs={"price": Price()}, limits=["price <= 2"], steps=20, measured=measured)
    warning = found.warnings[0]
    assert "price <= 2" in warning and "nearest found is price = 5" in warning and warning in caplog.text
    assert levels(found) == ("off",) * 4


def test_a_limit_out_of_reach_ends_it_before_anything_is_trained() -> None:
    touched = []
    with pytest.raises(GradientSearchError, match=r"price <= -1.*nearest found is price = 0") as caught:
        quietly(task=Missing(before=touched.append), costs={"price": Price()}, limits=["price <= -1"])
    assert not touched and "\n" not in str(caught.value)


# --- weights ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_weights_that_are_not_trained_stay_bit_for_bit(method: str) -> None:
    supernet = gains.supernet()
    before = state(supernet)
    quietly(supernet, method=method, steps=5)
    assert same(state(supernet), before) and supernet.gradients() == {}


@pytest.mark.parametrize("method", ["darts", "darts(order=2)", "drnas"])
def test_architecture_steps_leave_no_gradient_of_weights(method: str) -> None:
    supernet = gains.supernet()
    before = state(supernet)
    quietly(supernet, method=method, steps=6, train_weights=True)
    assert not same(state(supernet), before) and supernet.gradients() == {}


def test_in_warm_up_weights_alone_are_trained() -> None:
    found = quietly(steps=20, train_weights=True, warmup=0.5)
    assert found.steps[:2] == (0, 10)
    assert all(rows[0] == rows[1] and rows[1] != rows[2] for rows in found.probabilities.values())


def test_decay_of_the_architecture_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the regulariser alone: the optimiser moves nothing without a gradient."""
    taken: list[list[Tensor]] = []
    monkeypatch.setattr(Darts, "initial", lambda self, num_options, rng: torch.arange(float(num_options)))
    monkeypatch.setattr(Adam, "step", lambda self, gradients: taken.append([*gradients]))
    quietly(method="darts", steps=1)
    quietly(method="darts(regulariser=none)", steps=1)
    for decayed, plain in zip(*taken, strict=True):
        assert torch.allclose(decayed - plain, 1e-3 * torch.arange(3.0), rtol=1e-4, atol=1e-8)
    monkeypatch.undo()
    leaf = torch.ones(3)
    Adam([leaf], 0.1).step([torch.zeros(3)])
    assert torch.equal(leaf, torch.ones(3))


def test_second_order_finds_it_as_well() -> None:
    found = quietly(method="darts(order=2, regulariser=none)", steps=60, train_weights=True, warmup=0.0, lr=1e-4)
    assert levels(found) == ("on",) * 4


def test_second_order_needs_weights_that_are_trained() -> None:
    with pytest.raises(GradientSearchError, match="order=1"):
        quietly(method="darts(order=2)")


def test_the_halves_have_no_example_in_common() -> None:
    inputs = torch.arange(40.0)[:, None]
    task = Classification((inputs, torch.arange(40)), (inputs, torch.arange(40)), batch_size=10)
    halves = Halves(task, 3, torch.device("cpu"))
    weights, architecture = (
        {int(label) for step in range(4) for label in batch(step).targets}
        for batch in (halves.weights, halves.architecture)
    )
    assert len(weights) == len(architecture) == 20 and not weights & architecture


def test_weights_that_are_not_trained_have_seen_the_training_examples() -> None:
    """So the architecture learns from validation batches, or from all training examples where the task draws none."""
    inputs, labels = torch.arange(40.0)[:, None], torch.arange(40)
    task = Classification((inputs, labels), (inputs[:30], 40 + labels[:30]), batch_size=10, num_classes=80)
    held_out = Halves(task, 3, torch.device("cpu"), split=False)
    assert {int(label) for step in range(3) for label in held_out.architecture(step).targets} == set(range(40, 70))
    drawing_none, seen = Missing(), list[int]()
    drawing_none.select = lambda indices, step, seed: seen.extend(indices)  # type: ignore[method-assign, func-returns-value]
    whole = Halves(drawing_none, 3, torch.device("cpu"), split=False)
    for step in range(10):
        whole.architecture(step)
    assert sorted(seen) == list(range(40))


# --- resuming -----------------------------------------------------------------------------------------------------

CASES: list[dict[str, Any]] = [
    {"method": "drnas"},
    {"method": "gdas(sparse=yes)", "optimizer": "sgd", "costs": {"price": Price()}, "objectives": ("error", "price")},
    {"method": "snas", "bounds": "lagrangian", "costs": {"price": Price()}, "limits": ["price <= 1"]},
    {"method": "darts(order=2)", "costs": {"price": Price()}, "limits": ["price <= 1"]},
]


@pytest.mark.parametrize(
    ("case", "cut"),
    [*((case, 13) for case in CASES), (CASES[-1], 4), (CASES[-1], 18)],
    ids=lambda value: str(value["method"] if isinstance(value, dict) else value),
)
def test_cut_and_resumed_is_as_never_cut(tmp_path: Path, case: dict[str, Any], cut: int) -> None:
    settings = {**case, "steps": 10, "train_weights": True, "checkpoint_every": 2, "warmup": 0.3}
    whole, resumed = gains.supernet(), gains.supernet()
    expected = quietly(whole, **settings)
    with pytest.raises(Cut):
        quietly(task=Missing(before=cutting(cut)), directory=tmp_path, **settings)
    taken: list[int] = []
    found = quietly(resumed, Missing(before=taken.append), directory=tmp_path, **settings)
    assert untimed(found) == untimed(expected) and same(state(resumed), state(whole))
    assert min(taken) == cut // 4 * 4, "batches are numbered two a step, and checkpoints are two steps apart"


def test_finished_is_finished(tmp_path: Path) -> None:
    expected = quietly(steps=10, directory=tmp_path)
    touched: list[int] = []
    assert untimed(quietly(task=Missing(before=touched.append), steps=10, directory=tmp_path)) == untimed(expected)
    assert touched == []


def test_other_settings_do_not_go_on(tmp_path: Path) -> None:
    quietly(steps=4, directory=tmp_path)
    with pytest.raises(CheckpointError, match=r"config\.lr_arch is 0\.1 there and 0\.2 here"):
        quietly(steps=4, directory=tmp_path, lr_arch=0.2)


@pytest.mark.parametrize("method", METHODS)
def test_equal_seeds_give_equal_results(method: str) -> None:
    one, other, third = (quietly(method=method, steps=4, train_weights=True, seed=seed) for seed in (1, 1, 2))
    assert untimed(one) == untimed(other) and one.probabilities != third.probabilities


def test_the_callers_random_numbers_are_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    quietly(method="drnas", steps=3, train_weights=True)
    assert torch.equal(torch.rand(3), expected)


# --- what goes wrong ----------------------------------------------------------------------------------------------


def test_a_step_that_is_not_finite_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = quietly(task=Missing(broken=(7,)), steps=10)  # batch 7 is the architecture's of step 3
    assert "step 3 of the architecture is skipped" in caplog.text and found.settings["skipped"] == 1
    assert all(math.isfinite(p) for vector in found.final.values() for p in vector)


def test_too_many_of_them_end_it() -> None:
    with pytest.raises(GradientSearchError, match=f"{MAX_SKIPPED_IN_A_ROW} steps in a row.*lower lr"):
        quietly(task=Missing(broken=range(200)), steps=100)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objectives": ("error", "energy")}, "'energy' has no expected cost.*none"),
        ({"objectives": ("price",), "costs": {"price": Price()}}, "name its metric too, 'error'"),
        ({"limits": ["energy <= 1"]}, "'energy <= 1' is on a metric without an expected cost"),
        ({"steps": 0}, "steps = 0: it must be at least 1"),
        ({"warmup": 1.0}, "warmup = 1.0: it must be a share"),
        ({"partial": 0}, "partial = 0: it must be at least 1: 1 for all channels, n for one channel in n"),
        ({"bounds": "hope"}, "bounds = 'hope' is unknown: choose one of projection, lagrangian"),
        ({"method": "luck"}, "no gradient method is called 'luck'"),
    ],
)
def test_what_cannot_be_is_said(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((NasError, RuntimeError), match=message) as caught:
        quietly(**settings)
    assert "\n" not in str(caught.value)


def test_a_space_without_a_choice_is_said() -> None:
    with pytest.raises(GradientSearchError, match="has no open choice, so there is nothing"):
        quietly(Supernet(gains.Blocks().where(level="on"), gains.Sum))


def test_defaults_are_a_configuration() -> None:
    assert GradientConfig().first == 400 and GradientConfig(train_weights=False).first == 0
    assert GradientConfig().progress(399) == 0 and GradientConfig().progress(1999) == 1


# --- batch norm, operations, collapse -----------------------------------------------------------------------------


def test_running_statistics_stay_where_weights_do() -> None:
    supernet = normed.supernet()
    before = state(supernet)
    quietly(supernet, normed.task(), steps=4)
    assert any("running_mean" in name for name in before) and same(state(supernet), before)


def test_running_statistics_are_those_of_weight_steps() -> None:
    """The architecture's steps run in training mode too, and leave no trace in them."""
    one, other = normed.supernet(), normed.supernet()
    quietly(one, normed.task(), steps=4, train_weights=True, warmup=0.5, lr_arch=1e-12)
    quietly(other, normed.task(), steps=4, train_weights=True, warmup=0.75, lr_arch=1e-12)
    for name, tensor in state(one).items():
        assert torch.allclose(tensor, other.state_dict()[name], rtol=1e-6, atol=1e-8), name


@pytest.mark.parametrize("case", [{"method": "darts(order=2)"}, {"partial": 4}])
def test_batch_norm_resumes_too(tmp_path: Path, case: dict[str, Any]) -> None:
    settings = {"steps": 5, "train_weights": True, "checkpoint_every": 2, **case}
    whole, resumed = normed.supernet(), normed.supernet()
    expected = quietly(whole, normed.task(), **settings)
    quietly(normed.supernet(), normed.task(), directory=tmp_path, **settings)
    for path in tmp_path.glob("*005*"):
        path.unlink()
    found = quietly(resumed, normed.task(), directory=tmp_path, **settings)
    assert untimed(found) == untimed(expected) and same(state(resumed), state(whole))


def test_partial_channels_are_searched_through() -> None:
    """Others in each step, the same for equal seeds, and none while architectures are judged."""
    whole, part, again = (quietly(normed.supernet(), normed.task(), steps=6, partial=n) for n in (1, 3, 3))
    assert untimed(part) == untimed(again) and part.settings["partial"] == 3
    assert part.probabilities != whole.probabilities
    relaxed = relax(normed.supernet(), normed.task(), gains.config(partial=3))
    arch = normed.Operations().largest()
    mixed, alone = relaxed.scores(Mixture.one_hot(normed.Operations(), arch), arch, 0, 0)
    assert mixed == alone


def test_a_mixture_is_judged_as_by_a_network_made_for_it() -> None:
    """One network is made for all mixtures that are judged, and each is judged as if it were the first."""
    supernet, task = normed.supernet(), normed.task()
    quietly(supernet, task, steps=8, train_weights=True)
    relaxed, rng = relax(supernet, task, gains.config()), torch.Generator().manual_seed(1)
    for _ in range(5):
        logits = {path: 3 * torch.randn(len(kept), generator=rng) for path, kept in relaxed.free.items()}
        learnt = {path: vector.softmax(-1) for path, vector in logits.items()}
        mixture = Mixture(supernet.space, learnt)
        alone = recalibrate(supernet.relax(mixture), task.calibration(1))
        found = relaxed.scores(mixture, mixture.likeliest(), 0, 7)[0]
        assert found == task.score(alone, 0, 7) == relaxed.score({p: v.tolist() for p, v in learnt.items()}, 7)


def test_operations_without_parameters_are_known() -> None:
    assert parameter_free(normed.supernet()) == {f"operation.{i}": (True, False) for i in range(3)}
    narrow = Supernet(normed.Operations().where(operation=("linear",)), normed.Network)
    assert parameter_free(narrow) == {}


def test_collapse_is_warned_of_and_ends_a_search_where_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    def skipping(self: Any, num_options: int, rng: torch.Generator) -> Tensor:
        return torch.linspace(5, 0, num_options)

    monkeypatch.setattr("nas.searchers.gradient.methods.Darts.initial", skipping)
    monkeypatch.setattr("nas.searchers.gradient.collapse.BY_CHANCE", 0.2)  # three choices are few
    settings = {"steps": 20, "lr_arch": 1e-3}
    going, stopped = (
        quietly(normed.supernet(), normed.task(), stop_on_collapse=stop, **settings) for stop in (False, True)
    )
    assert going.steps[-1] == 20 and stopped.steps[-1] == 4
    assert any("after step 4" in line and "without parameters" in line for line in stopped.warnings)
    assert len(going.settings["scores"]) == 5 and len(stopped.settings["scores"]) == 2


def test_a_stopped_search_stays_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.searchers.gradient.collapse.parameter_free_preferred", lambda *_: "it has collapsed")
    one, other = (quietly(steps=20, stop_on_collapse=True, directory=tmp_path) for _ in range(2))
    assert untimed(one) == untimed(other) and one.steps[-1] == 4
    assert newest(tmp_path).step == 4, "the end is saved, so that no step is taken twice"


@pytest.mark.slow
def test_killed_and_resumed_is_as_never_killed(tmp_path: Path) -> None:
    command = [sys.executable, gains.__file__, str(tmp_path), "40"]
    environment = os.environ | {"PYTHONPATH": str(Path(gains.__file__).parents[3])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 41:
                process.kill()
                break
    assert process.returncode == -9
    touched: list[int] = []
    found = quietly(task=Missing(before=touched.append), steps=40, directory=tmp_path, checkpoint_every=10)
    assert min(touched) >= 40 and untimed(found) == untimed(quietly(steps=40, checkpoint_every=10))


def test_an_architecture_is_derived_by_what_the_mixture_can_least_do_without() -> None:
    found = quietly(method="darts(regulariser=none)", selection="perturbation", steps=60)
    assert levels(found) == ("on",) * 4
    assert found.settings["selection"] == "perturbation"
    with pytest.raises(GradientSearchError, match="selection = 'perturbation' ignores limits"):
        quietly(selection="perturbation", costs={"price": Price()}, limits=("price <= 2",))
    with pytest.raises(GradientSearchError, match="selection = 'worth' is unknown"):
        gains.config(selection="worth")
