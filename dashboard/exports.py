"""Exports that exist: found below the folder of runs, named by ids that say nothing, and packed for download.

What a reader asks for is an id that is looked up among what was found, never a path.
"""

import hashlib
import io
import json
import math
import os
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search_spaces import Architecture
from search_spaces.reading import file_bytes, json_object

RECORD, WEIGHTS = "architecture.json", "weights.safetensors"
RUNS_VARIABLE = "NAS_RUNS"
_DEEPEST = 5  # folders below that of the runs
_MOST_BYTES = 2**31
_LARGEST_HEADER = 2**26


@dataclass(frozen=True)
class Export:
    """One folder that `nas export` or `nas finetune` wrote."""

    id: str
    name: str
    digest: str
    """Of the architecture."""
    study: str
    finetuned: bool
    folder: Path


def runs_folder() -> Path:
    """Where runs and their exports lie, as for the commands: NAS_RUNS, or `runs` where the server was started."""
    return Path(os.environ.get(RUNS_VARIABLE) or "runs")


def found(runs: Path) -> list[Export]:
    """All exports below the folder; what a link leads out of it is none."""
    root = runs.resolve()
    return [one for folder in _folders(root, _DEEPEST) if (one := _read(folder, root)) is not None]


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    try:
        inner = sorted(one for one in folder.iterdir() if one.is_dir() and not one.is_symlink())
    except OSError:
        return
    for one in inner:
        if (one / RECORD).is_file():
            yield one
        elif depth > 1:
            yield from _folders(one, depth - 1)


def _read(folder: Path, root: Path) -> Export | None:
    try:
        record = json_object(file_bytes(folder / RECORD))
        digest = Architecture.from_json(json.dumps(record["architecture"])).digest
        told = record.get("metadata") or {}
    except (OSError, ValueError, KeyError, TypeError):  # another file of this name
        return None
    name = folder.relative_to(root).as_posix()
    opaque = hashlib.sha256(name.encode()).hexdigest()[:16]
    return Export(opaque, name, digest, str(told.get("study", "")), bool(told.get("finetuned")), folder)


def packed(asked: str, runs: Path) -> bytes:
    """The files of the export with this id, as a zip.

    Raises:
        KeyError: there is none of this id below the folder.
        ValueError: it is too large to be packed in memory.
    """
    export = {one.id: one for one in found(runs)}[asked]
    root = export.folder.resolve()
    files = [one for one in sorted(root.rglob("*")) if one.is_file() and one.resolve().is_relative_to(root)]
    if sum(one.stat().st_size for one in files) > _MOST_BYTES:
        raise ValueError(f"export {export.name} is larger than {_MOST_BYTES / 2**30:.0f} GiB; copy its folder instead")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for one in files:
            archive.write(one, f"{root.name}/{one.relative_to(root).as_posix()}")
    return buffer.getvalue()


def parameters(export: Export) -> dict[str, int]:
    """Parameters of each part of the network: `body.0`, `body.1`, `head`; empty where no weights were exported.

    Parts are modules, to the first number in a name that is not its first word. Only the file's header is read.
    """
    counts: dict[str, int] = {}
    for name, shape in _shapes(export.folder / WEIGHTS).items():
        part = _part(name)
        counts[part] = counts.get(part, 0) + math.prod(shape)
    return dict(sorted(counts.items(), key=lambda item: [(len(word), word) for word in item[0].split(".")]))


def _part(name: str) -> str:
    words = name.split(".")[:-1] or [name]
    numbered = next((place for place, word in enumerate(words) if place and word.isdigit()), 0)
    return ".".join(words[: numbered + 1])


def _shapes(file: Path) -> dict[str, list[int]]:
    """Shapes by name from a safetensors file: eight bytes of length, then JSON."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > _LARGEST_HEADER:
                return {}
            header: Mapping[str, Any] = json_object(stream.read(length), most_bytes=_LARGEST_HEADER)
    except (OSError, ValueError, struct.error):
        return {}
    return {name: list(told["shape"]) for name, told in header.items() if name != "__metadata__"}
