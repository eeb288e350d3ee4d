"""Costs read off tables equal those of profiles, network by network."""

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.predictors import Ridge
from search_spaces import Architecture, Space
from search_spaces.gpt import GPTSpace
from search_spaces.mobilenet import digits_space
from search_spaces.nasbench201 import NASBench201Space
from search_spaces.vit import ViTSpace
from supernets import Supernet
from supernets.counting import Counts
from supernets.models import gpt, mobilenet, nasbench201, vit
from supernets.profile import profile_network
from supernets.relaxation import tables
from supernets.skeleton import Build, build_skeleton
from tests.search_spaces.strategies import random_spaces
from tests.supernets.test_random_spaces import Branches
from tests.supernets.zoo import ZOO, Case

READY_MADE: dict[str, tuple[Callable[[], Space], Build, torch.Tensor]] = {
    "mobilenet": (digits_space, mobilenet.build, torch.zeros(2, 1, 8, 8)),
    "vit": (ViTSpace, vit.build, torch.zeros(2, 1, 8, 8)),
    "gpt": (GPTSpace, gpt.build, torch.zeros(2, 32, dtype=torch.long)),
}


def check(space: Space, build: Build, example: torch.Tensor, n: int, seed: int = 0) -> Counts:
    counts = Counts(space, build, example)
    drawn = space.sample_many(n, np.random.default_rng([seed, 1]), uniform="choices")
    archs = [space.smallest(), space.largest(), *drawn]
    for arch, row in zip(archs, counts(archs).tolist(), strict=True):
        profile = profile_network(build_skeleton(build, arch), example)
        figures = {("", "params"): profile.params, ("", "macs"): profile.macs}
        for kind, layers in profile.kinds.items():
            figures |= {(kind, name): value for name, value in asdict(layers).items()}
        assert {column: value for column, value in zip(counts.columns, row, strict=True) if value} == {
            column: value for column, value in figures.items() if value
        }
    return counts


@given(space=random_spaces(), seed=st.integers(0, 1000))
@settings(max_examples=5)
def test_counts_equal_profiles_in_random_spaces(space: Space, seed: int) -> None:
    check(space, Branches, torch.zeros(4, 3), 5, seed)


@pytest.mark.parametrize("case", ZOO.values(), ids=ZOO.keys())
def test_counts_equal_profiles_of_unlike_models(case: Case) -> None:
    example = case.example()
    check(case.space, case.build, example.float() if example.is_floating_point() else example, 6)


@pytest.mark.slow
@pytest.mark.parametrize("name", READY_MADE)
def test_counts_equal_profiles_of_ready_made_spaces(name: str) -> None:
    space, build, example = READY_MADE[name]
    check(space(), build, example, 6)


def test_rows_are_figures_of_the_whole_and_of_kinds() -> None:
    space, example = ZOO["conv"].space, ZOO["conv"].example().float()
    counts = Counts(space, ZOO["conv"].build, example)
    archs = space.sample_many(4, np.random.default_rng(0))
    rows = counts(archs)
    assert rows.shape == (4, len(counts.columns)) and np.array_equal(counts(space.codes(archs)), rows)
    by_name = {column: rows[:, number] for number, column in enumerate(counts.columns)}
    kinds = {kind for kind, _ in counts.columns[2:]}
    assert {"Conv2d", "BatchNorm2d", "Linear"} <= kinds
    for figure in ("params", "macs"):
        assert np.array_equal(sum(by_name[kind, figure] for kind in kinds), by_name["", figure])


def test_where_tables_would_be_too_large_every_network_is_profiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_ROWS", 2)
    case = ZOO["conv"]
    assert check(case.space, case.build, case.example().float(), 3)._tables is None


@pytest.mark.slow
def test_counts_help_where_sizes_multiply() -> None:
    """Multiply-accumulates are no sum over choices; with them among the features they are predicted exactly."""
    space = digits_space()
    net, example = Supernet(space, mobilenet.build), torch.zeros(1, 1, 8, 8)
    archs = space.sample_many(60, np.random.default_rng(0), distinct=True)
    macs = np.array([net.profile(arch, example).macs for arch in archs], dtype=float)
    errors = {}
    for features in (None, Counts(space, mobilenet.build, example)):
        predictor = Ridge(space, features)
        predictor.fit(archs[:40], macs[:40])
        errors[features is None] = float(np.abs(predictor.predict(archs[40:])[0] / macs[40:] - 1).mean())
    assert errors[False] < 0.01 and errors[True] > 0.02


def cells(arch: Architecture) -> torch.nn.Module:
    return nasbench201.build(arch, num_classes=10, width=4, num_cells=1)


def test_cells_whose_edges_choose_operations() -> None:
    check(NASBench201Space(op=("none", "nor_conv_3x3")), cells, torch.zeros(1, 3, 8, 8), 4)
