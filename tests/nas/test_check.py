"""`nas check`: a line for each file, status 1 and the remedy where one differs; a terminal obeys no name."""

from pathlib import Path

import pytest
import torch

from supernets import checkpoints
from tests.nas.command import Nas, caller
from tests.supernets.test_export import export_mlp


@pytest.fixture
def nas_(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Nas:
    monkeypatch.chdir(tmp_path)
    return caller(monkeypatch, capsys)


def run_folder(place: Path) -> Path:
    """A run with two checkpoints and an exported network."""
    for step in (1, 2):
        checkpoints.write(place / "supernet", step, {"a": torch.ones(3)}, {})
    export_mlp(place / "best")
    return place


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def test_an_export_as_it_was_written(nas_: Nas, tmp_path: Path) -> None:
    export_mlp(tmp_path / "mine")
    status, out, err = nas_("check", "mine")
    lines = out.splitlines()
    assert (status, err) == (0, "")
    files = {path.relative_to("mine").as_posix() for path in Path("mine").rglob("*") if path.is_file()}
    assert {line.removesuffix(": as it was written") for line in lines[:-1]} == files and len(files) > 6
    assert lines[-1].startswith("fingerprint: ") and len(lines[-1].split()[1]) == 64


@pytest.mark.parametrize("name", ["load.py", "architecture.json", "weights.safetensors", "source/tests/__init__.py"])
def test_a_changed_file_of_an_export_is_named(nas_: Nas, tmp_path: Path, name: str) -> None:
    export_mlp(tmp_path / "mine")
    with Path("mine", name).open("ab") as file:
        file.write(b" ")
    status, out, err = nas_("check", "mine")
    assert status == 1 and f"{name}: does not match its SHA-256 in SHA256SUMS\n" in out
    assert err.startswith(f"error: 1 of 9 files in mine differ, {name} first: write an exported network again")
    assert out.count("as it was written") == 8 and "fingerprint" not in out


def test_files_that_came_or_went_are_named(nas_: Nas, tmp_path: Path) -> None:
    export_mlp(tmp_path / "mine")
    Path("mine/weights.safetensors").unlink()
    Path("mine/source/torch.py").write_text("")
    out = nas_("check", "mine").out
    assert "weights.safetensors: is not there\n" in out and "source/torch.py: is not of this export\n" in out
    Path("mine/SHA256SUMS").unlink()
    status, out, err = nas_("check", "mine")
    assert (status, out) == (1, "SHA256SUMS: is not there\n") and "nas export" in err


def test_a_run_with_all_that_lies_below_it(nas_: Nas, tmp_path: Path) -> None:
    run_folder(tmp_path / "mine")
    status, out, err = nas_("check", "mine")
    assert (status, err) == (0, "") and out.count("as it was written") == 13
    flip(Path("mine/supernet/step-000000002.safetensors"))
    Path("mine/supernet/step-000000001.json").unlink()
    status, out, err = nas_("check", "mine")
    assert status == 1 and "supernet/step-000000001.json: is not there; it is written last\n" in out
    assert "supernet/step-000000002.safetensors: does not match its SHA-256\n" in out
    assert err == (
        "error: 2 of 13 files in mine differ, supernet/step-000000001.json first: leave checkpoints as they are: "
        "nas search goes on from the newest that is whole\n"
    )


def test_other_folders_are_refused(nas_: Nas, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert nas_("check", "empty").err.startswith("error: empty holds neither an exported network nor checkpoints: give")
    assert nas_("check", "none").err.startswith("error: none is no folder: give the folder that nas export wrote")


def test_a_terminal_obeys_no_name(nas_: Nas, tmp_path: Path) -> None:
    export_mlp(tmp_path / "mine")
    Path("mine/\x1b[31m[red]note").write_text("")
    status, out, err = nas_("check", "mine")
    assert status == 1 and r"\x1b[31m[red]note: is not of this export" in out
    assert "\x1b" not in out + err
