"""What has been evaluated at which budget: in memory, and in a file of JSON lines from which a stopped run goes on."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.errors import NasError
from nas.records import Evaluation
from search_spaces import Architecture
from search_spaces.reading import MalformedError, json_object

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Trial:
    """A configuration evaluated at a budget."""

    config: Architecture
    budget: int
    run: int
    """The largest budget of the run that paid for it."""
    metrics: dict[str, float]
    error: str | None = None
    """Why it failed; None where it did not."""
    seconds: float = 0.0
    worker: str = ""
    forecast: tuple[float, float] | None = None
    """What the objective was expected to be, and the standard deviation of that; None where nothing was forecast."""


def of_evaluation(
    evaluation: Evaluation, config: Architecture, budget: int, run: int, forecast: tuple[float, float] | None = None
) -> Trial:
    """The trial that an executor's answer makes."""
    told = evaluation.metrics, evaluation.error, evaluation.seconds, evaluation.worker
    return Trial(config, budget, run, *told, forecast)


class Ledger:
    """Trials in the order they were paid for, and the largest budgets of the runs so far.

    Each line goes to the disk at once, so a kill loses what was being evaluated and no more.

    Args:
        path: of the file; None keeps all in memory.
        identity: what else must be equal for a file to go on: JSON values.

    Raises:
        NasError: the file is of another search, or damaged.
    """

    def __init__(self, path: Path | str | None = None, identity: Mapping[str, Any] | None = None) -> None:
        self.path = None if path is None else Path(path)
        self.trials: list[Trial] = []
        self.runs: list[int] = []
        self._known: dict[tuple[str, int], Trial] = {}
        header = {"format": _FORMAT, **json.loads(json.dumps(dict(identity or {})))}
        if self.path is not None:
            self._load(self.path, header)

    def begin(self, largest: int) -> None:
        """Notes that a run with this largest budget began."""
        self.runs.append(largest)
        self._write({"run": largest})

    def add(self, trial: Trial) -> None:
        self._remember(trial)
        self._write(_row(trial))

    def get(self, config: Architecture, budget: int) -> Trial | None:
        """What is known of a configuration at a budget."""
        return self._known.get((config.digest, budget))

    def _remember(self, trial: Trial) -> None:
        self.trials.append(trial)
        self._known[trial.config.digest, trial.budget] = trial

    def _load(self, path: Path, header: dict[str, Any]) -> None:
        there, rows = _read(path, cut=True)
        if there is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write(header)
            return
        _check_same(path, there, header)
        for row in rows:
            if isinstance(row, Trial):
                self._remember(row)
            else:
                self.runs.append(row)

    def _write(self, row: Mapping[str, Any]) -> None:
        """Appends a line, to the disk."""
        if self.path is None:
            return
        with self.path.open("ab") as file:
            file.write(json.dumps(row, allow_nan=False, separators=(",", ":")).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def cost(trials: Iterable[Trial]) -> int:
    """The budgets of all, as when each training begins anew."""
    return sum(trial.budget for trial in trials)


def cost_going_on(trials: Iterable[Trial], run: int | None = None) -> int:
    """What is paid when a training goes on from the longest one of the same configuration that is shorter.

    Args:
        trials: in the order they were paid for.
        run: only what the run with this largest budget paid, over what was there.
    """
    paid, trained = 0, dict[str, list[int]]()
    for trial in trials:
        lengths = trained.setdefault(trial.config.digest, [0])
        if run is None or trial.run == run:
            paid += trial.budget - max(length for length in lengths if length <= trial.budget)
        lengths.append(trial.budget)
    return paid


def read(path: Path) -> tuple[dict[str, Any], list[Trial]]:
    """The settings and the trials in a file, which stays as it is; a line that is just being written is left out.

    Raises:
        NasError: the file is damaged, or has not begun.
    """
    header, rows = _read(path)
    if header is None:
        raise NasError(f"{path} is empty: its search has only begun; look again when a training has ended")
    return header, [row for row in rows if isinstance(row, Trial)]


def _row(trial: Trial) -> dict[str, Any]:
    told = {"error": trial.error} if trial.error is not None else {"metrics": trial.metrics}
    where = {"seconds": round(trial.seconds, 6), "worker": trial.worker}
    forecast = {} if trial.forecast is None else {"forecast": list(trial.forecast)}
    return {"config": trial.config.to_dict(), "budget": trial.budget, "run": trial.run, **told, **where, **forecast}


def _told(row: Mapping[str, Any]) -> Trial | int:
    """The trial in a line, or the largest budget of a run that began there."""
    if "run" in row and "config" not in row:
        return int(row["run"])
    config = Architecture.from_json(json.dumps(row["config"]))
    told = dict(row.get("metrics", {})), row.get("error"), float(row["seconds"]), str(row["worker"])
    mean, spread = row.get("forecast", (math.nan, math.nan))
    forecast = (float(mean), float(spread)) if "forecast" in row else None
    return Trial(config, int(row["budget"]), int(row["run"]), *told, forecast)


def _read(path: Path, *, cut: bool = False) -> tuple[dict[str, Any] | None, list[Trial | int]]:
    """The first line of a file, if it has one, and what the others tell; `cut` removes a last one cut off by a kill."""
    held = path.read_bytes() if path.exists() else b""
    end = held.rfind(b"\n") + 1
    if cut and end < len(held):
        os.truncate(path, end)
    header: dict[str, Any] | None = None
    rows: list[Trial | int] = []
    for number, line in enumerate(filter(None, held[:end].split(b"\n")), start=1):
        try:
            if header is None:
                header = json_object(line)
            else:
                rows.append(_told(json_object(line)))
        except (MalformedError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise NasError(f"{path}, line {number} is damaged ({error}): remove it, or begin a new file") from error
    return header, rows


def _check_same(path: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    differing = [
        f"{name} is {there.get(name)!r} there and {here.get(name)!r} here"
        for name in dict.fromkeys([*there, *here])
        if there.get(name) != here.get(name)
    ]
    if differing:
        remedy = "go on with the settings it was begun with, or choose another file"
        raise NasError(f"{path} is of another search: {'; '.join(differing)}: {remedy}")
