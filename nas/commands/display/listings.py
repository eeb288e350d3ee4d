"""Studies shown: all of a database, and one field by field."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from nas.commands.display.terminal import escape, results, show, shown, table_of
from nas.commands.display.training import learnt
from nas.records import (
    Distribution,
    StudyRecord,
    SupernetRecord,
)

if TYPE_CHECKING:
    pass

_T = TypeVar("_T")


def studies(found: Sequence[StudyRecord], counts: Mapping[str, int], as_json: bool) -> None:
    """All studies of a database."""
    if as_json:
        records = [asdict(study) | {"evaluations": counts[study.name]} for study in found]
        sys.stdout.write(json.dumps(records, indent=2) + "\n")
    elif not found:
        results(["no studies yet: nas demo makes one, nas search my_run.py yours"])
    else:
        table = table_of("study", "status", "evaluated", "objectives", "limits", "created (UTC)")
        for study in found:
            objectives, limits = ", ".join(study.objectives), ", ".join(study.limits) or "-"
            created = study.created[:16].replace("T", " ")
            row = (study.name, study.status, str(counts[study.name]), objectives, limits, created)
            table.add_row(*map(escape, row))
        show(table)


def study(
    record: StudyRecord,
    num_evaluations: int,
    supernet: SupernetRecord | None,
    distributions: Sequence[Distribution] = (),
) -> None:
    """One study, field by field, how its supernet was trained, and what had been learnt before by gradients."""
    table = table_of("", "", header=False)
    how = {} if supernet is None else {"sharing": supernet.sharing, "strategy": supernet.settings.get("strategy")}
    settings = {name: value for name, value in record.settings.items() if name != "closed"}
    shown = asdict(record) | {"settings": settings, "evaluations": num_evaluations} | how
    for name, value in shown.items():
        table.add_row(name.replace("_", " "), escape(_listed(value) or "-"))
    for one in record.settings.get("closed", ()):
        table.add_row("closed", escape(f"{one['path']} = {one['option']}: {one['why'] or 'by the run file'}"))
    show(table)
    if distributions:
        learnt(distributions)


def _listed(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {' '.join(item) if _is_texts(item) else shown(item)}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else shown(value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
