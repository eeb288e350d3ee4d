"""What the sandwich rule does by its settings."""

from collections import Counter

import pytest
import torch
import toy
from toy import Digits, ToySpace

from search_spaces import Space, choice
from supernets.losses import adaptive_alpha_divergence, at_temperature, soft_cross_entropy
from supernets.strategies import Distil, Sandwich, StrategyError, strategy
from supernets.training import train
from tests.contracts.strategy import course, steps


class Deep(Space):
    depth = choice(1, 2)
    width = choice(8, 12, 16, per="depth")


@pytest.mark.parametrize(
    ("text", "distil"),
    [
        ("sandwich", Distil(soft_cross_entropy)),
        ("sandwich(distil=alpha)", Distil(adaptive_alpha_divergence)),
        ("sandwich(temperature=2)", Distil(at_temperature(soft_cross_entropy, 2.0))),
        ("sandwich(distil=alpha, temperature=2)", Distil(at_temperature(adaptive_alpha_divergence, 2.0))),
    ],
)
def test_all_but_the_first_imitate_it(text: str, distil: Distil) -> None:
    for step in steps(strategy(text).plan(course())):
        assert step.passes[0].distil is None and step.passes[0].task == 1
        assert [(one.distil, one.task, one.weight) for one in step.passes[1:]] == [(distil, 0, 1)] * 3


def test_without_distillation_all_learn_the_task() -> None:
    space = ToySpace()
    for step in steps(strategy("sandwich(distil=none, num_random=1)").plan(course())):
        assert [one.distil for one in step.passes] == [None] * 3 and {one.task for one in step.passes} == {1.0}
        assert step.passes[0].arch == space.largest() and step.passes[-1].arch == space.smallest()


def test_what_is_imitated_changes_nothing_in_what_is_drawn() -> None:
    drawn = [
        [[one.arch for one in step.passes] for step in steps(Sandwich(distil=distil).plan(course(seed=4)))]
        for distil in ("kl", "alpha", "none")
    ]
    assert drawn[0] == drawn[1] == drawn[2]


@pytest.mark.parametrize(("sample", "shallow"), [("networks", 3 / 12), ("choices", 1 / 2)])
def test_random_ones_are_uniform_over_networks_or_choices(sample: str, shallow: float) -> None:
    plan = Sandwich(num_random=1, sample=sample).plan(course(Deep()))
    depths = Counter(plan.step(index).passes[1].arch.depth for index in range(2000))
    assert depths[1] / 2000 == pytest.approx(shallow, abs=0.04)


def test_the_smallest_learns_by_imitation_alone() -> None:
    method = Sandwich(num_random=0, distil="alpha")
    result = train(toy.supernet(), Digits(), toy.config(steps=200, lr=3e-2), progress=False, method=method)
    assert result.final("smallest") < 0.6 and result.skipped == 0  # chance is 0.9


def test_kinds_differ_in_what_they_train() -> None:
    trained = []
    for text in ("sandwich", "sandwich(distil=alpha)", "sandwich(distil=none)", "sandwich(temperature=4)"):
        supernet = toy.supernet()
        train(supernet, Digits(), toy.config(steps=3, strategy=text), progress=False)
        trained.append(torch.cat([tensor.flatten() for tensor in supernet.state_dict().values()]))
    assert all(not torch.equal(a, b) for i, a in enumerate(trained) for b in trained[:i])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sandwich(distil=beta)", "distil = 'beta': choose kl, alpha or none"),
        ("sandwich(num_random=-1)", "num_random = -1: it must be 0 or more"),
        ("sandwich(temperature=0)", "temperature = 0.0: it must be above 0 and finite"),
        ("sandwich(distil=none, temperature=2)", "with distil = none it softens nothing"),
        ("sandwich(sample=all)", "sample = 'all': sampling is uniform over networks or choices"),
    ],
)
def test_wrong_settings_are_named(text: str, message: str) -> None:
    with pytest.raises(StrategyError, match=message) as caught:
        strategy(text)
    assert "\n" not in str(caught.value)
