"""Measurements made elsewhere, read from a file: published tables, or what another tool measured."""

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
"""An architecture as its choices: path and text of the option, of those that are active."""


@dataclass(frozen=True)
class _Row:
    key: Key
    millisecond: float
    arch: Architecture | None
    """Where it stands as JSON."""


@dataclass(frozen=True, kw_only=True)
class TableTarget:
    """A device known by a table alone: CSV with a header, or JSON lines, one architecture a row.

    An architecture stands in a column `architecture` as its JSON (``arch.json()``), or spread over one column a choice:
    `width`, and `kernel.0`, `kernel.1` for a choice with several positions, empty where a choice is not active. One
    more column holds the latency; others are left aside where `choices` names those that are choices.
    """

    name: str = "table"
    path: str
    column: str = "median_ms"
    """Which holds the latency."""
    unit: str = "ms"
    """Of that column: s, ms or us."""
    choices: str = ""
    """The columns of choices, separated by commas; all but `column` when left out."""

    kind = "table"

    def __post_init__(self) -> None:
        if self.unit not in _UNITS:
            raise TargetError(f"unit={self.unit!r} is unknown: choose one of {', '.join(_UNITS)}")

    @property
    def settings(self) -> dict[str, Any]:
        """With the whole path, so that they serve in any folder."""
        return {**settings_of(self), "path": str(Path(self.path).resolve())}

    def describe(self) -> dict[str, Any]:
        """What the table says, as a digest: a table that says something else is another device.

        Raises:
            TargetError: the file is not there, or not such a table.
        """
        content = sorted([sorted(map(list, row.key)), row.millisecond] for row in self._rows)
        digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
        return {"table": Path(self.path).name, "content": digest, "rows": len(self._rows), "column": self.column}

    def known(self, space: Space) -> Sequence[Architecture] | None:
        """The architectures of a space that the table has, in its order."""
        found = (_architecture(space, row) for row in self._rows)
        return list(dict.fromkeys(arch for arch in found if arch is not None))

    def measure(
        self, modules: Sequence[nn.Module], example: Tensor | Inputs, archs: Sequence[Architecture] = ()
    ) -> list[LatencyResult]:
        """What the table says of architectures, whatever the networks; the median where it says several things.

        Raises:
            TargetError: it says nothing of one, or the file is not such a table.
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
        why = f"{self.path} has {len(self._rows)} architectures and not {arch.digest[:8]} ({arch.json()})"
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
    """The architecture of a cell, None of an empty one."""
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
        reason = error.strerror if isinstance(error, OSError) else f"is not text of a table ({error})"
        raise TargetError(f"{path}: {reason}: give a CSV file, or JSON lines, as path=...") from error


def _json_row(place: str, line: str) -> dict[str, Any]:
    try:
        return json_object(line)
    except MalformedError as error:
        raise TargetError(f"{place} {error}: write an object a line, or end the file's name in .csv") from None


def _milliseconds(place: str, column: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number < math.inf:
        raise TargetError(f"{place}: {column} is {value!r}, no latency: give a number above 0, or drop the row")
    return number


def _key(arch: Architecture) -> Key:
    return frozenset((path, _text(value)) for path, value in arch.leaves() if path != "is" and value != ())


def _text(value: Any) -> str:
    """An option as text, numbers in one spelling: tables write 3 as 3.0 where cells of the column are empty."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    try:
        number = float(value)
    except ValueError:
        return str(value)
    return str(int(number)) if number.is_integer() else repr(number)


def _architecture(space: Space, row: _Row) -> Architecture | None:
    """The architecture of a space in a row; None where the space has none with these choices."""
    if row.arch is not None:
        return row.arch if row.arch in space else None
    values = _nested(row.key)
    several = {slot.path.rpartition(".")[0] for slot in space.slots if slot.path.rpartition(".")[2].isdigit()}
    empty: dict[str, Any] = {name: [] for name in several if name not in values}
    for added in ({}, empty):  # a choice may have no positions, or not be there
        try:
            return space.architecture(_lists(values | added))
        except SpaceError:
            continue
    return None


def _nested(key: Key) -> dict[str, Any]:
    """Options by the names on their paths: {"width": 8, "kernel": {"0": 3, "1": 5}}."""
    values: dict[str, Any] = {}
    for path, text in sorted(key, key=lambda item: [(len(part), part) for part in item[0].split(".")]):
        *parents, name = path.split(".")
        within = values
        for parent in parents:
            below = within.setdefault(parent, {})
            within = below if isinstance(below, dict) else {}  # an option and a choice at once: no space has that
        within[name] = _option(text)
    return values


def _lists(value: Any) -> Any:
    """Where the paths were positions 0, 1, ..., a list of what they held."""
    if not isinstance(value, dict):
        return value
    made = {name: _lists(item) for name, item in value.items()}
    return list(made.values()) if list(made) == [str(i) for i in range(len(made))] else made


def _option(text: str) -> Any:
    try:
        return json_value(text)
    except MalformedError:
        return text
