"""Measurements from a file: published tables, or results of another tool."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from nas.targets.settings import settings_of
from nas.targets.target import Inputs, LatencyResult, TargetError
from search_spaces import Architecture, SpaceError
from search_spaces.reading import MalformedError, json_object, json_value

if TYPE_CHECKING:
    from torch import Tensor, nn

    from search_spaces import Space

_UNITS = {"s": 1e3, "ms": 1.0, "us": 1e-3}
_ARCHITECTURE = "architecture"

Key = frozenset[tuple[str, str]]
"""An architecture as the paths and option texts of its active choices."""


@dataclass(frozen=True)
class _Row:
    key: Key
    millisecond: float
    arch: Architecture | None
    """The architecture, if the row contains it as JSON."""


@dataclass(frozen=True, kw_only=True)
class TableTarget:
    """A device represented by a table: CSV with a header, or JSON lines, one architecture per row.

    An architecture is either JSON (``arch.json()``) in a column `architecture`, or has one column per choice: `width`,
    and `kernel.0`, `kernel.1` for a choice with several positions, empty for an inactive choice. Another column holds
    the latency. Further columns are ignored if `choices` names the columns of choices.
    """

    name: str = "table"
    path: str
    column: str = "median_ms"
    """The column with the latency."""
    unit: str = "ms"
    """Unit of that column: s, ms or us."""
    choices: str = ""
    """The columns of choices, separated by commas; by default all except `column`."""

    kind = "table"

    def __post_init__(self) -> None:
        if self.unit not in _UNITS:
            raise TargetError(f"unit={self.unit!r} is unknown: choose one of {', '.join(_UNITS)}")

    @property
    def settings(self) -> dict[str, Any]:
        """The settings, with an absolute path so that they work in any folder."""
        return {**settings_of(self), "path": str(Path(self.path).resolve())}

    def describe(self) -> dict[str, Any]:
        """Return a digest of the table's content: a table with other content is another device.

        Raises:
            TargetError: the file does not exist or is not such a table.
        """
        content = sorted([sorted(map(list, row.key)), row.millisecond] for row in self._rows)
        digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
        return {"table": Path(self.path).name, "content": digest, "rows": len(self._rows), "column": self.column}

    def known(self, space: Space) -> Sequence[Architecture] | None:
        """Return the architectures of a space in the table, in its order."""
        found = (_architecture(space, row) for row in self._rows)
        return list(dict.fromkeys(arch for arch in found if arch is not None))

    def measure(
        self, modules: Sequence[nn.Module], example: Tensor | Inputs, archs: Sequence[Architecture] = ()
    ) -> list[LatencyResult]:
        """Look up architectures in the table, ignoring the networks; several rows of one architecture give the median.

        Raises:
            TargetError: an architecture is not in the table, or the file is not such a table.
        """
        if len(archs) != len(modules):
            raise TargetError(
                f"target {self.name!r} looks networks up in {self.path}: name their architectures (archs=...)"
            )
        return [self._told(arch) for arch in archs]

    def _told(self, arch: Architecture) -> LatencyResult:
        values = self._by_key.get(_key(arch))
        if values is None:
            raise TargetError(self._unknown(arch))
        times = f"{len(values)} rows of this architecture, from {min(values):.4g} to {max(values):.4g} ms"
        notes = (times,) if min(values) < max(values) else ()
        return LatencyResult(median(values), 0.0, len(values), {"table": Path(self.path).name}, notes=notes)

    def _unknown(self, arch: Architecture) -> str:
        paths = {path for path, _ in _key(arch)}
        columns = {path for row in self._rows for path, _ in row.key}
        why = f"{self.path} has {len(self._rows)} rows, but none for {arch.digest[:8]} ({arch.json()})"
        if missing := sorted(paths - columns):
            return f"{why}: no column is called {missing[0]!r}, its columns are {', '.join(sorted(columns))}"
        return f"{why}: add a row for it, or search a space that the table covers"

    @cached_property
    def _by_key(self) -> dict[Key, list[float]]:
        found: dict[Key, list[float]] = {}
        for row in self._rows:
            found.setdefault(row.key, []).append(row.millisecond)
        return found

    @cached_property
    def _rows(self) -> list[_Row]:
        path = Path(self.path)
        rows = [self._row(f"{path}, row {number}", row) for number, row in enumerate(_read(path), start=1)]
        if not rows:
            raise TargetError(f"{path} has no rows: give a CSV file with a header, or JSON lines")
        return rows

    def _row(self, place: str, row: Mapping[str, Any]) -> _Row:
        if None in row:
            raise TargetError(f"{place} has more cells than the header has names: put texts with commas in quotes")
        if self.column not in row:
            there = ", ".join(map(str, row))
            raise TargetError(f"{place} has no column {self.column!r}: choose column=... of {there}")
        millisecond = _milliseconds(place, self.column, row[self.column]) * _UNITS[self.unit]
        arch = _given(place, row.get(_ARCHITECTURE))
        return _Row(_key(arch) if arch else self._row_key(place, row), millisecond, arch)

    def _row_key(self, place: str, row: Mapping[str, Any]) -> Key:
        names = [name.strip() for name in self.choices.split(",")] if self.choices else [*row]
        cells = {name: row.get(name) for name in names if name not in (self.column, _ARCHITECTURE)}
        key = frozenset((name, _text(value)) for name, value in cells.items() if value not in (None, ""))
        if not key:
            raise TargetError(f"{place} names no choices: give a column {_ARCHITECTURE!r} or one for each choice")
        return key


def _given(place: str, value: Any) -> Architecture | None:
    """Return the architecture of a cell; None if it is empty."""
    if not value:
        return None
    try:
        return Architecture.from_json(value if isinstance(value, str) else json.dumps(value))
    except SpaceError as error:
        raise TargetError(f"{place}: {error}") from error


def _read(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            if path.suffix == ".csv":
                yield from csv.DictReader(file)
                return
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _json_row(f"{path}, line {number}", line)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else f"is not a text file with a table ({error})"
        raise TargetError(f"{path}: {reason}: give a CSV file, or JSON lines, as path=...") from error


def _json_row(place: str, line: str) -> dict[str, Any]:
    try:
        return json_object(line)
    except MalformedError as error:
        raise TargetError(f"{place} {error}: write one object per line, or use a file name that ends in .csv") from None


def _milliseconds(place: str, column: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number < math.inf:
        raise TargetError(f"{place}: {column} is {value!r}, not a latency: give a number above 0, or drop the row")
    return number


def _key(arch: Architecture) -> Key:
    return frozenset((path, _text(value)) for path, value in arch.leaves() if path != "is" and value != ())


def _text(value: Any) -> str:
    """Return an option as text, numbers in one spelling: tables write 3 as 3.0 if a column has empty cells."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    try:
        number = float(value)
    except ValueError:
        return str(value)
    return str(int(number)) if number.is_integer() else repr(number)


def _architecture(space: Space, row: _Row) -> Architecture | None:
    """Return the architecture of a space in a row; None if the space has none with these choices."""
    if row.arch is not None:
        return row.arch if row.arch in space else None
    values = _nested(row.key)
    several = {slot.path.rpartition(".")[0] for slot in space.slots if slot.path.rpartition(".")[2].isdigit()}
    empty: dict[str, Any] = {name: [] for name in several if name not in values}
    for added in ({}, empty):  # a choice may have no positions, or be absent
        try:
            return space.architecture(_lists(values | added))
        except SpaceError:
            continue
    return None


def _nested(key: Key) -> dict[str, Any]:
    """Return options nested by the names on their paths: {"width": 8, "kernel": {"0": 3, "1": 5}}."""
    values: dict[str, Any] = {}
    for path, text in sorted(key, key=lambda item: [(len(part), part) for part in item[0].split(".")]):
        *parents, name = path.split(".")
        within = values
        for parent in parents:
            below = within.setdefault(parent, {})
            within = below if isinstance(below, dict) else {}  # both an option and a nested space: no space has that
        within[name] = _option(text)
    return values


def _lists(value: Any) -> Any:
    """Convert mappings with keys 0, 1, ... to lists, recursively."""
    if not isinstance(value, dict):
        return value
    made = {name: _lists(item) for name, item in value.items()}
    return list(made.values()) if list(made) == [str(i) for i in range(len(made))] else made


def _option(text: str) -> Any:
    try:
        return json_value(text)
    except MalformedError:
        return text
