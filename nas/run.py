"""A search described in a Python file: everything `nas train` and `nas search` need to know, in one value called `run`.

    run = Run(name="digits", space=MySpace(), build=build, task=task, limits=("latency_ms@cpu <= 2",))
"""

from __future__ import annotations

import importlib.util
import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.errors import NasError
from nas.limits import parse
from nas.searchers import SEARCHERS
from search_spaces import Architecture, Space
from supernets.training import TrainingConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from supernets.layout import Layouts
    from supernets.tasks import Task


class RunError(NasError):
    """A run file, or a value in it, that cannot be worked with."""


@dataclass(frozen=True)
class Run:
    """One search, from training the supernet to the front.

    Raises:
        RunError: a value that cannot be, named with its field and what it may be.
    """

    name: str
    """Of the study in the database and of the folder its files are in."""
    space: Space
    build: Callable[[Architecture], nn.Module]
    """From an architecture to an ordinary module, weights uninitialised or not."""
    task: Task
    """Data, loss and evaluation: see `supernets.tasks`."""
    objectives: tuple[str, ...] = ("error", "latency_ms@cpu")
    """What is minimised: the task's metrics, `params`, `macs`, `latency_ms@TARGET`."""
    limits: tuple[str, ...] = ()
    """What a network must keep: `latency_ms@cpu <= 2`, `params <= 1e5`."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """Of the supernet."""
    layout: Layouts = field(default_factory=dict)
    """Fused axes of the model's parameters: see `supernets.Blocks`."""
    init: dict[str, Tensor] | None = None
    """Pretrained values, by parameter name."""
    searcher: str = "evolution"
    """One of `nas.searchers.SEARCHERS`."""
    evaluations: int = 300
    """Architectures to evaluate with inherited weights."""
    batch: int = 20
    """Architectures asked for at a time: a generation."""
    seed: int = 0
    measured: int = 40
    """Networks measured on each target to fit its latency predictor."""
    trust: int = 8
    """Architectures trained alone for the trust report; 0 for none."""
    trust_steps: int | None = None
    """Steps of each of these trainings; None: as many as the supernet's."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name):
            raise RunError(f"name = {self.name!r}: use letters, digits, '-', '_' and '.', beginning with a letter or digit")
        if not isinstance(self.space, Space):
            hint = f"write {self.space.__name__}()" if isinstance(self.space, type) else "declare one with search_spaces.Space"
            raise RunError(f"space = {self.space!r} is not a Space: {hint}")
        if not callable(self.build):
            raise RunError(f"build = {self.build!r} cannot be called: give the function from an architecture to a module")
        if isinstance(self.objectives, str) or not self.objectives:
            raise RunError(f"objectives = {self.objectives!r}: give a tuple of metric names, such as ('error', 'params')")
        if len(set(self.objectives)) < len(self.objectives):
            raise RunError(f"objectives = {self.objectives!r}: each metric once")
        if isinstance(self.limits, str):
            raise RunError(f"limits = {self.limits!r}: give a tuple, ({self.limits!r},)")
        if self.searcher not in SEARCHERS:
            raise RunError(f"searcher = {self.searcher!r} is unknown: choose one of {', '.join(SEARCHERS)}")
        for name, least in (("evaluations", 1), ("batch", 1), ("seed", 0), ("measured", 5), ("trust", 0), ("trust_steps", 1)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < least):
                raise RunError(f"{name} = {value!r}: it must be a whole number, {least} or more")
        known = {self.task.metric, "loss", "params", "macs", "activation_bytes"}
        for metric in (*self.objectives, *(parse(limit).metric for limit in self.limits)):
            if metric not in known and not re.fullmatch(r"latency_ms@\S+", metric):
                raise RunError(
                    f"{metric!r} is no metric of this run: there are {', '.join(sorted(known))} and latency_ms@TARGET, such as latency_ms@cpu"
                )

    @property
    def targets(self) -> tuple[str, ...]:
        """The hardware targets that objectives and limits speak of."""
        metrics = (*self.objectives, *(parse(limit).metric for limit in self.limits))
        return tuple(dict.fromkeys(m.partition("@")[2] for m in metrics if m.startswith("latency_ms@")))


def load(path: Path | str) -> Run:
    """The `run` of a Python file, which is executed.

    Raises:
        RunError: there is no such file, it fails, or it has no `run`.
    """
    path = Path(path).resolve()
    if path.suffix != ".py" or not path.is_file():
        raise RunError(f"{path} is not a Python file: give the file that has `run = Run(...)` in it")
    module_name = f"nas_run_{re.sub(r'[^0-9A-Za-z]', '_', path.stem)}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # functions of the file can then be found again by name
    sys.path.insert(0, str(path.parent))  # the file may import its neighbours, as when it is run
    try:
        spec.loader.exec_module(module)
    except (NasError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise RunError(f"{path.name}{_line_of(error, path)} raised {type(error).__name__}: {' '.join(str(error).split())}") from error
    finally:
        sys.path.remove(str(path.parent))
    run: Any = getattr(module, "run", None)
    if not isinstance(run, Run):
        found = "has no variable `run`" if run is None else f"has `run` of type {type(run).__name__}"
        raise RunError(f"{path.name} {found}: end it with run = Run(name=..., space=..., build=..., task=...)")
    return run


def _line_of(error: BaseException, path: Path) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if isinstance(error, SyntaxError) and error.lineno is not None:
        lines.append(error.lineno)
    return f", line {lines[-1]}," if lines and lines[-1] is not None else ""
