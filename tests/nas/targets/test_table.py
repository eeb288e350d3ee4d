"""Targets known by a table: what is in it is found, and what is not is said."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nas.targets import TableTarget, TargetError, build, make, target_record
from search_spaces import Architecture, Space, choice

X, NETWORK = torch.zeros(1, 2), nn.Linear(2, 2)


class Net(Space):
    width = choice(8, 16, 24)
    depth = choice(0, 1, 2)
    ratio = choice(0.5, 1.0, 2.0, per="depth")
    norm = choice("none", "batch")


def archs(n: int = 12) -> list[Architecture]:
    """Both ends of the space, the smallest without a position of `ratio`, and some between."""
    sample = Net().sample_many(n, np.random.default_rng(0), distinct=True)
    return list(dict.fromkeys([Net().smallest(), Net().largest(), *sample]))[:n]


def columns(arch: Architecture, millisecond: float) -> dict[str, Any]:
    ratios = {f"ratio.{i}": value for i, value in enumerate(arch.ratio)}
    return {"width": arch.width, "depth": arch.depth, **ratios, "norm": arch.norm, "median_ms": millisecond}


def written(path: Path, rows: Iterable[dict[str, Any]]) -> str:
    rows = list(rows)
    with path.open("w", newline="") as file:
        if path.suffix == ".csv":
            writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return str(path)


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
@pytest.mark.parametrize("by", ["columns", "architecture"])
def test_every_architecture_has_its_own_latency(tmp_path: Path, name: str, by: str) -> None:
    rows = [
        columns(arch, 1.5 + i) if by == "columns" else {"architecture": arch.json(), "median_ms": 1.5 + i}
        for i, arch in enumerate(archs())
    ]
    target = TableTarget(path=written(tmp_path / name, rows))
    found = [result.median_ms for result in target.measure([NETWORK] * 12, X, archs())]
    assert found == [1.5 + i for i in range(12)]
    assert target.known(Net()) == archs()


def test_numbers_as_spreadsheets_write_them(tmp_path: Path) -> None:
    arch = Net().architecture({"width": 16, "depth": 1, "ratio": [2.0], "norm": "batch"})
    path = tmp_path / "t.csv"
    path.write_text("width,depth,ratio.0,ratio.1,norm,ms\n16.0,1,2,,batch,1e3\n")
    target = TableTarget(path=str(path), column="ms", unit="us")
    assert target.measure([NETWORK], X, [arch])[0].median_ms == 1.0
    assert target.known(Net()) == [arch]


def test_other_columns_are_left_aside_where_choices_are_named(tmp_path: Path) -> None:
    rows = [{**columns(arch, 2.0), "board": "pi5", "date": "today"} for arch in archs(3)]
    path = written(tmp_path / "t.csv", rows)
    target = TableTarget(path=path, choices="width, depth, ratio.0, ratio.1, norm")
    assert target.measure([NETWORK], X, [archs(3)[0]])[0].median_ms == 2.0
    assert TableTarget(path=path).known(Net()) == [], "a board is no choice of this space"


def test_rows_that_disagree_give_their_median_and_say_so(tmp_path: Path) -> None:
    arch = archs(1)[0]
    target = TableTarget(path=written(tmp_path / "t.jsonl", [columns(arch, t) for t in (1.0, 5.0, 2.0)]))
    (result,) = target.measure([NETWORK], X, [arch])
    assert (result.median_ms, result.repeats) == (2.0, 3)
    assert result.notes == ("3 rows of this architecture, from 1 to 5 ms",)


def test_another_table_is_another_version_wherever_it_lies(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    first = TableTarget(path=written(tmp_path / "t.csv", [columns(archs()[0], 1.0)]))
    copy = TableTarget(path=written(tmp_path / "copy" / "t.csv", [columns(archs()[0], 1.0)]))
    assert target_record(first).version == target_record(copy).version
    assert target_record(build(target_record(first))) == target_record(first)
    written(tmp_path / "copy" / "t.csv", [columns(archs()[0], 1.1)])
    assert target_record(build(target_record(copy))).version != target_record(first).version


def test_its_settings_hold_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "t.csv", [columns(archs()[0], 1.0)])
    monkeypatch.chdir(tmp_path)
    record = target_record(make("t4", "table", ["path=t.csv"]))
    monkeypatch.chdir("/")
    assert build(record).measure([NETWORK], X, [archs()[0]])[0].median_ms == 1.0


def test_an_unknown_architecture_is_an_error_that_says_so(tmp_path: Path) -> None:
    known, unknown = Net().largest(), Net().smallest()
    path = written(tmp_path / "t.csv", [columns(known, 1.0)])
    with pytest.raises(TargetError, match=rf"t.csv has 1 rows, but none for {unknown.digest[:8]} \(.*add a row"):
        TableTarget(path=path).measure([NETWORK], X, [unknown])
    other = Architecture("Other", {"kernel": 3})
    with pytest.raises(TargetError, match=r"no column is called 'kernel', its columns are depth, norm, ratio\.0"):
        TableTarget(path=path).measure([NETWORK], X, [other])
    with pytest.raises(TargetError, match=r"looks networks up in .*t.csv: name their architectures"):
        TableTarget(path=path).measure([NETWORK], X)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "width,ms\n8,1\n", r"row 1 has no column 'median_ms': choose column=... of width, ms"),
        ("t.csv", "width,median_ms\n", "has no rows: give a CSV file with a header, or JSON lines"),
        ("t.csv", "width,median_ms\n8,1\n16,-2\n", "row 2: median_ms is '-2', not a latency: give a number above 0"),
        ("t.csv", "width,median_ms\n8,nan\n", "median_ms is 'nan', not a latency"),
        ("t.csv", "width,median_ms\n8,\n", "median_ms is '', not a latency"),
        ("t.csv", "width,median_ms\n8,1,4\n", "row 1 has more cells than the header"),
        ("t.csv", "median_ms\n8\n", "row 1 names no choices: give a column 'architecture' or one for each choice"),
        ("t.csv", "architecture,median_ms\n8x,1\n", "row 1: .*8x.* is not JSON"),
        (
            "t.jsonl",
            '{"width": 8, "median_ms": 1}\n[2]\n',
            r"line 2 is \[2\], not a JSON object: write",
        ),
        ("t.jsonl", "width,median_ms\n", "line 1 is not JSON .* a file name that ends in .csv"),
    ],
)
def test_what_is_no_table_is_named_with_its_place(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(TargetError, match=message):
        TableTarget(path=str(tmp_path / name)).describe()


def test_a_missing_file_and_a_wrong_unit(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"absent.csv: No such file or directory: give a CSV file"):
        TableTarget(path=str(tmp_path / "absent.csv")).describe()
    with pytest.raises(TargetError, match="unit='h' is unknown: choose one of s, ms, us"):
        TableTarget(path="t.csv", unit="h")
