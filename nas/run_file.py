"""Loads the `run` of a Python file, and reports errors of its code with the line that raised them."""

from __future__ import annotations

import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nas.errors import UserError
from nas.run import Run, RunError


def load(path: Path | str) -> Run:
    """Execute a Python file and return its `run`.

    Raises:
        RunError: the file does not exist, raises an error, or has no `run`.
    """
    path = Path(path).resolve()
    if path.suffix != ".py" or not path.is_file():
        what = "is not a Python file" if path.exists() else "does not exist"
        raise RunError(f"{path} {what}: give the .py file that has `run = Run(...)` in it")
    run = executed(path).get("run")
    if not isinstance(run, Run):
        found = "has no variable `run`" if run is None else f"has a `run` of type {type(run).__name__}"
        raise RunError(f"{path.name} {found}: end it with run = Run(name=..., space=..., build=..., task=...)")
    return run


def executed(path: Path) -> dict[str, Any]:
    """Execute a Python file and return its variables; it may import its neighbours, as when started directly."""
    name = f"nas_run_{re.sub(r'[^0-9A-Za-z]', '_', path.stem)}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that functions of the file can be found by name
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also a sys.exit() of the file
        del sys.modules[name]
        raise RunError(blame(error, path)) from error
    finally:
        sys.path.remove(str(path.parent))
    return vars(module)


@contextmanager
def blaming(path: Path) -> Iterator[None]:
    """Turn exceptions from code of a run file into one line with the place; pass others, and our own, unchanged."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if _line_of(error, path.resolve()) is None:
            raise
        raise RunError(f"{blame(error, path.resolve())} (nas --verbose shows the trace)") from error


def blame(error: BaseException, path: Path) -> str:
    """Describe an exception and the line of a file that raised it."""
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    line = _line_of(error, path)
    place = path.name if line is None else f"{path.name}, line {line}"
    if isinstance(error, UserError):
        return f"{place}: {text}"
    return f"{place} raised {type(error).__name__}{': ' if text else ''}{text}"


def _line_of(error: BaseException, path: Path) -> int | None:
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return lines[-1] if lines else None
