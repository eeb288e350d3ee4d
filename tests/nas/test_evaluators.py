"""What a predictor is told of networks beside their choices."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from nas.evaluators import ProfileFeatures
from nas.predictors import Ridge
from search_spaces import Architecture, Space, choice
from search_spaces.mobilenet import digits_space
from supernets import Supernet, one_of
from supernets.models import mobilenet
from tests.supernets.zoo import ZOO


def test_features_of_a_profile_are_its_numbers() -> None:
    case = ZOO["conv"]
    net, example = Supernet(case.space, case.build, layout=case.layout), case.example().float()
    features = ProfileFeatures(net.space, partial(net.profile, example=example))
    archs = case.space.sample_many(4, np.random.default_rng(0))
    rows = features(archs)
    assert rows.shape == (4, 3 + 4 * (len(features.kinds) + 1))
    for arch, row in zip(archs, rows, strict=True):
        profile = net.profile(arch, example)
        assert row[:3].tolist() == [profile.params, profile.macs, profile.activation_bytes]
        assert row[4::4].sum() == profile.params
        assert row[5::4].sum() == profile.macs
    assert np.array_equal(features(case.space.codes(archs)), rows)


class First(torch.nn.Module):
    """What a layer returns first."""

    def __init__(self, make: Callable[[], torch.nn.Module]) -> None:
        super().__init__()
        self.inner = make()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.inner(x)
        return found[0] if isinstance(found, tuple) else found


def test_kinds_that_neither_end_has_are_counted_together() -> None:
    class Ends(Space):
        op = choice("small", "odd", "large")

    def build(arch: Architecture) -> torch.nn.Module:
        layers = {
            "small": torch.nn.Identity,
            "odd": partial(torch.nn.Conv1d, 4, 4, 3, padding=1),
            "large": partial(torch.nn.LSTM, 4, 4),
        }
        return one_of(arch.op, {name: partial(First, make) for name, make in layers.items()})

    space = Ends()
    features = ProfileFeatures(space, partial(Supernet(space, build).profile, example=torch.zeros(1, 4, 4)))
    assert set(features.kinds) == {"Identity", "LSTM"}
    (row,) = features([space.architecture({"is": "Ends", "op": "odd"})])
    assert row[-4:-2].tolist() == [1, 4 * 4 * 3 + 4]


def test_profiles_help_where_sizes_multiply() -> None:
    """Multiply-accumulates are no sum over choices; with them among the features they are predicted exactly."""
    space = digits_space()
    net, example = Supernet(space, mobilenet.build), torch.zeros(1, 1, 8, 8)
    archs = space.sample_many(60, np.random.default_rng(0), distinct=True)
    macs = np.array([net.profile(arch, example).macs for arch in archs], dtype=float)
    errors = {}
    for features in (None, ProfileFeatures(net.space, partial(net.profile, example=example))):
        predictor = Ridge(space, features)
        predictor.fit(archs[:40], macs[:40])
        errors[features is None] = float(np.abs(predictor.predict(archs[40:])[0] / macs[40:] - 1).mean())
    assert errors[False] < 0.01 and errors[True] > 0.02
