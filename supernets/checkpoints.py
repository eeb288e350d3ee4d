"""Checkpoints as hashed safetensors and JSON: either intact or rejected, and a crash preserves earlier ones.

A checkpoint is two files. `write` writes the tensors first, to a temporary file that it flushes to the disk and then
renames; the JSON record follows in the same way, with the SHA-256 of the tensors file and of itself. A checkpoint
without a valid record, or with tensors that do not match it, is rejected: `newest` reports the reason and uses the one
before, also if hashes match but the content has another format. Nothing here is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from search_spaces.reading import MalformedError, file_bytes, json_object
from supernets.disk import writing
from supernets.errors import SupernetError

FORMAT = 1
_TEMPORARY = ".part"
_MOST_BYTES = 64 * 2**20  # of a record: its curves grow with the length of a training
_NAME = re.compile(r"step-([0-9]{9,12})\.(?:json|safetensors)")


class CheckpointError(SupernetError):
    """A checkpoint belongs to another training, or cannot be written."""


class Checkpoint(NamedTuple):
    """The result of `newest`; step 0 and empty if there is no valid checkpoint."""

    step: int
    tensors: dict[str, Tensor]
    meta: dict[str, Any]
    rejected: list[str]
    """One line for each newer, damaged checkpoint: its name and the damage."""


class _Damaged(Exception):
    """A checkpoint is invalid: the name of a file, and the reason."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file} {reason}")
        self.file, self.reason = file, reason


def write(
    directory: Path | str, step: int, tensors: Mapping[str, Tensor], meta: Mapping[str, Any], *, keep: int = 2
) -> Path:
    """Write the checkpoint of `step` and remove all but the last `keep`; return the path of its record.

    Tensors may be on any device and share memory; they load as separate tensors on the CPU.

    Raises:
        CheckpointError: `meta` is not JSON.
        OSError: the disk write failed.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    record_path, tensors_path = _paths(directory, step)
    part = tensors_path.with_name(tensors_path.name + _TEMPORARY)
    # copies, because safetensors refuses tensors that share memory, such as views of a shared store
    with writing(part):
        save_file({name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}, part)
    record = {"format": FORMAT, "step": step, "tensors": _sha256(part), "meta": dict(meta)}
    text = _readable(record)
    _install(part, tensors_path)
    part = record_path.with_name(record_path.name + _TEMPORARY)
    with writing(part):
        part.write_text(text, encoding="utf-8")
    _install(part, record_path)
    _tidy(directory, step, keep)
    return record_path


def newest(directory: Path | str) -> Checkpoint:
    """Return the newest valid checkpoint of a directory, with the reasons for rejecting newer ones.

    Without a valid checkpoint, return step 0 with no tensors and no meta, the start of training.
    """
    directory = Path(directory)
    rejected = []
    for step in reversed(_steps(directory)):
        try:
            tensors, meta = _read(directory, step)
        except _Damaged as damage:
            rejected.append(f"checkpoint of step {step} in {directory} is not used: {damage}")
        else:
            return Checkpoint(step, tensors, meta, rejected)
    return Checkpoint(0, {}, {}, rejected)


def at(directory: Path | str, step: int) -> Checkpoint:
    """Return the checkpoint of one step.

    Raises:
        CheckpointError: it is absent or damaged.
    """
    try:
        return Checkpoint(step, *_read(Path(directory), step), [])
    except _Damaged as damage:
        raise CheckpointError(f"checkpoint of step {step} in {directory} cannot be used: {damage}") from None


@contextmanager
def restoring(directory: Path | str, found: Checkpoint) -> Iterator[None]:
    """Turn errors from missing or malformed content, while a training restores a checkpoint, into one clear line.

    Raises:
        CheckpointError: the hashes match, but the content is not what this training writes.
    """
    try:
        yield
    except SupernetError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise CheckpointError(
            f"checkpoint of step {found.step} in {directory} holds something else than this training writes "
            f"({reason}): delete its two files to go on from the one before"
        ) from error


def check(directory: Path | str) -> dict[str, str | None]:
    """Return every file of a directory's checkpoints by name, with its damage; None if intact."""
    directory, found = Path(directory), dict[str, str | None]()
    for step in _steps(directory):
        record, tensors = (path.name for path in _paths(directory, step))
        found |= {record: None, tensors: None}
        try:
            _verified(directory, step)
        except _Damaged as damage:
            found[damage.file] = damage.reason
    return found


def require_same(directory: Path | str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise unless both settings (nested JSON objects) are equal.

    Raises:
        CheckpointError: settings differ; the message names them.
    """
    differences = [
        f"{path} is {there} there and {here} here" for path, there, here in _differences(found, _plain(wanted))
    ]
    if differences:
        raise CheckpointError(
            f"{directory} holds checkpoints of another training: {'; '.join(differences)}: "
            "go on with the settings it was begun with, choose another directory, or delete this one"
        )


def _paths(directory: Path, step: int) -> tuple[Path, Path]:
    return directory / f"step-{step:09d}.json", directory / f"step-{step:09d}.safetensors"


def _steps(directory: Path) -> list[int]:
    """Return the steps with any file, valid or not, in ascending order."""
    matches = (_NAME.fullmatch(path.name) for path in directory.glob("step-*"))
    return sorted({int(match[1]) for match in matches if match})


def _read(directory: Path, step: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    record = _verified(directory, step)
    with _opened(_paths(directory, step)[1]) as file:
        names = file.keys()
        return {name: file.get_tensor(name) for name in names}, record["meta"]


def _verified(directory: Path, step: int) -> dict[str, Any]:
    """Return the record of a checkpoint after a check that both files are intact."""
    record_path, tensors_path = _paths(directory, step)
    if not record_path.exists():
        raise _Damaged(record_path.name, "is not there; it is written last")
    try:
        record = _unseal(file_bytes(record_path, _MOST_BYTES))
    except MalformedError as error:
        raise _Damaged(record_path.name, str(error)) from None
    if record["format"] != FORMAT or record["step"] != step:
        raise _Damaged(record_path.name, f"says format {record['format']} and step {record['step']}")
    try:
        if _sha256(tensors_path) != record["tensors"]:
            raise _Damaged(tensors_path.name, "does not match its SHA-256")
    except OSError as error:
        raise _Damaged(tensors_path.name, f"cannot be read ({error.strerror})") from None
    with _opened(tensors_path):
        return record


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise _Damaged(path.name, f"is no safetensors file ({error})") from None


def _seal(record: dict[str, Any]) -> str:
    """Return the record as canonical JSON, with the hash of its content."""
    content = _canonical(record)
    return _canonical({**record, "sha256": hashlib.sha256(content.encode()).hexdigest()})


def _readable(record: dict[str, Any]) -> str:
    """Return the sealed record, after a check that `newest` can read it."""
    try:
        text = _seal(record)
        _unseal(text.encode())
    except MalformedError as error:
        raise CheckpointError(f"a checkpoint's meta must be JSON that is read again: its record {error}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"a checkpoint's meta must be JSON: {error}") from None
    return text


def _unseal(data: bytes) -> dict[str, Any]:
    """Return the record that `_seal` wrote.

    Raises:
        MalformedError: the data is not what `_seal` writes.
    """
    record = json_object(data, most_bytes=_MOST_BYTES, format=int, step=int, tensors=str, meta=dict, sha256=str)
    # sealing the record again must reproduce the file byte for byte, so every flipped bit is detected
    if _seal({key: value for key, value in record.items() if key != "sha256"}).encode() != data:
        raise MalformedError("does not match its SHA-256")
    return record


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _plain(value: Any) -> Any:
    """Return a value after a round trip through JSON: tuples become lists."""
    return json.loads(_canonical(value))


def _differences(there: Any, here: Any, path: str = "") -> Iterator[tuple[str, str, str]]:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted(there.keys() | here.keys()):
            yield from _differences(there.get(key), here.get(key), f"{path}.{key}" if path else key)
    elif there != here:
        yield path, json.dumps(there), json.dumps(here)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _install(part: Path, path: Path) -> None:
    """Flush a temporary file to the disk, rename it, then flush the directory."""
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(part, path)
    if os.name == "posix":  # elsewhere a directory cannot be opened
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _tidy(directory: Path, step: int, keep: int) -> None:
    """Keep only the last `keep` checkpoints up to `step`. Newer ones were rejected, since training resumed before."""
    steps = _steps(directory)
    for old in {*steps} - {*[older for older in steps if older <= step][-keep:]}:
        for path in _paths(directory, old):  # the record first: tensors without a record are invalid
            path.unlink(missing_ok=True)
    for path in directory.glob(f"step-*{_TEMPORARY}"):
        path.unlink(missing_ok=True)
