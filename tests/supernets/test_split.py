"""Models for parts of the space: given or found, parted without rest, and begun as their parents' equals."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from toy import Digits, ToySpace

from search_spaces import Space, choice
from supernets import OptimizerConfig
from supernets.calibrate import evaluate
from supernets.sharing import Split, sharing
from supernets.sharing.copies import SharingError
from supernets.sharing.split import TABLE, SplitWeights, rounds
from supernets.spelling import spell
from supernets.strategies import Course, Feedback, Pass, Plan, Step, strategy
from supernets.supernet import Supernet
from supernets.training import TrainingResult, train
from tests.contracts.strategy import Cut, course


class Branching(Space):
    op = choice("conv", "pool", "skip")
    kernel = choice(3, 5, 7, per=2, when={"op": "conv"})
    width = choice(8, 16)


def made(text: str, normed: bool = False) -> Supernet:
    builder = toy.build_normed if normed else toy.build
    return Supernet(ToySpace(), builder, sharing=sharing(text), seed=1)


def weights_of(supernet: Supernet) -> SplitWeights:
    assert isinstance(supernet.weights, SplitWeights)
    return supernet.weights


def accompanied(supernet: Supernet, steps: int = 12, space: Space | None = None) -> tuple[Plan, Course]:
    its = course(space, supernet=supernet, steps=steps)
    return supernet.weights.accompany(strategy("uniform").plan(its), its), its


def fitted(supernet: Supernet) -> Supernet:
    train(supernet, Digits(), toy.config(strategy="uniform", lr=1e-3), progress=False)
    return supernet


# --- parts that are given -------------------------------------------------------------------------------------------


def test_given_groups_route_from_the_beginning() -> None:
    supernet = made("split(groups=width:8|12+16)")
    assert {arch.width: supernet.route(arch) for arch in ToySpace().enumerate()} == {8: 0, 12: 1, 16: 1}
    supernet = made("split(groups=width:8+16|12;depth:2|1)")
    routes = {(arch.width, arch.depth): supernet.route(arch) for arch in ToySpace().enumerate()}
    parts = {model: {arch for arch in routes if routes[arch] == model} for model in range(4)}
    assert sorted(map(sorted, parts.values())) == [[(8, 1), (16, 1)], [(8, 2), (16, 2)], [(12, 1)], [(12, 2)]]
    assert supernet.weights.accompany(strategy("uniform").plan(course()), course()).step(3) == Step(
        strategy("uniform").plan(course()).step(3).passes
    )


def test_three_groups_and_a_choice_that_is_not_active() -> None:
    supernet = Supernet(
        Branching(), lambda arch: torch.nn.Linear(4, arch.width), sharing=Split(groups="op:pool|conv|skip")
    )
    assert len({supernet.route(arch) for arch in Branching().enumerate()}) == 3
    supernet = Supernet(
        Branching(), lambda arch: torch.nn.Linear(4, arch.width), sharing=Split(groups="kernel.1:5|3|7")
    )
    for arch in Branching().enumerate():
        assert supernet.route(arch) == ({5: 0, 3: 1, 7: 2}[arch.kernel[1]] if arch.op == "conv" else 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("split(groups=width)", r"groups = 'width': write a choice and its groups of options, as in kernel:3\+5\|7"),
        ("split(groups=width:8+12+16)", r"write a choice and its groups"),
        ("split(groups=width:8||12)", r"write a choice and its groups"),
        ("split(groups=width:8|12)", r"groups of 'width': '16' is in none: each of 8, 12, 16 belongs in one group"),
        ("split(groups=width:8|12+16+9)", r"groups of 'width': '9' is unknown or twice there"),
        ("split(groups=width:8+16|12+16)", r"groups of 'width': '16' is unknown or twice there"),
        ("split(groups=kernel:3|5)", r"ToySpace has no choice 'kernel': its choices are width, depth"),
        ("split(models=0)", r"models = 0: it must be 1 or more"),
        ("split(until=1)", r"until = 1.0: it must be a share of the steps, above 0 and below 1"),
        ("split(batches=0)", r"batches = 0: it must be 1 or more"),
        ("split(choices=0)", r"choices = 0: it must be 1 or more"),
    ],
)
def test_what_cannot_be_is_one_line(text: str, message: str) -> None:
    with pytest.raises(SharingError, match=message) as caught:
        made(text)
    assert "\n" not in str(caught.value)


def test_a_choice_at_every_position_asks_for_one() -> None:
    with pytest.raises(SharingError, match=r"groups of 'kernel': there are kernel.0 to kernel.1, so name one of them"):
        Supernet(Branching(), lambda arch: torch.nn.Linear(4, 2), sharing=Split(groups="kernel:3+5|7"))


def test_a_space_of_one_network_has_nothing_to_split() -> None:
    space = ToySpace().where(width=8, depth=1)
    with pytest.raises(SharingError, match=r"ToySpace has no choice of 2 to 12 options to split at"):
        Supernet(space, toy.build, sharing=Split())
    assert Supernet(space, toy.build, sharing=Split(models=1)).route(space.largest()) == 0


# --- parts that are found -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("models", "expected"),
    [(1, {}), (2, {50: 2}), (3, {25: 2, 50: 3}), (4, {25: 2, 50: 4}), (6, {16: 2, 33: 4, 50: 6})],
)
def test_models_double_at_equal_distances(models: int, expected: dict[int, int]) -> None:
    assert rounds(models, 100, 0.5) == expected


def test_few_steps_make_all_splits_at_once() -> None:
    assert rounds(8, 2, 0.5) == {0: 4, 1: 8}
    supernet = made("split(models=6)")
    plan, _ = accompanied(supernet, steps=1)
    plan.step(0)
    assert len({supernet.route(arch) for arch in ToySpace().enumerate()}) == 6


@pytest.mark.parametrize("models", [2, 3, 4])
def test_parts_partition_the_space(models: int) -> None:
    supernet = fitted(made(f"split(models={models}, batches=3)"))
    weights = weights_of(supernet)
    parts = [weights.part(ToySpace(), model) for model in range(models)]
    for model, part in enumerate(parts):
        assert part is not None and list(part.enumerate())
        assert {supernet.route(arch) for arch in part.enumerate()} == {model}
    assert sum(part.count() for part in parts if part is not None) == ToySpace().count()


def test_parts_of_a_space_with_conditions_are_exact() -> None:
    supernet = Supernet(
        Branching(), lambda arch: torch.nn.Linear(4, arch.width), sharing=Split(models=5), memory_limit=10**9
    )
    weights = weights_of(supernet)
    for parent, path, taken in ((0, "kernel.1", (1, 2)), (0, "op", (0,)), (1, "width", (0,)), (2, "kernel.1", (0,))):
        slot = next(index for index, own in enumerate(Branching().slots) if own.path == path)
        weights.split(parent, slot, frozenset(taken))
    for model in range(5):
        part = weights.part(Branching(), model)
        routed = {arch for arch in Branching().enumerate() if supernet.route(arch) == model}
        assert (set() if part is None else set(part.enumerate())) == routed
    assert weights.part(Branching(), 2) is None  # all of it went on to model 4


def test_a_new_model_begins_as_its_parent() -> None:
    supernet = made("split(models=4, batches=2)")
    images = Digits().example(9)
    plan, _ = accompanied(supernet)
    for index, models in ((3, 2), (6, 4)):
        before = {arch: supernet.subnet(arch).eval()(images) for arch in ToySpace().enumerate()}
        step = plan.step(index)
        assert len(weights_of(supernet).splits) == models - 1
        assert {supernet.route(arch) for arch in before} == set(range(models))
        for arch, outputs in before.items():
            assert torch.equal(supernet.subnet(arch).eval()(images), outputs)
            assert torch.equal(supernet.extract(arch).eval()(images), outputs)
        children = {child.rpartition("@")[2] for child, _ in step.inherit}
        assert children == {str(model) for model in range(models // 2, models)}
        with torch.no_grad():
            for number, shared in enumerate(supernet._store.parameters.values()):
                shared.value.add_(0.01 * number)


def test_a_child_inherits_its_parents_optimiser_state() -> None:
    supernet = made("split(models=2)")
    optimizer = supernet.optimizer(OptimizerConfig(lr=0.1))
    names = weights_of(supernet).names

    def learn(model: int) -> None:
        supernet.subnet(ToySpace().largest(), model).eval()(Digits().example(8)).square().sum().backward()
        optimizer.step()

    for _ in range(3):
        learn(0)
    weights_of(supernet).split(0, 0, frozenset({2}))
    for name in names:
        optimizer.inherit(f"{name}@1", name)
    learn(0)
    learn(1)
    state, own = supernet.state_dict(), optimizer.state_dict()
    for name in names:
        assert torch.equal(state[name], state[f"{name}@1"])
        for key in ("step", "exp_avg", "exp_avg_sq"):
            assert torch.equal(own[f"{name}|{key}"], own[f"{name}@1|{key}"])
    optimizer.inherit(f"{names[0]}@1", None)
    assert f"{names[0]}@1|step" not in optimizer.state_dict() and f"{names[0]}|step" in optimizer.state_dict()


def test_measuring_leaves_no_trace() -> None:
    """Running statistics, gradients, torch's random numbers: as if nothing had been measured."""
    supernet = made("split(models=2, batches=2)", normed=True)
    plan, _ = accompanied(supernet)
    torch.manual_seed(5)
    random = torch.get_rng_state()
    before = copy.deepcopy(supernet.state_dict())
    plan.step(6)
    assert torch.equal(torch.get_rng_state(), random) and not supernet.gradients()
    for name, tensor in supernet.state_dict().items():
        assert "@" in name or torch.equal(tensor, before[name]), name
    assert (supernet.state_dict()[TABLE] != before[TABLE]).any()


def test_training_is_plain_until_the_first_split() -> None:
    plain = train(toy.supernet(), Digits(), toy.config(strategy="sandwich"), progress=False)
    split = train(made("split(models=2, batches=2)"), Digits(), toy.config(strategy="sandwich"), progress=False)
    assert split.losses[:7] == plain.losses[:7]  # the first loss after the split is of equal weights
    assert split.losses[7:] != plain.losses[7:]
    one = train(made("split(models=1)"), Digits(), toy.config(strategy="sandwich"), progress=False)
    assert one.losses == plain.losses and one.curve == plain.curve


def test_the_measurements_are_as_many_as_stated() -> None:
    asked: list[int] = []
    supernet = made("split(models=4, batches=3, choices=1)")
    its = Course(ToySpace(), 0, 12, lambda k: 1.0, supernet, Digits(before=asked.append))
    plan = supernet.weights.accompany(strategy("uniform").plan(its), its)
    passes: list[int] = []
    original = supernet.subnet

    def counted(arch, route=None):  # type: ignore[no-untyped-def]
        passes.append(route)
        return original(arch, route)

    supernet.subnet = counted  # type: ignore[method-assign]
    plan.step(3)
    assert len(passes) in (3 * 3, 3 * 2) and set(passes) == {0}  # one choice of 3 or of 2 options, 3 batches
    assert set(asked) == {12, 13, 14}  # no batch of the training


def test_the_narrower_space_that_is_trained_is_what_is_split() -> None:
    supernet = made("split(models=3, batches=2)")
    narrow = ToySpace().where(width=(8, 12))
    plan, _ = accompanied(supernet, space=narrow)
    for index in range(12):
        plan.step(index)
    assert len({supernet.route(arch) for arch in narrow.enumerate()}) == 3


def test_it_stops_where_nothing_is_left_to_split(caplog: pytest.LogCaptureFixture) -> None:
    supernet = made("split(models=8, batches=1)")  # of six networks
    plan, _ = accompanied(supernet)
    for index in range(12):
        plan.step(index)
    assert len({supernet.route(arch) for arch in ToySpace().enumerate()}) == 6
    assert "no model has a choice left to split at; there are 6" in caplog.text


def test_a_restart_keeps_the_parts_only() -> None:
    supernet = made("split(models=2, batches=2, restart=yes)")
    plan, its = accompanied(supernet, steps=40)
    before = copy.deepcopy(supernet.state_dict())
    steps = [plan.step(index) for index in range(40)]
    assert len(weights_of(supernet).splits) == 1 and spell(supernet.sharing).endswith("restart=yes)")
    state, first = supernet.state_dict(), weights_of(supernet).names[0]
    assert not torch.equal(state[f"{first}@1"], state[first]) and torch.equal(state[first], before[first])
    assert {parent for _, parent in steps[20].inherit} == {None} and len(steps[20].inherit) == 2 * len(before) // 2 - 1
    assert all(step.lr is None for step in steps[:20])
    assert [step.lr for step in steps[20:]] == [its.rate(2 * k) for k in range(20)]


def test_feedback_and_state_go_to_the_inner_plan() -> None:
    heard: list[object] = []

    class Inner(Plan):
        def step(self, index: int) -> Step:
            return Step((Pass(ToySpace().largest()),))

        def observe(self, feedback: Feedback) -> None:
            heard.append(feedback)

        def state(self) -> dict[str, torch.Tensor]:
            return {"own": torch.ones(1)}

        def restore(self, state: object) -> None:
            heard.append(state)

    supernet = made("split")
    plan = supernet.weights.accompany(Inner(), course(supernet=supernet))
    feedback = Feedback(0, plan.step(0), (1.0,), True)
    plan.observe(feedback)
    plan.restore(plan.state())
    assert heard == [feedback, {"own": torch.ones(1)}]


# --- stopping and going on ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("cut", [*(pytest.param(cut, marks=pytest.mark.slow) for cut in (4, 6)), 3, 7])
@pytest.mark.parametrize("text", ["split(batches=2)", "split(models=3, batches=1, restart=yes)"])
def test_cut_at_a_split_and_resumed_is_as_never_cut(text: str, cut: int, every: int, tmp_path: Path) -> None:
    """The splits come before steps 3 and 6; a step's batch, where it is cut, comes after its split."""

    def trained(stop: int | None, folder: Path | None) -> tuple[TrainingResult, Supernet]:
        def before(step: int) -> None:
            if step == stop:
                raise Cut

        supernet = made(text)
        config = toy.config(strategy="sandwich", checkpoint_every=every)
        return train(supernet, Digits(before=before), config, directory=folder, progress=False), supernet

    whole, reference = trained(None, None)
    with pytest.raises(Cut):
        trained(cut, tmp_path)
    resumed, supernet = trained(None, tmp_path)
    assert resumed.resumed_from == cut // every * every
    assert resumed.losses == whole.losses and resumed.curve == whole.curve
    assert supernet.digest() == reference.digest()


def test_the_parts_go_with_the_weights() -> None:
    supernet, other = fitted(made("split(batches=2)")), made("split(batches=2)")
    archs = list(ToySpace().enumerate())
    assert {other.route(arch) for arch in archs} == {0} and other.digest() != supernet.digest()
    other.load_state_dict(supernet.state_dict())
    assert [other.route(arch) for arch in archs] == [supernet.route(arch) for arch in archs]
    assert all(evaluate(other, arch, Digits()) == evaluate(supernet, arch, Digits()) for arch in archs)
    version, digest = supernet.version, supernet.digest()
    supernet.state_dict()[TABLE].fill_(-1)
    assert {supernet.route(arch) for arch in archs} == {0}
    assert supernet.version != version and supernet.digest() != digest


def test_planted_disagreement_is_found_in_a_supernet() -> None:
    """Networks of one width are shown other labels than the rest, so they and no others pull the other way."""

    class Torn(Digits):
        def outputs(self, module, batch):  # type: ignore[no-untyped-def]
            outputs = super().outputs(module, batch)
            return -outputs if module[0].out_features == 12 else outputs

    supernet = fitted(made("split(models=1)"))
    torn = made("split(models=2, batches=4)")
    torn.load_state_dict(torn.state_dict() | {n: t for n, t in supernet.state_dict().items() if not n.startswith("@")})
    its = Course(ToySpace(), 0, 12, lambda k: 1.0, torn, Torn())
    torn.weights.accompany(strategy("uniform").plan(its), its).step(6)
    assert {arch.width for arch in ToySpace().enumerate() if torn.route(arch) != torn.route(ToySpace().largest())} == {
        12
    }
    assert np.unique([torn.route(arch) for arch in ToySpace().enumerate()]).tolist() == [0, 1]
