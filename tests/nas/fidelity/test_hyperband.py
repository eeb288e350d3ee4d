"""Hyperband: its tables, its rungs, that a stopped run goes on, and that workers change nothing."""

import math
from collections.abc import Generator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from configurations import Killed, KilledAt, draw, hyperband, noisy, sets, unrelated

from nas.errors import NasError
from nas.execution.executors import Deferred, Evaluate, Executor, InProcess
from nas.fidelity import Hyperband, Ledger, Trial, cost, cost_going_on
from nas.fidelity.rungs import bracket_size, num_rungs_after_first, rung_sizes, table
from nas.records import Evaluation
from search_spaces import Architecture, Space, choice

# --- tables ---


@pytest.mark.parametrize(
    ("eta", "largest", "sizes"),
    [
        (2, 8, [8, 6, 4, 4]),
        (2, 16, [16, 10, 7, 5, 5]),
        (3, 9, [9, 5, 3]),
        (3, 27, [27, 12, 6, 4]),
        (3, 81, [81, 34, 15, 8, 5]),
        (4, 1, [1]),
    ],
)
def test_sizes_of_brackets(eta: int, largest: int, sizes: list[int]) -> None:
    assert [bracket[0] for bracket in table(eta, largest)] == sizes


def test_sizes_of_rungs() -> None:
    assert table(3, 27) == ((27, 9, 3, 1), (12, 4, 1), (6, 2), (4,))
    for eta, s_max in ((2, 9), (3, 6), (7, 3)):
        for s in range(s_max + 1):
            sizes = rung_sizes(eta, s_max, s)
            assert sizes[0] == bracket_size(eta, s_max, s) == math.ceil((s_max + 1) / (s + 1) * eta**s - 1e-9)
            assert all(above == below // eta for below, above in pairwise(sizes))
            assert sizes[-1] >= 1


def test_the_number_of_rungs_is_counted_in_whole_numbers() -> None:
    """Logarithms misround: log(243, 3) is below 5."""
    assert math.floor(math.log(243, 3)) == 4
    for eta in range(2, 12):
        assert [num_rungs_after_first(eta, eta**power) for power in range(30)] == list(range(30))


@pytest.mark.parametrize(
    ("eta", "largest", "told"),
    [
        (1, 8, "eta is 1: .*2 or more"),
        (2.0, 8, r"eta is 2.0: .*whole number"),
        (True, 8, "eta is True"),
        (3, 80, "largest budget is 80: it must be a power of eta, 3.*take 27 or 81"),
        (3, 0, "largest budget is 0"),
        (3, 9.0, "largest budget is 9.0"),
    ],
)
def test_budgets_that_cannot_be(eta: int, largest: int, told: str) -> None:
    with pytest.raises(NasError, match=told):
        table(eta, largest)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"eta": 1}, "eta is 1"),
        ({"reuse": "all"}, "reuse is 'all': choose one of discarding, preserving, efficient"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, int], told: str) -> None:
    with pytest.raises(NasError, match=told):
        Hyperband(draw, noisy, "error", **settings)  # type: ignore[arg-type]


# --- runs ---


def test_each_rung_takes_the_best_of_the_one_below() -> None:
    outcome = Hyperband(draw, noisy, "error", eta=3).run(27)
    assert [[len(rung.members) for rung in bracket.rungs] for bracket in outcome.brackets] == list(
        map(list, table(3, 27))
    )
    for first, bracket in enumerate(outcome.brackets):
        assert [rung.budget for rung in bracket.rungs] == [3**level for level in range(first, 4)]
        for below, above in pairwise(bracket.rungs):
            ranked = sorted(below.members, key=lambda config: noisy(config, below.budget)["error"])
            assert set(above.members) == set(ranked[: len(above.members)])
    finalists = [config for bracket in outcome.brackets for config in bracket.rungs[-1].members]
    assert outcome.best is not None
    assert outcome.best.metrics["error"] == min(noisy(config, 27)["error"] for config in finalists)


def test_of_equally_good_ones_those_drawn_first_go_on() -> None:
    outcome = Hyperband(draw, lambda config, budget: {"error": 0.5}, "error", eta=2).run(8)
    for bracket in outcome.brackets:
        for rung in bracket.rungs:
            assert rung.members == bracket.rungs[0].members[: len(rung.members)]


def test_equal_seeds_give_equal_runs_and_others_others() -> None:
    assert sets(hyperband(3).run(8)) == sets(hyperband(3).run(8)) != sets(hyperband(4).run(8))


def test_brackets_draw_from_streams_of_their_own() -> None:
    outcome = hyperband(0).run(16)
    drawn = [config for bracket in outcome.brackets for config in bracket.rungs[0].members]
    assert len(set(drawn)) == len(drawn) == 43


def test_failures_rank_last_and_never_go_on() -> None:
    def half(config: Architecture, budget: int) -> dict[str, float]:
        if config.number % 2:
            raise ValueError("odd")
        return {"error": math.nan} if config.number % 3 == 0 else {"error": config.quality}

    outcome = Hyperband(draw, half, "error", eta=2).run(16)
    for bracket in outcome.brackets:
        for above in bracket.rungs[1:]:
            assert all(config.number % 2 == 0 and config.number % 3 for config in above.members)
    failed = [trial for trial in outcome.paid if trial.error]
    assert {trial.error for trial in failed} >= {"ValueError: odd"}
    assert all(trial.metrics == {} for trial in failed)


def test_where_all_fail_there_is_no_best() -> None:
    def never(config: Architecture, budget: int) -> dict[str, float]:
        raise ValueError("never")

    outcome = Hyperband(draw, never, "error", eta=2).run(4)
    assert outcome.best is None
    assert all(trial.error for trial in outcome.paid)


def test_a_missing_objective_is_an_error() -> None:
    with pytest.raises(NasError, match="returned loss but not 'error'"):
        Hyperband(draw, lambda config, budget: {"loss": 1.0}, "error").run(3)


class Small(Space):
    a = choice(1, 2, 3)
    b = choice("x", "y")


def test_a_small_space_fills_rungs_in_part_and_pays_nothing_twice() -> None:
    calls: list[tuple[str, int]] = []

    def counted(config: Architecture, budget: int) -> dict[str, float]:
        calls.append((config.digest, budget))
        return {"error": config.a / budget}

    search = Hyperband(Small().sample, counted, "error", eta=2)
    outcome = search.run(8)
    assert len(outcome.brackets[0].rungs[0].members) == 6  # of 8
    assert [len(rung.members) for rung in outcome.brackets[0].rungs] == [6, 3, 1, 1]
    assert len(calls) == len(set(calls))
    assert search.run(8) == outcome and len(calls) == len(set(calls))
    search.run(16)
    assert len(calls) == len(set(calls))


# --- executors ---


class Backwards(Executor):
    """As n workers that overtake one another: evaluates and yields the last first."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.given: set[int] = set()

    def completed(self, evaluate: Evaluate, archs: Sequence[Architecture]) -> Generator[tuple[int, Evaluation]]:
        self.batches.append(len(archs))
        self.given.add(id(evaluate))
        for place, arch in reversed(list(enumerate(archs))):
            copy = Architecture.from_json(arch.json())
            yield place, next(InProcess().run(evaluate, [copy]))


def test_workers_change_nothing() -> None:
    executor = Backwards()
    parallel = Hyperband(draw, noisy, "error", eta=2, executor=executor)
    assert sets(parallel.run(16)) == sets(Hyperband(draw, noisy, "error", eta=2).run(16))
    assert len(executor.batches) == 5, "one batch for each budget"
    assert len(executor.given) == 1, "workers are given the evaluator once"


def made(scale: float) -> object:
    return lambda config, budget: {"error": scale * config.quality}


def test_an_evaluator_may_be_deferred() -> None:
    deferred = Hyperband(draw, Deferred(partial(made, 2.0)), "error", eta=2).run(4)  # type: ignore[arg-type]
    plain = Hyperband(draw, lambda config, budget: {"error": 2 * config.quality}, "error", eta=2).run(4)
    assert sets(deferred) == sets(plain)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning:ray")
def test_a_cluster_gives_the_same_run() -> None:
    pytest.importorskip("ray", reason="ray is an extra")
    from nas.execution.cluster import RayExecutor

    with RayExecutor("local", num_workers=2) as executor:
        search = Hyperband(Small().sample, by_a, "error", eta=2, executor=executor)
        here = Hyperband(Small().sample, by_a, "error", eta=2)
        for largest in (4, 8):
            assert sets(search.run(largest)) == sets(here.run(largest))


def by_a(config: Architecture, budget: int) -> dict[str, float]:
    return {"error": config.a / budget}


# --- stopped and begun again ---


def lines(path: Path) -> list[str]:
    """The file without what a clock said."""
    return [line.split(',"seconds"')[0] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("reuse", ["discarding", "preserving", "efficient"])
def test_killed_at_any_evaluation_it_ends_as_if_never_stopped(
    tmp_path: Path, reuse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", lambda file: None)  # it is slow, and no disk is lost here
    whole = hyperband(5, reuse=reuse, evaluate=noisy, path=tmp_path / "whole.jsonl")
    outcomes = [sets(whole.run(4)), sets(whole.run(8))]
    total = len(whole.ledger.trials)
    for after in range(total):
        path = tmp_path / f"{after}.jsonl"
        with pytest.raises(Killed):
            search = Hyperband(draw, KilledAt(after), "error", eta=2, reuse=reuse, seed=5, path=path)
            search.run(4)
            search.run(8)
        with path.open("a") as file:
            file.write('{"config":{"is":"Po')  # the line that was being written
        again = hyperband(5, reuse=reuse, evaluate=noisy, path=path)
        assert [sets(again.run(4)), sets(again.run(8))] == outcomes
        assert lines(path) == lines(tmp_path / "whole.jsonl")


def test_the_same_object_goes_on_after_an_interruption() -> None:
    evaluate = KilledAt(20)
    search = Hyperband(draw, evaluate, "error", eta=2, reuse="efficient")
    with pytest.raises(Killed):
        search.run(8)
    evaluate.left = -1
    assert sets(search.run(8)) == sets(Hyperband(draw, noisy, "error", eta=2, reuse="efficient").run(8))


def test_a_file_of_another_search_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"
    hyperband(1, path=path).run(4)
    with pytest.raises(NasError, match="another search: seed is 1 there and 2 here"):
        hyperband(2, path=path)
    path.write_text(path.read_text().replace('"budget":2', '"budget":"two"', 1))
    with pytest.raises(NasError, match=r"line \d+ is damaged"):
        hyperband(1, path=path)


def test_a_file_goes_on_where_its_runs_ended(tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"
    first = hyperband(1, path=path)
    first.run(4)
    longer = sets(first.run(8))
    assert sets(hyperband(1, path=path).run(8)) == longer
    with pytest.raises(NasError, match="is 2, and was 8 before: it only rises; take 16"):
        hyperband(1, path=path).run(2)


# --- costs ---


def test_costs_in_full_and_where_trainings_go_on() -> None:
    a, b = (Architecture("Point", {"number": number}) for number in (1, 2))
    trials = [Trial(a, 1, 4, {}), Trial(b, 1, 4, {}), Trial(a, 4, 4, {}), Trial(a, 16, 16, {}), Trial(b, 16, 16, {})]
    assert cost(trials) == 38
    assert cost_going_on(trials) == 16 + 16
    assert cost_going_on(trials, run=4) == 5
    assert cost_going_on(trials, run=16) == 12 + 15


def test_a_ledger_in_memory_knows_its_trials() -> None:
    ledger, config = Ledger(), draw(np.random.default_rng(0))
    ledger.add(Trial(config, 2, 2, unrelated(config, 2)))
    assert ledger.get(config, 2) is ledger.trials[0] and ledger.get(config, 4) is None
