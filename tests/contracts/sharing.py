"""What every way of sharing weights promises. Subclass, and give `method`."""

import dataclasses
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import toy
from torch import Tensor
from toy import Digits, ToySpace

from search_spaces import Architecture
from supernets import OptimizerConfig, Supernet
from supernets.sharing import Sharing
from supernets.spelling import parse, spell
from supernets.training import TrainingResult, train


class Cut(Exception):
    """Stands for whatever ends a training."""


def shuffled(supernet: Supernet) -> Supernet:
    """With other values in every trained tensor, so that no two that start alike stay so."""
    generator = torch.Generator().manual_seed(7)
    for shared in supernet._store.parameters.values():
        with torch.no_grad():
            shared.value.add_(0.1 * torch.randn(shared.shape, generator=generator, dtype=shared.value.dtype))
    return supernet


class SharingContract:
    teaching: ClassVar[dict[str, object]] = {"strategy": "sandwich", "steps": 120}
    """What is enough to learn the toy task from nothing."""

    @pytest.fixture
    def method(self) -> Sharing:
        raise AssertionError("a subclass gives this fixture")

    @pytest.fixture
    def supernet(self, method: Sharing) -> Supernet:
        return shuffled(self.made(method))

    @staticmethod
    def made(method: Sharing, seed: int = 1) -> Supernet:
        return Supernet(ToySpace(), toy.build, sharing=method, seed=seed, dtype=torch.float64)

    @staticmethod
    def example() -> Tensor:
        return Digits().example(9).double()

    @staticmethod
    def archs() -> list[Architecture]:
        return list(ToySpace().enumerate())

    def test_its_text_reads_back(self, method: Sharing) -> None:
        assert parse(spell(method), {method.name: type(method)}, "sharing") == method
        assert dataclasses.is_dataclass(method) and type(method).__doc__

    def test_subnet_equals_extracted_network(self, supernet: Supernet) -> None:
        for arch in self.archs():
            subnet, extracted = supernet.subnet(arch).eval(), supernet.extract(arch).eval()
            assert torch.allclose(subnet(self.example()), extracted(self.example()), rtol=0, atol=1e-12)
            plain = toy.build(arch)
            assert [(n, p.shape) for n, p in extracted.named_parameters()] == [
                (n, p.shape) for n, p in plain.named_parameters()
            ]

    def test_extracted_network_is_independent(self, supernet: Supernet) -> None:
        before = supernet.digest()
        with torch.no_grad():
            for parameter in supernet.extract(self.archs()[-1]).parameters():
                parameter.add_(1.0)
        assert supernet.digest() == before

    def test_a_subnet_can_be_run_again_and_sees_new_weights(self, supernet: Supernet) -> None:
        arch, optimizer = self.archs()[2], supernet.optimizer(OptimizerConfig("sgd", lr=0.1))
        subnet = supernet.subnet(arch).eval()
        outputs = []
        for _ in range(3):
            outputs.append(subnet(self.example()))
            outputs[-1].square().sum().backward()
            optimizer.step()
        assert not torch.allclose(outputs[0], outputs[2])
        fresh = supernet.subnet(arch, supernet.route(arch)).eval()
        assert torch.equal(subnet(self.example()), fresh(self.example()))

    def test_gradients_add_up_over_runs(self, supernet: Supernet) -> None:
        arch = self.archs()[3]

        def gradients(times: int) -> dict[str, Tensor]:
            supernet._store.zero_grad()
            subnet = supernet.subnet(arch).eval()
            losses = [subnet(self.example()).square().sum() for _ in range(times)]
            for loss in losses:
                loss.backward()
            return supernet.gradients()

        once, twice = gradients(1), gradients(2)
        assert once.keys() == twice.keys()
        for name, gradient in once.items():
            assert torch.allclose(2 * gradient, twice[name], rtol=1e-9, atol=1e-12), name

    def test_gradients_are_those_of_differences(self, supernet: Supernet) -> None:
        """A small step along the gradient changes the loss by its squared length."""
        arch = self.archs()[4]
        subnet = supernet.subnet(arch).eval()

        def loss() -> Tensor:
            return subnet(self.example()).tanh().square().mean()

        loss().backward()
        gradients, step = supernet.gradients(), 1e-5
        supernet._store.zero_grad()
        values = []
        for sign in (1, -2):
            with torch.no_grad():
                for name, gradient in gradients.items():
                    supernet._store.parameters[name].value.add_(gradient, alpha=sign * step)
            values.append(loss().item())
        length = sum(float(gradient.square().sum()) for gradient in gradients.values())
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(length, rel=1e-3)

    def test_state_moves_to_another_supernet(self, method: Sharing, supernet: Supernet) -> None:
        other = self.made(method, seed=99)
        assert other.digest() != supernet.digest()
        other.load_state_dict(supernet.state_dict())
        assert other.digest() == supernet.digest()
        for arch in self.archs():
            one, moved = (net.extract(arch).eval()(self.example()) for net in (supernet, other))
            assert torch.equal(one, moved)

    def test_what_training_decided_moves_with_the_state(self, method: Sharing) -> None:
        trained, other = (Supernet(ToySpace(), toy.build, sharing=method, seed=seed) for seed in (1, 99))
        train(trained, Digits(), toy.config(strategy="sandwich"), progress=False)
        other.load_state_dict(trained.state_dict())
        for arch in self.archs():
            assert other.route(arch) == trained.route(arch)
            one, moved = (net.extract(arch).eval()(Digits().example(9)) for net in (trained, other))
            assert torch.equal(one, moved)

    def test_equal_seeds_give_equal_weights(self, method: Sharing) -> None:
        assert self.made(method, seed=3).digest() == self.made(method, seed=3).digest()

    def test_what_is_stored_is_known_beforehand(self, method: Sharing, supernet: Supernet) -> None:
        plain = Supernet(ToySpace(), toy.build)
        stored = sum(tensor.numel() for tensor in supernet.state_dict().values())
        known = method.num_elements({name: tuple(tensor.shape) for name, tensor in plain.state_dict().items()})
        assert stored == pytest.approx(known, rel=0.25)

    @pytest.mark.parametrize("cut", [pytest.param(2, marks=pytest.mark.slow), 7])
    def test_cut_and_resumed_is_as_never_cut(self, method: Sharing, cut: int, tmp_path: Path) -> None:
        def trained(stop: int | None, folder: Path | None) -> tuple[TrainingResult, Supernet]:
            def before(step: int) -> None:
                if step == stop:
                    raise Cut

            supernet = Supernet(ToySpace(), toy.build, sharing=method, seed=1)
            config = toy.config(strategy="uniform")
            return train(supernet, Digits(before=before), config, directory=folder, progress=False), supernet

        whole, reference = trained(None, None)
        with pytest.raises(Cut):
            trained(cut, tmp_path)
        resumed, supernet = trained(None, tmp_path)
        assert resumed.losses == whole.losses and resumed.curve == whole.curve
        assert supernet.digest() == reference.digest()

    @pytest.mark.slow
    def test_training_teaches(self, method: Sharing) -> None:
        supernet = Supernet(ToySpace(), toy.build, sharing=method, seed=1)
        result = train(supernet, Digits(), toy.config(**self.teaching, lr=2e-2, evaluate_every=0), progress=False)
        assert result.final("largest") < 0.6 and result.skipped == 0  # chance is 0.9
