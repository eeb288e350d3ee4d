"""Parts of the latency benchmark on tables of a few made-up rows: what they do with them, not what comes out."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.latency_prediction import guarantee, hat, ofa, tables
from search_spaces.nasbench201 import EDGES

Row = dict[str, Any]


def nothing(key: Row) -> bool:
    return False


@pytest.fixture
def transformers(tmp_path: Path) -> Path:
    """Two tasks of a device; the decoder costs what its layers have, the second task half as much again."""
    rng = np.random.default_rng(0)
    num = 120
    parts = []
    for factor, task in ((1.0, "one"), (1.5, "two")):
        values = {name: rng.integers(1, 7, num).astype(float) for name in tables.HAT_FEATURES}
        total = 10 + values["decoder_layer_num"] * (2 + values["decoder_ffn_embed_dim_avg"])
        stds = {name: np.zeros(num) for name in ("latency_std_encoder", "latency_std_decoder")}
        named = {"task": task, "device": "board", "row": np.arange(num)}
        parts.append(pd.DataFrame({**named, **values, **stds, "latency_total": factor * total}))
    pd.concat(parts).to_parquet(tmp_path / "hat_latency.parquet")
    return tmp_path


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """600 cells; operations have costs, and what is slow is accurate but for noise."""
    rng = np.random.default_rng(0)
    num = 600
    edges = [f"op_{a}{b}" for a, b in EDGES]
    operations = rng.integers(0, 5, (num, 6))
    cost = np.array([0.1, 0.3, 1.0, 2.0, 0.6])[operations].sum(axis=1)
    names = {"arch_index": np.arange(num), **dict(zip(edges, operations.T, strict=True))}
    accuracy = pd.DataFrame({**names, "cifar100_test_e200": 50 + 3 * cost + rng.standard_normal(num)})
    accuracy.sample(frac=1, random_state=0).to_parquet(tmp_path / "nasbench201_accuracy.parquet")
    latency = {"arch_index": np.arange(num), "board": (2 + cost) * np.exp(0.1 * rng.standard_normal(num))}
    pd.DataFrame(latency).to_parquet(tmp_path / "nasbench201_latency.parquet")
    return tmp_path


@pytest.fixture
def subnetworks(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    num = 900
    depth = {f"d_{stage}": rng.integers(2, 5, num) for stage in range(5)}
    kernel = {f"ks_{block:02}": rng.choice([3, 5, 7], num) for block in range(20)}
    expansion = {f"e_{block:02}": rng.choice([3, 4, 6], num) for block in range(20)}
    named = {"arch_index": np.arange(num), "resolution": rng.choice(range(128, 225, 4), num)}
    cost = sum(depth.values()) * (named["resolution"] / 128) ** 2
    latency = {"2080ti_1": cost, "v100_64": cost * 3}
    frame = pd.DataFrame({**named, **depth, **kernel, **expansion, **latency})
    frame.to_parquet(tmp_path / "ofa_latency.parquet")
    return tmp_path


def test_transformers_are_split_and_known_from_another_task(
    transformers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hat, "LEARN", 80)
    monkeypatch.setattr(hat, "TEST", 20)
    monkeypatch.setattr(hat, "STEPS", 3)
    held = list(hat.rows(transformers, 1, nothing))
    ours = [row for row in held if row.get("model") in ("ridge", "ensemble")]
    assert len(ours) == 4 and all(row["mape"] < 0.02 for row in ours)  # layers times width is among what is derived
    assert all(row["mape"] > 0.1 for row in held if row.get("model") == "mlp")  # after three steps
    (two,) = [row for row in held if row["what"] == "tasks" and row["task"] == "two"]
    assert two["mape_zero"] == pytest.approx(1 / 3, abs=0.02)
    assert two["mape_ten"] < 0.05 and two["spearman_zero"] > 0.99
    text = "\n".join(hat.report(held))
    assert "| one | board |" in text and "by rmse on 2, mape on 2, spearman on 2 of 2 tables" in text


def test_what_is_derived_is_what_layers_have_in_all() -> None:
    x = np.array([[512, 6, 1000, 4, 640, 3, 2000, 8, 4, 2]], dtype=float)
    derived = hat.derived(x)[0]
    assert derived[:10].tolist() == x[0].tolist()
    assert {6 * 512 * 1000, 3 * 640 * 2000, 3 * 8, 3 * 4, 3 * 2 * 512} <= set(derived.tolist())
    assert derived[-6:].tolist() == [0, 0, 1, 0, 0, 0]


def test_cells_are_chosen_and_limits_counted(cells: Path) -> None:
    held = list(guarantee.rows(cells, 1, nothing))
    assert [(row["kind"], row["measured"]) for row in held] == list(product(guarantee.KINDS, guarantee.MEASURED))
    for row in held:
        assert 0 <= row["inside_90"] <= 1
        for kept, served, cost in (row[f"{way}_90"] for way in guarantee.WAYS):
            assert 0 <= kept <= served <= guarantee.LIMITS and (kept < served or cost >= 0)
    assert held == list(guarantee.rows(cells, 1, nothing))
    assert not list(guarantee.rows(cells, 1, lambda key: True))
    text = "\n".join(guarantee.report(held))
    assert "1 pairs of device and draw" in text and text.count(" | 100 | ") == 6


def test_corrections_are_of_the_cells_that_were_chosen() -> None:
    assert {guarantee.back(k, c) for k in guarantee.MEASURED for c in guarantee.COVERAGES} == {9, 19, 39}


def test_subnetworks_are_predicted_from_few_and_from_other_settings(
    subnetworks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ofa, "MEASURED", {"additive": (100,), "transfer": (10,)})
    monkeypatch.setattr(ofa, "KNOWN", 300)
    held = list(ofa.rows(subnetworks, 1, nothing))
    assert {(row["kind"], row["device"]) for row in held} == {
        (kind, device) for kind in ("additive", "transfer") for device in ("2080ti_1", "v100_64")
    }
    assert all(row["spearman"] > 0.9 for row in held)
    assert "| transfer | 10 | 1 | " in "\n".join(ofa.report(held))
