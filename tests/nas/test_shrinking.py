"""Shrinking a space by what was evaluated: what is closed, what stays and why, and that good networks are kept."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from nas.errors import NasError
from nas.objectives import pareto
from nas.objectives.aims import Aim, for_targets
from nas.objectives.limits import parse
from nas.records import Evaluation
from nas.results.corrected import Corrected, Estimate
from nas.results.shrinking import Shrunk, shrink
from nas.run_file import load
from search_spaces import Architecture, Space, SpaceError, choice, constraint
from search_spaces.narrowing import Closed, narrowed
from tests.nas.command import TINY


class Blocks(Space):
    width = choice(8, 16, 24, 32)
    op = choice("good", "same", "noise", per=3)
    tail = choice("none", "some")


AIM = Aim(("error", "cost"))


def evaluated(arch: Architecture) -> Evaluation:
    """Error falls with the width; the noise operator only harms, "same" costs more and is as good."""
    harm = sum({"good": 0, "same": 0, "noise": 30}[op] for op in arch.op)
    cost = arch.width + sum({"good": 0, "same": 2, "noise": 1}[op] for op in arch.op)
    return Evaluation(arch, {"error": 40 - arch.width + harm, "cost": float(cost)})


def sampled(n: int = 120, seed: int = 0, space: Space | None = None) -> list[Evaluation]:
    drawn = (space or Blocks()).sample_many(n, np.random.default_rng(seed), distinct=True)
    return [evaluated(arch) for arch in drawn]


def closed(found: Shrunk) -> set[tuple[str, object]]:
    return {(one.path, one.option) for one in found.closed}


def stays(found: Shrunk, path: str, option: object) -> str:
    return next(one.stays for one in found.options if (one.path, one.option) == (path, option))


def volume(evaluations: Sequence[Evaluation], corner: np.ndarray) -> float:
    values = np.array([[one.metrics["error"], one.metrics["cost"]] for one in evaluations])
    return pareto.hypervolume(values[(values < corner).all(axis=1)], corner)


def test_what_only_harms_is_closed_and_what_the_front_needs_stays() -> None:
    found = shrink(Blocks(), [AIM], sampled(), tolerance=0.02)
    assert {(f"op.{i}", "noise") for i in range(3)} <= closed(found)
    for width in (8, 32):
        assert stays(found, "width", width).startswith("without it the front could lose more than 2.0%")
    assert all(arch.op.count("noise") == 0 for arch in found.space.enumerate())
    assert Blocks().count() == 4 * 27 * 2  # as it was


def test_the_loss_is_the_share_of_hypervolume_without_all_that_is_closed() -> None:
    evaluations = sampled()
    found = shrink(Blocks(), [AIM], evaluations, tolerance=0.1)
    values = np.array([[one.metrics["error"], one.metrics["cost"]] for one in evaluations])
    corner = pareto.reference_point(values[pareto.non_dominated(values)])
    left = [one for one in evaluations if one.arch in found.space]
    assert found.loss.value == pytest.approx(1 - volume(left, corner) / volume(evaluations, corner))
    assert found.loss.low <= found.loss.high <= 0.1
    alone = next(one for one in found.options if (one.path, one.option) == ("width", 32))
    without = [one for one in evaluations if one.arch.width != 32]
    assert alone.loss.value == pytest.approx(1 - volume(without, corner) / volume(evaluations, corner))
    assert alone.seen == len(evaluations) - len(without)


@pytest.mark.parametrize("seed", range(4))
def test_the_true_front_of_the_whole_space_is_kept(seed: int) -> None:
    """Of 216 networks 90 are evaluated; what is closed by them costs the front of all next to nothing."""
    found = shrink(Blocks(), [AIM], sampled(90, seed), tolerance=0.02, seed=seed)
    everything = [evaluated(arch) for arch in Blocks().enumerate()]
    left = [evaluated(arch) for arch in found.space.enumerate()]
    corner = np.array([60.0, 60.0])
    assert len(left) <= len(everything) / 3
    assert volume(left, corner) >= 0.99 * volume(everything, corner)


def test_equal_evidence_gives_equal_proposals_in_whatever_order() -> None:
    evaluations = sampled()
    once = shrink(Blocks(), [AIM], evaluations)
    assert once == shrink(Blocks(), [AIM], evaluations)
    # other resamples, the same verdict about what only harms
    assert {one for one in closed(shrink(Blocks(), [AIM], evaluations[::-1])) if one[1] == "noise"} <= closed(once)


def test_of_what_few_have_nothing_is_known() -> None:
    rare = [one for one in sampled() if one.arch.op[0] != "noise"]
    rare += [one for one in sampled() if one.arch.op[0] == "noise"][:3]
    found = shrink(Blocks(), [AIM], rare)
    assert stays(found, "op.0", "noise") == "only 3 evaluated networks have it, 10 are needed"
    assert ("op.0", "noise") in closed(shrink(Blocks(), [AIM], rare, least=3))


def test_a_choice_keeps_an_option_and_the_space_a_network() -> None:
    class Tied(Space):
        a = choice(1, 2)
        b = choice(1, 2)

        @constraint
        def differ(a: int, b: int) -> bool:
            return a != b

    archs = list(Tied().enumerate()) * 10
    alike = [Evaluation(arch, {"error": 1.0, "cost": 1.0}) for arch in archs]
    found = shrink(Tied(), [AIM], alike)
    assert found.space.count() == 1
    assert {one.stays for one in found.options if one.stays} <= {
        "it is the last option of its choice",
        "without it no network would be left",
        "without it the front could lose more than 1.0%",
    }


def test_an_option_that_one_target_needs_stays() -> None:
    aims = for_targets(["error"], [], {"a": [], "b": []})

    def with_targets(one: Evaluation) -> Evaluation:
        # on b, "same" is the quick one
        slow = sum(2 for op in one.arch.op if op == "good")
        costs = {"latency_ms@a": one.metrics["cost"], "latency_ms@b": one.metrics["cost"] + 3 * slow}
        return replace(one, metrics={**one.metrics, **costs})

    evaluations = [with_targets(one) for one in sampled(200)]
    alone = shrink(Blocks(), aims[:1], evaluations, tolerance=0.05)
    both = shrink(Blocks(), aims, evaluations, tolerance=0.05)
    assert {("op.0", "same"), ("op.1", "same"), ("op.2", "same")} & closed(alone)
    assert not {("op.0", "same"), ("op.1", "same"), ("op.2", "same")} & closed(both)


def test_what_fails_or_breaks_limits_is_evidence_against_its_options() -> None:
    aim = Aim(("error", "cost"), (parse("cost <= 20"),))
    failing = [Evaluation(one.arch, {}, "no memory") if one.arch.width == 24 else one for one in sampled()]
    found = shrink(Blocks(), [aim], failing)
    assert {("width", 24), ("width", 32)} <= closed(found)
    told = {(one.path, one.option): one for one in found.options}
    assert told["width", 32].on_front == 0 < told["width", 32].seen
    with pytest.raises(NasError, match=r"^none of 120 evaluated networks keeps the limits: search longer first$"):
        shrink(Blocks(), [Aim(("error",), (parse("cost <= 1"),))], sampled())


def test_uncertain_qualities_widen_the_intervals() -> None:
    evaluations = sampled()
    sure = shrink(Blocks(), [AIM], evaluations, tolerance=0)
    estimates = {one.arch.digest: Estimate(one.metrics["error"], 20.0) for one in evaluations}
    unsure = shrink(Blocks(), [AIM], evaluations, Corrected("error", 100, estimates), tolerance=0)
    noise = [
        next(one.loss for one in found.options if (one.path, one.option) == ("op.0", "noise"))
        for found in (sure, unsure)
    ]
    assert noise[0].high < noise[1].high
    better = {
        one.arch.digest: Estimate(one.metrics["error"] - 30 * (one.arch.op[0] == "noise"), 0.0) for one in evaluations
    }
    corrected = shrink(Blocks(), [AIM], evaluations, Corrected("error", 100, better))
    assert ("op.0", "noise") not in closed(corrected)  # corrected, it is the best there is


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tolerance": 1}, "tolerance = 1: it must be a share of the front's hypervolume, for example 0.01"),
        ({"confidence": 0}, "confidence = 0: it must be a share between 0 and 1, for example 0.9"),
        ({"least": 0}, "least = 0: it must be 1 network or more, for example 10"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, float], message: str) -> None:
    with pytest.raises(NasError) as caught:
        shrink(Blocks(), [AIM], sampled(), **settings)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_options_close_at_one_position_or_at_all() -> None:
    one = narrowed(Blocks(), [Closed("op.1", "noise"), Closed("width", 8)])
    assert one == Blocks(**{"op.1": ("good", "same"), "width": (16, 24, 32)})
    assert narrowed(Blocks(), [Closed("op", "noise")]) == Blocks(op=("good", "same"))
    assert narrowed(Blocks(), []) == Blocks()
    assert narrowed(one, [Closed("width", 16)]) == one.where(width=(24, 32))
    assert Closed.stored({"path": "op", "option": "noise", "why": "x"}) == Closed("op", "noise", "x")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Closed("kernel", 3), "closed names 'kernel', no choice of Blocks: there are width, op.0, op.1, op.2, tail"),
        (Closed("width", 9), "closed names 9, no option of Blocks.width: leave it out"),
        (Closed("width", True), "closed names True, no option of Blocks.width: leave it out"),
    ],
)
def test_what_cannot_be_closed_is_one_line(wrong: Closed, message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        narrowed(Blocks(), [wrong])
    assert str(caught.value) == message


def test_a_run_searches_what_is_open_with_the_supernet_of_all() -> None:
    run = replace(load(TINY), closed=(Closed("depth", 0, "too shallow"), Closed("width", 8)))
    assert run.searched == run.space.where(depth=(1, 2), width=(12, 16, 24))
    assert run.space == type(run.space)()
    with pytest.raises(SpaceError, match=r"^what is closed leaves no network: "):
        replace(run, closed=tuple(Closed("depth", depth) for depth in (0, 1, 2)))
    with pytest.raises(NasError, match=r"^closed = \(\('depth', 0\),\): give a tuple such as \(Closed\("):
        replace(run, closed=(("depth", 0),))


def test_gradients_learn_over_the_whole_space_so_nothing_may_be_closed() -> None:
    rule = "distributions are learnt over all of TinySpace: close nothing, or search without gradients"
    with pytest.raises(NasError, match=f"^gradient = 'drnas' and 1 options are closed: {rule}$"):
        replace(load(TINY), gradient="drnas", closed=(Closed("depth", 0),))
