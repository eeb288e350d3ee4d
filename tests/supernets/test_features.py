"""Features: where they are found, the loss of theirs, and the map to a teacher's width that a training owns."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import toy
import zoo
from safetensors.torch import load_file
from torch import Tensor, nn
from toy import Digits, ToySpace

from search_spaces.gpt import GPTSpace
from supernets.features import FeatureError, FeatureHead, frame_loss, listening
from supernets.models import gpt
from supernets.optim import OptimizerConfig
from supernets.strategies import Distil, Pass, Step
from supernets.supernet import Supernet
from supernets.training import TrainingConfig, train
from tests.supernets.test_training import Cut, Fixed, cutting, quietly, same, state

CPU = torch.device("cpu")


def features(network: nn.Module, example: Tensor) -> Tensor:
    with listening(network) as heard:
        network(example)
    return heard.features()


# --- where they are -----------------------------------------------------------------------------------------------


def test_features_are_what_goes_into_the_last_layer() -> None:
    supernet = toy.supernet()
    images = toy.digits()[0][:5]
    for arch in ToySpace().enumerate():
        network = supernet.subnet(arch).eval()
        found = features(network, images)
        assert found.shape == (5, arch.width) and torch.equal(network[-1](found), network(images))


@pytest.mark.parametrize("vocab", [64, 50])
def test_a_head_that_is_a_function_leaves_what_the_last_module_gives(vocab: int) -> None:
    network = gpt.build(GPTSpace().smallest(), vocab=vocab)  # 64 wide
    tokens = torch.arange(6)[None]
    assert torch.equal(F.linear(features(network, tokens), network.tokens.weight), network(tokens))


@pytest.mark.parametrize("name", list(zoo.ZOO))
def test_every_kind_of_network_has_features(name: str) -> None:
    case = zoo.ZOO[name]
    supernet = Supernet(case.space, case.build, layout=case.layout, dtype=torch.float64)
    for arch in (case.space.smallest(), case.space.largest()):
        bound, alone = supernet.subnet(arch).eval(), supernet.extract(arch).eval()
        example = case.example()
        found = features(bound, example)
        assert len(found) == len(example) and torch.allclose(found, features(alone, example), atol=1e-6)


def test_channels_of_a_convolution_come_last() -> None:
    network = nn.Sequential(nn.Conv2d(1, 7, 3), nn.ReLU(), nn.Conv2d(7, 4, 1))
    image = torch.rand(2, 1, 6, 6)
    assert torch.equal(features(network, image), network[1](network[0](image)).movedim(1, -1))


def test_listening_leaves_no_hooks() -> None:
    network = nn.Linear(3, 2)
    with pytest.raises(ZeroDivisionError), listening(network):
        1 / 0  # noqa: B018
    assert not network._forward_hooks


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Identity(), "Identity ran no module that has parameters"),
        (nn.Embedding(9, 3), "goes into the last Embedding"),
    ],
)
def test_networks_without_features_say_so(network: nn.Module, message: str) -> None:
    with pytest.raises(FeatureError, match=message):
        features(network, torch.arange(4))


# --- the loss -----------------------------------------------------------------------------------------------------


def test_the_loss_is_the_formula() -> None:
    f, t = torch.randn(4, 3, 6), torch.randn(4, 3, 6)
    expected = 0.0
    for a, b in zip(f.reshape(-1, 6).tolist(), t.reshape(-1, 6).tolist(), strict=True):
        l1 = sum(abs(x - y) for x, y in zip(a, b, strict=True)) / 6
        cosine = sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))
        expected += (l1 + math.log(1 + math.exp(-cosine))) / 12
    assert float(frame_loss(f, t)) == pytest.approx(expected, rel=1e-5)


def test_the_loss_is_least_where_they_are_equal() -> None:
    t = torch.randn(5, 8)
    least = math.log(1 + math.exp(-1))
    assert float(frame_loss(t, t)) == pytest.approx(least, rel=1e-6)
    assert all(float(frame_loss(t + 0.01 * torch.randn(5, 8), t)) > least for _ in range(20))
    teacher = torch.randn(5, 8, requires_grad=True)
    frame_loss(t.requires_grad_(), teacher).backward()
    assert teacher.grad is None and t.grad is not None


# --- the map ------------------------------------------------------------------------------------------------------


def test_the_map_takes_leading_columns_and_learns_them_alone() -> None:
    head = FeatureHead(8, 5, CPU, OptimizerConfig(weight_decay=0.0), seed=1)
    before = head.state_dict()["weight"].clone()
    teacher = torch.randn(3, 5)
    narrow = torch.randn(3, 4)
    mapped = head(narrow, teacher)
    assert torch.allclose(mapped, narrow @ before[:, :4].T) and before.abs().max() <= 8**-0.5
    frame_loss(mapped, teacher).backward()
    head.step(1e-2, 1.0)
    after = head.state_dict()["weight"]
    assert torch.equal(after[:, 4:], before[:, 4:]) and (after[:, :4] != before[:, :4]).all()


def test_it_begins_as_the_identity_where_widths_are_equal() -> None:
    head = FeatureHead(6, 6, CPU, OptimizerConfig(), seed=0)
    x = torch.randn(2, 3, 6)
    assert torch.equal(head(x, x), x)


def test_what_does_not_fit_is_refused() -> None:
    head = FeatureHead(6, 5, CPU, OptimizerConfig(), seed=0)
    with pytest.raises(FeatureError, match=r"features of shape \(2, 3, 6\) and its teacher of \(2, 4, 5\)"):
        head(torch.randn(2, 3, 6), torch.randn(2, 4, 5))
    with pytest.raises(FeatureError, match="has 7 features and the largest 6"):
        head(torch.randn(2, 7), torch.randn(2, 5))


# --- in a training ------------------------------------------------------------------------------------------------


def wide_teacher(width: int = 20) -> nn.Module:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(64, width), nn.GELU(), nn.Linear(width, 10))


def learning(arch: Callable[[int], object], **settings: object) -> Fixed:
    imitate = Distil(frame_loss, teacher="frozen", what="features")
    return Fixed(lambda index: Step((Pass(arch(index), distil=imitate, **settings),)))  # type: ignore[arg-type]


def test_features_are_learnt() -> None:
    largest = ToySpace().largest()
    result = quietly(
        toy.supernet(), method=learning(lambda index: largest, task=0.0), teacher=wide_teacher(), steps=100
    )
    assert sum(result.losses[-5:]) < 0.9 * sum(result.losses[:5])


def test_the_first_pass_may_teach_its_features() -> None:
    space = ToySpace()
    imitate = Distil(frame_loss, what="features")
    step = Step((Pass(space.largest()), Pass(space.largest(), task=0.0, distil=imitate)))
    heard: list[float] = []
    supernet = Supernet(space, lambda arch: nn.Sequential(nn.Linear(64, arch.width), nn.Linear(arch.width, 10)))
    quietly(supernet, method=Fixed(lambda index: step, lambda feedback: heard.append(feedback.losses[1])), steps=1)
    assert heard == [pytest.approx(math.log(1 + math.exp(-1)))]  # equal, through the identity


@pytest.mark.parametrize("cut", [2, 4, 8])
def test_the_map_survives_a_cut(tmp_path: Path, cut: int) -> None:
    space = ToySpace()
    archs = list(space.enumerate())
    imitate = Distil(frame_loss, teacher="frozen", what="features")

    def steps(index: int) -> Step:  # the map is made in step 3
        return Step((Pass(archs[index % 6], distil=imitate if index >= 3 else None),))

    method = Fixed(steps)
    whole = toy.supernet(toy.build_normed)
    expected = quietly(whole, method=method, teacher=wide_teacher())
    with pytest.raises(Cut):
        quietly(
            toy.supernet(toy.build_normed),
            Digits(before=cutting(cut)),
            method=method,
            teacher=wide_teacher(),
            directory=tmp_path,
        )
    resumed = toy.supernet(toy.build_normed)
    result = quietly(resumed, method=method, teacher=wide_teacher(), directory=tmp_path)
    assert result.losses == expected.losses and same(state(resumed), state(whole))


def test_a_step_that_is_left_out_leaves_the_map(tmp_path: Path) -> None:
    class Steep(Digits):
        def loss(self, outputs: Tensor, batch: toy.Batch) -> Tensor:
            return super().loss(outputs, batch) + (outputs.sum() * 0).sqrt()

    largest = ToySpace().largest()
    result = quietly(
        toy.supernet(), Steep(), method=learning(lambda index: largest), teacher=wide_teacher(), directory=tmp_path
    )
    saved = load_file(tmp_path / "step-000000012.safetensors")
    fresh = FeatureHead(16, 20, CPU, OptimizerConfig(), TrainingConfig().seed).state_dict()
    assert result.skipped == 12 and torch.equal(saved["head.weight"], fresh["weight"])
    assert not [name for name in saved if name.startswith("head.weight|")]


def test_bf16_learns_features_too() -> None:
    method = learning(lambda index: ToySpace().smallest())
    result = train(
        toy.supernet(),
        Digits(),
        toy.config(precision="bf16", steps=3),
        progress=False,
        method=method,
        teacher=wide_teacher(),
    )
    assert result.skipped == 0 and all(math.isfinite(loss) for loss in result.losses)
