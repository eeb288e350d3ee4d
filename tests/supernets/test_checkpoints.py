"""A checkpoint is whole or rejected, whatever happened to its files."""

import functools
import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supernets import checkpoints
from supernets.checkpoints import CheckpointError

META = {"settings": {"lr": 0.1}, "curve": [1.5, float("inf")], "text": "née"}


def tensors(value: float) -> dict[str, torch.Tensor]:
    return {"a": torch.full((3, 2), value), "b": torch.tensor(7), "c": torch.ones(0), "d": torch.ones(2).bfloat16()}


def write(directory: Path, step: int) -> Path:
    return checkpoints.write(directory, step, tensors(float(step)), META)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_what_is_written_is_found(tmp_path: Path) -> None:
    write(tmp_path / "new" / "folder", 5)
    found = checkpoints.newest(tmp_path / "new" / "folder")
    assert (found.step, found.meta, found.rejected) == (5, META, [])
    assert found.tensors.keys() == tensors(5.0).keys()
    for name, tensor in tensors(5.0).items():
        assert torch.equal(found.tensors[name], tensor) and found.tensors[name].dtype == tensor.dtype


def test_views_that_share_memory_are_written_apart(tmp_path: Path) -> None:
    whole = torch.arange(12.0).view(3, 4)
    checkpoints.write(tmp_path, 1, {"whole": whole, "column": whole[:, 1], "turned": whole.t()}, {})
    found = checkpoints.newest(tmp_path)
    assert torch.equal(found.tensors["column"], whole[:, 1]) and torch.equal(found.tensors["turned"], whole.t())


def test_where_there_is_none_it_is_the_beginning(tmp_path: Path) -> None:
    assert checkpoints.newest(tmp_path / "missing") == (0, {}, {}, [])
    assert checkpoints.newest(tmp_path) == (0, {}, {}, [])


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        write(tmp_path, step)
    assert names(tmp_path) == [f"step-{step:09d}.{end}" for step in (2, 10) for end in ("json", "safetensors")]


def test_a_crash_while_writing_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 1)
    installed = []

    def crash_at_the_record(part: Path, path: Path) -> None:
        if path.suffix == ".json":
            raise KeyboardInterrupt
        installed.append(part.replace(path))

    monkeypatch.setattr(checkpoints, "_install", crash_at_the_record)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, 2)
    monkeypatch.undo()
    found = checkpoints.newest(tmp_path)
    assert installed and found.step == 1 and "step 2" in found.rejected[0] and "written last" in found.rejected[0]
    write(tmp_path, 3)
    assert not [name for name in names(tmp_path) if name.endswith(".part")]


def test_writing_removes_newer_ones_that_were_rejected(tmp_path: Path) -> None:
    for step in (1, 2):
        write(tmp_path, step)
    (tmp_path / "step-000000002.json").write_text("{}")
    (tmp_path / "step-000000003.json").write_text("{}")
    assert checkpoints.newest(tmp_path).step == 1
    write(tmp_path, 1)
    assert checkpoints.newest(tmp_path)[0::3] == (1, [])


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), end=st.sampled_from(["json", "safetensors"]))
def test_a_flipped_bit_anywhere_is_seen(tmp_path: Path, where: float, bit: int, end: str) -> None:
    write(tmp_path, 1)
    write(tmp_path, 2)
    damaged = tmp_path / f"step-000000002.{end}"
    content = bytearray(damaged.read_bytes())
    content[int(where * len(content))] ^= 1 << bit
    damaged.write_bytes(content)
    found = checkpoints.newest(tmp_path)
    assert found.step == 1 and torch.equal(found.tensors["a"], tensors(1.0)["a"])
    assert len(found.rejected) == 1 and "step 2" in found.rejected[0]


@pytest.mark.parametrize(
    ("end", "content", "reason"),
    [
        ("json", None, "is not there; it is written last"),
        ("safetensors", None, "cannot be read"),
        ("json", b"", "not JSON"),
        ("json", b"[1]", "is [1], not a JSON object"),
        ("json", b'{"step": ', "not JSON"),
        ("json", b"\xff\xfe", "not JSON"),
        ("safetensors", b"", "SHA-256"),
    ],
)
def test_damage_is_named(tmp_path: Path, end: str, content: bytes | None, reason: str) -> None:
    for step in (1, 2):
        write(tmp_path, step)
    damaged = tmp_path / f"step-000000002.{end}"
    damaged.unlink()
    if content is not None:
        damaged.write_bytes(content)
    found = checkpoints.newest(tmp_path)
    assert found.step == 1 and reason in found.rejected[0]


def test_a_record_of_another_step_does_not_count(tmp_path: Path) -> None:
    write(tmp_path, 1)
    for end in ("json", "safetensors"):
        (tmp_path / f"step-000000001.{end}").rename(tmp_path / f"step-000000004.{end}")
    found = checkpoints.newest(tmp_path)
    assert found.step == 0 and "says format 1 and step 1" in found.rejected[0]


def test_a_cut_file_is_seen(tmp_path: Path) -> None:
    write(tmp_path, 1)
    path = tmp_path / "step-000000001.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert checkpoints.newest(tmp_path).step == 0


def test_meta_must_be_json(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="must be JSON"):
        checkpoints.write(tmp_path, 1, {}, {"path": tmp_path})


def test_other_settings_are_named(tmp_path: Path) -> None:
    there = {"space": "a", "config": {"lr": 0.1, "betas": [0.9, 0.99]}}
    checkpoints.require_same(tmp_path, there, {"space": "a", "config": {"lr": 0.1, "betas": (0.9, 0.99)}})
    with pytest.raises(CheckpointError) as caught:
        checkpoints.require_same(tmp_path, there, {"space": "b", "config": {"lr": 0.2, "betas": (0.9, 0.99)}})
    message = str(caught.value)
    assert "config.lr is 0.1 there and 0.2 here" in message and 'space is "a" there and "b" here' in message
    assert "another directory" in message and "betas" not in message and "\n" not in message


def test_the_record_is_plain_json(tmp_path: Path) -> None:
    record = json.loads(write(tmp_path, 1).read_text())
    assert record["step"] == 1 and record["meta"]["settings"] == {"lr": 0.1} and len(record["sha256"]) == 64


# Right hashes over content that this package does not write


def forge(directory: Path, number: int, content: bytes | None = None, **changes) -> None:
    """A checkpoint whose record has a valid hash whatever it says, its tensors file holding `content`."""
    record_path = write(directory, number)
    tensors_path = record_path.with_suffix(".safetensors")
    if content is not None:
        tensors_path.write_bytes(content)
    record = json.loads(record_path.read_text()) | {"tensors": hashlib.sha256(tensors_path.read_bytes()).hexdigest()}
    record = {name: value for name, value in (record | changes).items() if value is not None and name != "sha256"}
    record_path.write_text(checkpoints._seal(record))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tensors": None}, "step-000000002.json has no 'tensors'"),
        ({"tensors": 5}, "step-000000002.json has 5 as 'tensors', which must be text"),
        ({"meta": None}, "step-000000002.json has no 'meta'"),
        ({"meta": []}, "step-000000002.json has [] as 'meta', which must be an object"),
        ({"step": "2"}, "step-000000002.json has '2' as 'step', which must be an integer"),
        ({"format": None}, "step-000000002.json has no 'format'"),
        ({"meta": {"a": functools.reduce(lambda inner, _: [inner], range(200), [])}}, "deeper than 100 levels"),
        ({"content": b""}, "step-000000002.safetensors is no safetensors file"),
        ({"content": b"\xff" * 100}, "step-000000002.safetensors is no safetensors file"),
        ({"content": (20).to_bytes(8, "little") + b'{"a": {"dtype": "F3"}'}, "is no safetensors file"),
    ],
)
def test_valid_hashes_over_other_content_give_the_one_before(tmp_path: Path, changes: dict, reason: str) -> None:
    write(tmp_path, 1)
    forge(tmp_path, 2, **changes)
    found = checkpoints.newest(tmp_path)
    assert found.step == 1 and reason in found.rejected[0] and "\n" not in found.rejected[0]
    assert torch.equal(found.tensors["a"], tensors(1.0)["a"])


def test_a_record_of_a_terabyte_or_a_pipe_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, 1)
    with write(tmp_path, 2).open("r+b") as file:
        file.truncate(2**40)
    write(tmp_path / "other", 2)
    found = checkpoints.newest(tmp_path)
    assert found.step == 1 and "is larger than" in found.rejected[0]
    (tmp_path / "step-000000002.json").unlink()
    os.mkfifo(tmp_path / "step-000000002.json")
    assert "no regular file" in checkpoints.newest(tmp_path).rejected[0]


def test_what_would_not_be_read_is_not_written(tmp_path: Path) -> None:
    deep = functools.reduce(lambda inner, _: [inner], range(200), [])
    with pytest.raises(CheckpointError, match="that is read again: its record is nested deeper than 100 levels"):
        checkpoints.write(tmp_path, 1, {}, {"deep": deep})


def test_checking_names_each_file(tmp_path: Path) -> None:
    for step in (1, 2):
        write(tmp_path, step)
    whole = dict.fromkeys(names(tmp_path))
    assert checkpoints.check(tmp_path) == whole
    (tmp_path / "step-000000001.json").unlink()
    flip = bytearray((tmp_path / "step-000000002.safetensors").read_bytes())
    flip[-1] ^= 1
    (tmp_path / "step-000000002.safetensors").write_bytes(flip)
    assert checkpoints.check(tmp_path) == whole | {
        "step-000000001.json": "is not there; it is written last",
        "step-000000002.safetensors": "does not match its SHA-256",
    }


def test_what_a_training_did_not_write_is_one_line(tmp_path: Path) -> None:
    write(tmp_path, 3)
    found = checkpoints.newest(tmp_path)
    with pytest.raises(CheckpointError) as caught, checkpoints.restoring(tmp_path, found):
        found.meta["curves"]
    assert str(caught.value) == (
        f"checkpoint of step 3 in {tmp_path} holds something else than this training writes (KeyError: 'curves'): "
        "delete its two files to go on from the one before"
    )
