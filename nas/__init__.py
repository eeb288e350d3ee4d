"""Neural architecture search: studies, searchers, predictors, hardware targets and the database of results.

Importing this package loads none of its parts; a name is imported from its module on first use, so that a command which
only reads the database never waits for torch or ray.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "CurvePoint": "records",
    "Distribution": "records",
    "Evaluation": "records",
    "Limit": "limits",
    "Measurement": "records",
    "NasError": "errors",
    "Repository": "storage",
    "SpaceRecord": "records",
    "Study": "study",
    "StudyRecord": "records",
    "SupernetRecord": "records",
    "TargetRecord": "records",
    "Trust": "records",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
