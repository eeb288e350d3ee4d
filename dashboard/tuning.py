"""Reads stand-alone trainings logged by `nas tune`: curves, where each stopped, and forecasts.

The files are below the folder of runs and never written; a request contains a label, which is looked up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nas.fidelity import ledger
from nas.fidelity.ledger import Trial

COVERAGE = 0.9
"""Nominal share of outcomes in an interval."""
_REACH = 1.645  # half width of that interval of a normal distribution, in standard deviations
_METHODS = ("forecast", "hyperband")
ENDED, STOPPED, FAILED = "trained to the end", "stopped", "failed"


@dataclass(frozen=True)
class Tuning:
    """One search over trainings: its settings, and its trials in the order of evaluation."""

    method: str
    objective: str
    largest: int
    trials: Sequence[Trial]


def found(runs: Path) -> dict[str, Path]:
    """Return the searches below the folder, by run and method, without links that lead out of it."""
    root = runs.resolve()
    files = [path for name in _METHODS for path in root.glob(f"*/tune/{name}.jsonl")]
    inside = [path for path in files if path.is_file() and path.resolve().is_relative_to(root)]
    return {f"{path.parent.parent.name}  ·  {path.stem}": path for path in sorted(inside)}


def read(path: Path) -> Tuning:
    """Return a search; raise NasError if its file is damaged or empty."""
    header, trials = ledger.read(path)
    largest = header.get("largest") or max((trial.run for trial in trials), default=1)
    return Tuning(path.stem, str(header.get("objective", "")), int(largest), trials)


def curves_table(shown: Tuning) -> pd.DataFrame:
    """Return columns training (digest), budget, value (NaN if failed), last (trial of its training) and fate."""
    last = {trial.config.digest: trial for trial in shown.trials}
    rows = [
        (trial.config.digest, trial.budget, _value(trial, shown.objective), trial is last[trial.config.digest])
        for trial in shown.trials
    ]
    table = pd.DataFrame(rows, columns=["training", "budget", "value", "last"])
    fates = {digest: _fate(trial, shown.largest) for digest, trial in last.items()}
    table["fate"] = table["training"].map(fates).astype(object)
    return table.sort_values(["training", "budget"], kind="stable", ignore_index=True)


def _value(trial: Trial, objective: str) -> float:
    return float(trial.metrics.get(objective, np.nan)) if trial.error is None else np.nan


def _fate(last: Trial, largest: int) -> str:
    return FAILED if last.error is not None else ENDED if last.budget >= largest else STOPPED


def best(curves: pd.DataFrame) -> str | None:
    """Return the training with the lowest last value; None if all failed."""
    ends = curves[curves["last"] & curves["value"].notna()]
    return None if ends.empty else str(ends.sort_values("value", kind="stable")["training"].iloc[0])


def forecasts_table(shown: Tuning) -> pd.DataFrame:
    """Return columns training, budget, expected, low, high, outcome, before (the curve's previous value) and inside.

    These are trials that were forecast and did not fail, with intervals of `COVERAGE`.
    """
    values = {(one.config.digest, one.budget): _value(one, shown.objective) for one in shown.trials}
    rows = [
        (*key, mean, mean - _REACH * spread, mean + _REACH * spread, values[key], values.get((key[0], key[1] - 1)))
        for one in shown.trials
        if one.forecast is not None and one.error is None
        for key, (mean, spread) in [((one.config.digest, one.budget), one.forecast)]
    ]
    table = pd.DataFrame(rows, columns=["training", "budget", "expected", "low", "high", "outcome", "before"])
    table = table.astype({"before": float})
    table["inside"] = table["outcome"].between(table["low"], table["high"])
    return table


def facts(shown: Tuning, curves: pd.DataFrame, forecasts: pd.DataFrame) -> dict[str, Any]:
    """Return numbers to show beside the figures; those of forecasts only if there are any."""
    fates = curves[curves["last"]]["fate"].value_counts()
    told: dict[str, Any] = {"trainings": int(fates.sum()), **{str(fate): int(count) for fate, count in fates.items()}}
    told["trials"] = len(shown.trials)
    if len(forecasts):
        told["outcomes within their interval"] = float(forecasts["inside"].mean())
        begun = forecasts.dropna(subset="before")
        for name, rows in (("first epochs", forecasts[forecasts["before"].isna()]), ("later epochs", begun)):
            if len(rows):
                told[f"mean miss, {name}"] = float((rows["expected"] - rows["outcome"]).abs().mean())
        if len(begun):
            told["of the value before, later epochs"] = float((begun["before"] - begun["outcome"]).abs().mean())
    return told
