"""What every gradient method promises. Subclass, and give `method`."""

import dataclasses

import pytest
import torch
from torch import Tensor

from nas.searchers.gradient import METHODS, Method
from supernets.spelling import parse, spell

SIZES = (2, 3, 8, 40)
DTYPES = (torch.float32, torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def logits(num_options: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> Tensor:
    """As they may be in the middle of a search."""
    return 0.3 * torch.randn(num_options, dtype=dtype, generator=generator(seed))


class GradientMethodContract:
    @pytest.fixture
    def method(self) -> Method:
        raise AssertionError("a subclass gives this fixture")

    def test_its_text_reads_back(self, method: Method) -> None:
        assert parse(spell(method), METHODS, "gradient method") == method
        assert dataclasses.is_dataclass(method) and type(method).__doc__
        assert METHODS[method.name] is type(method)

    @pytest.mark.parametrize("num_options", SIZES)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_probabilities_are_probabilities(self, method: Method, num_options: int, dtype: torch.dtype) -> None:
        values, rng = logits(num_options, dtype), generator()
        for progress in (0.0, 0.3, 0.99, 1.0):
            for found in (method.probabilities(values, progress, rng), method.learnt(values)):
                assert found.shape == (num_options,) and found.dtype == dtype
                assert found.min() >= 0 and float(found.sum()) == pytest.approx(1, abs=8 * torch.finfo(dtype).eps)

    @pytest.mark.parametrize("num_options", SIZES)
    def test_gradients_reach_the_parameters(self, method: Method, num_options: int) -> None:
        worth = torch.linspace(-1, 1, num_options, dtype=torch.float64)
        values, rng = logits(num_options).requires_grad_(), generator(5)
        total = torch.zeros(num_options, dtype=torch.float64)
        for progress in torch.linspace(0, 0.5, 30).tolist():
            (gradient,) = torch.autograd.grad((method.probabilities(values, progress, rng) * worth).sum(), values)
            assert gradient.isfinite().all()
            total += gradient
        assert (total * worth).sum() > 0, "what is worth more gains"
        (gradient,) = torch.autograd.grad((method.learnt(values) * worth).sum(), values)
        assert gradient.isfinite().all() and gradient[-1] > 0 > gradient[0]

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_parameters_far_out_give_finite_gradients(self, method: Method, dtype: torch.dtype) -> None:
        for scale in (10, 60):
            values = torch.tensor([scale, 0.0, -scale, -scale], dtype=dtype, requires_grad=True)
            for progress in (0.0, 0.5, 1.0):
                found = method.probabilities(values, progress, generator())
                loss = (found * torch.arange(4)).sum() + method.learnt(values)[1] + method.penalty(values)
                (gradient,) = torch.autograd.grad(loss, values)
                assert found.isfinite().all() and gradient.isfinite().all()

    def test_equal_seeds_give_equal_probabilities(self, method: Method) -> None:
        def drawn(seed: int) -> list[Tensor]:
            rng = generator(seed)
            return [method.initial(5, rng), *(method.probabilities(logits(5), 0.5, rng) for _ in range(3))]

        state = torch.get_rng_state()
        assert all(map(torch.equal, drawn(3), drawn(3)))
        assert not torch.equal(drawn(3)[0], drawn(4)[0])
        assert torch.equal(torch.get_rng_state(), state), "torch's own random numbers are not touched"

    @pytest.mark.parametrize("num_options", SIZES)
    def test_it_begins_open(self, method: Method, num_options: int) -> None:
        begun = method.initial(num_options, generator())
        assert begun.shape == (num_options,) and begun.dtype == torch.get_default_dtype()
        assert torch.allclose(method.learnt(begun), torch.full_like(begun, 1 / num_options), rtol=0.2)

    def test_penalty_is_a_scalar_that_gradients_pass(self, method: Method) -> None:
        values = logits(6).requires_grad_()
        penalty = method.penalty(values)
        assert penalty.shape == () and penalty.isfinite()
        if penalty.requires_grad:
            (gradient,) = torch.autograd.grad(penalty, values)
            assert gradient.isfinite().all()
        else:
            assert penalty == 0

    def test_zeros_are_exact_where_they_are_promised(self, method: Method) -> None:
        """A method that calls itself sparse leaves options out."""
        rng = generator(2)
        zeros = [int((method.probabilities(logits(8), 0.2, rng) == 0).sum()) for _ in range(20)]
        assert min(zeros) > 0 or not method.sparse

    def test_what_it_asks_of_the_loop(self, method: Method) -> None:
        assert method.order in (1, 2) and isinstance(method.sparse, bool)
