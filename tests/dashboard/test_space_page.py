"""Choices as columns, neighbours, importances and effects: against functions whose answer is known."""

import numpy as np
import pytest

from dashboard import encoding, importance
from dashboard.encoding import ABSENT
from dashboard.figures.importance import effects_figure, importance_figure, parallel_figure
from search_spaces import Space, choice
from tests.dashboard.seeding import ConvSpace


class Small(Space):
    width = choice(8, 16, 32)
    op = choice("conv", "pool")
    depth = choice(1, 2)
    kernel = choice(3, 5, per="depth")


def everything() -> tuple[list[object], encoding.Encoded]:
    archs = list(Small().sample_many(36, np.random.default_rng(0), distinct=True))
    return archs, encoding.encoded(archs, range(len(archs)))


def test_codes_lead_back_to_the_values() -> None:
    archs, found = everything()
    assert found.names[found.names.index("kernel.1")] == "kernel.1"
    for arch, row in zip(archs, found.codes, strict=True):
        values = {n: found.options[i][row[i]] for i, n in enumerate(found.names) if row[i] != ABSENT}
        assert (values["width"], values["op"], values["kernel.0"]) == (arch.width, arch.op, arch.kernel[0])
        assert ("kernel.1" in values) == (arch.depth == 2)


def test_neighbours_are_one_change_away() -> None:
    archs, found = everything()
    near = dict(encoding.neighbours(found, 0))
    for place, other in enumerate(archs[1:], start=1):
        own = dict(archs[0].diff(other))
        changed = [path for path, (mine, theirs) in own.items() if mine is not None and theirs is not None]
        assert (place in near) == (len(changed) == 1), own
    assert near and all("→" in change for change in near.values())
    assert encoding.neighbours(found, 99) == []


def test_a_neighbour_in_depth_brings_its_choices_with_it() -> None:
    archs, found = everything()
    place = next(i for i, arch in enumerate(archs) if arch.depth == 1)
    changes = dict(encoding.neighbours(found, place)).values()
    assert "depth: 1 → 2" in changes


def worth(rng: np.random.Generator, noise: float = 0.02) -> tuple[encoding.Encoded, np.ndarray]:
    """Networks whose metric is 3 for each step of the width, 1 for one operation, and nothing else but noise."""
    archs = list(Small().sample_many(36, rng, distinct=True)) * 3
    found = encoding.encoded(archs, range(len(archs)))
    values = [3.0 * (8, 16, 32).index(arch.width) + (arch.op == "conv") + rng.normal(0, noise) for arch in archs]
    return found, np.array(values)


def test_importances_find_what_matters() -> None:
    found, values = worth(np.random.default_rng(1))
    table = importance.importances(found, values, np.random.default_rng(0), 3)
    assert table["choice"].tolist()[:2] == ["width", "op"]
    assert table["importance"].iloc[0] > 0.7 > 0.2 > table["importance"].iloc[1]
    assert (table["low"] <= table["importance"]).all() and (table["importance"] <= table["high"]).all()
    assert importance.importances(found, np.ones(len(values)), np.random.default_rng(0)).empty


def test_effects_are_those_of_the_options_and_their_intervals_hold_them() -> None:
    found, values = worth(np.random.default_rng(2), noise=0.3)
    told = importance.effects(found, values, np.random.default_rng(0))
    rows = told.table.set_index(["choice", "option"])
    for option, effect in (("8", -3.0), ("16", 0.0), ("32", 3.0)):
        assert rows.loc[("width", option), "effect"] == pytest.approx(effect, abs=0.25)
    gap = rows.loc[("op", "conv"), "effect"] - rows.loc[("op", "pool"), "effect"]
    assert gap == pytest.approx(1.0, abs=0.25)
    assert (told.table["low"] <= told.table["high"]).all()
    assert told.explained > 0.9


def test_noise_has_wide_intervals_and_explains_nothing() -> None:
    found, _ = worth(np.random.default_rng(3))
    noise = np.random.default_rng(4).normal(0, 1, len(found.codes))
    told = importance.effects(found, noise, np.random.default_rng(0))
    holds = (told.table["low"] <= 0.15) & (told.table["high"] >= -0.15)
    assert holds.mean() > 0.7
    assert told.explained < 0.1


def test_figures_have_a_bar_a_metric_and_a_point_an_option() -> None:
    found, values = worth(np.random.default_rng(5))
    table = importance.importances(found, values, np.random.default_rng(0), 2)
    bars = importance_figure({"error": table, "params": table})
    assert [bar.name for bar in bars.data] == ["error", "parameters"]
    assert bars.data[0].x[0] == pytest.approx(100 * table["importance"].max())
    effects = importance.effects(found, values, np.random.default_rng(0))
    points = effects_figure(effects.table, "params", ["width", "op"]).data[0]
    assert list(points.y[1]) == ["8", "16", "32", "conv", "pool"]


def test_parallel_coordinates_name_their_options() -> None:
    archs = ConvSpace().sample_many(20, np.random.default_rng(0), distinct=True)
    found = encoding.encoded(archs, range(20))
    import pandas as pd

    rows = pd.DataFrame({"error": np.linspace(0.1, 0.3, 20), "resolution": found.codes[:, 0]})
    figure = parallel_figure(rows, {"resolution": (96, 128, 160)}, ["error"])
    first, last = figure.data[0].dimensions
    assert list(first.ticktext) == ["96", "128", "160"] and last.label == "error (%)"
    assert max(last["values"]) == pytest.approx(30)
