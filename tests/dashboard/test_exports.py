"""Exports are found below the folder of runs and nowhere else, and leave it as a zip."""

import io
import json
import math
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from dashboard import exports
from search_spaces import Architecture


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    folder = root / "digits" / "best"
    folder.mkdir(parents=True)
    record = {"architecture": {"is": "Patches", "width": 16}, "metadata": {"study": "digits", "finetuned": True}}
    (folder / "architecture.json").write_text(json.dumps(record))
    weights = {"body.0.weight": torch.zeros(4, 3), "body.0.bias": torch.zeros(4), "body.1.weight": torch.zeros(2, 4)}
    save_file(
        {**weights, "head.weight": torch.zeros(5), "0.1.2.weight": torch.zeros(6)}, folder / "weights.safetensors"
    )
    return root


def test_an_export_is_known_by_its_architecture(runs: Path) -> None:
    (one,) = exports.found(runs)
    assert one.digest == Architecture("Patches", {"width": 16}).digest
    assert (one.name, one.study, one.finetuned) == ("digits/best", "digits", True)
    assert one.name not in one.id and len(one.id) == 16


def test_its_files_come_as_a_zip(runs: Path) -> None:
    (one,) = exports.found(runs)
    with zipfile.ZipFile(io.BytesIO(exports.packed(one.id, runs))) as archive:
        assert sorted(archive.namelist()) == ["best/architecture.json", "best/weights.safetensors"]


def test_an_id_is_no_path(runs: Path) -> None:
    for asked in ("digits/best", "../runs/digits/best", "/etc/passwd", ""):
        with pytest.raises(KeyError):
            exports.packed(asked, runs)


def test_links_lead_nowhere(runs: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key.txt").write_text("k")
    (secret / "architecture.json").write_text((runs / "digits" / "best" / "architecture.json").read_text())
    (runs / "elsewhere").symlink_to(secret)
    (runs / "digits" / "best" / "key.txt").symlink_to(secret / "key.txt")
    (one,) = exports.found(runs)
    with zipfile.ZipFile(io.BytesIO(exports.packed(one.id, runs))) as archive:
        assert not [name for name in archive.namelist() if "key" in name]


def test_what_only_looks_like_an_export_is_none(runs: Path, tmp_path: Path) -> None:
    (runs / "digits" / "best" / "architecture.json").write_text("[]")
    assert exports.found(runs) == [] and exports.found(tmp_path / "none") == []


def test_parameters_are_counted_by_part_from_the_header(runs: Path) -> None:
    (one,) = exports.found(runs)
    costs = exports.costs(one)
    assert dict(zip(costs["part"], costs["params"], strict=True)) == {"0.1": 6, "body.0": 16, "body.1": 8, "head": 5}
    assert costs["macs"].isna().all()
    (one.folder / "weights.safetensors").write_bytes(b"\xff" * 20)
    assert not len(exports.costs(one))


def told(runs: Path, parts: object) -> pd.DataFrame:
    """What an export costs by part whose record has these."""
    (one,) = exports.found(runs)
    record = json.loads((one.folder / "architecture.json").read_text())
    record["metadata"]["parts"] = parts
    (one.folder / "architecture.json").write_text(json.dumps(record))
    return exports.costs(one)


def test_macs_are_those_that_the_export_counted(runs: Path) -> None:
    parts = {"": {"params": 2, "macs": 0}, "body.0.conv": {"params": 30, "macs": 900}}
    found = told(runs, {**parts, "body.0.norm": {"params": 4, "macs": 0}, "body.1": {"params": 10, "macs": 100}})
    assert found.values.tolist() == [["(itself)", 2.0, 0.0], ["body.0", 34.0, 900.0], ["body.1", 10.0, 100.0]]


@pytest.mark.parametrize("parts", [[], {"body": 3}, {"body": {"params": "x", "macs": 1}}, {"body": {"params": 1}}, 7])
def test_a_record_that_tells_nonsense_of_parts_leaves_the_header(runs: Path, parts: object) -> None:
    found = told(runs, parts)
    assert found["part"].tolist() == ["0.1", "body.0", "body.1", "head"] and found["macs"].isna().all()


def test_two_networks_stand_side_by_side_with_the_change() -> None:
    first = pd.DataFrame({"part": ["body.0", "head"], "params": [30.0, 10.0], "macs": [900.0, 100.0]})
    second = pd.DataFrame({"part": ["body.0", "body.1", "head"], "params": [30.0, 20.0, 5.0], "macs": [math.nan] * 3})
    table = exports.side_by_side({"aaaa": first, "bbbb": second}).set_index("part")
    assert table["parameters of aaaa"].to_dict() == {"body.0": "30 (75%)", "head": "10 (25%)", "body.1": "–"}
    assert table["change of parameters"].to_dict() == {"body.0": "0", "head": "−5", "body.1": "+20"}
    assert table["MACs of aaaa"]["body.0"] == "900 (90%)"
    assert not [name for name in table if "MACs" in name and name != "MACs of aaaa"], (
        "nothing is said of what is unknown"
    )
