"""Forecasts read settings, curves and weights; weights as graphs whose hidden units have no order; nothing leaks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from nas.errors import NasError
from nas.execution.executors import InProcess
from nas.execution.processes import ProcessExecutor
from nas.fidelity import ledger
from nas.fidelity._forecaster import Forecaster, Logged, Question
from nas.fidelity._normal_scores import NormalScores
from nas.fidelity._weights import Reader, layers
from nas.fidelity.forecasting import Forecasting
from nas.fidelity.ledger import cost_going_on
from nas.records import Evaluation
from nas.stages import tuning
from search_spaces import Architecture, Space, choice
from supernets import checkpoints
from tests.nas.command import TINY, Nas, caller
from tests.nas.tiny_run import run

State = dict[str, Tensor]


def perceptron(seed: int = 0) -> State:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3)).double().state_dict()


def convolutional() -> State:
    torch.manual_seed(1)
    module = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(), nn.Linear(8 * 4, 3)
    ).double()
    for name, tensor in module.state_dict().items():
        if "running" in name:
            tensor.uniform_(0.5, 2)
    return module.state_dict()


def embedded(state: State) -> Tensor:
    torch.manual_seed(2)
    with torch.no_grad():
        found: Tensor = Reader(16)([layers(state)])[0]
    return found


def permuted_perceptron(state: State) -> State:
    order = torch.randperm(8)
    return (
        state
        | {name: state[name][order] for name in ("0.weight", "0.bias")}
        | {"2.weight": state["2.weight"][:, order]}
    )


def permuted_convolutional(state: State) -> State:
    order = torch.randperm(8)
    changed = {name: tensor[order] for name, tensor in state.items() if name[0] in "012" and tensor.dim()}
    return state | changed | {"4.weight": state["4.weight"].reshape(3, 8, 4)[:, order].reshape(3, 32)}


@pytest.mark.parametrize(
    ("state", "permuted"),
    [(perceptron(), permuted_perceptron), (convolutional(), permuted_convolutional)],
    ids=["perceptron", "convolutional"],
)
def test_an_embedding_does_not_know_the_order_of_hidden_units(state: State, permuted: Callable[[State], State]) -> None:
    torch.manual_seed(3)
    for _ in range(5):
        other = permuted(state)
        assert any(not torch.equal(other[name], state[name]) for name in state)
        torch.testing.assert_close(embedded(other), embedded(state), rtol=0, atol=1e-14)


def test_what_is_no_symmetry_of_a_network_changes_its_embedding() -> None:
    state, order = perceptron(), torch.randperm(8, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    rows = [row[torch.randperm(8, generator=generator)] for row in state["2.weight"]]
    scrambled = state | {"2.weight": torch.stack(rows)}
    half = state | {"2.weight": state["2.weight"][:, order]}
    for other in (scrambled, half, perceptron(seed=5)):
        assert (embedded(other) - embedded(state)).abs().max() > 1e-6


def trainings(n: int = 12, epochs: int = 4, seed: int = 0) -> list[Logged]:
    rng = np.random.default_rng(seed)
    found = []
    for number in range(n):
        quality = rng.random()
        curve = tuple((0.2 + quality + np.exp(-np.arange(epochs)) + 0.02 * rng.standard_normal(epochs)).tolist())
        states = tuple(layers(perceptron(1000 * seed + 100 * number + epoch)) for epoch in range(epochs))
        found.append(Logged(np.array([quality, rng.random()]), curve, states))
    return found


@pytest.fixture(scope="module")
def model() -> Forecaster:
    return Forecaster(trainings(), horizon=6, steps=30)


def asked(model: Forecaster, *questions: Question) -> list[float]:
    return np.concatenate(model.forecast(questions)).tolist()


def test_of_a_training_that_has_not_begun_no_weights_are_read(model: Forecaster) -> None:
    one = trainings(1, seed=9)[0]
    bare = Logged(one.settings, ())
    assert asked(model, Question(one, 0, 3)) == asked(model, Question(bare, 0, 3))


def test_what_comes_later_is_not_read(model: Forecaster) -> None:
    one, other = trainings(2, seed=9)
    later = Logged(one.settings, (*one.curve[:2], *other.curve[2:]), (*one.states[:2], *other.states[2:]))
    assert asked(model, Question(one, 2, 6)) == asked(model, Question(later, 2, 6))
    before = Logged(one.settings, one.curve, (one.states[0], other.states[1], *one.states[2:]))
    assert asked(model, Question(one, 2, 6)) != asked(model, Question(before, 2, 6)), "those of its time are"


def test_learning_reads_no_weights_of_the_epoch_that_is_to_be_told(model: Forecaster) -> None:
    """The last weights of a training are those of its last value, which they would tell."""
    others = trainings(seed=7)
    changed = [
        Logged(one.settings, one.curve, (*one.states[:-1], other.states[-1]))
        for one, other in zip(trainings(), others, strict=True)
    ]
    question = Question(trainings(1, seed=9)[0], 2, 6)
    assert asked(Forecaster(changed, horizon=6, steps=30), question) == asked(model, question)
    changed = [
        Logged(one.settings, one.curve, (other.states[0], *one.states[1:]))
        for one, other in zip(trainings(), others, strict=True)
    ]
    assert asked(Forecaster(changed, horizon=6, steps=30), question) != asked(model, question)


def test_without_weights_it_is_the_model_of_curves(model: Forecaster) -> None:
    bare = [Logged(one.settings, one.curve) for one in trainings()]
    question = Question(trainings(1, seed=9)[0], 2, 6)
    with_states = asked(Forecaster(trainings(), 6, weights=False, steps=30), question)
    assert with_states == asked(Forecaster(bare, 6, weights=False, steps=30), question)
    assert with_states != asked(model, question)


def test_it_forecasts_better_than_the_last_value_and_says_how_sure_it_is() -> None:
    model = Forecaster(trainings(20), horizon=4, seen=1, steps=60)
    held = trainings(10, seed=3)
    mean, spread = model.forecast([Question(one, 1, 4) for one in held])
    true = np.array([one.curve[-1] for one in held])
    assert np.abs(mean - true).mean() < 0.3 * np.abs(np.array([one.curve[0] for one in held]) - true).mean()
    assert (spread > 0).all() and np.isfinite(spread).all()
    same = Forecaster(trainings(20), horizon=4, seen=1, steps=60).forecast([Question(one, 1, 4) for one in held])
    assert same[0].tolist() == mean.tolist(), "the same trainings, the same forecasts"


def test_a_noisy_end_lies_within_what_is_said_of_it() -> None:
    """The deviations of single trainings, which the noise is part of, hold about what those of a normal one do."""
    model = Forecaster(trainings(30), horizon=4, seen=1)
    held = trainings(60, seed=3)
    questions = [Question(one, 1, 4) for one in held]
    mean, spread = model.forecast(questions, noise=True)
    assert (spread > model.forecast(questions)[1]).all()
    off = np.abs(mean - np.array([one.curve[-1] for one in held])) / spread
    assert (off < 1.645).mean() > 0.6


def test_of_each_training_one_end_is_learnt() -> None:
    """What came before the epoch that is seen adds no pair, and what has not come further has no end."""
    some = trainings(6)
    short = Logged(some[0].settings, some[0].curve[:2], some[0].states[:2])
    model = Forecaster([short, *some[1:]], horizon=4, seen=2, steps=1)
    assert len(model._y) == 5
    assert len(Forecaster([short, *some[1:]], horizon=4, steps=1)._y) == 2 + 5 * 4


@given(st.lists(st.floats(-1e3, 1e3).map(lambda value: round(value, 2)), min_size=1, max_size=30), st.floats(-3e3, 3e3))
def test_normal_scores_have_an_inverse_and_keep_the_order(values: list[float], other: float) -> None:
    scores = NormalScores(np.array(values))
    asked = np.array(sorted({*values, round(other, 2)}))
    found = scores(asked)
    assert (np.diff(found) > 0).all()
    np.testing.assert_allclose(scores.inverse(found), asked, rtol=1e-7, atol=1e-7)


def test_normal_scores_are_those_of_a_normal_distribution_whatever_the_values() -> None:
    values = np.exp(3 * np.random.default_rng(0).standard_normal(4000))
    found = NormalScores(values)(values)
    assert abs(found.mean()) < 1e-9 and abs(found.std() - 1) < 0.01
    skewed = NormalScores(np.array([1.0, 2.0, 2.0, 2.0, 50.0]))
    assert skewed(np.array([2.0]))[0] == pytest.approx(0), "of equal values the middle"


class Numbers(Space):
    quality = choice(*range(20))
    other = choice(1, 2, 3)


def look_up(arch: Architecture, epoch: int) -> dict[str, float]:
    if arch.quality == 7:
        raise ValueError("diverged")
    return {"error": 0.02 * arch.quality + 0.5 * 0.6**epoch}


def test_epochs_are_paid_once_and_go_where_it_promises() -> None:
    search = Forecasting(Numbers(), look_up, "error", largest=5, pool=16, start=6)
    best = search.run(24)
    trials = search.ledger.trials
    assert len(trials) == 24 == cost_going_on(trials), "what is spent is the sum of the epochs added"
    for arch in {trial.config for trial in trials}:
        budgets = [trial.budget for trial in trials if trial.config == arch]
        assert budgets == list(range(1, len(budgets) + 1))
    assert best is not None and best.config.quality == min(arch.quality for arch in search.pool)
    failed = [trial for trial in trials if trial.error]
    assert all(trial.budget == 1 for trial in failed), "what failed does not go on"


def told(search: Forecasting) -> list[object]:
    return [(t.config, t.budget, t.metrics, t.error, t.forecast) for t in search.ledger.trials]


@pytest.mark.parametrize("at_once", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_stopped_search_goes_on_as_one_never_stopped(tmp_path: Path, at_once: int) -> None:
    """Wherever it stopped: 5 is in the middle of a round of three, and 14 in one that has two."""

    def made(path: Path) -> Forecasting:
        settings: dict[str, Any] = {"largest": 3, "pool": 6, "start": 4, "at_once": at_once, "path": path}
        return Forecasting(Numbers(), look_up, "error", **settings)

    whole = made(tmp_path / "whole.jsonl")
    whole.run(20)
    for stop in (5, 7, 11, 14, 20):
        made(tmp_path / "cut.jsonl").run(stop)
    assert told(made(tmp_path / "cut.jsonl")) == told(whole)
    assert (tmp_path / "cut.jsonl").read_text().splitlines()[0] == (tmp_path / "whole.jsonl").read_text().split("\n")[0]


class Backwards:
    """An executor whose trainings end in the opposite order, as those of several workers may."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def run(self, evaluate: Any, archs: Sequence[Architecture]) -> Iterator[Evaluation]:
        self.sizes.append(len(archs))
        found = {arch: next(iter(InProcess().run(evaluate, [arch]))) for arch in reversed(archs)}
        yield from (found[arch] for arch in archs)


def test_which_training_ends_first_changes_nothing() -> None:
    settings: dict[str, Any] = {"largest": 4, "pool": 12, "start": 5, "at_once": 3}
    there = Backwards()
    one, other = (Forecasting(Numbers(), look_up, "error", executor=e, **settings) for e in (there, InProcess()))
    one.run(19)
    other.run(19)
    assert told(one) == told(other)
    assert there.sizes == [5, 3, 3, 3, 3, 2], "the start, rounds, and what is left to pay"
    for first in range(5, 17, 3):
        digests = {trial.config.digest for trial in one.ledger.trials[first : first + 3]}
        assert len(digests) == 3, "no training waits for itself"


def test_another_number_at_once_is_another_search(tmp_path: Path) -> None:
    Forecasting(Numbers(), look_up, "error", path=tmp_path / "a.jsonl", start=2).run(3)
    with pytest.raises(NasError, match="at_once is 1 there and 2 here"):
        Forecasting(Numbers(), look_up, "error", path=tmp_path / "a.jsonl", start=2, at_once=2)


def test_what_was_forecast_is_stored_beside_what_came_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    search = Forecasting(Numbers(), look_up, "error", largest=4, pool=10, start=4, path=path)
    search.run(16)
    header, trials = ledger.read(path)
    assert header["objective"] == "error" and header["largest"] == 4
    assert [replace(trial, seconds=0) for trial in trials] == [replace(one, seconds=0) for one in search.ledger.trials]
    assert [trial.forecast is None for trial in trials] == [True] * 4 + [False] * 12, "the start was not chosen by it"
    off = [(t.metrics["error"] - t.forecast[0]) / t.forecast[1] for t in trials if t.forecast and not t.error]
    assert all(t.forecast[1] > 0 for t in trials if t.forecast)
    assert np.median(np.abs(off)) < 3, "outcomes are about where they were expected"
    before = path.read_bytes()
    path.write_bytes(before + b'{"config": {"is"')
    assert ledger.read(path)[1] == trials and path.read_bytes() != before, "a line half written is left where it is"
    path.write_bytes(b"")
    with pytest.raises(NasError, match=r"a\.jsonl is empty: its search has only begun"):
        ledger.read(path)


def test_all_trainings_come_to_their_end() -> None:
    search = Forecasting(Numbers().where(quality=(1, 2), other=1), look_up, "error", largest=2, pool=10, start=2)
    search.run(100)
    assert search.paid == 4


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"largest": 1}, "largest is 1: a model needs 2 or more"),
        ({"pool": 1}, "pool is 1: a model needs 2 or more"),
        ({"start": 0}, "start is 0: a model needs 2 or more"),
        ({"at_once": 0}, "at_once is 0: ask for 1 training or more at a time"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(settings: dict[str, int], said: str) -> None:
    with pytest.raises(NasError, match=said):
        Forecasting(Numbers(), look_up, "error", **settings)
    with pytest.raises(NasError, match="epochs = 3: the start alone takes 20; give more, or a smaller start"):
        Forecasting(Numbers(), look_up, "error").run(3)


def test_a_schedule_that_ends_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NasError, match="a training goes on where it was only with schedule="):
        tuning.forecast(run, tmp_path, run.training)


def test_weights_are_kept_after_every_epoch_in_order(tmp_path: Path) -> None:
    epoch = replace(run.training, steps=2, schedule="constant", evaluate_every=0, warmup=0.0)
    search = tuning.forecast(run, tmp_path, epoch, largest=3, pool=3, start=2)
    search.run(5)
    arch = max(search.pool, key=lambda one: len(search.logged(one).curve))
    logged = search.logged(arch)
    assert len(logged.states) == len(logged.curve) >= 2
    module = run.build(arch).state_dict()
    assert [len(layer.edges) for layer in logged.states[0]] == [len(t) for t in module.values() if t.dim() == 2]
    kept = checkpoints.at(tmp_path / "forecast" / arch.digest, 1)
    assert kept.meta["names"] == [name for name, tensor in module.items() if tensor.is_floating_point()]
    with pytest.raises(checkpoints.CheckpointError, match=r"checkpoint of step 9 in .* cannot be used"):
        checkpoints.at(tmp_path / "forecast" / arch.digest, 9)


def test_nas_tune_forecasts_and_goes_on(monkeypatch: Any, capsys: Any, tmp_path: Path) -> None:
    nas: Nas = caller(monkeypatch, capsys)
    words = ("tune", TINY, "--method", "forecast", "--steps", 2, "--largest", 4, "--pool", 6, "--runs", tmp_path)
    first = nas(*words, "--epochs", 6, "--schedule", "constant")
    assert first.status == 0, first.err
    assert "6 epochs of 2 steps paid for" in first.out and "best: " in first.out and "--epochs 12" in first.out
    more = nas(*words, "--epochs", 8, "--schedule", "constant")
    assert "8 epochs of 2 steps paid for" in more.out
    others = nas(*words, "--epochs", 9, "--schedule", "constant", "--workers", 2)
    assert others.status == 1 and "at_once is 1 there and 2 here" in others.err
    refused = nas(*words, "--epochs", 6)
    assert refused.status == 1 and "nas tune --schedule constant" in refused.err and refused.err.count("\n") == 1


@pytest.mark.slow
def test_on_two_processes_it_finds_what_one_asking_for_two_finds(tmp_path: Path) -> None:
    epoch = replace(run.training, steps=2, schedule="constant", evaluate_every=0, warmup=0.0)
    settings: dict[str, Any] = {"largest": 3, "pool": 4, "start": 2, "at_once": 2}
    here = tuning.forecast(run, tmp_path / "here", epoch, **settings)
    here.run(7)
    with ProcessExecutor(2, None) as executor:
        file = Path(TINY).resolve()
        there = tuning.forecast(run, tmp_path / "there", epoch, executor=executor, run_file=file, **settings)
        there.run(7)
    assert told(there) == told(here)
