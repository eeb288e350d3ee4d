"""Devices taken for new: tables are read as they are, turns leave out what they say, figures are by definition."""

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas
import pytest
from scipy.stats import spearmanr

from benchmarks.latency_prediction import __main__ as command
from benchmarks.latency_prediction import fbnet, leave_out, nasbench201, rotations, tables
from benchmarks.latency_prediction.rotations import DESIGNED, RANDOM, SPREAD, TOGETHER
from search_spaces.nasbench201 import EDGES

CELL_COLUMNS = [f"op_{source}{target}" for source, target in EDGES]
LAYERS = [f"op_{layer:02}" for layer in range(22)]
WORTH = np.array([0.5, 0.1, 1.0, 4.0, 1.5])
"""Of each operation of a cell, as the tables number them."""


def devices(large: int) -> list[str]:
    cards = [f"{card}_{batch}" for card in ("1080ti", "2080ti", "titanx", "titanxp") for batch in (1, 32, large)]
    others = ["silver_4114", "silver_4210r", "gold_6240", "essential_ph_1", "pixel3", "samsung_a50", "samsung_s7"]
    return cards + others


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up tables: a device mixes computing and launching in its own way."""
    where = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(0)
    ops = np.array(list(product(range(5), repeat=6)), dtype=np.int8)
    ops = ops[rng.permutation(len(ops))[:600]]
    cells = pandas.DataFrame(ops, columns=CELL_COLUMNS).assign(arch_index=np.arange(600))
    cells.sample(frac=1, random_state=0).to_parquet(where / "nasbench201_accuracy.parquet")
    work, launched = WORTH[ops].sum(axis=1), 1.0 + (ops != 0).sum(axis=1)

    def latency(names: list[str], work: np.ndarray, launched: np.ndarray) -> dict[str, np.ndarray]:
        shares = np.linspace(0, 1, len(names))
        noise = rng.lognormal(0, 0.02, size=(len(names), len(work)))
        return {d: (s * work + (1 - s) * 2 * launched + 1) * e for d, s, e in zip(names, shares, noise, strict=True)}

    all_cells = pandas.DataFrame({"arch_index": np.arange(600), **latency(devices(256), work, launched)})
    all_cells.to_parquet(where / "nasbench201_latency.parquet")
    some = pandas.DataFrame({"arch_index": np.arange(300), **latency(["a", "b"], work[:300], launched[:300])})
    some.loc[:4, "b"] = np.nan
    some.to_parquet(where / "nasbench201_latency_subset.parquet")
    blocks = rng.integers(0, 9, size=(500, 22)).astype(np.int8)
    block_work, there = (1.0 + blocks % 4).sum(axis=1), (blocks != 8).sum(axis=1)
    networks = pandas.DataFrame(blocks, columns=LAYERS).assign(arch_index=np.arange(500))
    networks.assign(**latency(devices(64), block_work, there)).to_parquet(where / "fbnet_latency.parquet")
    return where


@pytest.fixture(scope="module")
def unseen(folder: Path) -> rotations.Unseen:
    cells = nasbench201.Cells(tables.nasbench201(folder))
    return cells.unseen([device for device in cells.table.devices if device != "pixel3"])


# --- tables -------------------------------------------------------------------------------------------------------


def test_networks_are_read_with_what_was_published_of_them(folder: Path) -> None:
    table = tables.nasbench201(folder)
    published = pandas.read_parquet(folder / "nasbench201_accuracy.parquet").set_index("arch_index").loc[7]
    arch = table.space.decode(table.codes[7:8])[0]
    assert list(arch.op) == [tables.CELL_OPERATIONS[int(op)] for op in published[CELL_COLUMNS]]
    assert set(table.devices) == set(devices(256))
    networks = tables.fbnet(folder)
    published = pandas.read_parquet(folder / "fbnet_latency.parquet").loc[3]
    arch = networks.space.decode(networks.codes[3:4])[0]
    assert list(arch.op) == [tables.BLOCKS[int(block)] for block in published[LAYERS]]


@pytest.mark.parametrize(("name", "columns", "told"), [(None, [], "holds no"), ("fbnet", ["op_03"], "lacks.*op_03")])
def test_what_is_no_table_is_said(tmp_path: Path, folder: Path, name: str, columns: list[str], told: str) -> None:
    if name:
        frame = pandas.read_parquet(folder / "fbnet_latency.parquet").drop(columns=columns)
        frame.to_parquet(tmp_path / "fbnet_latency.parquet")
    with pytest.raises(tables.TableError, match=told):
        tables.fbnet(tmp_path)
    with pytest.raises(tables.TableError, match="there is no folder"):
        tables.fbnet(tmp_path / "nowhere")


def test_ofa_blocks_beyond_the_depth_do_not_exist(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame({"arch_index": range(50), "resolution": rng.choice(range(128, 225, 4), 50)})
    for stage in range(5):
        frame[f"d_{stage}"] = rng.integers(2, 5, 50)
    for block in range(20):
        frame[f"ks_{block:02}"], frame[f"e_{block:02}"] = rng.choice([3, 5, 7], 50), rng.choice([3, 4, 6], 50)
    frame.assign(v100_1=1.0).to_parquet(tmp_path / "ofa_latency.parquet")
    table = tables.ofa(tmp_path)
    for row, arch in enumerate(table.space.decode(table.codes)):
        assert arch.resolution == frame["resolution"][row]
        for stage, own in enumerate(arch.stages):
            names = [f"{4 * stage + block:02}" for block in range(frame[f"d_{stage}"][row])]
            assert list(own.kernel) == [frame[f"ks_{name}"][row] for name in names]
            assert list(own.expansion) == [frame[f"e_{name}"][row] for name in names]


def test_live_operations_are_those_on_a_path() -> None:
    """Against walking all paths."""
    codes = np.random.default_rng(0).integers(0, 5, size=(300, 6)).astype(np.int16)
    paths = [[(0, 3)], [(0, 1), (1, 3)], [(0, 2), (2, 3)], [(0, 1), (1, 2), (2, 3)]]
    for row, live in zip(codes, nasbench201.alive(codes), strict=True):
        open_paths = [path for path in paths if all(row[EDGES.index(edge)] for edge in path)]
        on_one = {edge for path in open_paths for edge in path}
        assert live.tolist() == [op if edge in on_one else 0 for edge, op in zip(EDGES, row.tolist(), strict=True)]
    table = tables.Table(tables.NASBench201Space(), np.arange(300), codes, {})
    np.testing.assert_array_equal(tables.has_path(table), nasbench201.alive(codes).any(axis=1))


# --- rotations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("large", [256, 64])
def test_every_device_is_new_at_least_once_among_thirteen_known(large: int) -> None:
    for turns in rotations.rotations(large).values():
        assert {device for turn in turns for device in turn} == set(devices(large))
        assert all(len(set(turn)) == 6 for turn in turns)
    for turn in rotations.rotations(large)[TOGETHER]:
        assert len({device.rsplit("_", 1)[0] for device in turn[:3]}) == 1


def test_scores_are_of_all_others_by_definition(unseen: rotations.Unseen, folder: Path) -> None:
    y = tables.nasbench201(folder).latency["pixel3"]
    measured = rotations.chosen(unseen, RANDOM, y, 10, [0, 0])
    relative = np.arange(len(y)) % 2 == 0
    row = rotations.evaluated(unseen, y, measured, relative)
    others = np.setdiff1d(np.arange(len(y)), measured)
    mean = rotations.ridge_onehot(unseen, measured, y[measured])
    rank, error = row["scores"]["ridge on one-hot"]
    assert rank == pytest.approx(spearmanr(mean[others], y[others]).statistic, abs=1e-4)
    kept = others[others % 2 == 0]
    assert error == pytest.approx(100 * np.mean(np.abs(mean[kept] / y[kept] - 1)), abs=1e-3)
    assert row["scores"]["transfer"][0] > max(0.9, row["scores"]["ridge on one-hot"][0])
    assert 0.5 < row["coverage"] <= 1


def test_nothing_but_what_is_measured_is_seen(unseen: rotations.Unseen, folder: Path) -> None:
    y = tables.nasbench201(folder).latency["pixel3"]
    measured = rotations.chosen(unseen, DESIGNED, y, 10, [0, 0])
    assert len(set(measured.tolist())) == 10
    hidden = np.where(np.isin(np.arange(len(y)), measured), y, np.nan)
    for method in rotations.BASELINES.values():
        np.testing.assert_array_equal(method(unseen, measured, y[measured]), method(unseen, measured, hidden[measured]))
    assert (rotations.chosen(unseen, DESIGNED, y[::-1].copy(), 10, [0, 0]) == measured).all()


def test_the_best_proxy_is_the_one_that_ranks_alike() -> None:
    rng = np.random.default_rng(0)
    proxies = np.exp(rng.normal(size=(40, 3)))
    new = rotations.Unseen(np.eye(40), proxies, None, np.eye(40))
    y = 3 * proxies[:, 1] + 2
    np.testing.assert_allclose(rotations.best_proxy(new, np.arange(10), y[:10]), y)


# --- the command and the reports ----------------------------------------------------------------------------------


def test_what_is_done_is_not_done_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nasbench201, "MEASURED", (10,))
    monkeypatch.setattr(nasbench201, "CEILING_MEASURED", 400)
    wanted = {"pixel3", "titanx_256", "b"}

    def left(key: dict[str, object]) -> bool:
        return key["device"] not in wanted or key.get("turn", 0) not in (0, 2)

    rows = list(nasbench201.rows(folder, 1, left))
    found = sorted((row["rotation"], row["device"]) for row in rows)
    ceilings = [("ceiling", "pixel3"), ("ceiling", "titanx_256")]
    both = [(SPREAD, "pixel3")] * 2 + [(SPREAD, "titanx_256")] * 2  # at random and designed
    assert found == [*ceilings, *both, ("subset", "b"), (TOGETHER, "titanx_256")]
    there = command.done(rows)
    assert not list(nasbench201.rows(folder, 1, lambda key: left(key) or there(key)))
    own = [row["scores"]["transfer"] for row in rows if row["rotation"] == SPREAD and row["design"] == RANDOM]
    assert f"Spearman of the transfer: {np.mean(own, axis=0)[0]:.4f} (aim 0.965" in "\n".join(nasbench201.report(rows))


def test_rows_are_appended_and_reported(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Two:
        NAME = "fbnet"

        @staticmethod
        def rows(data: Path, draws: int, done: Callable[[dict[str, object]], bool]) -> Iterator[dict[str, object]]:
            keys: list[dict[str, object]] = [{"part": "fbnet", "draw": draw} for draw in range(draws)]
            return ({**key, "seconds": 1.5} for key in keys if not done(key))

        @staticmethod
        def report(rows: Sequence[dict[str, object]]) -> list[str]:
            return [f"{len(rows)} rows"]

    monkeypatch.setattr(command, "part", lambda name: Two)
    file = tmp_path / "rows.jsonl"
    for draws in (2, 3):
        assert command.main([str(folder), "--parts", "fbnet", "--draws", str(draws), "--rows", str(file)]) == 0
    assert [json.loads(line)["draw"] for line in file.read_text().splitlines()] == [0, 1, 2]
    assert "3 rows" in file.with_suffix(".md").read_text()


def test_fbnet_has_a_row_for_each_device_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fbnet, "MEASURED_ALONE", 30)
    rows = list(fbnet.rows(folder, 1, lambda key: key["device"] != "gold_6240"))
    assert sorted(row["rotation"] for row in rows) == ["alone", "ceiling", SPREAD, SPREAD]
    text = "\n".join(fbnet.report(rows))
    assert "no other device known" in text.lower()


def test_a_device_on_which_a_baseline_is_better_is_named() -> None:
    scores = {"transfer": [0.90, 5.0], "best proxy": [0.93, 6.0]}
    rows = [
        {"device": "a", "k": 10, "scores": scores},
        {"device": "b", "k": 10, "scores": {**scores, "best proxy": [0.905, 1]}},
    ]
    assert leave_out.compared(rows, 10) == ["a (0.900, best proxy 0.930)"]


def test_an_unknown_part_is_an_error_that_names_the_parts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(folder), "--parts", "nasbench"]) == 2
    told = capsys.readouterr().err
    assert "no part 'nasbench'" in told and "nasbench201, fbnet" in told
