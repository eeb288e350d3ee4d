"""Small real tasks with every architecture trained alone: the reference for rankings by supernets.

    task = load("image")        # the space, the networks, the data, the stand-alone training
    known = truth("image")      # of benchmarks.truth.table: the values, as they are committed beside this file

`python -m benchmarks.truth image` makes a table; README.md says how the committed ones were made and how accurate they
are.
"""

from collections.abc import Callable

from benchmarks.truth import image, text
from benchmarks.truth.task import TruthError, TruthTask
from search_spaces import Space

__all__ = ["SPACES", "TASKS", "TruthError", "TruthTask", "load"]

TASKS: dict[str, Callable[[], TruthTask]] = {"image": image.load, "text": text.load}
"""By name, what loads the task: data is read then, and a DataError says which package is missing."""

SPACES: dict[str, Space] = {"image": image.ImageSpace(), "text": text.TextSpace()}
"""Spaces alone, which need no data."""


def load(name: str) -> TruthTask:
    """The task of that name.

    Raises:
        TruthError: there is none.
        DataError: its data is not installed.
    """
    if name not in TASKS:
        raise TruthError(f"no truth is called {name!r}: choose one of {', '.join(TASKS)}")
    return TASKS[name]()
