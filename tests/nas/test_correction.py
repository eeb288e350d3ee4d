"""What a few labels make of inherited metrics: against a direct computation, and where they can tell nothing."""

import math
import re

import numpy as np
import pytest
from scipy.stats import kendalltau

from nas.results import correction
from nas.results.correction import FEWEST, Label, Network, correct, encoded, tau
from search_spaces import Architecture, Space, choice


class Toy(Space):
    width = choice(8, 16, 32, 64)
    depth = choice(1, 2, 3)
    form = choice("a", "b", "c")


ARCHS = list(Toy().enumerate())


def worth(arch: Architecture) -> float:
    """Alone: shared weights do not see that kind b is better."""
    return float(0.5 - 0.05 * math.log2(arch.width) - 0.04 * arch.depth - 0.1 * (arch.form == "b"))


def network(arch: Architecture, noise: float = 0.0) -> Network:
    shared = 0.7 - 0.04 * math.log2(arch.width) - 0.05 * arch.depth + noise
    return Network(arch, shared, (float(arch.width * arch.depth),))


def labelled(step: int, noise: float = 0.0, seed: int = 0) -> list[Label]:
    rng = np.random.default_rng(seed)
    return [Label(network(arch), (worth(arch) + noise * rng.normal(),)) for arch in ARCHS[::step]]


NETWORKS = [network(arch) for arch in ARCHS]
WORTH = np.array([worth(arch) for arch in ARCHS])


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_what_sharing_hides_is_found(noise: float) -> None:
    found = correct(labelled(2, noise), NETWORKS)
    raw = np.array([one.inherited for one in NETWORKS])
    assert not found.refused
    assert tau(raw, WORTH) < 0.75 and tau(found.values, WORTH) > 0.9
    assert np.abs(found.values - WORTH).mean() < 0.012 < 0.1 < np.abs(raw - WORTH).mean()
    assert found.check is not None and found.check.gap < found.check.gap_before / 5
    assert found.check.tau > found.check.tau_before
    assert np.mean(np.abs(found.values - WORTH) < 2 * found.spreads) > 0.9


def test_metrics_that_are_always_above_0_are_corrected_to_such_and_keep_their_order() -> None:
    """A line through the labels goes below 0 at the largest networks; one of a signed metric may."""

    def shifted(by: float) -> correction.Correction:
        networks = [Network(one.arch, one.inherited + by, one.sizes) for one in NETWORKS]
        smaller = [(own, alone) for own, alone in zip(networks, WORTH, strict=True) if own.arch.width < 32]
        return correct([Label(own, (2 * alone - 0.1 + by,)) for own, alone in smaller], networks)

    signed, above = shifted(-0.5), shifted(0.0)
    assert not signed.refused and not above.refused
    free = signed.values + 0.5
    assert free.min() < 0 < above.values.min()
    assert tau(above.values, free) > 0.97  # equal ones differ in rounding
    assert np.abs(above.values - free)[free > 0.2].max() < 0.02


def test_without_a_gap_the_ranks_stay() -> None:
    """Labels that are the inherited metrics, and noise: nothing is gained, so nothing is changed in the order."""
    rng = np.random.default_rng(0)
    labels = [Label(one, (one.inherited + 0.02 * rng.normal(),)) for one in NETWORKS[::3]]
    found = correct(labels, NETWORKS)
    raw = np.array([one.inherited for one in NETWORKS])
    assert found.refused or tau(found.values, raw) > 0.95


def test_labels_of_pure_noise_are_refused() -> None:
    """The supernet is right, and what departs from it has no pattern."""
    rng = np.random.default_rng(1)
    labels = [Label(one, (one.inherited + 0.2 * rng.choice([-1, 1]),)) for one in NETWORKS[::4]]
    found = correct(labels, NETWORKS)
    assert found.refused.startswith("not corrected: 9 networks trained alone") and "no gain" in found.refused
    assert list(found.values) == [one.inherited for one in NETWORKS] and np.isnan(found.spreads).all()
    assert found.check is not None and found.check.labels == 9


def test_the_same_labels_tell_the_same_whatever_their_order() -> None:
    labels = labelled(3, 0.01)
    one, other = correct(labels, NETWORKS), correct(labels[::-1], NETWORKS[::-1])
    np.testing.assert_allclose(one.values, other.values[::-1], rtol=1e-6)
    np.testing.assert_allclose(one.spreads, other.spreads[::-1], rtol=1e-6)


def test_held_out_labels_are_those_of_a_fit_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The closed form against leaving out and fitting again, the weights of settings included.

    Rows are scaled by all networks, labelled or not, so that a label left out stays among the networks.
    """
    monkeypatch.setattr(correction, "_WEIGHTS", (0.0, 3.0))
    labels = labelled(4, 0.02)
    alone = np.array([label.trainings[0] for label in labels])
    parts = correction._Parts.of([label.network for label in labels], NETWORKS, True)
    whole = correction._averaged(correction._settings(parts, alone, np.ones(9), (1.0, 0.0)))
    for i in range(len(labels)):
        kept = [*range(i), *range(i + 1, len(labels))]
        order = [*kept, i]
        part = correction._Parts(
            parts.believed[order],
            tuple(shared[np.ix_(order, kept)] for shared in parts.shared),
            tuple(own[order] for own in parts.own),
        )
        found = correction._averaged(correction._settings(part, alone[kept], np.ones(8), (1.0, 0.0)))
        assert found.mean[0] == pytest.approx(whole.held_out[i], rel=1e-6)


def test_one_setting_is_a_gaussian_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the normal equations of a Bayesian linear model with a nearly flat offset."""
    monkeypatch.setattr(correction, "_WEIGHTS", (3.0,))
    labels = labelled(4, 0.02)
    alone = np.array([label.trainings[0] for label in labels])
    parts = correction._Parts.of([label.network for label in labels], NETWORKS, True)
    lines = correction._Parts(parts.believed, parts.shared[:1], parts.own[:1])
    (setting,) = correction._settings(lines, alone, np.ones(9), (1.0,))
    rows = np.sqrt(3.0) * correction._standard(parts.believed[:, None])
    design = np.hstack([100 * np.ones_like(rows), rows])
    seen, rest = design[:9], alone - parts.believed[:9]
    solved = np.linalg.solve(seen.T @ seen + np.eye(2), seen.T @ rest)
    np.testing.assert_allclose(setting.mean, parts.believed[9:] + design[9:] @ solved, rtol=1e-6)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([], "0 networks trained alone are too few"),
        (labelled(9), "4 networks trained alone are too few to check a correction; train at least 6, better 16"),
        (
            [Label(one.network, (math.nan, math.inf)) if i % 2 else one for i, one in enumerate(labelled(4))],
            r"5 networks trained alone \(4 of 9 have no finite metric\) are too few",
        ),
        ([Label(one.network, (0.5,)) for one in labelled(3)], "all stand-alone metrics are equal; train longer"),
        (
            [Label(one.network, (one.trainings[0] - 0.3, one.trainings[0] + 0.3)) for one in labelled(3)],
            "two trainings of one network differ by ±0.424, as much as networks do .*; train them longer",
        ),
        ([*labelled(9), *labelled(9), *labelled(9)], "4 networks trained alone .*are too few"),
    ],
    ids=["none", "few", "failed", "equal", "contradicting", "one network again and again"],
)
def test_labels_that_tell_nothing_are_refused(labels: list[Label], told: str) -> None:
    found = correct(labels, NETWORKS)
    assert re.search(told, found.refused), found.refused
    assert list(found.values) == [one.inherited for one in NETWORKS] and found.check is None


def test_failed_trainings_do_not_count() -> None:
    labels = labelled(3, 0.01)
    failed = [*labels, *(Label(network(arch), (math.inf,)) for arch in ARCHS[1:4])]
    half = [Label(one.network, (one.trainings[0], math.nan)) for one in labels]
    for given in (failed, half):
        np.testing.assert_allclose(correct(given, NETWORKS).values, correct(labels, NETWORKS).values)


def test_more_trainings_of_a_network_are_one_label_with_less_noise() -> None:
    twice = [Label(one.network, (one.trainings[0] - 0.01, one.trainings[0] + 0.01)) for one in labelled(3)]
    apart = [Label(one.network, (value,)) for one in twice for value in one.trainings]
    assert len(apart) == 2 * len(twice) >= 2 * FEWEST
    np.testing.assert_allclose(correct(apart, NETWORKS).values, correct(twice, NETWORKS).values)


def test_sizes_that_one_network_lacks_are_not_used() -> None:
    lacking = [Network(one.arch, one.inherited) if i == 0 else one for i, one in enumerate(NETWORKS)]
    without = [Network(one.arch, one.inherited) for one in NETWORKS]
    labels = labelled(3, 0.01)
    bare = [Label(Network(one.network.arch, one.network.inherited), one.trainings) for one in labels]
    np.testing.assert_allclose(correct(labels, lacking).values, correct(bare, without).values)


def test_choices_become_columns() -> None:
    archs = [
        Architecture("X", {"n": n, "flag": flag, "op": op, "same": 1, "per": per})
        for n, flag, op, per in [(1, True, "a", (1, 2)), (8, False, "b", (1, None)), (64, True, "a", (3,))]
    ]
    columns = encoded(archs).T.tolist()
    assert columns[:1] == [[-1, 0, 1]], "numbers by their place"
    assert columns[1:5] == [[1, 0, 1], [0, 1, 0], [1, 0, 1], [0, 1, 0]]
    assert columns[5:] == [[-1, -1, 1]], "a place with one value tells nothing, nor does what is the same for all"


def test_tau_is_kendalls() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 5, (2, 12)).astype(float)
        assert tau(a, b) == pytest.approx(kendalltau(a, b).statistic)
    assert math.isnan(tau(np.zeros(3), np.arange(3.0)))


def test_a_space_of_one_network_size_is_no_trouble() -> None:
    """No choice differs and inherited metrics are all equal: there is the offset alone."""
    archs = [Architecture("One", {"width": 8, "seed": str(i)}) for i in range(8)]
    nets = [Network(arch, 0.5, (10.0,)) for arch in archs]
    found = correct([Label(one, (0.3 + 0.01 * i,)) for i, one in enumerate(nets)], nets)
    assert np.isfinite(found.values).all()
