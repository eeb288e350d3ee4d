"""Every gradient method by the contract, and what each does in particular."""

import math

import pytest
import torch
from torch import Tensor

from nas.errors import NasError
from nas.searchers.gradient import METHODS, Darts, DrNas, Gdas, Method, SmallTemperature, Snas, method
from nas.searchers.gradient.temperature import entropy_at
from supernets.spelling import SpellingError
from tests.contracts.gradient_method import GradientMethodContract, generator, logits

TEXTS = (
    *METHODS,
    "darts(order=2, regulariser=entropy, strength=0.01)",
    "darts(regulariser=none)",
    "gdas(temperature=5, end=1, schedule=cosine)",
    "gdas(temperature=5, sparse=yes)",
    "snas(schedule=linear, regulariser=uniform)",
    "drnas(concentration=4)",
    "drnas(concentration=0.2, regulariser=distance)",
    "small-temperature(k=2)",
    "small-temperature(k=3, noise=half-normal, sigma=0.3)",
    "small-temperature(adaptive=yes)",
    "small-temperature(adaptive=yes, k=3, schedule=constant)",
)

LOGITS = (0.3, 0.1, 0.0, -0.2)


@pytest.mark.parametrize("text", TEXTS)
class TestEveryMethod(GradientMethodContract):
    @pytest.fixture
    def method(self, text: str) -> Method:
        return method(text)


def some(*values: float) -> Tensor:
    return torch.tensor(values or LOGITS, dtype=torch.float64)


def shares(found: Method, values: Tensor, progress: float, draws: int) -> Tensor:
    """How often each option is the largest."""
    rng = generator(11)
    largest = [int(found.probabilities(values, progress, rng).argmax()) for _ in range(draws)]
    return torch.bincount(torch.tensor(largest), minlength=len(values)) / draws


def test_an_unknown_method_lists_the_known_ones() -> None:
    with pytest.raises(SpellingError, match=r"no gradient method is called 'enas': choose one of darts\(order, "):
        method("enas")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("darts(order=3)", "darts: order = 3: it must be 1 or 2"),
        ("gdas(end=0)", "gdas: end = 0.0: it must be above 0"),
        ("snas(schedule=step)", "snas: schedule = 'step': it must be one of constant, linear, exponential, cosine"),
        ("gdas(regulariser=kl)", "gdas: regulariser = 'kl': it must be one of none, decay, entropy, uniform"),
        ("drnas(concentration=0)", "drnas: concentration = 0.0: it must be 0.01 or more"),
        ("darts(strength=nan)", "darts: strength = nan: it must be a finite number"),
        ("small-temperature(noise=none)", "small-temperature: noise = 'none': it must be one of gumbel, half-normal"),
        (
            "small-temperature(k=1)",
            "small-temperature: k = 1: it must be 2 or more, because one option has no gradient, or 0 for all",
        ),
    ],
)
def test_a_wrong_setting_is_named_with_its_rule(text: str, message: str) -> None:
    with pytest.raises(NasError) as error:
        method(text)
    assert str(error.value) == message


# --- DARTS ----------------------------------------------------------------------------------------------------------


def test_darts_penalty_is_adams_weight_decay() -> None:
    values = some().requires_grad_()
    (gradient,) = torch.autograd.grad(Darts().penalty(values), values)
    assert torch.allclose(gradient, 1e-3 * values.detach(), rtol=1e-12)


# --- GDAS -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gdas_is_exactly_one_hot(dtype: torch.dtype) -> None:
    rng = generator()
    for step in range(300):
        found = Gdas().probabilities(some().to(dtype), step / 299, rng)
        assert sorted(found.tolist()) == [0.0, 0.0, 0.0, 1.0]


def test_gdas_draws_each_option_as_often_as_it_has_learnt() -> None:
    for progress in (0.0, 1.0):
        assert torch.allclose(
            shares(Gdas(), 3 * some(), progress, 2500).double(), Gdas().learnt(3 * some()), atol=0.025
        )


def test_gdas_has_the_gradient_of_the_gumbel_softmax() -> None:
    """That of Snas, from the same noise at the same temperature."""
    gdas, snas = Gdas(temperature=2, schedule="constant"), Snas(temperature=2, schedule="constant")
    values, worth = some().requires_grad_(), some(3, -1, 0.5, 2)
    gradients = [
        torch.autograd.grad((one.probabilities(values, 0.5, generator(4)) * worth).sum(), values)[0]
        for one in (gdas, snas)
    ]
    assert torch.equal(*gradients)


def test_gdas_runs_what_it_did_not_draw_unless_it_is_told_not_to() -> None:
    assert not Gdas().sparse and method("gdas(temperature=5, sparse=yes)") == Gdas(temperature=5, sparse=True)


@pytest.mark.parametrize("text", [text for text in TEXTS if "gdas" not in text and "k=" not in text])
def test_soft_methods_leave_all_options_in(text: str) -> None:
    rng = generator(2)
    assert all((method(text).probabilities(logits(8), 0.2, rng) > 0).all() for _ in range(20))


# --- SNAS -----------------------------------------------------------------------------------------------------------


def test_snas_samples_sharpen() -> None:
    rng = generator()
    means = [
        torch.stack([Snas().probabilities(some(), progress, rng).max() for _ in range(500)]).mean()
        for progress in (0.0, 0.5, 1.0)
    ]
    assert means[0] < means[1] < means[2] and means[2] > 0.93


# --- DrNAS ----------------------------------------------------------------------------------------------------------


def test_drnas_concentrations_are_elu_plus_one() -> None:
    values = torch.linspace(-5, 5, 41, dtype=torch.float64)
    assert torch.allclose(DrNas.concentrations(values), torch.nn.functional.elu(values) + 1, rtol=1e-12)
    assert DrNas.concentrations(torch.tensor(-40.0)) > 0


@pytest.mark.parametrize("concentration", [0.2, 1.0, 4.0])
def test_drnas_begins_with_the_concentration(concentration: float) -> None:
    begun = DrNas(concentration=concentration).initial(40, generator())
    assert torch.allclose(DrNas.concentrations(begun), torch.full_like(begun, concentration), rtol=0.02)


def test_drnas_draws_from_its_distribution() -> None:
    values, rng = some(2.0, 0.0, -1.0), generator(1)
    concentrations = DrNas.concentrations(values)
    drawn = torch.stack([DrNas().probabilities(values, 0.5, rng) for _ in range(3000)])
    total = concentrations.sum()
    mean = concentrations / total
    assert torch.allclose(drawn.mean(0), mean, atol=0.015)
    assert torch.allclose(drawn.var(0), mean * (1 - mean) / (total + 1), atol=0.006)
    assert torch.allclose(DrNas().learnt(values), mean)


def test_drnas_gradients_are_those_of_the_expectation() -> None:
    """The mean of w.x is w.c / sum(c), whose gradient is known; draws have it on average."""
    values, worth, rng = some(1.0, 0.0, -0.5).requires_grad_(), some(1, -2, 3), generator(2)
    draws = [(DrNas().probabilities(values, 0.5, rng) * worth).sum() for _ in range(1500)]
    (found,) = torch.autograd.grad(torch.stack(draws).mean(), values)
    (known,) = torch.autograd.grad((DrNas().learnt(values) * worth).sum(), values)
    assert torch.allclose(found, known, atol=0.04)


def test_drnas_penalty_pulls_towards_the_first_concentration() -> None:
    for text in ("drnas(concentration=2)", "drnas(concentration=2, regulariser=distance)"):
        values = some(1.0, 3.0, -1.0).requires_grad_()  # concentrations 2, 4 and 0.37
        penalty = method(text).penalty(values)
        (gradient,) = torch.autograd.grad(penalty, values)
        assert penalty > 0 and gradient[1] > 0 > gradient[2]
        assert method(text).penalty(some(1.0, 1.0, 1.0)).abs() < 1e-15


# --- small temperatures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [0, 4, 9])
def test_small_temperature_without_its_ingredients_is_darts(dtype: torch.dtype, k: int) -> None:
    plain = SmallTemperature(k=k, sigma=0.0, temperature=1.0, schedule="constant")
    for seed in range(20):
        values = torch.randn(4, dtype=dtype, generator=generator(seed))
        assert torch.equal(
            plain.probabilities(values, seed / 19, generator()), Darts().probabilities(values, 0.0, generator())
        )


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("adaptive", [False, True])
def test_exactly_k_options_share_the_probability(k: int, adaptive: bool) -> None:
    rng, found = generator(), SmallTemperature(k=k, adaptive=adaptive)
    for step in range(50):
        probabilities = found.probabilities(some(), step / 49, rng)
        assert int((probabilities > 0).sum()) == k and int((probabilities == 0).sum()) == 4 - k
        assert float(probabilities.sum()) == pytest.approx(1, abs=1e-15)


def test_gradients_die_with_the_temperature_and_live_with_noise() -> None:
    """Lengths of gradients as they were measured once, which this readout has too."""
    worth, rng = some(1.0, -1.0, 0.5, 0.0), generator()

    def length(temperature: float, sigma: float = 0.0) -> float:
        found = SmallTemperature(sigma=sigma, temperature=temperature, schedule="constant")
        values = some().requires_grad_()
        (gradient,) = torch.autograd.grad((found.probabilities(values, 0.5, rng) * worth).sum(), values)
        return float(gradient.norm())

    assert [length(temperature) for temperature in (1.0, 0.1, 0.01, 0.001)] == [
        pytest.approx(known, rel=0.02) for known in (0.41, 2.9, 5.8e-7, 2.8e-84)
    ]
    assert sum(length(0.01, sigma=0.1) for _ in range(1500)) / 1500 == pytest.approx(2.9, rel=0.2)


def test_the_mixture_comes_near_what_is_derived() -> None:
    """Of random linear operators: the distance of the mixed output to the largest option's falls to nothing."""
    operators, inputs = (torch.randn(shape, dtype=torch.float64, generator=generator(7)) for shape in ((4, 6, 6), (6,)))
    outputs = operators @ inputs

    def distance(temperature: float) -> float:
        found = SmallTemperature(sigma=0.0, temperature=temperature, schedule="constant")
        return float((found.probabilities(some(), 0.5, generator()) @ outputs - outputs[0]).norm())

    assert distance(1.0) > 2 * distance(0.1) > 0 and distance(0.01) < 1e-7 * distance(1.0)


def test_the_adaptive_temperature_follows_the_entropy() -> None:
    found = SmallTemperature(adaptive=True, end=1e-3, sigma=0.2)
    rng = generator(3)
    for progress in torch.linspace(0.02, 0.95, 40).tolist():
        probabilities = found.probabilities(some(), progress, rng)
        entropy = -float((probabilities * probabilities.log()).sum())
        assert entropy == pytest.approx((1 - progress) * math.log(4), abs=1e-12)


def test_the_adaptive_temperature_stops_at_the_end() -> None:
    found = SmallTemperature(adaptive=True, end=0.05, sigma=0.0)
    assert torch.equal(found.probabilities(some(), 1.0, generator()), (some() / 0.05).softmax(-1))
    equal = torch.zeros(4, dtype=torch.float64)
    assert torch.equal(found.probabilities(equal, 0.5, generator()), torch.full_like(equal, 0.25))


def test_what_small_temperatures_have_learnt_is_what_they_end_with() -> None:
    found = SmallTemperature(sigma=0.0)
    assert torch.allclose(found.probabilities(some(), 1.0, generator()), found.learnt(some()), rtol=1e-12)
    assert entropy_at(LOGITS, found.end) < 0.2 * math.log(4)


def test_half_normal_noise_only_lifts() -> None:
    found = SmallTemperature(noise="half-normal", sigma=1.0, schedule="constant")
    rng = generator()
    for _ in range(50):
        lifted = found.probabilities(some(), 0.0, rng).log()
        assert lifted.isfinite().all()
    assert shares(found, some(), 0.0, 500).min() > 0.1
