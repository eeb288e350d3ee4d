"""Raising the largest budget: what equals a run from scratch, what is never taken back, and what is saved."""

from itertools import pairwise
from statistics import fmean

import pytest
from configurations import hyperband, noisy, sets, unrelated

from nas.fidelity import cost
from nas.fidelity.deepening import discarding, efficient, preserving
from search_spaces import Architecture

# --- the rules ---


def by_number(configs: "list[int]") -> list[int]:
    return sorted(config for config in configs if config < 100)  # those of 100 and more have failed


def test_rules_on_a_rung_by_hand() -> None:
    members, before, above = [7, 3, 100, 9, 5], [3, 9, 1], [9]
    assert discarding(by_number, members, before, above, 2) == [3, 5]  # type: ignore[arg-type]
    assert preserving(by_number, members, before, above, 2) == [1, 3]  # type: ignore[arg-type]
    assert efficient(by_number, members, before, above, 2) == [9, 3]  # type: ignore[arg-type]
    assert efficient(by_number, members, before, [9, 7, 5], 2) == [9, 7, 5]  # type: ignore[arg-type]
    for rule in (discarding, preserving, efficient):
        assert 100 not in rule(by_number, members, before, above, 9)  # type: ignore[arg-type]


# --- against runs from scratch ---


@pytest.mark.parametrize("evaluate", [unrelated, noisy])
@pytest.mark.parametrize(("eta", "largest", "seeds"), [(2, 16, 25), (3, 27, 8)])
def test_discarding_is_a_run_from_scratch_that_knows_some_scores(
    eta: int, largest: int, seeds: int, evaluate: "type[noisy]"
) -> None:
    for seed in range(seeds):
        search = hyperband(seed, eta, evaluate=evaluate)
        search.run(largest)
        raised, scratch = search.run(eta * largest), hyperband(seed, eta, evaluate=evaluate).run(eta * largest)
        assert sets(raised) == sets(scratch)
        known = {(trial.config, trial.budget) for trial in search.ledger.trials}
        assert known >= {(trial.config, trial.budget) for trial in scratch.paid}


@pytest.mark.parametrize("reuse", ["discarding", "preserving", "efficient"])
def test_old_and_new_draws_together_are_those_of_a_run_from_scratch(reuse: str) -> None:
    search = hyperband(1, 3, reuse)
    first, raised, scratch = search.run(9), search.run(27), hyperband(1, 3, reuse).run(27)
    for early, late, anew in zip(first.brackets, raised.brackets, scratch.brackets, strict=False):
        drawn = early.rungs[0].members
        assert drawn == late.rungs[0].members[: len(drawn)]
        assert late.rungs[0].members == anew.rungs[0].members
    assert len(raised.brackets) == len(first.brackets) + 1


def test_raising_in_two_steps_or_one_makes_no_difference_where_the_past_is_discarded() -> None:
    for seed in range(20):
        slowly, at_once = hyperband(seed), hyperband(seed)
        for largest in (4, 8, 16):
            last = slowly.run(largest)
        at_once.run(4)
        assert sets(last) == sets(at_once.run(16))


def test_efficient_never_takes_a_promotion_back() -> None:
    for seed in range(30):
        search = hyperband(seed, reuse="efficient")
        outcomes = [search.run(largest) for largest in (4, 8, 16, 32)]
        for early, late in pairwise(outcomes):
            for old, new in zip(early.brackets, late.brackets, strict=False):
                for below, above in zip(old.rungs, new.rungs, strict=False):
                    assert set(below.members) <= set(above.members)


def test_efficient_is_no_run_from_scratch() -> None:
    """Nor need it be: 19 of 200 seeds are in METHODS.md, on an objective of its own."""
    equal = 0
    for seed in range(30):
        search = hyperband(seed, reuse="efficient")
        search.run(16)
        equal += sets(search.run(32)) == sets(hyperband(seed).run(32))
    assert equal <= 9


def test_preserving_ranks_those_of_earlier_runs_along() -> None:
    """Somebody goes on who is not in the rung below any more, and is better than who stays behind."""
    returned = 0
    for seed in range(20):
        search = hyperband(seed, reuse="preserving")
        outcomes = [search.run(8), search.run(16)]
        for old, new in zip(*(outcome.brackets for outcome in outcomes), strict=False):
            for below, above in pairwise(new.rungs):
                past = {rung.budget: rung.members for rung in old.rungs}.get(below.budget, ())
                pool = set(below.members) | set(past)
                worst = max(score(config, below.budget) for config in above.members)
                assert set(above.members) <= pool
                assert all(score(config, below.budget) >= worst for config in pool - set(above.members))
                returned += len(set(above.members) - set(below.members))
    assert returned > 0


def score(config: Architecture, budget: int) -> float:
    return unrelated(config, budget)["error"]


@pytest.mark.parametrize("reuse", ["discarding", "preserving", "efficient"])
def test_what_is_known_is_not_paid_for_again(reuse: str) -> None:
    search = hyperband(2, reuse=reuse)
    paid = [(trial.config, trial.budget) for largest in (4, 8, 16) for trial in search.run(largest).paid]
    assert len(paid) == len(set(paid)) == len(search.ledger.trials)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("eta", "largest", "seeds", "expected"),
    [
        (2, 16, 60, {"discarding": 30.6, "preserving": 31.3, "efficient": 33.0}),
        (3, 27, 15, {"discarding": 19.9, "preserving": 20.4, "efficient": 22.2}),
    ],
)
def test_the_second_run_saves_what_methods_says(eta: int, largest: int, seeds: int, expected: dict[str, float]) -> None:
    saved = {}
    for reuse in expected:
        shares = []
        for seed in range(seeds):
            search = hyperband(seed, eta, reuse)
            search.run(largest)
            scratch = hyperband(seed, eta).run(eta * largest)
            shares.append(100 * (1 - cost(search.run(eta * largest).paid) / cost(scratch.paid)))
        saved[reuse] = fmean(shares)
    assert saved == pytest.approx(expected, abs=1.0)
    assert saved["discarding"] < saved["preserving"] < saved["efficient"]
