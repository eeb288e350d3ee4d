"""Finds exports below the folder of runs and packs them for download, under opaque ids.

A request contains an id, which is looked up among the found exports, and never a path.
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
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from nas.objectives.units import metric
from search_spaces import Architecture
from search_spaces.reading import file_bytes, json_object

RECORD, WEIGHTS = "architecture.json", "weights.safetensors"
RUNS_VARIABLE = "NAS_RUNS"
_DEEPEST = 5  # depth below the folder of runs
_MOST_BYTES = 2**31
_LARGEST_HEADER = 2**26


@dataclass(frozen=True)
class Export:
    """One folder that `nas export` or `nas finetune` wrote."""

    id: str
    name: str
    digest: str
    """Digest of the architecture."""
    study: str
    finetuned: bool
    folder: Path


def runs_folder() -> Path:
    """Return the folder of runs and their exports: NAS_RUNS, or `runs` in the server's working directory."""
    return Path(os.environ.get(RUNS_VARIABLE) or "runs")


def found(runs: Path) -> list[Export]:
    """Return all exports below the folder, without links that lead out of it."""
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
    """Return the files of the export with this id as a zip.

    Raises:
        KeyError: no export below the folder has this id.
        ValueError: it is too large to pack in memory.
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


def costs(export: Export) -> pd.DataFrame:
    """Return columns part, params and macs of the parts of a network, in order: `body.0`, `body.1`, `head`.

    A part's name is a module's path up to its first number that is not the first word. MACs of one example were counted
    at export; older exports have NaN, and parameters from the header of their weights. Empty without either.
    """
    found: dict[str, list[float]] = {}
    for path, params, macs in _counted(export) or _weighed(export):
        kept = found.setdefault(_part(path), [0.0, 0.0])
        kept[0] += params
        kept[1] += macs
    order = sorted(found, key=lambda part: [(len(word), word) for word in part.split(".")])
    rows = [(part or "(itself)", *found[part]) for part in order]
    return pd.DataFrame(rows, columns=["part", "params", "macs"]).astype({"params": float, "macs": float})


def side_by_side(found: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return a table of text with one or two networks' costs per part, with shares, and the change between two."""
    order = list(dict.fromkeys(part for table in found.values() for part in table["part"]))
    tables = {digest: table.set_index("part").reindex(order) for digest, table in found.items()}
    columns = {"part": pd.Series(order, index=order)}
    for name in ("params", "macs"):
        told = {digest: table[name] for digest, table in tables.items() if found[digest][name].notna().all()}
        for digest, values in told.items():
            columns[f"{metric(name).axis} of {digest}"] = values.map(partial(_share, name, values.sum() or 1.0))
        if len(told) > 1:
            first, second = (values.fillna(0) for values in told.values())
            columns[f"change of {metric(name).axis}"] = (second - first).map(partial(_signed, name))
    return pd.DataFrame(columns)


def _share(name: str, whole: float, value: float) -> str:
    return "–" if math.isnan(value) else f"{metric(name).text(value)} ({value / whole:.0%})"


def _signed(name: str, value: float) -> str:
    return f"{'−' if value < 0 else '+' if value > 0 else ''}{metric(name).text(abs(value))}"


def _counted(export: Export) -> list[tuple[str, float, float]]:
    """Return path, parameters and MACs of each module from the export's record; empty if it has none."""
    try:
        told = json_object(file_bytes(export.folder / RECORD)).get("metadata", {}).get("parts", {})
        return [(path, float(one["params"]), float(one["macs"])) for path, one in told.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _weighed(export: Export) -> list[tuple[str, float, float]]:
    """Return the same from the header of the weights, with NaN for MACs."""
    shapes = _shapes(export.folder / WEIGHTS)
    return [(name.rpartition(".")[0] or name, float(math.prod(shape)), math.nan) for name, shape in shapes.items()]


def _part(path: str) -> str:
    words = path.split(".")
    numbered = next((place for place, word in enumerate(words) if place and word.isdigit()), 0)
    return ".".join(words[: numbered + 1])


def _shapes(file: Path) -> dict[str, list[int]]:
    """Return shapes by name from a safetensors file: eight bytes of length, then JSON."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > _LARGEST_HEADER:
                return {}
            header: Mapping[str, Any] = json_object(stream.read(length), most_bytes=_LARGEST_HEADER)
    except (OSError, ValueError, struct.error):
        return {}
    return {name: list(told["shape"]) for name, told in header.items() if name != "__metadata__"}
