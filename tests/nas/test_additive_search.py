"""Additive search: the exact solution of sums against brute force, the guess, and the search around both."""

import ctypes
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nas.errors import NasError
from nas.objectives import pareto
from nas.objectives.aims import Aim
from nas.objectives.limits import Limit, parse
from nas.records import Evaluation
from nas.run_file import load
from nas.searchers import AdditiveSearch, Searcher
from nas.searchers.exact.cases import Case, Cases, cases
from nas.searchers.exact.columns import Columns, Table
from nas.searchers.exact.front import front
from nas.searchers.exact.guess import fit, judge, singles
from nas.searchers.exact.model import Model, unreachable
from nas.searchers.exact.program import Program
from nas.searchers.exact.quiet import quiet
from nas.stages.predicting import latencies
from nas.stages.studying import open_study
from nas.stages.workflow import Workflow
from nas.storage import Repository
from nas.study import Study
from search_spaces import Architecture, Space, choice, constraint
from tests.contracts.searcher import OBJECTIVES, Blocks, SearcherContract, settings_are_refused
from tests.nas.command import TINY


class TestAdditiveSearch(SearcherContract):
    @pytest.fixture
    def make(self) -> Callable[..., Searcher]:
        return AdditiveSearch

    def test_settings_are_checked(self) -> None:
        assert "points is 1" in settings_are_refused(AdditiveSearch, points=1)


class Layers(Space):
    """A width that couples the layers, and a number of layers."""

    width = choice(4, 8, 16)
    depth = choice(1, 2, 3)
    hidden = choice(1, 2, 3, 5, per="depth")


class Kept(Space):
    """Any five or more of eight blocks, and what runs in three of them."""

    keep = choice(False, True, per=8)
    op = choice("full", "cheap", per=3)

    @constraint
    def enough(keep: tuple[bool, ...]) -> bool:
        return sum(keep) >= 5


# -- exactness


def random_space(rng: np.random.Generator) -> Space:
    """Two to five choices, some only active for values of earlier ones, and a constraint on two of them."""
    fields: dict[str, object] = {}
    for number in range(int(rng.integers(2, 6))):
        options = tuple(range(int(rng.integers(2, 4))))
        parents = [f"c{p}" for p in range(number) if rng.random() < 0.3][:2]
        fields[f"c{number}"] = choice(*options, when={parent: (0, 1)[: int(rng.integers(1, 3))] for parent in parents})
    forbidden = {(int(a), int(b)) for a, b in rng.integers(0, 2, size=(int(rng.integers(1, 3)), 2))}
    fields["rule"] = constraint(lambda c0, c1: (c0, c1) not in forbidden)
    return type("Random", (Space,), fields)()


def random_model(space: Space, names: str, rng: np.random.Generator) -> Model:
    program = Program(space)
    tables = {name: Table(float(rng.normal()), rng.normal(size=len(program.columns))) for name in names}
    return Model(program, Cases((Case({}, tables),)))


def limited(model: Model, metric: str, values: np.ndarray, share: float) -> tuple[Model, np.ndarray]:
    """The model under a limit that about a share of the networks keep, and which do."""
    limit = parse(f"{metric} <= {np.quantile(values, share)}")
    return Model(model.program, model.cases, [limit]), values <= limit.value


def test_the_optimum_is_that_of_brute_force_on_500_random_instances() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        space = random_space(rng)
        codes = space.enumerate_codes()
        for _ in range(5):
            model = random_model(space, "ab", rng)
            values = model.values(codes, ["a", "b"])
            model, kept = limited(model, "b", values[:, 1], float(rng.uniform(0.05, 0.9)))
            found = model.best(["a"])
            assert found is not None
            assert found.tolist() in codes[kept].tolist()
            assert model.values(found[None], ["a"])[0, 0] == pytest.approx(values[kept, 0].min(), abs=1e-9)


def test_the_front_is_complete() -> None:
    rng = np.random.default_rng(1)
    for space in [random_space(rng) for _ in range(8)]:
        codes = space.enumerate_codes()
        model = random_model(space, "abc", rng)
        values = model.values(codes, ["a", "b", "c"])
        model, kept = limited(model, "c", values[:, 2], 0.6)
        points = values[kept, :2]
        best = np.unique(points[pareto.non_dominated(points)].round(9), axis=0)
        found = np.array([point.values for point in front(model, ["a", "b"], 10**6)])
        np.testing.assert_allclose(found, best, atol=1e-8)


def test_a_front_of_three_objectives_is_not_dominated() -> None:
    model = random_model(Kept(), "abc", np.random.default_rng(2))
    values = model.values(Kept().enumerate_codes(), ["a", "b", "c"])
    found = np.array([point.values for point in front(model, ["a", "b", "c"], 12)])
    assert len(found) > 5
    both = pareto.non_dominated(np.concatenate([found, values]).round(9))
    assert both[: len(found)].all()


def test_nothing_keeps_a_limit_below_all() -> None:
    model = random_model(Kept(), "ab", np.random.default_rng(3))
    model = Model(model.program, model.cases, [parse("a <= -1e6")])
    assert model.best(["b"]) is None
    assert front(model, ["a", "b"], 10) == []


class WideRule(Space):
    """A constraint over more combinations than a table may have."""

    part = choice(0, 1, 2, 3, per=10)

    @constraint
    def bounded(part: tuple[int, ...]) -> bool:
        return sum(part) != 30


def test_a_constraint_that_has_no_table_is_cut_off_where_it_is_broken() -> None:
    space = WideRule()
    program = Program(space)
    assert [table for _, table in space.constraint_tables()] == [None]
    found = program.minimise(-program.columns.options.astype(float))
    assert found is not None
    assert found.sum() == 29


def test_a_strict_limit_excludes_its_bound() -> None:
    columns = Columns(Layers())
    tables = {"sum": Table(0.0, columns.options.astype(float)), "less": Table(0.0, -columns.options.astype(float))}
    program, some = Program(Layers()), Cases((Case({}, tables),))
    for operator, reached in (("<=", 6), ("<", 5)):
        found = Model(program, some, [parse(f"sum {operator} 6")]).best(["less"])
        assert found is not None
        assert found[found > 0].sum() == reached


# -- costs


def params(space: Space) -> Callable[[str, np.ndarray], np.ndarray]:
    def told(name: str, codes: np.ndarray) -> np.ndarray:
        return np.array(
            [arch.width**2 * sum(arch.hidden) + 10 * arch.width for arch in space.decode(codes)], dtype=float
        )

    return told


def test_a_width_that_couples_the_layers_is_found_and_the_costs_are_then_exact() -> None:
    space, program = Layers(), Program(Layers())
    found = cases(space, program.columns, params(space), ["params"], np.random.default_rng(0))
    assert not found.rough
    assert [dict(case.fixed) for case in found] == [{0: 0}, {0: 1}, {0: 2}]
    codes = space.enumerate_codes()
    np.testing.assert_allclose(Model(program, found).values(codes, ["params"])[:, 0], params(space)("params", codes))


def test_costs_in_cases_give_the_optimum_of_brute_force() -> None:
    space, program, rng = Layers(), Program(Layers()), np.random.default_rng(4)
    some = cases(space, program.columns, params(space), ["params"], rng)
    codes = space.enumerate_codes()
    cost = params(space)("params", codes)
    for _ in range(10):
        table = Table(0.0, rng.normal(size=len(program.columns)))
        limit = Limit("params", "<=", float(rng.choice(cost)))
        found = Model(program, some.extended({"error": table}), [limit]).best(["error"])
        assert found is not None
        errors = table(program.columns(codes[cost <= limit.value]))
        assert table(program.columns(found[None]))[0] == pytest.approx(errors.min(), abs=1e-9)
        assert params(space)("params", found[None])[0] <= limit.value


def test_costs_that_are_no_sums_are_said_to_be_rough() -> None:
    space = WideRule()

    def told(name: str, codes: np.ndarray) -> np.ndarray:
        return np.asarray(np.exp(codes.sum(axis=1) / 5.0))

    assert cases(space, Columns(space), told, ["cost"], np.random.default_rng(0)).rough == {"cost"}


def costs(archs: Sequence[Architecture]) -> dict[str, np.ndarray]:
    return {"params": params(Layers())("params", Layers().codes(archs))}


def test_limits_that_nothing_keeps_are_refused_with_what_is_reached() -> None:
    with pytest.raises(NasError, match="no network keeps params <= 20: the smallest reachable value is 56"):
        AdditiveSearch(Layers(), ("error", "params"), [parse("params <= 20")], costs=costs)


def test_limits_that_exclude_each_other_are_refused_together() -> None:
    program = Program(Layers())
    some = cases(Layers(), program.columns, params(Layers()), ["params"], np.random.default_rng(0))
    said = unreachable(program, some, [parse("params <= 100"), parse("params >= 200")])
    assert said == (
        "no network keeps params <= 100 and params >= 200 together: the smallest reachable params with the others "
        "is 200, the largest reachable params with the others is 88"
    )


# -- the guess


def error_of(space: Space, pairs: float = 0.0, seed: int = 0) -> Callable[[Architecture], float]:
    """A sum over the choices, and with `pairs` a product of their sums that is not."""
    columns = Columns(space)
    weights = np.random.default_rng(seed).random((2, len(columns)))

    def error(arch: Architecture) -> float:
        row = columns(space.codes([arch]))[0]
        return float(weights[0] @ row + pairs * (weights[0] @ row) * (weights[1] @ row))

    return error


def evaluated(archs: Sequence[Architecture], error: Callable[[Architecture], float]) -> list[Evaluation]:
    return [Evaluation(arch, {"error": error(arch)}) for arch in archs]


@pytest.mark.parametrize("space", [Blocks(), Layers(), Kept()])
def test_single_changes_tell_a_sum_exactly(space: Space) -> None:
    """Over conditions, nested spaces and constraints."""
    error = error_of(space)
    told = singles(space)
    assert told[0] == space.largest()
    table = fit(Columns(space)(space.codes(told)), np.array([*map(error, told)]), np.ones(len(told), dtype=bool))
    archs = space.sample_many(50, np.random.default_rng(0))
    guessed = table(Columns(space)(space.codes(archs)))
    np.testing.assert_allclose(guessed, [*map(error, archs)], atol=1e-10)
    rest = [arch for arch in archs if arch not in told]
    verdict = judge(space, ["error"], evaluated([*told, *rest], error))["error"]
    assert (verdict.tau, verdict.networks) == (pytest.approx(1), len(rest))


def test_the_guess_is_judged_by_what_it_has_not_seen() -> None:
    space, rng = Layers(), np.random.default_rng(5)
    archs = [arch for arch in space.sample_many(40, rng, distinct=True) if arch not in singles(space)]
    noise = {arch: float(rng.random()) for arch in [*singles(space), *archs]}
    told = evaluated([*singles(space), *archs], noise.__getitem__)
    assert abs(judge(space, ["error"], told)["error"].tau) < 0.3
    assert np.isnan(judge(space, ["error"], told[:8])["error"].tau)
    assert np.isnan(judge(space, ["error"], told[len(singles(space)) :])["error"].tau)


def test_what_is_evaluated_besides_corrects_the_guess() -> None:
    space, error = Layers(), error_of(Layers(), pairs=0.5)
    rng = np.random.default_rng(6)
    archs = [*singles(space), *space.sample_many(40, rng)]
    rows, values = Columns(space)(space.codes(archs)), np.array([*map(error, archs)])
    single = np.array([arch in singles(space) for arch in archs])
    fresh = space.sample_many(100, rng)
    truth = np.array([*map(error, fresh)])
    alone, corrected = (
        np.sqrt(np.mean((fit(rows[own], values[own], single[own])(Columns(space)(space.codes(fresh))) - truth) ** 2))
        for own in (single, np.ones(len(archs), dtype=bool))
    )
    assert corrected < 0.9 * alone


# -- the search


def searched(
    searcher: AdditiveSearch, evaluate: Callable[[Architecture], Evaluation], batches: int, n: int = 8
) -> None:
    for step in range(batches):
        searcher.tell([evaluate(arch) for arch in searcher.ask(n, np.random.default_rng([0, step]))])


def test_it_finds_the_front_of_sums_right_after_the_single_changes() -> None:
    space, error = Kept(), error_of(Kept(), seed=7)

    def evaluate(arch: Architecture) -> Evaluation:
        return Evaluation(arch, {"error": error(arch), "cost": float(sum(arch.keep) + arch.op.count("full") / 10)})

    searcher = AdditiveSearch(space, OBJECTIVES, points=64)
    searched(searcher, evaluate, 7)
    told = np.array([[e.metrics[name] for name in OBJECTIVES] for e in searcher._history.succeeded])
    every = np.array([[*evaluate(arch).metrics.values()] for arch in space.enumerate()])
    best = np.unique(every[pareto.non_dominated(every)].round(9), axis=0)
    assert len(singles(space)) == 12
    assert {*map(tuple, best)} <= {*map(tuple, told.round(9))}
    guessed = np.array([[row[name] for name in OBJECTIVES] for _, row in searcher.fronts()[0]])
    np.testing.assert_allclose(guessed, best, atol=1e-6)
    assert searcher.judge()["error"].tau == pytest.approx(1)


def test_one_aim_for_each_target_has_its_front_searched() -> None:
    space, error = Kept(), error_of(Kept(), seed=8)
    aims = [Aim(("error", "fast"), (), "a"), Aim(("error", "slow"), (parse("slow <= -6"),), "b")]

    def evaluate(arch: Architecture) -> Evaluation:
        return Evaluation(arch, {"error": error(arch), "fast": float(sum(arch.keep)), "slow": -float(sum(arch.keep))})

    searcher = AdditiveSearch(space, ("error", "fast", "slow"), aims=aims)
    searched(searcher, evaluate, 2)
    first, second = searcher.fronts()
    assert min(row["fast"] for _, row in first) == pytest.approx(5)
    assert max(row["slow"] for _, row in second) <= -6 + 1e-6
    asked = searcher.ask(4, np.random.default_rng(9))
    assert {sum(arch.keep) for arch in asked} >= {5, 7}


def test_a_front_needs_evaluations() -> None:
    with pytest.raises(NasError, match="tell those of the largest network"):
        AdditiveSearch(Layers(), ("error",)).fronts()


def test_a_study_that_begins_with_single_changes_searches_below_a_limit_that_they_break() -> None:
    space, error = Layers(), error_of(Layers(), seed=9)
    study = Study(
        "half",
        space,
        lambda arch: {"error": error(arch)},
        ("error", "params"),
        Repository("sqlite://"),
        limits=("params <= 500",),
        searcher=AdditiveSearch,
        predict=costs,
        costs=costs,
        first=singles(space),
        batch=8,
    )
    found = study.run(32)
    kept = [arch for arch in space.enumerate() if costs([arch])["params"][0] <= 500]
    assert all(costs([e.arch])["params"][0] <= 500 for e in study.evaluations[16:])
    assert min(e.metrics["error"] for e in found) == pytest.approx(min(map(error, kept)))


@pytest.mark.slow
def test_a_run_searches_below_limits_that_the_largest_network_breaks(tmp_path: Path) -> None:
    run = replace(load(TINY), searcher="additive(points=8)", limits=("params <= 1500",), evaluations=40)
    with Workflow(
        run, Repository(f"sqlite:///{tmp_path / 'nas.db'}"), tmp_path / "run", TINY, progress=False
    ) as workflow:
        study = open_study(workflow, latencies(workflow))
        found = study.run(40)
        study = open_study(workflow, {})
    assert (study.record.searcher, study.record.settings["points"]) == ("additive", 8)
    stored = study.evaluations
    opening = singles(run.space)
    assert {evaluation.arch for evaluation in stored[: len(opening)]} == set(opening)
    assert max(evaluation.metrics["params"] for evaluation in stored) > 1500
    assert all(evaluation.metrics["params"] <= 1500 for evaluation in stored[len(opening) :])
    assert found


def test_lines_of_the_solver_stay_off_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    """Others' do not; what is printed with C's printf is buffered below Python."""
    printf = ctypes.CDLL(None).printf
    with quiet():
        printf(b"HighsMipSolverData::transformNewIntegerFeasibleSolution tmpSolver.run();\n")
        printf(b"of another thread\n")
    os.write(1, b"after\n")
    assert capfd.readouterr().out == "of another thread\nafter\n"
