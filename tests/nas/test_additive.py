"""Additive search: the best sums exactly, costs that multiply, conditions, limits; and the contract of searchers."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from nas.limits import parse
from nas.records import Evaluation
from nas.searchers import AdditiveSearch, Searcher
from nas.searchers._choosing import Bound, Choosing, Terms, total
from nas.searchers.additive import judgement, replacements
from search_spaces import Architecture, Space, choice
from tests.contracts.searcher import SearcherContract, settings_are_refused


class TestAdditive(SearcherContract):
    @pytest.fixture
    def make(self) -> Callable[..., Searcher]:
        return AdditiveSearch


class Small(Space):
    width = choice(1, 2, 3)
    depth = choice(0, 1, 2)
    ratio = choice(1, 2, per="depth")
    form = choice("a", "b")
    size = choice(1, 2, 3, when={"form": "b"})


def terms_of(rng: np.random.Generator, space: Space) -> Terms:
    return [rng.integers(-20, 20, len(slot.options) + 1).astype(float) for slot in space.slots]


ALL = Small().codes(list(Small().enumerate()))


@pytest.mark.parametrize("block", range(10))
def test_the_least_sum_under_bounds_is_that_of_brute_force(block: int) -> None:
    """500 random instances, with conditions, one to three bounds and networks that are cut off."""
    space = Small()
    choosing = Choosing(space.slots, space.domains)
    for seed in range(50):
        rng = np.random.default_rng([block, seed])
        terms = terms_of(rng, space)
        bounds = [Bound(terms_of(rng, space), float(rng.integers(-60, 60))) for _ in range(rng.integers(1, 4))]
        without = [tuple(int(code) for code in ALL[i]) for i in rng.integers(0, len(ALL), 2)]
        kept = [
            i
            for i, row in enumerate(ALL)
            if all(total(b.terms, row[None])[0] <= b.most + 1e-9 for b in bounds) and tuple(row.tolist()) not in without
        ]
        found = choosing.least(terms, bounds, without)
        sums = total(terms, ALL)
        if not kept:
            assert found is None
            continue
        assert found is not None
        row = np.array([found], dtype=np.int16)
        assert tuple(found) in {tuple(ALL[i].tolist()) for i in kept}
        assert total(terms, row)[0] == pytest.approx(min(sums[kept]))


def test_fixed_codes_are_kept() -> None:
    space = Small()
    terms = terms_of(np.random.default_rng(0), space)
    for width in range(3):
        found = Choosing(space.slots, space.domains).least(terms, fixed=(width, *[-2] * (len(space.slots) - 1)))
        assert found is not None and found[0] == width


class Wide(Space):
    width = choice(1, 2, 4)
    hidden = choice(1, 2, 3, 4, per=4)
    extra = choice(0, 1, 2)


def cost(arch: Architecture) -> float:
    return float(arch.width * sum(arch.hidden) + 3 * arch.extra)


def damage(arch: Architecture) -> float:
    weights = (4.0, 1.0, 2.0, 0.5)
    lost = sum(w * (4 - h) for w, h in zip(weights, arch.hidden, strict=True))
    return 1 + {1: 9.0, 2: 2.5, 4: 0.0}[arch.width] + lost + (2 - arch.extra) * 0.7


def costs(archs: Sequence[Architecture]) -> dict[str, np.ndarray]:
    return {"cost": np.array([cost(arch) for arch in archs])}


def search(limits: Sequence[str] = (), batches: int = 6) -> list[Evaluation]:
    searcher = AdditiveSearch(Wide(), ("damage", "cost"), tuple(map(parse, limits)), costs=costs)
    told: list[Evaluation] = []
    for step in range(batches):
        archs = searcher.ask(8, np.random.default_rng(step))
        new = [Evaluation(arch, {"damage": damage(arch), "cost": cost(arch)}) for arch in archs]
        searcher.tell(new)
        told += new
    return told


def front(pairs: Sequence[tuple[float, float]]) -> set[tuple[float, float]]:
    return {p for p in pairs if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in pairs)}


def test_replacements_come_first_and_then_networks_of_the_front() -> None:
    """Damage is a sum, cost a product with the width: what is solved for is on the true front, as far as it is new."""
    told = search()
    alone = replacements(Wide())
    assert [e.arch for e in told[: len(alone)]] == alone
    everything = front([(damage(arch), cost(arch)) for arch in Wide().enumerate()])
    after = [(e.metrics["damage"], e.metrics["cost"]) for e in told[len(alone) :]]
    shown = {(e.metrics["damage"], e.metrics["cost"]) for e in told}
    assert len(everything & shown) > 0.7 * len(everything)
    assert sum(point in everything for point in after) > 0.6 * len(after)
    assert judgement(Wide(), told, "damage") == (pytest.approx(1.0), len(after))


def test_limits_are_kept_by_what_is_solved_for() -> None:
    told = search(["cost <= 20"])
    alone = {arch.digest for arch in replacements(Wide())}
    after = [e for e in told if e.arch.digest not in alone][:12]
    best = min(damage(arch) for arch in Wide().enumerate() if cost(arch) <= 20)
    assert all(cost(e.arch) <= 20 for e in after)
    assert min(damage(e.arch) for e in after) == pytest.approx(best)


def test_conditional_costs_are_exact_sums() -> None:
    space = Small()

    def priced(archs: Sequence[Architecture]) -> dict[str, np.ndarray]:
        own = [
            a.width * (2 + sum(a.ratio)) + (5 if a.form == "b" else 1) + (4 * a.size if a.form == "b" else 0)
            for a in archs
        ]
        return {"cost": np.array(own, dtype=float)}

    searcher = AdditiveSearch(space, ("error", "cost"), costs=priced)
    rows, terms = searcher._splits
    archs = list(space.enumerate())
    codes = space.codes(archs)
    for row in rows:
        here = [i for i, own in enumerate(codes) if all(f in (-2, c) for f, c in zip(row, own.tolist(), strict=True))]
        np.testing.assert_allclose(
            total(terms["cost", row], codes[here]), priced([archs[i] for i in here])["cost"], rtol=1e-12
        )
    covered = {
        tuple(c) for row in rows for c in codes.tolist() if all(f in (-2, x) for f, x in zip(row, c, strict=True))
    }
    assert covered == set(map(tuple, codes.tolist()))


def test_settings_that_cannot_be_are_refused() -> None:
    assert "ridge is 2" in settings_are_refused(AdditiveSearch, ridge=2)


def test_judging_few_networks_says_nothing() -> None:
    told = [Evaluation(arch, {"damage": damage(arch)}) for arch in itertools.islice(replacements(Wide()), 5)]
    tau, number = judgement(Wide(), told, "damage")
    assert np.isnan(tau) and number == 0
