"""The parts of the search by a model, against plain computations."""

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.stats import kendalltau

from nas.objectives import pareto
from nas.objectives.limits import parse
from nas.records import Evaluation
from nas.searchers import SurrogateSearch
from nas.searchers._metrics import Metric, manner
from nas.searchers._offspring import children, surroundings
from nas.searchers._process import Differences, Process, _Posterior, learnt, prior_kernel, readings
from nas.searchers._volume import Gains, beyond, reference
from nas.searchers._warp import BENDS, Warp
from search_spaces import LayerSpace, Space, choice
from search_spaces.nasbench201 import NASBench201Space
from tests.contracts.searcher import OBJECTIVES, Blocks, evaluate


class Cells(Space):
    op = choice("none", "skip", "conv", per=5)
    width = choice(8, 16, 32)


class Deep(Space):
    """Far more networks than can be listed."""

    depth = choice(4, 8, 12)
    width = choice(8, 16, 32, 64, per="depth")


def differences(space: Space) -> Differences:
    return Differences(space.slots, space.domains)


class TestProcess:
    space = Cells()
    codes = space.sample_codes(60, np.random.default_rng(0))
    values = (codes[:, 0] == 2) * 2.0 + (codes[:, 3] == 1) * (codes[:, 0] != 1) + 0.1 * codes[:, -1]
    standardised = (values - values.mean()) / values.std()

    def test_differences_of_pairs_are_those_of_the_stack(self) -> None:
        own = differences(Blocks())
        codes = Blocks().sample_codes(12, np.random.default_rng(1))
        rates = np.random.default_rng(2).uniform(size=own.num_rates)
        stacked = (rates @ own.stacked(codes)).reshape(12, 12)
        np.testing.assert_allclose(own.between(codes, codes, rates), stacked, atol=1e-12)
        assert np.linalg.eigvalsh(np.exp(-stacked)).min() > -1e-9, "a covariance"

    def test_an_inactive_choice_is_a_level_of_its_own(self) -> None:
        own = differences(Deep())
        shallow, deep = Deep().codes([Deep(depth=4).smallest(), Deep(depth=8).smallest()])
        assert shallow[-1] == deep[-1] == -1
        both = np.stack([shallow, deep])
        apart = own.between(both, both, np.ones(own.num_rates))
        assert apart[0, 1] >= 4
        assert apart[0, 0] == 0

    def test_ordered_options_differ_by_their_distance(self) -> None:
        own = differences(Cells())
        codes = self.codes[:3].copy()
        codes[:] = codes[0]
        codes[:, -1] = [0, 1, 2]
        apart = own.between(codes, codes, np.ones(own.num_rates))
        assert apart[0, 1] == apart[1, 2] < apart[0, 2]

    def test_a_space_that_knows_what_has_an_effect_is_read_in_two_ways(self) -> None:
        assert len(readings(Cells())) == 1
        declared, effective = readings(NASBench201Space())
        none, conv = 0, 4
        dead = np.array([[none, none, conv, conv, none, none], [none] * 3 + [conv, none, none]], dtype=np.int16)
        rates = np.ones(declared.num_rates)
        assert declared.between(dead[:1], dead[1:], rates) > 0
        assert effective.between(dead[:1], dead[1:], rates) == 0

    def test_the_reading_that_predicts_best_is_taken(self) -> None:
        space = NASBench201Space()
        codes = space.sample_codes(60, np.random.default_rng(0))
        weights = np.linspace(0, 1, 30).reshape(6, 5)[np.arange(6)]
        as_read = [codes, space.effective_codes(codes)]
        for wanted, seen in zip(readings(space), as_read, strict=True):
            values = 1 + weights[np.arange(6), seen].sum(axis=1)
            found = manner(readings(space), codes, values)
            assert found.differences.one_hot(codes).tolist() == wanted.one_hot(codes).tolist()

    def test_the_gradient_of_the_posterior(self) -> None:
        posterior = _Posterior(differences(self.space).stacked(self.codes[:20]), self.standardised[:20])
        rng = np.random.default_rng(3)
        for _ in range(3):
            logs = rng.normal(-1, 0.5, size=differences(self.space).num_rates + 1)
            assert check_grad(lambda x: posterior(x)[0], lambda x: posterior(x)[1], logs) < 1e-4

    def test_it_predicts_what_it_did_not_see(self) -> None:
        own = differences(self.space)
        kernel = learnt(own.stacked(self.codes[:40]), self.standardised[:40])
        process = Process(own, self.codes[:40], self.standardised[:40], kernel)
        mean, spread = process.predict(self.codes[40:])
        errors = mean - self.standardised[40:]
        assert np.sqrt(np.mean(errors**2)) < 0.3
        assert np.mean(np.abs(errors) < 3 * spread + 0.1) > 0.9
        assert process.predict(self.codes[:40])[1].max() < spread.max()

    @pytest.mark.parametrize("values", [np.zeros(3), np.array([1.0, 1.0])])
    def test_equal_values_are_expected_everywhere(self, values: np.ndarray) -> None:
        own = differences(self.space)
        process = Process(own, self.codes[: len(values)], values, prior_kernel(own.num_rates))
        np.testing.assert_allclose(process.mean(self.codes), values[0], atol=1e-9)


class TestWarp:
    @pytest.mark.parametrize("bend", BENDS)
    def test_back_and_forth(self, bend: float) -> None:
        values = np.random.default_rng(0).uniform(5, 9, size=30)
        warp = Warp.of(values, bend)
        np.testing.assert_allclose(warp.back(warp(values)), values)
        assert warp(values).std() == pytest.approx(1)
        order = np.argsort(values)
        assert (np.diff(warp(values)[order]) > 0).all()

    @pytest.mark.parametrize("bend", BENDS)
    @pytest.mark.parametrize("values", [[3.0, 3.0, 3.0], [0.0, 0.0], [1e30, -1e30, 0.0], [1e-320, 0.0]])
    def test_odd_values_stay_finite(self, bend: float, values: list[float]) -> None:
        warp = Warp.of(np.array(values), bend)
        assert np.isfinite(warp(values)).all()
        assert np.isfinite(warp.back(np.array([-50.0, 0.0, 50.0]))).all()

    def test_an_outlier_moves_the_others_little(self) -> None:
        values = np.random.default_rng(0).uniform(5, 9, size=30)
        bent = Warp.of(np.append(values, 1e6), np.inf)(values)
        assert np.ptp(bent) > 1


class TestGains:
    @pytest.mark.parametrize("num_objectives", [1, 2])
    def test_exact_for_one_and_two_objectives(self, num_objectives: int) -> None:
        rng = np.random.default_rng(0)
        known, points = rng.uniform(size=(8, num_objectives)), rng.uniform(size=(50, num_objectives))
        corner = np.full(num_objectives, 0.9)
        gains = Gains(known, corner, rng)(points)
        before = pareto.hypervolume(known, corner)
        exact = np.array([pareto.hypervolume(np.vstack([known, point]), corner) - before for point in points])
        scale = exact.max() / gains.max()
        np.testing.assert_allclose(gains * scale, exact, atol=1e-12)
        assert num_objectives == 1 or scale == pytest.approx(1)

    def test_close_for_three(self) -> None:
        rng = np.random.default_rng(0)
        known, points = rng.uniform(size=(8, 3)), rng.uniform(size=(50, 3))
        corner = np.ones(3)
        before = pareto.hypervolume(known, corner)
        exact = [pareto.hypervolume(np.vstack([known, point]), corner) - before for point in points]
        assert np.corrcoef(Gains(known, corner, rng)(points), exact)[0, 1] > 0.97

    def test_what_was_added_gains_no_more(self) -> None:
        gains = Gains(np.zeros((0, 2)), np.ones(2), np.random.default_rng(0))
        point = np.array([[0.5, 0.5]])
        assert gains(point) == pytest.approx(0.25)
        gains.add(point[0])
        assert gains(point) == 0
        assert gains(np.array([[0.25, 0.75]])) == pytest.approx(0.25 * 0.25)

    def test_the_reference_leaves_out_what_is_far_worse_than_usual(self) -> None:
        values = np.array([[0.1, 3.0], [0.2, 2.0], [0.3, 1.5], [0.25, 2.5], [9.0, 0.1]])
        corner = reference(values[[0, 1, 2, 4]], values, 1.0, (False, False))
        assert 0.3 < corner[0] < 1
        assert corner[1] > 3.0
        assert reference(values[[0, 1, 2, 4]], values, 1e6, (False, False))[0] > 9.0
        front = values[[1, 2]]
        short = reference(front, values, 1.0, (False, False))
        assert (beyond(short, values, 1.0) >= short).all()
        assert beyond(short, values[:4], 1.0)[1] == 3.0, "what was seen is of interest past the end of the front"
        assert beyond(short, values, 1.0)[0] < 9.0, "but what is far worse than usual is not"
        told = reference(values[:3], values, 1.0, (True, False))
        assert told[0] > 9.0 and told[1] == reference(values[:3], values, 1.0, (False, False))[1]


@pytest.mark.parametrize("space", [Cells(), Deep(), Blocks()])
def test_children_and_surroundings_are_networks_of_the_space(space: Space) -> None:
    rng = np.random.default_rng(0)
    parents = space.codes(space.sample_many(5, rng, distinct=True))
    found = space.decode(children(space, parents, 40, rng))
    assert len(found) == 40 and all(arch in space for arch in found)
    near = surroundings(space, parents[:2])
    assert set(space.decode(near)) == {arch for row in space.decode(parents[:2]) for arch in space.neighbours(row)}
    assert surroundings(space, parents[:0]).shape == (0, len(space.slots))


def told(space: Space, num: int) -> list[Evaluation]:
    return [evaluate(arch) for arch in space.sample_many(num, np.random.default_rng(0), distinct=True)]


@pytest.mark.parametrize("space", [Cells(), Deep(), Blocks()])
def test_how_evaluations_were_told_changes_nothing(space: Space) -> None:
    at_once, one_by_one = SurrogateSearch(space, OBJECTIVES), SurrogateSearch(space, OBJECTIVES)
    evaluations = told(space, 40)
    for evaluation in evaluations:
        one_by_one.tell([evaluation])
        one_by_one.ask(1, np.random.default_rng(1))
    at_once.tell(evaluations)
    assert one_by_one.ask(6, np.random.default_rng(0)) == at_once.ask(6, np.random.default_rng(0))


@pytest.mark.parametrize("num_objectives", [1, 2, 3])
def test_any_number_of_objectives(num_objectives: int) -> None:
    names = tuple(f"f{number}" for number in range(num_objectives))
    searcher = SurrogateSearch(Cells(), names)
    weights = np.random.default_rng(0).normal(size=(num_objectives, 6))
    for step in range(5):
        archs = searcher.ask(6, np.random.default_rng(step))
        assert len(set(archs)) == 6
        values = (Cells().codes(archs) @ weights.T).tolist()
        searcher.tell([Evaluation(a, dict(zip(names, v, strict=True))) for a, v in zip(archs, values, strict=True)])
    if num_objectives == 1:
        best = min(float(weights[0] @ codes) for codes in Cells().enumerate_codes())
        assert min(e.metrics["f0"] for e in searcher._history.succeeded) == pytest.approx(best)


def test_objectives_that_never_change() -> None:
    searcher = SurrogateSearch(Deep(), OBJECTIVES)
    for step in range(4):
        archs = searcher.ask(8, np.random.default_rng(step))
        assert len(archs) == 8
        searcher.tell([Evaluation(arch, {"error": 1.0, "cost": 0.0}) for arch in archs])


def test_a_limit_is_learnt_from_what_was_told() -> None:
    """A limit on a metric that only the evaluation tells, and an error that is least at the limit."""
    searcher, shares = SurrogateSearch(Deep(), ("error",), (parse("cost <= 150"),)), []
    for step in range(8):
        archs = searcher.ask(6, np.random.default_rng(step))
        costs = [float(sum(arch.width)) for arch in archs]
        searcher.tell([Evaluation(a, {"error": 1 / c, "cost": c}) for a, c in zip(archs, costs, strict=True)])
        shares.append(np.mean([cost <= 150 for cost in costs]))
    assert np.mean(shares[4:]) > 0.5
    assert max(e.metrics["cost"] for e in searcher._history.succeeded if e.metrics["cost"] <= 150) >= 140


def test_networks_like_those_that_failed_are_left_alone() -> None:
    searcher = SurrogateSearch(Cells(), ("error",))
    asked = []
    for step in range(6):
        archs = searcher.ask(6, np.random.default_rng(step))
        asked.append(np.mean([arch.width == 32 for arch in archs]))
        searcher.tell(
            [
                Evaluation(arch, {}, error="MemoryError") if arch.width == 32 else Evaluation(arch, {"error": 1.0 / i})
                for i, arch in enumerate(archs, 1)
            ]
        )
    assert np.mean(asked[-3:]) <= 1 / 3


def test_what_graphs_have_tells_more_than_where_their_nodes_stand() -> None:
    """An error of what a graph does last, at whatever place, and how large it is: likelihood sees that traits tell."""
    space, rng = LayerSpace(size=tuple(range(4, 11))), np.random.default_rng(0)
    archs = space.sample_many(80, rng, distinct=True)
    codes = space.codes(archs)
    last = np.array([arch.op[-1] in ("mul", "div", "add", "max") for arch in archs])
    values = last + 0.1 * np.array([arch.size for arch in archs]) + 0.05 * rng.standard_normal(80)
    found = readings(space)
    assert len(found) == 2
    taus = []
    for reading in found:
        model = Metric(codes[:40], values[:40], manner([reading], codes[:40], values[:40]))
        taus.append(float(kendalltau(model.expected(codes[40:])[0], values[40:])[0]))
    assert taus[1] > taus[0] + 0.1 and taus[1] > 0.4
    assert manner(found, codes[:40], values[:40]).differences is found[1]


def test_differences_between_graphs_are_the_same_in_both_ways_of_computing_them() -> None:
    space = LayerSpace()
    codes = space.codes(space.sample_many(12, np.random.default_rng(1)))
    for reading in readings(space):
        rates = np.random.default_rng(2).random(reading.num_rates)
        stacked = (rates @ reading.stacked(codes)).reshape(12, 12)
        np.testing.assert_allclose(reading.between(codes, codes, rates), stacked, atol=1e-9)
        assert (np.diag(stacked) == 0).all()
