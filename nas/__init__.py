"""Neural architecture search: studies, searchers, predictors, hardware targets and the database of results.

    found = nas.search("my_run.py")
    network = found.network(found.best)

Importing this package loads none of its parts; each name is imported from its module on first use, so that a command
that only reads the database does not wait for torch or ray.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what type checkers see; tests/nas/test_public.py compares it with what there is
    from nas.errors import NasError, UserError
    from nas.execution.placement import Placement
    from nas.objectives.limits import Limit
    from nas.records import (
        CurvePoint,
        Distribution,
        Evaluation,
        Measurement,
        SpaceRecord,
        StudyRecord,
        SupernetRecord,
        TargetRecord,
        Trust,
    )
    from nas.run import Run
    from nas.run_file import load
    from nas.stages.search import Found, Listener, search
    from nas.storage import Repository
    from nas.study import Study

__all__ = [
    "CurvePoint",
    "Distribution",
    "Evaluation",
    "Found",
    "Limit",
    "Listener",
    "Measurement",
    "NasError",
    "Placement",
    "Repository",
    "Run",
    "SpaceRecord",
    "Study",
    "StudyRecord",
    "SupernetRecord",
    "TargetRecord",
    "Trust",
    "UserError",
    "load",
    "search",
]

_MODULES = {
    "errors": ("NasError", "UserError"),
    "objectives.limits": ("Limit",),
    "execution.placement": ("Placement",),
    "run": ("Run",),
    "run_file": ("load",),
    "stages.search": ("Found", "Listener", "search"),
    "storage": ("Repository",),
    "study": ("Study",),
}  # all others are records

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = next((module for module, names in _MODULES.items() if name in names), "records")
        return getattr(import_module(f"{__name__}.{module}"), name)

    def __dir__() -> list[str]:
        return sorted([*globals(), *__all__])
