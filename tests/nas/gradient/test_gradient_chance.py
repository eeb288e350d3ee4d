"""Whether what was learnt is better than chance: told where it is not, and not where it is or nothing could tell."""

from typing import Any

import gains
import pytest
import torch
from gains import Missing, Price
from torch import Tensor

from nas.objectives.limits import parse
from nas.searchers.gradient.chance import NUM_DRAWN, Chance, ahead, differ
from nas.searchers.gradient.front import FrontConfig, front
from nas.searchers.gradient.loop import relax, search
from supernets.relaxation import Mixture

WORSE = "scores better than a random one in"


def test_pairs_are_counted_and_equal_ones_by_half() -> None:
    assert ahead([0.9, 0.8], [0.1, 0.2, 0.3]) == 1 and ahead([0.1], [0.2, 0.1, 0.0, -1.0]) == 2.5 / 4


def test_scores_differ_where_the_examples_cannot_explain_it() -> None:
    spread = [0.96, 0.98]  # a standard deviation of .01 around .97, where 256 examples explain .0107 and 1,000 .0054
    assert not differ(spread, 256) and differ(spread, 1000)
    assert not differ([1.0, 1.0], 256)


def beginning_with(monkeypatch: pytest.MonkeyPatch, *logits: float) -> None:
    def initial(self: Any, num_options: int, rng: torch.Generator) -> Tensor:
        return torch.tensor(logits)

    monkeypatch.setattr("nas.searchers.gradient.methods.Darts.initial", initial)


def searched(task: Missing | None = None, **settings: Any) -> tuple[str, ...]:
    """Warnings of a search that moves nothing."""
    given = {name: settings.pop(name) for name in ("costs", "limits") if name in settings}
    (found,) = search(gains.supernet(), task or Missing(), gains.config(steps=2, lr_arch=1e-6), progress=False, **given)
    return found.warnings


def test_a_distribution_that_prefers_the_wrong_options_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    beginning_with(monkeypatch, 4.0, 0.0, 0.0)
    line = searched()[0]
    assert WORSE in line and "50 % is chance" in line and "\n" not in line


def test_one_that_prefers_the_right_ones_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    beginning_with(monkeypatch, 0.0, 0.0, 3.0)
    assert searched() == ()


def test_where_networks_score_alike_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Alike(Missing):
        def score(self, module: Any, step: int, seed: int) -> float:
            return 0.97 + 0.005 * super().score(module, step, seed)

    beginning_with(monkeypatch, 4.0, 0.0, 0.0)
    assert not any(WORSE in line for line in searched(Alike()))


def test_each_network_is_scored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    relaxed = relax(gains.supernet(), Missing(), gains.config())
    chance, space = Chance(relaxed, 0), gains.Blocks()
    drawn, random = chance.scores(Mixture.one_hot(space, space.largest()))
    assert drawn == [1.0] * NUM_DRAWN and len(random) == NUM_DRAWN and len(set(random)) > 5
    monkeypatch.setattr(relaxed, "mean_score", None)
    assert chance.scores(Mixture.one_hot(space, space.largest())) == (drawn, random)


@pytest.mark.parametrize("limits", [(), ("price <= 4",)])
def test_under_a_limit_it_is_not_asked(monkeypatch: pytest.MonkeyPatch, limits: tuple[str, ...]) -> None:
    beginning_with(monkeypatch, 4.0, 0.0, 0.0)
    found = searched(costs={"price": Price()}, limits=[parse(text) for text in limits])
    assert any(WORSE in line for line in found) == (not limits)


def test_where_costs_count_too_it_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    beginning_with(monkeypatch, 4.0, 0.0, 0.0)
    config = FrontConfig(gains.config(steps=2, lr_arch=1e-6), divisions=2)
    found = front(
        gains.supernet(), Missing(), config, costs={"price": Price()}, objectives=("error", "price"), progress=False
    )
    assert [any(WORSE in line for line in one.warnings) for one in found] == [True, False, False]
