"""The search loop: equal seeds give equal studies, whatever stops and resumes them and wherever they run."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.errors import NasError
from nas.execution.executors import Evaluate, Executor, InProcess, evaluate_one
from nas.objectives import pareto
from nas.records import Evaluation, Origin
from nas.searchers import SEARCHERS, RandomSearch, Searcher
from nas.storage import Repository
from nas.study import Study
from search_spaces import Architecture, Space, choice
from tests.nas.learnt import learnt

OBJECTIVES = ("error", "params")


class Net(Space):
    width = choice(8, 16, 32, 64)
    depth = choice(1, 2, 3, 4)
    kernel = choice(3, 5, 7, per="depth")


class Tiny(Space):
    a = choice(1, 2, 3)
    b = choice(1, 2, 3)


def params(arch: Architecture) -> float:
    return float(sum(arch.width**2 * kernel for kernel in arch.kernel))


def evaluate(arch: Architecture) -> dict[str, float]:
    """Larger networks err less; some diverge."""
    if int(arch.digest, 16) % 11 == 0:
        raise ValueError("diverged")
    return {"error": 1 / np.log(params(arch)) + int(arch.digest, 16) % 17 / 1000, "params": params(arch)}


def tiny(arch: Architecture) -> dict[str, float]:
    return {"error": float(arch.a), "params": 4.0 - arch.a + arch.b}


def predict(archs: Sequence[Architecture]) -> dict[str, np.ndarray]:
    return {"params": np.array([params(arch) for arch in archs])}


@pytest.fixture
def repository() -> Iterator[Repository]:
    with Repository("sqlite://") as repository:
        yield repository


def study(repository: Repository, name: str = "s", run: Evaluate = evaluate, **changes: Any) -> Study:
    return Study(name, changes.pop("space", Net()), run, OBJECTIVES, repository, **{"batch": 6, **changes})


def settings_of(searcher: type, space: Space, startup: int = 32) -> dict[str, Any]:
    """What a searcher needs, and an early end of its first phase."""
    needed = {"bayesian": {"startup": startup}, "gradient": {"distributions": [learnt(space)]}}
    return next((settings for name, settings in needed.items() if SEARCHERS[name] is searcher), {})


def found(evaluations: Sequence[Evaluation]) -> list[tuple[str, dict[str, float], str | None]]:
    """What of evaluations does not depend on clocks and workers."""
    return [(evaluation.arch.json(), evaluation.metrics, evaluation.error) for evaluation in evaluations]


class Backwards(Executor):
    """An executor like a cluster, where the last may be the first to finish."""

    def completed(self, evaluate: Evaluate, archs: Sequence[Architecture]) -> Generator[tuple[int, Evaluation]]:
        for place, arch in reversed(list(enumerate(archs))):
            yield place, evaluate_one(evaluate, arch, "far")


class Killed(BaseException):
    """What no handler of ordinary errors catches, as a kill from outside."""


def killed_at(number: int) -> Evaluate:
    """An evaluator whose process ends in its call of this number."""
    calls = iter(range(number))

    def run(arch: Architecture) -> dict[str, float]:
        if next(calls, None) is None:
            raise Killed
        return evaluate(arch)

    return run


@pytest.mark.parametrize("searcher", SEARCHERS.values())
def test_equal_seeds_give_equal_studies(searcher: type, repository: Repository) -> None:
    settings = settings_of(searcher, Net(), startup=18)
    first, second, far, other = (
        study(repository, name, searcher=searcher, settings=settings, seed=seed, **changes)
        for name, seed, changes in (("a", 1, {}), ("b", 1, {}), ("c", 1, {"executor": Backwards()}), ("d", 2, {}))
    )
    for one in (first, second, far, other):
        one.run(30)
    assert found(first.evaluations) == found(second.evaluations) == found(far.evaluations)
    assert found(repository.evaluations("c")) == found(first.evaluations)
    assert found(first.evaluations) != found(other.evaluations)
    assert len({evaluation.arch for evaluation in first.evaluations}) == 30


@pytest.mark.parametrize("searcher", SEARCHERS.values())
@pytest.mark.parametrize("number", [*(pytest.param(n, marks=pytest.mark.slow) for n in (0, 12)), 3, 25])
def test_a_study_killed_anywhere_and_resumed_equals_one_never_stopped(
    searcher: type, number: int, repository: Repository
) -> None:
    settings = settings_of(searcher, Net(), startup=15)
    whole = study(repository, "whole", searcher=searcher, settings=settings)
    whole.run(30)
    for name, executor in (("cut", InProcess()), ("cut far", Backwards())):
        with pytest.raises(Killed):
            study(repository, name, killed_at(number), searcher=searcher, settings=settings, executor=executor).run(30)
        assert repository.study(name).status == "interrupted"
        assert len(repository.evaluations(name)) == number, "what was evaluated is there"
        calls: list[str] = []
        resumed = study(repository, name, counting(calls), searcher=searcher, settings=settings)
        front = resumed.run(30)
        assert len(calls) == 30 - number, "and is not evaluated again"
        assert found(resumed.evaluations) == found(whole.evaluations)
        assert found(front) == found(whole.front())
        assert origins(repository, name) == origins(repository, "whole")


def origins(repository: Repository, name: str) -> dict[int, Origin | None]:
    """Where the networks of a study came from, all of which is known."""
    lives = repository.lives(name)
    assert all(life.origin and life.stored for life in lives.values())
    return {position: life.origin for position, life in sorted(lives.items())}


def counting(calls: list[str]) -> Evaluate:
    def run(arch: Architecture) -> dict[str, float]:
        calls.append(arch.digest)
        return evaluate(arch)

    return run


def test_a_second_driver_is_refused_before_it_evaluates_anything(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/nas.db"
    calls: list[str] = []

    def meanwhile(arch: Architecture) -> dict[str, float]:
        with Repository(url) as other, pytest.raises(NasError, match="study 's' is driven by process"):
            study(other, run=counting(calls)).run(6)
        return evaluate(arch)

    with Repository(url) as first:
        study(first, run=meanwhile).run(3)
        assert calls == [] and first.study("s").status == "finished"
        with Repository(url) as second:
            early = study(second, run=counting(calls))
            study(first).run(8)
            early.run(12)
        assert len(calls) == 4, "what the first stored since is known"
        assert len(first.evaluations("s")) == 12


def test_who_lost_a_study_says_nothing_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Repository, "_renew", lambda *_: None)
    url = f"sqlite:///{tmp_path}/nas.db"

    def overtaken(arch: Architecture) -> dict[str, float]:
        time.sleep(0.3)  # as long as it takes to be thought dead
        with Repository(url) as other:
            study(other).run(6)
        return evaluate(arch)

    with Repository(url) as slow:
        loser = study(slow, run=overtaken)
        with pytest.raises(NasError, match="taken over while this process was silent"), slow.driving("s", seconds=0.1):
            loser.run(6)
        assert slow.study("s").status == "finished", "as the winner said"
        assert len(slow.evaluations("s")) == 6


def test_a_study_with_a_gap_anywhere_is_completed(repository: Repository) -> None:
    whole = study(repository, "whole")
    whole.run(30)
    cut = study(repository, "cut")
    kept = {p: e for p, e in enumerate(whole.evaluations) if p not in (1, 2, 8, 29)}
    repository.store_evaluations("cut", kept, "", "study cut")
    calls: list[str] = []
    resumed = study(repository, "cut", counting(calls))
    resumed.run(30)
    assert [e.arch.digest for p, e in enumerate(whole.evaluations) if p in (1, 2, 8, 29)] == calls
    assert found(repository.evaluations("cut")) == found(whole.evaluations)
    assert cut.record == resumed.record


@pytest.mark.parametrize("steps", [(7, 20, 30), (6, 12, 30), (29, 30)])
def test_a_study_lengthened_equals_one_of_that_length(steps: tuple[int, ...], repository: Repository) -> None:
    whole, stepwise = study(repository, "whole"), study(repository, "stepwise")
    whole.run(30)
    for step in steps:
        stepwise.run(step)
        assert len(stepwise.evaluations) == step
    reopened = study(repository, "stepwise")
    reopened.run(20)
    assert found(reopened.evaluations) == found(whole.evaluations)


def test_the_front_is_what_keeps_the_limits_and_is_not_dominated(repository: Repository) -> None:
    one = study(repository, limits=("params <= 20000",))
    front = one.run(60)
    feasible = [e for e in one.evaluations if e.error is None and e.metrics["params"] <= 20000]
    assert 0 < len(feasible) < len(one.evaluations)
    values = np.array([[e.metrics[name] for name in OBJECTIVES] for e in feasible])
    dominated = [any((b <= a).all() and (b < a).any() for b in values) for a in values]
    assert front == [e for e, worse in zip(feasible, dominated, strict=True) if not worse]


def test_limits_are_checked_before_anything_is_evaluated(repository: Repository) -> None:
    seen: list[Architecture] = []

    def watched(arch: Architecture) -> dict[str, float]:
        seen.append(arch)
        return evaluate(arch)

    study(repository, run=watched, limits=("params <= 20000",), predict=predict).run(40)
    assert len(seen) == 40
    assert max(params(arch) for arch in seen) <= 20000


def test_upper_limits_are_checked_on_bounds_and_lower_ones_on_predictions(repository: Repository) -> None:
    def doubled(archs: Sequence[Architecture]) -> dict[str, np.ndarray]:
        return {name: 2 * values for name, values in predict(archs).items()}

    limits = ("params <= 20000", "params >= 1000")
    study(repository, limits=limits, predict=predict, bound=doubled, searcher=RandomSearch).run(40)
    seen = [params(evaluation.arch) for evaluation in repository.evaluations("s")]
    assert len(seen) == 40 and 1000 <= min(seen) < 2000 and 5000 < max(seen) <= 10000


def test_batches_are_drawn_from_streams_of_their_own(repository: Repository) -> None:
    draws = []

    class Drawing(RandomSearch):
        def ask(self, n: int, rng: np.random.Generator) -> list[Architecture]:
            draws.append(rng.random())
            return super().ask(n, rng)

    study(repository, searcher=Drawing).run(18)
    assert len(set(draws)) == len(draws) == 3


def test_limits_that_nothing_keeps_are_an_error_with_the_nearest_value(repository: Repository) -> None:
    impossible = study(repository, limits=("params <= 100", "error <= 1"), predict=predict)
    with pytest.raises(NasError, match=r"0 keep params <= 100, nearest 192; loosen a limit"):
        impossible.run(10)
    assert repository.study("s").status == "failed"


def test_all_failing_evaluations_end_no_study(repository: Repository) -> None:
    def failing(arch: Architecture) -> dict[str, float]:
        raise MemoryError(f"no room for {arch.width}")

    one = study(repository, run=failing)
    assert one.run(30) == []
    assert len(one.evaluations) == 30
    assert all(e.error == f"MemoryError: no room for {e.arch.width}" for e in repository.evaluations("s"))


@pytest.mark.parametrize("batch", [2, 6, 20])
@pytest.mark.parametrize("searcher", SEARCHERS.values())
def test_an_exhausted_space_ends_the_study(searcher: type, batch: int, repository: Repository) -> None:
    changes = {"searcher": searcher, "settings": settings_of(searcher, Tiny()), "batch": batch}
    one = study(repository, run=tiny, space=Tiny(), **changes)
    front = one.run(50)
    assert {e.arch for e in one.evaluations} == set(Tiny().enumerate())
    assert len(one.evaluations) == 9
    assert len(front) == 3
    assert repository.study("s").status == "finished"
    assert len(study(repository, run=tiny, space=Tiny(), **changes).run(50)) == 3
    assert len(repository.evaluations("s")) == 9


def test_an_exhausted_feasible_part_ends_the_study(repository: Repository) -> None:
    def cheap(archs: Sequence[Architecture]) -> dict[str, np.ndarray]:
        return {"params": np.array([tiny(arch)["params"] for arch in archs])}

    changes: dict[str, Any] = {"space": Tiny(), "limits": ("params <= 3",), "predict": cheap}
    for _ in range(2):
        one = study(repository, run=tiny, **changes)
        one.run(50)
        assert {e.metrics["params"] for e in one.evaluations} == {2.0, 3.0}
        assert len(one.evaluations) == 3


class Stubborn:
    """A searcher that asks for the same few networks again and again."""

    origins: Mapping[str, Origin] = {}

    def __init__(self, space: Space, objectives: Sequence[str], limits: Sequence[Any]) -> None:
        self.archs = RandomSearch(space, objectives).ask(8, np.random.default_rng(0))
        self.told = 0

    def ask(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        return self.archs[self.told // 2 : self.told // 2 + n]

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        self.told += len(evaluations)


def test_nothing_is_evaluated_twice(repository: Repository) -> None:
    calls: list[str] = []

    def counted(arch: Architecture) -> dict[str, float]:
        calls.append(arch.digest)
        return evaluate(arch)

    one = study(repository, run=counted, searcher=Stubborn, batch=4)
    one.run(8)
    assert len(calls) == len(set(calls)) == len(one.evaluations)
    assert repository.study("s").searcher.endswith(":Stubborn")


def test_what_other_studies_found_is_taken_over(repository: Repository) -> None:
    calls: list[str] = []

    def counted(arch: Architecture) -> dict[str, float]:
        calls.append(arch.digest)
        return evaluate(arch)

    def plain(arch: Architecture) -> dict[str, float]:
        calls.append(arch.digest)
        return {"error": 0.5, "params": 1.0}

    first = study(repository, "first", counted, data="d1")
    first.run(18)
    succeeded = sum(e.error is None for e in first.evaluations)
    assert 0 < succeeded < 18
    calls.clear()
    second = study(repository, "second", counted, data="d1")
    second.run(18)
    assert len(calls) == 18 - succeeded  # failures have another try
    assert found(second.evaluations) == found(first.evaluations)
    for name, data in (("other data", "d2"), ("unnamed data", None)):
        calls.clear()
        study(repository, name, plain, data=data).run(18)
        assert len(calls) == 18


def test_costs_are_those_of_each_studys_own_predictor(repository: Repository) -> None:
    """Accuracy is shared between studies of the same data; what a network costs is not."""

    def dearer(archs: Sequence[Architecture]) -> dict[str, np.ndarray]:
        return {"params": 3 * predict(archs)["params"]}

    calls: list[str] = []

    def counted(arch: Architecture) -> dict[str, float]:
        calls.append(arch.digest)
        return {"error": 0.5}

    study(repository, "first", counted, data="d", predict=predict).run(6)
    second = study(repository, "second", counted, data="d", predict=dearer)
    second.run(6)
    assert len(calls) == 6
    assert [e.metrics["params"] for e in second.evaluations] == [3 * params(e.arch) for e in second.evaluations]


def test_a_known_evaluation_without_a_metric_of_this_study_is_done_again(repository: Repository) -> None:
    study(repository, "first", data="d").run(6)
    calls: list[str] = []

    def more(arch: Architecture) -> dict[str, float]:
        calls.append(arch.digest)
        return {**evaluate(arch), "macs": 1.0}

    again = Study("second", Net(), more, ("error", "macs"), repository, batch=6, data="d")
    again.run(6)
    assert len(calls) == 6


def test_a_missing_metric_is_an_error_that_names_it(repository: Repository) -> None:
    with pytest.raises(NasError, match="returned error but not 'params'"):
        study(repository, run=lambda arch: {"error": 1.0}).run(6)
    assert repository.evaluations("s") == []


def test_an_evaluation_is_stored_before_the_next_begins(repository: Repository) -> None:
    seen: list[int] = []

    def watched(arch: Architecture) -> dict[str, float]:
        seen.append(len(repository.evaluations("s")))
        return evaluate(arch)

    study(repository, run=watched).run(15)
    assert seen == list(range(15))


def test_each_batch_is_one_call(repository: Repository) -> None:
    seen: list[tuple[int, int]] = []
    one = study(repository, on_batch=lambda s, new: seen.append((len(new), len(repository.evaluations(s.name)))))
    one.run(15)
    assert seen == [(6, 6), (6, 12), (3, 15)]
    assert repository.study("s").status == "finished"


def test_a_line_an_evaluation_is_logged(repository: Repository, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="nas.study")
    study(repository).run(6)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 6
    assert lines[0].startswith("s 1 ")
    assert "error=" in lines[0] or "failed: " in lines[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 0}, "batch is 0"),
        ({"limits": ("params = 3",)}, "params"),
        ({"settings": {"popul": 3}}, "SurrogateSearch cannot be made with settings {'popul': 3}"),
    ],
)
def test_settings_are_checked(changes: dict[str, Any], message: str, repository: Repository) -> None:
    with pytest.raises(NasError) as caught:
        study(repository, **changes)
    assert message in str(caught.value)
    with pytest.raises(NasError, match="name at least one metric"):
        Study("s", Net(), evaluate, (), repository)


def test_another_search_of_the_same_name_is_refused(repository: Repository) -> None:
    study(repository).run(6)
    with pytest.raises(NasError, match="is another search"):
        study(repository, batch=7)
    with pytest.raises(NasError, match="is another search"):
        study(repository, settings={"startup": 9})


def test_evolution_beats_chance_in_studies(repository: Repository) -> None:
    def volume(name: str, make: Callable[..., Searcher], seed: int) -> float:
        one = study(repository, f"{name}{seed}", searcher=make, seed=seed, batch=8)
        front = one.run(64)
        return pareto.hypervolume(
            np.array([[e.metrics["error"], np.log(e.metrics["params"])] for e in front]), [0.5, 12]
        )

    shares = {name: [volume(name, SEARCHERS[name], seed) for seed in range(5)] for name in ("random", "evolution")}
    assert np.median(shares["evolution"]) > np.median(shares["random"])


def test_of_distributions_a_study_keeps_digests(repository: Repository) -> None:
    one, other = learnt(Net(), 1), learnt(Net(), 2)
    settings = {"prior": [one, other], "startup": 6}
    assert study(repository, settings=settings).record.settings["prior"] == [one.digest, other.digest]
    later = {"prior": [replace(one, study="t", seconds=3.0), other], "startup": 6}
    study(repository, settings=later).run(6)
    with pytest.raises(NasError, match="study 's' is another search"):
        study(repository, settings=settings | {"prior": [other]})


def test_a_study_begins_with_what_it_is_given(repository: Repository) -> None:
    """Eight in batches of six, then the searcher; a study stopped among them goes on with the others."""
    first = Net().sample_many(8, np.random.default_rng(9), distinct=True)
    whole = study(repository, first=[*first, first[0]])
    whole.run(20)
    assert [e.arch for e in whole.evaluations[:8]] == first and len({e.arch for e in whole.evaluations}) == 20
    with Repository("sqlite://") as other:
        study(other, first=first).run(3)
        stopped = study(other, first=first)
        stopped.run(20)
        assert found(stopped.evaluations) == found(whole.evaluations)
        with pytest.raises(NasError, match="first"):
            study(other)
    with pytest.raises(NasError, match="which is not in"):
        study(repository, "t", first=[Tiny().smallest()])
