"""A parent teaches: what is compared, which layers learn from which, and that whatever trains distils, bit for bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import toy
from torch import Tensor, nn
from toy import Digits, ToySpace

from search_spaces import Architecture, Space, choice
from supernets import Supernet, stack
from supernets.distillation import (
    Custom,
    DistillationError,
    Distilled,
    Embeddings,
    Hidden,
    Logits,
    Mapped,
    Observed,
    Relations,
    every,
    last,
)
from supernets.distillation.comparing import (
    cosine_distance,
    divergence,
    gram_error,
    relation_divergence,
    squared_error,
)
from supernets.distillation.layers import hearing, matching
from supernets.distillation.terms import RELATIONS, pairs_of
from supernets.features import FeatureError, FeatureHeads
from supernets.optim import OptimizerConfig
from supernets.tasks import Classification, Regression, Task
from supernets.training import TrainingConfig, TrainingResult, train, train_network


class Depths(Space):
    width = choice(4, 8)
    depth = choice(1, 2, 3)


class Attending(nn.Module):
    """Blocks with queries, keys and values apart, on eight positions of eight pixels."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.first = nn.Linear(8, width)
        self.blocks = stack(Block(width) for _ in range(depth))
        self.last = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.blocks(self.first(x.view(-1, 8, 8))).mean(1))
        return y


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.scaled_dot_product_attention(self.query(x), self.key(x), self.value(x))
        z: Tensor = x + self.drop(y)
        return z


def build(arch: Architecture) -> nn.Module:
    return Attending(arch.width, arch.depth)


def parent(width: int = 12, depth: int = 4, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Attending(width, depth)


QKV = tuple(every(f"blocks.*.{name}") for name in ("query", "key", "value"))
LOSSES = (Logits(temperature=2), Hidden(every("blocks.*")), Relations(QKV, weight=0.5))


def double(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- what is compared ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compare", [divergence, squared_error, cosine_distance, gram_error])
def test_a_comparison_is_nothing_where_both_agree_and_else_more(compare: Callable[[Tensor, Tensor], Tensor]) -> None:
    one, other = double(3, 5, 4), double(3, 5, 4, seed=1)
    assert abs(float(compare(one, one))) < 1e-12
    assert float(compare(one, other)) > 1e-3
    learning, teaching = one.clone().requires_grad_(), other.clone().requires_grad_()
    compare(learning, teaching).backward()
    assert learning.grad is not None and teaching.grad is None


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_divergence_is_that_of_torch(temperature: float) -> None:
    one, other = double(6, 4), double(6, 4, seed=1)
    p, q = (other / temperature).log_softmax(-1), (one / temperature).log_softmax(-1)
    expected = temperature**2 * F.kl_div(q, p, log_target=True, reduction="batchmean")
    assert float(divergence(one, other, temperature)) == pytest.approx(float(expected), abs=1e-12)


def test_relations_are_those_of_minivit() -> None:
    """The published cross-entropy minus the entropy of the parent's relations, over nine pairs, by a plain loop."""
    own, taught = ([double(2, 5, d, seed=d + i) for i in range(3)] for d in (4, 6))

    def relation(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.transpose(1, 2) / x.shape[-1] ** 0.5).softmax(-1)

    expected = 0.0
    for i in range(3):
        for j in range(3):
            p, q = relation(taught[i], taught[j]), relation(own[i], own[j])
            expected += float((-(p * q.log()).sum(-1) + (p * p.log()).sum(-1)).mean()) / 9
    assert float(relation_divergence(own, taught, RELATIONS["all"])) == pytest.approx(expected, abs=1e-12)
    assert abs(float(relation_divergence(own, own, RELATIONS["all"], heads=2))) < 1e-12


def test_relations_do_not_mind_a_rotation_of_all_vectors() -> None:
    rotation = torch.linalg.qr(double(4, 4)).Q
    own, taught = ([double(2, 5, 4, seed=s + i) for i in range(3)] for s in (0, 9))
    turned = [x @ rotation for x in own]
    one, other = (float(relation_divergence(x, taught, RELATIONS["all"])) for x in (own, turned))
    assert one == pytest.approx(other, abs=1e-12)


# --- which layers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "parents", "expected"),
    [(6, 12, [1, 3, 5, 7, 9, 11]), (5, 12, [2, 4, 7, 9, 11]), (3, 3, [0, 1, 2]), (1, 4, [3]), (4, 2, [0, 0, 1, 1])],
)
def test_layers_learn_from_evenly_spread_ones_and_the_last_from_the_last(
    own: int, parents: int, expected: list[int]
) -> None:
    pairs = every("blocks.*").pairs(Attending(4, own), Attending(4, parents))
    assert pairs == [(f"blocks.{i}", f"blocks.{j}") for i, j in enumerate(expected)]
    assert last("blocks.*").pairs(Attending(4, own), Attending(4, parents)) == pairs[-1:]


def test_a_star_stands_within_one_part_of_a_name() -> None:
    assert matching(parent(depth=2), "blocks.*", "it") == ["blocks.0", "blocks.1"]
    assert matching(parent(depth=2), "*.1.[qk]*y", "it") == ["blocks.1.query", "blocks.1.key"]


def test_named_layers_that_a_shallow_network_lacks_are_left_out() -> None:
    mapped = Mapped({"blocks.0": "blocks.1", "blocks.2": "blocks.3"})
    assert mapped.pairs(Attending(4, 1), parent()) == [("blocks.0", "blocks.1")]
    assert Hidden({"blocks.0": "blocks.1"}).which == Mapped([("blocks.0", "blocks.1")])  # type: ignore[arg-type]


def test_listening_leaves_nothing_behind() -> None:
    network = parent()
    with hearing(network, ["blocks.0"]) as outer, hearing(network, ["blocks.0", "last"]) as inner:
        network(Digits().example(3))
    assert torch.equal(outer["blocks.0"], inner["blocks.0"]) and inner["last"].shape == (3, 10)
    assert not any(module._forward_hooks for module in network.modules())


@torch.no_grad()
def test_features_may_stand_on_another_axis_as_channels_do() -> None:
    """Blocks of convolutions, the parent's twice as wide: by cosines between channels' places, or by a map."""

    def convolutions(width: int, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        layers = nn.Conv2d(1, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)
        return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), *layers).double()

    with torch.random.fork_rng():
        student, teacher = convolutions(4, 0), convolutions(8, 1)
    batch = Digits().batch(0, 0)[0].double(), Digits().batch(0, 0)[1]
    own, taught = (network[1](network[0](batch[0])).movedim(1, -1) for network in (student, teacher))
    gram = Distilled(Digits(), teacher, [Hidden(Mapped({"1": "1"}), compare="gram", axis=1)])
    assert float(gram.taught(student, batch)[1]) == pytest.approx(float(gram_error(own, taught)), abs=1e-12)
    hidden = Distilled(Digits(), teacher, [Hidden(Mapped({"1": "1"}), axis=1)])
    wider = float(squared_error(F.pad(own, (0, 4)), taught))
    assert float(hidden.taught(student, batch, lambda name, x, y: F.pad(x, (0, 4)))[1]) == pytest.approx(wider)
    (widths,) = hidden.widths(student, batch).values()
    assert [x.shape for x in widths] == [own.shape, taught.shape]


# --- a task that is taught ----------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_loss_is_the_sum_of_its_parts() -> None:
    task = Digits()
    teacher = parent(8).eval()
    network = parent(8, depth=2, seed=1).eval()
    relations = Relations(QKV, weight=0.5)
    distilled = Distilled(task, teacher, [Logits(weight=3), Hidden(every("blocks.*"), weight=2), relations], labels=0.5)
    batch = task.batch(0, 0)
    outputs, layers = distilled.taught(network, batch)
    with hearing(network, ["blocks.0", "blocks.1"]) as own, hearing(teacher, ["blocks.1", "blocks.3"]) as taught:
        network(batch[0]), teacher(batch[0])
    hidden = [squared_error(own[f"blocks.{i}"], taught[f"blocks.{j}"]) for i, j in ((0, 1), (1, 3))]
    names = pairs_of(relations, network, teacher)
    with (
        hearing(network, [p for n in names for p, _ in n]) as q,
        hearing(teacher, [p for n in names for _, p in n]) as r,
    ):
        network(batch[0]), teacher(batch[0])
    related = [
        relation_divergence([q[n[i][0]] for n in names], [r[n[i][1]] for n in names], RELATIONS["all"]) for i in (0, 1)
    ]
    assert float(layers) == pytest.approx(float(sum(hidden) + sum(related) / 4), rel=1e-6)  # 2 / 2, and 0.5 / 2
    assert torch.equal(outputs, network(batch[0]))
    expected = 0.5 * task.loss(outputs, batch) + 3 * divergence(outputs, teacher(batch[0]))
    assert float(distilled.loss(outputs, batch)) == pytest.approx(float(expected), rel=1e-6)
    assert float(distilled.losses(outputs, batch).mean()) == pytest.approx(float(expected), rel=1e-6)


@torch.no_grad()
def test_a_network_that_is_its_parent_has_nothing_to_learn() -> None:
    teacher = parent().double()
    inputs, labels = Digits().batch(0, 0)
    distilled = Distilled(Digits(), teacher, LOSSES, labels=0)
    outputs, layers = distilled.taught(parent().double().eval(), (inputs.double(), labels))
    assert abs(float(layers)) < 1e-12
    assert abs(float(distilled.loss(outputs, (inputs.double(), labels)))) < 1e-12


def test_what_the_task_has_beside_is_there_and_no_more() -> None:
    distilled = Distilled(Digits(), parent())
    assert hasattr(distilled, "select") and distilled.batch_size == 32 and distilled.num_train == 1200
    assert distilled.metric == "error" and not hasattr(distilled, "held_out")


def test_outputs_may_learn_from_several_parents() -> None:
    first, second = parent(seed=1), parent(seed=2)
    both = Distilled(Distilled(Digits(), first, labels=0), second, [Logits(weight=2)])
    batch, network = Digits().batch(0, 0), parent(4)
    outputs, one, other = (net.eval()(batch[0]).detach() for net in (network, first, second))
    expected = divergence(outputs, one) + 2 * divergence(outputs, other)
    assert float(both.loss(outputs, batch)) == pytest.approx(float(expected), rel=1e-6)


def test_the_digest_knows_the_parent_and_the_settings() -> None:
    def digest(weights: int = 0, **settings: Any) -> str:
        return Distilled(Digits(), parent(seed=weights), **settings).digest

    def other(student: Observed, taught: Observed) -> Tensor:
        return student.outputs.sum()

    found = [
        digest(),
        digest(1),
        digest(labels=0.5),
        digest(losses=LOSSES),
        digest(losses=[Custom(other)]),
    ]
    assert len(set(found)) == len(found) and digest() == found[0] != Digits.digest


@torch.no_grad()
def test_a_function_of_yours_sees_what_it_names() -> None:
    def near(student: Observed, taught: Observed) -> Tensor:
        return (student.hidden["first"].mean() - taught.hidden["first"].mean()).square()

    distilled = Distilled(Digits(), parent(), [Custom(near, weight=4, layers=(Mapped({"first": "first"}),))])
    network, batch = parent(4, seed=3), Digits().batch(0, 0)
    found = 4 * (network.first(batch[0].view(-1, 8, 8)).mean() - parent().first(batch[0].view(-1, 8, 8)).mean()) ** 2
    assert float(distilled.taught(network, batch)[1]) == pytest.approx(float(found), rel=1e-5)


def test_parents_outputs_of_one_batch_are_computed_once() -> None:
    runs: list[int] = []
    teacher = parent()
    teacher.register_forward_hook(lambda *_: runs.append(1))
    distilled, batch = Distilled(Digits(), teacher, LOSSES), Digits().batch(0, 0)
    for seed in (0, 1):
        network = parent(seed=seed)
        distilled.loss(distilled.taught(network, batch)[0], batch)
    assert len(runs) == 1


# --- whatever trains ----------------------------------------------------------------------------------------------


def quick(**changes: object) -> TrainingConfig:
    settings: dict[str, object] = {"steps": 12, "lr": 1e-2, "checkpoint_every": 3, "evaluate_every": 6}
    return TrainingConfig(**{**settings, **changes})  # type: ignore[arg-type]


class Cut(Exception):
    """Stands for whatever ends a training."""


@pytest.mark.parametrize("strategy", ["sandwich", "uniform", "two-stage", "pada"])
@pytest.mark.parametrize("cut", [pytest.param(2, marks=pytest.mark.slow), 7])
def test_cut_and_resumed_is_as_never_cut(strategy: str, cut: int, tmp_path: Path) -> None:
    def trained(stop: int | None, folder: Path | None) -> tuple[TrainingResult, Supernet]:
        def before(step: int) -> None:
            if step == stop:
                raise Cut

        supernet = Supernet(Depths(), build, seed=1)
        task = Distilled(Digits(before=before), parent(), LOSSES, labels=0.5)
        return train(supernet, task, quick(strategy=strategy), directory=folder, progress=False), supernet

    whole, reference = trained(None, None)
    with pytest.raises(Cut):
        trained(cut, tmp_path)
    resumed, supernet = trained(None, tmp_path)
    assert resumed.resumed_from == cut // 3 * 3
    assert resumed.losses == whole.losses and resumed.curve == whole.curve
    assert supernet.digest() == reference.digest()


def test_another_parent_is_another_training(tmp_path: Path) -> None:
    train_network(parent(4), Distilled(Digits(), parent()), quick(), directory=tmp_path, progress=False)
    with pytest.raises(Exception, match="task"):
        train_network(parent(4), Distilled(Digits(), parent(seed=5)), quick(), directory=tmp_path, progress=False)


def test_layers_learn_in_supernets_and_alone() -> None:
    """Hidden states alone: maps to the parent's width and the layers below the output move, and the loss falls."""
    task = Distilled(Digits(), parent(), [Hidden(every("blocks.*"))], labels=0)
    supernet = Supernet(Depths(), build, seed=1)
    before = supernet.state_dict()["blocks.0.value.weight"].clone()
    result = train(supernet, task, quick(steps=80), progress=False)
    assert result.losses[-1] < 0.7 * result.losses[0]
    assert not torch.equal(supernet.state_dict()["blocks.0.value.weight"], before)
    alone = train_network(parent(4, depth=2, seed=7), task, quick(steps=80), progress=False)
    assert alone.losses[-1] < 0.7 * alone.losses[0]


def test_maps_to_the_parents_width_belong_to_no_network() -> None:
    supernet = Supernet(Depths(), build, seed=1)
    names = set(supernet.state_dict())
    train(supernet, Distilled(Digits(), parent(), LOSSES), quick(), progress=False)
    assert set(supernet.state_dict()) == names
    assert type(supernet.extract(Depths().smallest())) is Attending


def test_passes_that_leave_the_task_alone_leave_the_parent_alone() -> None:
    """In a sandwich with in-place distillation only the largest learns from the parent."""
    heard: list[int] = []

    def count(student: Observed, taught: Observed) -> Tensor:
        heard.append(1)
        return student.hidden["first"].square().mean()

    task = Distilled(Digits(), parent(), [Custom(count, layers=(Mapped({"first": "first"}),))])
    train(Supernet(Depths(), build), task, quick(steps=3, strategy="sandwich"), progress=False)
    assert len(heard) == 3
    train(Supernet(Depths(), build), task, quick(steps=3, strategy="sandwich(distil=none)"), progress=False)
    assert len(heard) > 6


def test_a_parent_teaches_what_labels_do_not() -> None:
    """With no labels at all a network comes near a trained parent's error."""
    teacher = toy.build(ToySpace().largest())
    train_network(teacher, Digits(), toy.config(steps=300), progress=False)
    supernet = toy.supernet()
    task = Distilled(Digits(), teacher, [Logits(temperature=2)], labels=0)
    result = train(supernet, task, toy.config(steps=300, strategy="sandwich(distil=none)"), progress=False)
    assert result.final("largest") < Digits().evaluate(teacher)["error"] + 0.1


# --- fidelity -----------------------------------------------------------------------------------------------------


def classification() -> Classification:
    images, labels = toy.digits()
    return Classification((images[:600], labels[:600]), (images[600:1000], labels[600:1000]))


@torch.no_grad()
@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
def test_fidelity_is_the_distance_over_all_of_a_split(cache_bytes: int) -> None:
    teacher, network = parent().eval(), parent(4, seed=3).eval()
    task = Distilled(classification(), teacher, fidelity="kl", cache_bytes=cache_bytes)
    images = toy.digits()[0][600:1000]
    expected = float(divergence(network(images), teacher(images)))
    for _ in range(2):
        found = task.evaluate(network)
        assert found["kl"] == pytest.approx(expected, rel=1e-5) and {"error", "loss"} < set(found)
    assert task.evaluate(parent())["kl"] == pytest.approx(0, abs=1e-6)
    assert bool(task._known) is (cache_bytes > 0) and task.further_metrics == ("kl",)


def test_a_network_that_says_no_number_has_no_fidelity() -> None:
    network = parent(4)
    network.last.bias.data.fill_(torch.nan)
    assert torch.tensor(Distilled(classification(), parent(), fidelity="cosine").evaluate(network)["cosine"]).isnan()


# --- mistakes -----------------------------------------------------------------------------------------------------


def taught(losses: list[Any], network: nn.Module | None = None, task: Task | None = None) -> Callable[[], object]:
    def run() -> object:
        distilled = Distilled(task or Digits(), parent(), losses)
        batch = Digits().batch(0, 0)
        return distilled.loss(distilled.taught(network or parent(), batch)[0], batch)

    return run


def silent() -> nn.Module:
    network = parent()
    network.unused = nn.Linear(1, 1)
    return network


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (taught([]), "losses is empty"),
        (lambda: Distilled(Digits(), parent(), labels=-1.0), "labels = -1.0"),
        (lambda: Distilled(Distilled(Digits(), parent(), LOSSES), parent()), "learn from a parent already"),
        (
            lambda: Distilled(Digits(), parent(), fidelity="mae"),
            "fidelity = 'mae' is unknown: choose one of kl, cosine",
        ),
        (lambda: Distilled(Digits(), parent(), fidelity="kl"), r"'digits' has no batches\(split\)"),
        (lambda: Logits(weight=0), "weight = 0: it must be above 0"),
        (lambda: Logits(temperature=0), "temperature = 0"),
        (lambda: Embeddings(compare="l1"), "compare = 'l1' is unknown: choose one of mse, cosine"),
        (lambda: Hidden(every("blocks.*"), compare="mae"), "compare = 'mae' is unknown"),
        (lambda: Relations(QKV[:2]), "qkv names 2 kinds of modules"),
        (lambda: Mapped({}), "a mapping of layers is empty"),
        (
            taught([Hidden(every("layers.*", "blocks.*"))]),
            r"the network has no layer 'layers.\*'.*its modules are first",
        ),
        (taught([Hidden(every("blocks.*", "layers.*"))]), r"the parent has no layer 'layers.\*'"),
        (taught([Hidden({"blocks.9": "blocks.0"})]), "the network has no layer 'blocks.9'"),  # type: ignore[arg-type]
        (taught([Hidden({"unused": "last"})], silent()), "the layer 'unused' does not run"),  # type: ignore[arg-type]
        (taught([Hidden(every("blocks.*"))], parent(4)), "'blocks.0' is 4 wide and its parent's 12"),
        (
            taught([Hidden(every("blocks.*"), projection=False)], parent(4)),
            r"gives \(32, 8, 4\) and its parent's \(32, 8, 12\): let projection=True",
        ),
        (
            taught([Hidden({"last": "blocks.0"})]),  # type: ignore[arg-type]
            r"'last' gives \(32, 10\) and its parent's \(32, 8, 12\): they may differ in their width only",
        ),
        (taught([Relations(QKV, heads=5)]), "give vectors of 12 features: let heads divide them"),
        (taught([Logits()], nn.Sequential(nn.Linear(64, 3))), r"outputs are \(32, 3\) and its parent's \(32, 10\)"),
    ],
)
def test_mistakes_get_one_line(act: Callable[[], object], message: str) -> None:
    with pytest.raises(DistillationError, match=message) as caught:
        act()
    assert "\n" not in str(caught.value)


def test_a_parent_that_says_no_number_is_refused_and_bad_data_is_not() -> None:
    broken = parent()
    broken.last.bias.data.fill_(torch.nan)
    with pytest.raises(DistillationError, match="the parent, a Attending, gives what is no finite number"):
        train_network(parent(), Distilled(Digits(), broken), quick(), progress=False)
    result = train_network(parent(), Distilled(Digits(broken=(2,)), parent()), quick(), progress=False)
    assert result.skipped == 1


def test_a_layer_that_the_largest_lacks_is_said_before_training() -> None:
    task = Distilled(Digits(), parent(), [Hidden({"blocks.0": "blocks.0", "blocks.3": "blocks.3"})])  # type: ignore[arg-type]
    with pytest.raises(DistillationError, match=r"the largest network has no layer 'blocks\.3'"):
        train(Supernet(Depths(), build), task, quick(), progress=False)


def test_a_map_is_wanted_of_layers_of_the_largest_only() -> None:
    heads = FeatureHeads(torch.device("cpu"), OptimizerConfig(), 0)
    with pytest.raises(FeatureError, match=r"'0\.blocks\.7' is not in the largest network"):
        heads("0.blocks.7", torch.ones(1, 2), torch.ones(1, 3))


def test_outputs_of_a_regression_are_no_distributions() -> None:
    rows = torch.rand(12, 3)
    task, teacher = Regression((rows, rows[:, 0]), (rows, rows[:, 0])), nn.Linear(3, 1)
    rule = r"compares outputs as distributions over classes, and those of .*losses=\[Embeddings\(\)\]"
    for settings in ({}, {"losses": [Embeddings(), Logits()]}, {"losses": [Embeddings()], "fidelity": "kl"}):
        for around in (task, Distilled(task, teacher, [Embeddings()])):
            with pytest.raises(DistillationError, match=rule):
                Distilled(around, teacher, **settings)
    taught = Distilled(task, teacher, [Embeddings()], fidelity="cosine")
    assert not taught.logits and Distilled(Digits(), parent()).logits
