"""Exports and imports a study as a folder: study.json, evaluations.parquet, and their SHA-256 in SHA256SUMS.

The table has one row per evaluation. Columns of metrics have names such as "metrics.error", with JSON's escapes for
special characters.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from nas.errors import NasError
from nas.migrations import tables
from nas.records import Distribution, Evaluation, Life, Origin, StudyRecord
from nas.storage import Repository
from nas.storage.keeping import Context
from nas.storage.lives import life_of
from nas.storage.parts import Findings, Surroundings, findings, put_findings, put_surroundings, surroundings
from search_spaces import Architecture, SpaceError
from search_spaces.reading import MalformedError, file_bytes, json_value

JSON, TABLE, SUMS = "study.json", "evaluations.parquet", "SHA256SUMS"
_MOST_BYTES = 2**30
"""Largest size of a file, and of the uncompressed table."""
_METRIC = "metrics."
_COLUMNS = ("position", "architecture", "weights", "data", "error", "seconds", "worker", "stored", "origin")
_OPTIONAL = ("error", "stored", "origin")
_LATER = ("stored", "origin")
"""Columns that tables of revisions before 0005 lack; imported evaluations then have unknown values."""
_REMEDY = "export the study again, or copy its whole folder again"


@dataclass(frozen=True)
class _Document:
    """Content of study.json: everything but the evaluations."""

    format: Literal[1]
    study: StudyRecord
    verified: dict[str, dict[str, float]]
    distributions: list[Distribution]
    distributions_key: str
    surroundings: Surroundings
    revision: str = ""
    """Revision of the source database; empty if it is older than 0005."""


def export_study(source: Repository, name: str, folder: Path) -> int:
    """Write a study and the records it refers to into a new folder, atomically; return the number of evaluations.

    Raises:
        NasError: the study does not exist, the folder is not empty, or a record is damaged.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise NasError(f"{folder} is there already; name a folder that is new or empty")
    record = source.study(name)
    found = findings(source, record)
    document = _Document(
        format=1,
        study=record,
        verified=found.verified,
        distributions=found.distributions,
        distributions_key=found.distributions_key,
        surroundings=surroundings(source, record),
        revision=tables.VERSION,
    )
    files = {JSON: json.dumps(asdict(document), indent=1).encode(), TABLE: _table(found)}
    files[SUMS] = "".join(f"{_sha256(files[name])}  {name}\n" for name in sorted(files)).encode()
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a killed export
    partial.mkdir(parents=True)
    try:
        for file, content in files.items():
            (partial / file).write_bytes(content)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return len(found)


def import_study(folder: Path, destination: Repository) -> tuple[str, int]:
    """Store the study of a folder after checking all of it; return its name and its number of evaluations.

    A repeated call stores only missing records. The import drops the path of the run file, since the folder may come
    from an untrusted source.

    Raises:
        NasError: a file was changed or is not an export's, or the database holds a different study of this name.
    """
    files = _sound_files(folder)
    document = _document(folder / JSON, files[JSON])
    try:
        evaluations, lives = _evaluations(files[TABLE])
    except MalformedError as error:
        raise NasError(f"{folder / TABLE} {error}; {_REMEDY}") from error
    study = replace(document.study, run_file=None)
    found = Findings(study, evaluations, lives, document.verified, document.distributions, document.distributions_key)
    put_surroundings(destination, document.surroundings)
    put_findings(destination, found)
    return study.name, len(found)


# -- files


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _sound_files(folder: Path) -> dict[str, bytes]:
    """Return the content of the files after checking their hashes."""
    files = {}
    for name in (SUMS, JSON, TABLE):
        try:
            files[name] = file_bytes(folder / name, _MOST_BYTES)
        except MalformedError as error:
            raise NasError(f"{folder / name} {error}; name a folder that nas storage export wrote") from None
    sums = "".join(f"{_sha256(files[name])}  {name}\n" for name in sorted((JSON, TABLE))).encode()
    if files[SUMS] != sums:
        named = re.findall(r"^(\w+)  (\S+)$", files[SUMS].decode("utf-8", "replace"), re.MULTILINE)
        differ = [name for name in (JSON, TABLE) if (_sha256(files[name]), name) not in named] or [SUMS]
        raise NasError(f"{folder / differ[0]} is not as it was written; {_REMEDY}")
    return files


def _document(path: Path, content: bytes) -> _Document:
    from pydantic import TypeAdapter, ValidationError

    try:
        _refuse_newer(path, json_value(content, most_bytes=_MOST_BYTES))
        return TypeAdapter(_Document).validate_json(content, strict=True)
    except MalformedError as error:
        reason = str(error)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        reason = f"has at {place or 'its root'} what a study has not ({first['msg']})"
    raise NasError(f"{path} {reason}; {_REMEDY}")


def _refuse_newer(path: Path, value: Any) -> None:
    revision = value.get("revision") if isinstance(value, dict) else None
    if isinstance(revision, str) and revision > tables.VERSION:
        newer = f"is of revision {revision}, newer than {tables.VERSION}, the last this package knows"
        raise NasError(f"{path} {newer}; run: pip install --upgrade nas")


# -- the table of evaluations


def _table(found: Findings) -> bytes:
    """Return the evaluations as Parquet, by position."""
    import pyarrow as pa
    from pyarrow import parquet

    placed = ((at, key, one) for key, evaluations in found.evaluations.items() for at, one in evaluations.items())
    rows = sorted(placed, key=lambda row: row[0])
    names = dict.fromkeys(name for _, _, one in rows for name in one.metrics)
    lives = {at: life_of(found.lives.get(at)) for at, _, _ in rows}
    columns: dict[str, list[Any]] = {
        "position": [at for at, _, _ in rows],
        "architecture": [one.arch.json() for _, _, one in rows],
        "weights": [weights for _, (weights, _), _ in rows],
        "data": [data for _, (_, data), _ in rows],
        "error": [one.error for _, _, one in rows],
        "seconds": [one.seconds for _, _, one in rows],
        "worker": [one.worker for _, _, one in rows],
        "stored": [lives[at]["at"] for at, _, _ in rows],
        "origin": [lives[at]["origin"] for at, _, _ in rows],
        **{_METRIC + json.dumps(name)[1:-1]: [one.metrics.get(name) for _, _, one in rows] for name in names},
    }
    table = pa.table({name: pa.array(values, _type(name)) for name, values in columns.items()})
    written = pa.BufferOutputStream()
    parquet.write_table(table, written)
    return bytes(written.getvalue())


def _type(column: str) -> Any:
    import pyarrow as pa

    if column.startswith(_METRIC) or column in ("seconds", "stored"):
        return pa.float64()
    return pa.int64() if column == "position" else pa.string()


def _evaluations(content: bytes) -> tuple[dict[Context, dict[int, Evaluation]], dict[int, Life]]:
    """Return the evaluations and lives of a table; raise MalformedError unless `_table` could have written it."""
    found: dict[Context, dict[int, Evaluation]] = {}
    lives: dict[int, Life] = {}
    positions, digests = set(), set()
    for row in _rows(content):
        position, arch = row["position"], _architecture(row["architecture"])
        place = f"at position {position}"
        if position < 0 or position in positions or arch.digest in digests:
            raise MalformedError(f"has a position or an architecture twice, or below 0, {place}")
        positions.add(position)
        digests.add(arch.digest)
        metrics = {name: value for name, value in row["metrics"].items() if value is not None}
        if not all(map(math.isfinite, [*metrics.values(), row["seconds"], row["stored"] or 0.0])):
            raise MalformedError(f"has a number that is not finite {place}")
        try:
            one = Evaluation(arch, metrics, row["error"], row["seconds"], row["worker"])
        except NasError as error:
            raise MalformedError(f"has no evaluation {place} ({error})") from None
        found.setdefault((row["weights"], row["data"]), {})[position] = one
        lives[position] = _life(row["stored"], row["origin"], place)
    return found, lives


def _life(stored: float | None, origin: str | None, place: str) -> Life:
    try:
        told = None if origin is None else json_value(origin)
    except MalformedError:
        told = ()
    if told is not None and not (isinstance(told, list) and told and all(isinstance(one, str) for one in told)):
        raise MalformedError(f"has no origin {place}: {str(origin)[:80]}")
    return Life(stored, Origin(told[0], tuple(told[1:])) if told else None)


def _rows(content: bytes) -> Iterator[dict[str, Any]]:
    """Yield the rows, each with its metrics by name; raise MalformedError for unexpected columns."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(pa.BufferReader(content))
        schema = file.schema_arrow
        columns = tuple(name for name in _COLUMNS if name in schema.names or name not in _LATER)
        if tuple(schema.names[: len(columns)]) != columns or len(set(schema.names)) < len(schema.names):
            raise MalformedError(f"has the columns {', '.join(schema.names[:9])}, not those of evaluations")
        for field in schema:
            if field.type != _type(field.name) or not (field.name in _COLUMNS or field.name.startswith(_METRIC)):
                raise MalformedError(f"has a column {field.name!r} of {field.type}")
        groups = (file.metadata.row_group(group) for group in range(file.metadata.num_row_groups))
        if sum(group.total_byte_size for group in groups) > _MOST_BYTES:
            raise MalformedError(f"is larger than the {_MOST_BYTES:,} bytes that are read")
        names = {name: json_value(f'"{name.removeprefix(_METRIC)}"') for name in schema.names[len(columns) :]}
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                missing = [name for name in columns if row[name] is None and name not in _OPTIONAL]
                if missing:
                    raise MalformedError(f"has a row without {missing[0]!r}")
                yield {name: row.get(name) for name in _COLUMNS} | {
                    "metrics": {names[name]: row[name] for name in names}
                }
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, MalformedError):
            raise
        raise MalformedError(f"is no table of Parquet ({' '.join(str(error).split())[:200]})") from error


def _architecture(text: str) -> Architecture:
    try:
        arch = Architecture.from_json(text)
    except SpaceError as error:
        raise MalformedError(f"has no architecture ({error})") from None
    if arch.json() != text:
        raise MalformedError(f"has an architecture that is not as it is written: {text[:80]}")
    return arch
