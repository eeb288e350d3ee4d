"""Several targets in one study: a front for each, limits of their own, and evaluations that serve all."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import NasError
from nas.objectives import aims, pareto
from nas.objectives.aims import Aim
from nas.objectives.limits import parse
from nas.records import Evaluation, SpaceRecord, StudyRecord
from nas.results import front as fronts
from nas.searchers import SEARCHERS
from nas.storage import Repository
from nas.study import Study
from search_spaces import Architecture, Space, choice
from tests.contracts.repository import Net

FAST, SLOW = "latency_ms@fast", "latency_ms@slow"


class Cells(Space):
    """What is cheap on one target is dear on the other."""

    op = choice("conv", "pool", "skip", per=5)
    width = choice(8, 16, 32)


def error(arch: Architecture) -> float:
    return 1 / (1 + sum({"conv": 3, "pool": 2, "skip": 0}[op] * i for i, op in enumerate(arch.op, 1)) * arch.width)


def costs(archs: Sequence[Architecture]) -> Mapping[str, np.ndarray]:
    def total(arch: Architecture, conv: float, pool: float) -> float:
        return 1 + arch.width / 8 * sum({"conv": conv, "pool": pool, "skip": 0.1}[op] for op in arch.op)

    return {
        FAST: np.array([total(arch, 1.0, 3.0) for arch in archs]),
        SLOW: np.array([total(arch, 9.0, 2.0) for arch in archs]),
    }


EVERYTHING = list(Cells().enumerate())
EVALUATED = [
    Evaluation(arch, {"error": error(arch), FAST: fast, SLOW: slow})
    for arch, fast, slow in zip(EVERYTHING, *costs(EVERYTHING).values(), strict=True)
]


def study(
    repository: Repository, searcher: str = "surrogate", *, told: bool = True, seed: int = 0, **settings: int
) -> Study:
    return Study(
        "both",
        Cells(),
        lambda arch: {"error": error(arch)},
        ["error"],
        repository,
        targets={"fast": (), "slow": [f"{SLOW} <= 60"]},
        searcher=SEARCHERS[searcher],
        predict=costs,
        costs=costs if told else None,
        seed=seed,
        batch=10,
        settings=settings,
    )


def share(found: Sequence[Evaluation], aim: Aim) -> float:
    """Of the hypervolume of the true front."""

    def values(of: Sequence[Evaluation]) -> np.ndarray:
        return np.array([[e.metrics[name] for name in aim.objectives] for e in aim.front(of)])

    corner = pareto.reference_point(values(EVALUATED))
    return pareto.hypervolume(values(found), corner) / pareto.hypervolume(values(EVALUATED), corner)


@pytest.mark.parametrize("searcher", ["surrogate", "evolution", "random", "bayesian"])
def test_one_search_has_a_front_for_each_target(searcher: str) -> None:
    with Repository("sqlite://") as repository:
        made = study(repository, searcher)
        made.run(50)
        fast, slow = made.aims
        assert (fast.objectives, slow.objectives) == (("error", FAST), ("error", SLOW))
        assert {e.arch for e in made.front("fast")} == {e.arch for e in fast.front(made.evaluations)}
        assert all(e.metrics[SLOW] <= 60 for e in made.front("slow"))
        assert {e.arch for e in made.front()} == {e.arch for name in ("fast", "slow") for e in made.front(name)}
        rows = fronts.front(repository, "both")
        assert {row.arch: row.targets for row in rows} == {
            e.arch: targets for e, targets in aims.fronts(made.aims, made.evaluations).values()
        }
        assert {row.arch for row in fronts.front(repository, "both", target="slow")} == {
            e.arch for e in made.front("slow")
        }
        if searcher == "surrogate":
            assert min(share(made.evaluations, aim) for aim in made.aims) > 0.95


def test_it_is_resumed_to_the_same_end_and_not_under_other_targets() -> None:
    with Repository("sqlite://") as whole, Repository("sqlite://") as stopped:
        study(whole).run(40)
        study(stopped).run(17)
        study(stopped).run(40)
        ends = [[e.arch for e in repository.evaluations("both")] for repository in (whole, stopped)]
        assert ends[0] == ends[1]
        with pytest.raises(NasError, match="settings"):
            Study("both", Cells(), lambda arch: {}, ["error"], whole, targets={"fast": ()}, batch=10)
        with pytest.raises(NasError, match="has no target 'pi5': choose one of fast, slow"):
            fronts.front(whole, "both", target="pi5")


def test_searches_that_know_costs_find_more_in_few_evaluations() -> None:
    shares: dict[bool, list[float]] = {True: [], False: []}
    for told in shares:
        for seed in range(5):
            with Repository("sqlite://") as repository:
                made = study(repository, told=told, seed=seed, startup=10)
                made.run(20)
                shares[told] += [share(made.evaluations, aim) for aim in made.aims]
    assert np.mean(shares[True]) > np.mean(shares[False])


def test_compromises_are_near_every_front() -> None:
    both = (Aim(("error", FAST), (), "fast"), Aim(("error", SLOW), (), "slow"))
    apart = aims.distances(both, EVALUATED)
    on = aims.fronts(both, EVALUATED)
    assert all(apart[digest][target] == 0 for digest, (_, targets) in on.items() for target in targets)
    for digest, own in apart.items():
        assert sum(distance == 0 for distance in own.values()) == len(on[digest][1] if digest in on else ())
    with Repository("sqlite://") as repository:
        made = study(repository)
        made.run(60)
        near = fronts.compromises(repository, "both")
        seen = aims.distances(made.aims, made.evaluations)
    assert near and {row.arch.digest for row in near} == {d for d, own in seen.items() if max(own.values()) <= 0.05}
    assert all(row.metrics[SLOW] <= 60 for row in near)


@given(st.integers(0, 1000), st.integers(1, 4))
def test_distances_are_the_epsilon_indicator(seed: int, num: int) -> None:
    rng = np.random.default_rng(seed)
    some = [EVALUATED[i] for i in rng.permutation(len(EVALUATED))[: 5 * num]]
    (aim,) = aims.for_targets(["error"], [], {"slow": ()})
    front = aim.front(some)
    span = np.ptp([[e.metrics[name] for name in aim.objectives] for e in front], axis=0)
    for digest, own in aims.distances([aim], some).items():
        (one,) = (e for e in some if e.arch.digest == digest)
        better = {
            name: one.metrics[name] - own["slow"] * (width or 1.0) * (1 + 1e-9) - 1e-12
            for name, width in zip(aim.objectives, span, strict=True)
        }
        assert any(all(better[n] <= e.metrics[n] for n in aim.objectives) for e in front), "so much better is enough"


@pytest.mark.parametrize(
    ("text", "name", "limit"),
    [("pi5", "pi5", None), ("pi5 <= 40", "pi5", "latency_ms@pi5 <= 40"), (" cpu<2.5 ", "cpu", "latency_ms@cpu < 2.5")],
)
def test_targets_are_read(text: str, name: str, limit: str | None) -> None:
    assert aims.read_target(text) == (name, limit)


@pytest.mark.parametrize("text", ["", "pi5 <=", "pi5 = 40", "pi5 <= many"])
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(NasError, match=r"40|2'|<="):
        aims.read_target(text)


def test_a_study_without_targets_has_one_front() -> None:
    (aim,) = aims.for_targets(["error", "params"], [parse("params <= 3")], {})
    assert aim == Aim(("error", "params"), (parse("params <= 3"),))


def test_the_dashboard_shows_the_front_of_each_target() -> None:
    from dashboard import queries

    with Repository("sqlite://") as repository:
        made = study(repository)
        made.run(40)
        shown = queries.view(made.record, repository.columns(made.name), repository.architectures)
        for target in ("fast", "slow"):
            front = {e.arch.digest for e in made.front(target)}
            assert set(shown.table["_digest"][shown.table[f"_front@{target}"]]) == front
        assert set(shown.front["_digest"]) == {e.arch.digest for e in made.front()}


def test_a_front_of_columns_is_that_of_evaluations() -> None:
    rng = np.random.default_rng(0)
    archs = Net().sample_many(300, rng, distinct=True)
    some = [{name: float(rng.integers(20)) for name in ("a", "b", "c")} for _ in archs]
    found = [Evaluation(arch, metrics) for arch, metrics in zip(archs, some, strict=True)]
    found[::9] = [replace(one, metrics={}, error="diverged") for one in found[::9]]
    with Repository("sqlite://") as repository:
        repository.add_space(SpaceRecord("s", "Net", {}))
        repository.create_study(StudyRecord("study", "s", None, ("a", "b"), (), "random", 0))
        repository.append_evaluations("study", found, "", "")
        columns = repository.columns("study")
    for limits in ((), ("c <= 12",), ("c > 3", "a < 15"), ("c <= -1",)):
        aim = Aim(("a", "b"), tuple(map(parse, limits)))
        assert columns.succeeded.any() and [found[row] for row in np.flatnonzero(aim.keeps(columns))] == [
            one for one in found if aim.holds(one)
        ]
        everything = np.ones(len(found), dtype=bool)
        assert [found[row] for row in np.flatnonzero(aim.on_front(columns, everything))] == aim.front(found)
