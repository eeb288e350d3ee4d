"""Latencies of a space learnt from few networks, and when limits may hang on them."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from nas.errors import NasError
from nas.predictors import Ensemble, Ridge
from nas.records import TargetRecord
from nas.stages.latency import (
    AT_FIRST,
    PATIENCE,
    Latency,
    LatencyFitter,
    measured_for,
    of_record,
    record,
    refusal,
    serves,
)
from search_spaces import Architecture, Space, choice

Measure = Callable[[Sequence[Architecture]], list[float]]


class Blocks(Space):
    width = choice(8, 16, 24, 32)
    depth = choice(1, 2, 3, 4)
    kernel = choice(3, 5, 7, per="depth")


class Pair(Space):
    a = choice(1, 2, 3)
    b = choice(1, 2, 3)


class Machine:
    """Milliseconds that add up over blocks, with noise; it remembers what it was asked and measures nothing twice."""

    def __init__(self, noise: float = 0.0) -> None:
        self.noise = noise
        self.known: dict[str, float] = {}

    def __call__(self, archs: Sequence[Architecture]) -> list[float]:
        for arch in archs:
            if arch.digest not in self.known:
                rng = np.random.default_rng(int(arch.digest[:8], 16))
                self.known[arch.digest] = true(arch) * float(np.exp(self.noise * rng.normal()))
        return [self.known[arch.digest] for arch in archs]


def true(arch: Architecture) -> float:
    if "kernel" not in arch.to_dict():
        return float(arch.a + 2 * arch.b)
    return 0.5 + arch.width / 8 * sum(0.2 + kernel / 10 for kernel in arch.kernel)


SPACE = Blocks()
TARGET = TargetRecord("pi5", "cpu", {"processor": "one"})


def fitter(machine: Measure, most: int = 40, **settings: object) -> LatencyFitter:
    return LatencyFitter(SPACE, machine, most=most, **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def good() -> Latency:
    return fitter(Machine(0.01)).fit()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many are measured and which is no matter of the predictor, so one that is fitted in no time does."""
    monkeypatch.setattr("nas.stages.latency.Ensemble", Ridge)


def test_what_adds_up_is_learnt_from_few(good: Latency) -> None:
    assert AT_FIRST <= len(good.codes) <= 40
    assert good.quality is not None and good.quality.spearman > 0.95
    archs = SPACE.sample_many(200, np.random.default_rng(1))
    mean, _ = good.predict(archs)
    exact = np.array([true(arch) for arch in archs])
    assert np.mean(np.abs(mean / exact - 1)) < 0.08
    assert np.mean(exact <= good.upper(archs, 0.9)) > 0.8
    assert serves(good)


def test_of_what_was_measured_the_bound_is_what_it_took(good: Latency) -> None:
    assert np.array_equal(good.upper(good.codes, 0.9), good.ms)
    assert np.array_equal(good.upper(SPACE.decode(good.codes), 0.9), good.ms)


@pytest.mark.usefixtures("quick")
def test_what_is_hard_is_measured_as_often_as_allowed() -> None:
    machine = Machine(0.3)
    found = fitter(machine, most=25).fit()
    assert len(found.codes) == len(machine.known) == 25


@pytest.mark.usefixtures("quick")
def test_so_many_are_measured_where_that_is_asked_for() -> None:
    assert len(fitter(Machine(), most=17, wanted=None).fit().codes) == 17


@pytest.mark.usefixtures("quick")
def test_equal_searches_learn_equally() -> None:
    a, b = (fitter(Machine(0.2), most=20).fit() for _ in range(2))
    assert np.array_equal(a.codes, b.codes) and np.array_equal(a.ms, b.ms)


@pytest.mark.usefixtures("quick")
def test_learning_goes_on_from_what_is_known() -> None:
    machine = Machine(0.3)
    first = fitter(machine, most=15).fit()
    more = fitter(machine, most=30).fit(first.codes)
    assert np.array_equal(more.codes[:15], first.codes)
    assert len(more.codes) == len(machine.known) == 30
    assert len(fitter(machine, most=20).fit(more.codes).codes) == 30


@pytest.mark.usefixtures("quick")
def test_where_a_limit_hangs_on_a_poor_predictor_more_is_measured_and_then_refused() -> None:
    found = fitter(Machine(1.5), most=12, limits=[3.0]).fit()
    assert len(found.codes) == PATIENCE * 12
    assert not serves(found, [3.0])
    assert "measure" in refusal(found, "pi5") and "pi5" in refusal(found, "pi5")


@pytest.mark.usefixtures("quick")
def test_a_limit_far_from_all_may_hang_on_a_predictor_that_ranks_badly() -> None:
    def flat(archs: Sequence[Architecture]) -> list[float]:
        return [1 + 0.05 * np.random.default_rng(int(arch.digest[:8], 16)).normal() for arch in archs]

    found = fitter(flat, most=40, limits=[5.0]).fit()
    assert found.quality is not None and not found.quality.serves_limits
    assert len(found.codes) == 40
    assert serves(found, [5.0])
    assert not serves(found, [0.8])


def test_a_space_that_is_measured_whole_needs_no_prediction() -> None:
    space = Pair()
    machine = Machine(1.0)
    found = LatencyFitter(space, machine, most=40, limits=[3.0]).fit()
    assert found.is_whole() and len(found.codes) == 9
    assert serves(found, [3.0])


@pytest.mark.usefixtures("quick")
def test_of_a_table_only_what_it_has_is_asked_for() -> None:
    allowed = SPACE.sample_many(18, np.random.default_rng(0), distinct=True)
    machine = Machine(0.5)
    found = fitter(machine, most=40, allowed=allowed, limits=[2.0]).fit()
    assert set(machine.known) == {arch.digest for arch in allowed}
    assert len(found.codes) == 18


def test_another_target_helps() -> None:
    known = Ensemble(SPACE)
    archs = SPACE.sample_many(150, np.random.default_rng(5), distinct=True)
    known.fit(archs, Machine(0.01)(archs))

    def twice(archs: Sequence[Architecture]) -> list[float]:
        return [2.2 * true(arch) ** 1.05 for arch in archs]

    helped = fitter(twice, most=10, known={"old": known}).fit()
    alone = fitter(twice, most=10).fit()
    unseen = SPACE.sample_many(200, np.random.default_rng(6), distinct=True)
    errors = [np.mean(np.abs(one.predict(unseen)[0] / twice(unseen) - 1)) for one in (helped, alone)]
    assert helped.others == ("old",)
    assert errors[0] < min(0.06, errors[1])


def test_seconds_in_place_of_milliseconds_are_noticed(good: Latency) -> None:
    def seconds(archs: Sequence[Architecture]) -> list[float]:
        return [true(arch) / 1000 for arch in archs]

    found = fitter(seconds, most=10, before=good.bounded).fit()
    assert len(found.notes) == 1
    assert found.notes[0].startswith("beside earlier measurements: ") and "seconds" in found.notes[0]
    assert not fitter(Machine(0.01), most=10, before=good.bounded).fit().notes


def test_what_was_learnt_comes_back_from_its_record(good: Latency) -> None:
    stored = record(good, TARGET, "network")
    assert (stored.target, stored.version, stored.kind) == ("pi5", TARGET.version, "ensemble")
    assert stored.quality["serves_limits"] and stored.quality["verdict"] == good.quality.verdict  # type: ignore[union-attr]
    assert np.array_equal(measured_for(stored, SPACE), good.codes)
    archs = SPACE.sample_many(20, np.random.default_rng(2))
    np.testing.assert_allclose(of_record(stored, SPACE).predict(archs)[0], good.predict(archs)[0])
    with pytest.raises(NasError, match="space"):
        measured_for(stored, Pair())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, float("nan")], "not finite"),
        ([1.0, -2.0], "not above 0"),
        ([1.0, 1.0], "does not distinguish architectures"),
    ],
)
def test_nothing_is_learnt_from_impossible_latencies(values: list[float], message: str) -> None:
    def measure(archs: Sequence[Architecture]) -> list[float]:
        return [values[i % len(values)] for i in range(len(archs))]

    with pytest.raises(NasError, match=message):
        fitter(measure).fit()
