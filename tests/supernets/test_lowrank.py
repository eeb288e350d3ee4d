"""Low-rank adapters: at first nothing, then a product that is folded in; what is frozen stays, to the bit."""

import pytest
import torch
import toy
import zoo
from torch import Tensor
from toy import Digits, ToySpace

from supernets import Supernet, SupernetError
from supernets.layout import Shape
from supernets.sharing import LowRank
from supernets.training import train
from tests.contracts.sharing import shuffled

SHAPES: dict[str, Shape] = {"a.weight": (6, 4), "a.bias": (6,), "conv.weight": (8, 2, 3, 3)}


def made(name: str, **settings: object) -> Supernet:
    case = zoo.ZOO[name]
    sharing = LowRank(**settings)  # type: ignore[arg-type]
    return Supernet(case.space, case.build, layout=case.layout, sharing=sharing, dtype=torch.float64)


@pytest.mark.parametrize("name", list(zoo.ZOO))
def test_at_first_every_network_is_the_entangled_one(name: str) -> None:
    """Bit for bit, with values that a state dict gave."""
    case = zoo.ZOO[name]
    plain = shuffled(Supernet(case.space, case.build, layout=case.layout, seed=5, dtype=torch.float64))
    state = {key: value.clone() for key, value in plain.state_dict().items()}
    adapted = Supernet(
        case.space, case.build, layout=case.layout, sharing=LowRank(rank=2), init=state, dtype=torch.float64
    )
    for arch in (case.space.smallest(), case.space.largest()):
        one, other = (net.subnet(arch).eval()(case.example()) for net in (plain, adapted))
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))


@pytest.mark.parametrize("name", list(zoo.ZOO))
def test_extracted_networks_have_the_product_folded_in(name: str) -> None:
    """Over convolutions, grouped and centred ones, fused projections, recurrent layers and tied weights."""
    case, supernet = zoo.ZOO[name], shuffled(made(name, rank=2))
    for arch in (case.space.smallest(), case.space.largest()):
        one, other = (net.eval()(case.example()) for net in (supernet.subnet(arch), supernet.extract(arch)))
        assert torch.allclose(torch.as_tensor(one), torch.as_tensor(other), rtol=0, atol=1e-12)


def test_the_folded_weight_is_the_slice_and_the_product_of_slices() -> None:
    supernet = shuffled(made("fused", rank=3, alpha=6))
    state, arch = supernet.state_dict(), zoo.ZOO["fused"].space.smallest()
    name = next(key for key in state if key.endswith("qkv.weight") and not key.startswith("@"))
    found = supernet.extract(arch).get_parameter(name).detach()
    up, down = state[f"@up.{name}"], state[f"@down.{name}"]
    whole = (state[name] + 2 * up @ down).view(3, -1, state[name].shape[1])
    rows, columns = len(found) // 3, found.shape[1]
    assert torch.allclose(found, whole[:, :rows, :columns].reshape(found.shape), rtol=0, atol=1e-12)


@pytest.mark.parametrize("vectors", [True, False])
def test_training_leaves_what_is_frozen(vectors: bool) -> None:
    supernet = Supernet(ToySpace(), toy.build, sharing=LowRank(rank=2, vectors=vectors), seed=1)
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    train(supernet, Digits(), toy.config(strategy="sandwich"), progress=False)
    moved = {name for name, tensor in supernet.state_dict().items() if not torch.equal(tensor, before[name])}
    adapters = {name for name in before if name.startswith("@")}
    biases = {name for name in before if name.endswith("bias")}
    assert moved == (adapters | biases if vectors else adapters)


def test_only_adapters_have_gradients_and_an_optimisers_state() -> None:
    supernet = Supernet(ToySpace(), toy.build, sharing=LowRank(rank=2, vectors=False))
    supernet.subnet(ToySpace().largest())(Digits().example(3)).square().sum().backward()
    assert all(name.startswith("@") for name in supernet.gradients())


def test_patterns_choose_what_is_adapted_and_the_rest_is_frozen() -> None:
    supernet = Supernet(ToySpace(), toy.build, sharing=LowRank(adapted=("1.*",), vectors=False))
    assert {name for name in supernet.state_dict() if name.startswith("@up")} == {
        f"@up.1.{i}.2.weight" for i in range(2)
    }
    supernet.subnet(ToySpace().largest())(Digits().example(3)).square().sum().backward()
    assert all(".1." in name for name in supernet.gradients())


def test_shapes_and_how_many_numbers() -> None:
    assert LowRank(rank=3).thin((6, 4)) == ((6, 3), (3, 4))
    assert LowRank(rank=8).thin((8, 2, 3, 3)) == ((8, 8), (8, 2, 3, 3))
    assert LowRank(rank=8).thin((6, 4)) == ((6, 4), (4, 4))
    assert LowRank(rank=3).num_elements(SHAPES) == 6 * 4 + 6 + 8 * 18 + (6 + 4) * 3 + (8 + 18) * 3


def test_frozen_weights_are_not_adapted() -> None:
    """A parameter that the module itself does not train has no trained adapter either."""

    def build(arch: object) -> torch.nn.Module:
        module = toy.build(arch)  # type: ignore[arg-type]
        module[0].weight.requires_grad_(False)
        return module

    supernet = Supernet(ToySpace(), build, sharing=LowRank())
    supernet.subnet(ToySpace().largest())(Digits().example(3)).square().sum().backward()
    assert "@up.0.weight" not in supernet.gradients() and "@up.2.weight" in supernet.gradients()


def gradient_of_adapter(supernet: Supernet) -> Tensor:
    return next(tensor for name, tensor in supernet.gradients().items() if name.startswith("@up"))


def test_the_first_gradient_of_b_is_not_nothing() -> None:
    supernet = Supernet(ToySpace(), toy.build, sharing=LowRank())
    supernet.subnet(ToySpace().largest())(Digits().example(3)).square().sum().backward()
    assert float(gradient_of_adapter(supernet).abs().max()) > 0


def test_mistakes_get_one_line() -> None:
    with pytest.raises(SupernetError, match=r"lowrank: rank = 0: it must be 1 or more"):
        LowRank(rank=0)
    with pytest.raises(SupernetError, match=r"lowrank: alpha = 0: it must be above 0"):
        LowRank(alpha=0)
    with pytest.raises(SupernetError, match=r"lowrank: adapted = \(\): it must be a pattern at least"):
        LowRank(adapted=())
    with pytest.raises(SupernetError, match=r"adapted pattern 'fc\*' names no matrix; there is 0\.weight, 1\.0\.2"):
        Supernet(ToySpace(), toy.build, sharing=LowRank(adapted=("fc*",)))
