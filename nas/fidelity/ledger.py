"""Records evaluations at budgets, in memory and in a file of JSON lines from which a stopped run resumes."""

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
    """The largest budget of the run that evaluated it."""
    metrics: dict[str, float]
    error: str | None = None
    """Why it failed; None if it did not."""
    seconds: float = 0.0
    worker: str = ""
    forecast: tuple[float, float] | None = None
    """Mean and standard deviation of the forecast objective; None without a forecast."""


def of_evaluation(
    evaluation: Evaluation, config: Architecture, budget: int, run: int, forecast: tuple[float, float] | None = None
) -> Trial:
    """Return an executor's evaluation as a trial."""
    told = evaluation.metrics, evaluation.error, evaluation.seconds, evaluation.worker
    return Trial(config, budget, run, *told, forecast)


class Ledger:
    """Trials in the order of evaluation, and the largest budgets of the runs so far.

    Each line is written to the disk at once, so a kill loses only running evaluations.

    Args:
        path: the file; None keeps everything in memory.
        identity: JSON values that must be equal to those in an existing file.

    Raises:
        NasError: the file belongs to another search or is damaged.
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
        """Record the start of a run with this largest budget."""
        self.runs.append(largest)
        self._write({"run": largest})

    def add(self, trial: Trial) -> None:
        self._remember(trial)
        self._write(_row(trial))

    def get(self, config: Architecture, budget: int) -> Trial | None:
        """Return the trial of a configuration at a budget; None if there is none."""
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
        """Append a line and flush it to the disk."""
        if self.path is None:
            return
        with self.path.open("ab") as file:
            file.write(json.dumps(row, allow_nan=False, separators=(",", ":")).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def cost(trials: Iterable[Trial]) -> int:
    """Return the sum of the budgets: the cost if every training starts from the beginning."""
    return sum(trial.budget for trial in trials)


def cost_going_on(trials: Iterable[Trial], run: int | None = None) -> int:
    """Return the cost if each training continues from the longest shorter one of the same configuration.

    Args:
        trials: in the order of evaluation.
        run: count only the added cost of the run with this largest budget; None for all runs.
    """
    paid, trained = 0, dict[str, list[int]]()
    for trial in trials:
        lengths = trained.setdefault(trial.config.digest, [0])
        if run is None or trial.run == run:
            paid += trial.budget - max(length for length in lengths if length <= trial.budget)
        lengths.append(trial.budget)
    return paid


def read(path: Path) -> tuple[dict[str, Any], list[Trial]]:
    """Return the settings and the trials of a file, without changing it; an incomplete last line is ignored.

    Raises:
        NasError: the file is damaged or empty.
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
    """Return the trial of a line, or the largest budget of the run that starts there."""
    if "run" in row and "config" not in row:
        return int(row["run"])
    config = Architecture.from_json(json.dumps(row["config"]))
    told = dict(row.get("metrics", {})), row.get("error"), float(row["seconds"]), str(row["worker"])
    mean, spread = row.get("forecast", (math.nan, math.nan))
    forecast = (float(mean), float(spread)) if "forecast" in row else None
    return Trial(config, int(row["budget"]), int(row["run"]), *told, forecast)


def _read(path: Path, *, cut: bool = False) -> tuple[dict[str, Any] | None, list[Trial | int]]:
    """Return the first line of a file, if any, and the others' content; `cut` removes an incomplete last line."""
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
