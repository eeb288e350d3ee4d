"""Evaluates the quality of an architecture with inherited weights, and computes its cost.

Quality depends on the weights, so the process with the supernet computes it. Cost depends only on the architecture, so
the driver counts it (`params`, `macs`, `activation_bytes`) or predicts it (`latency_ms@TARGET`); one evaluation of
quality thus serves every target.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from nas.errors import NasError
from nas.execution.executors import Evaluate
from nas.objectives.hurdles import Cleared
from nas.objectives.units import COSTS, MINUS
from nas.run import Run
from nas.run_file import load
from nas.stages.latency import Latency
from search_spaces import Architecture
from supernets import Profile, Supernet, calibrate, checkpoints
from supernets.compression.learnt_gates import Gates
from supernets.compression.reconstruction import reconstructed as fitted
from supernets.compression.sorting import sort_units
from supernets.counting import Counts
from supernets.proxies import proxies
from supernets.sharing import Entangled, sharing
from supernets.skeleton import Build

if TYPE_CHECKING:
    from supernets.tasks import Task
    from supernets.training import TrainingConfig

_logger = logging.getLogger(__name__)

CALIBRATION_BATCHES = calibrate.NUM_BATCHES
_COLUMNS = {"params": 0, "macs": 1}
"""Columns of `Counts`."""


class SubnetEvaluator:
    """Returns the task's metrics of an architecture with the supernet's weights and calibrated batch norm."""

    def __init__(self, supernet: Supernet, task: Task, split: str = "valid") -> None:
        self.supernet = supernet
        self.task = task
        self.split = split

    def __call__(self, arch: Architecture) -> dict[str, float]:
        return calibrate.evaluate(self.supernet, arch, self.task, self.split)


class ProxyEvaluator:
    """Returns zero-cost proxies of an architecture's own network, with the initial weights of `build` and a seed.

    Args:
        names: metrics: names of proxies, optionally with the prefix `minus_`.
        before: another evaluator, which runs first; its metrics are included.
    """

    def __init__(
        self, build: Build, task: Task, names: Sequence[str], seed: int = 0, before: Evaluate | None = None
    ) -> None:
        self.build = build
        self.task = task
        self.names = tuple(names)
        self.seed = seed
        self.before = before

    def __call__(self, arch: Architecture) -> dict[str, float]:
        found = dict(self.before(arch)) if self.before else {}
        wanted = dict.fromkeys(name.removeprefix(MINUS) for name in self.names)
        told = proxies(self.build, arch, self.task, wanted, self.seed)
        signed = {
            name: -told[name.removeprefix(MINUS)] if name.startswith(MINUS) else told[name] for name in self.names
        }
        return {**found, **signed}


class MeasureEvaluator:
    """Returns a run's own metrics, each a function of an architecture.

    Args:
        before: another evaluator, which runs first; its metrics are included.
    """

    def __init__(self, measures: Mapping[str, Callable[[Architecture], float]], before: Evaluate | None = None) -> None:
        self.measures = dict(measures)
        self.before = before

    def __call__(self, arch: Architecture) -> dict[str, float]:
        found = dict(self.before(arch)) if self.before else {}
        return found | {name: tell(arch) for name, tell in self.measures.items()}


def evaluator(run: Run, supernet: Supernet) -> Evaluate:
    """Return the evaluator of a run: quality with the trained supernet if the run trains one, proxies and measures.

    Architectures that fail the run's hurdles are not evaluated.
    """
    found: Evaluate | None = SubnetEvaluator(supernet, run.task) if run.trains else None
    if run.measured_metrics:
        found = MeasureEvaluator(run.measured_metrics, before=found)
    if run.proxies or found is None:
        found = ProxyEvaluator(run.build, run.task, run.proxies, run.seed, before=found)
    return Cleared(run.hurdles, found) if run.hurdles else found


class Costs(Mapping[str, np.ndarray]):
    """The cost metrics of n architectures, each (n,), computed on access."""

    def __init__(self, model: CostModel, archs: Sequence[Architecture]) -> None:
        self._model = model
        self._archs = archs

    def __getitem__(self, metric: str) -> np.ndarray:
        return self._model.metric(metric, self._archs)

    def __iter__(self) -> Iterator[str]:
        return iter(self._model.names)

    def __len__(self) -> int:
        return len(self._model.names)


class Bounds(Costs):
    """The same metrics, but latencies are upper bounds, which a share `coverage` of networks keeps as measured."""

    def __init__(self, model: CostModel, archs: Sequence[Architecture], coverage: float) -> None:
        super().__init__(model, archs)
        self._coverage = coverage

    def __getitem__(self, metric: str) -> np.ndarray:
        return self._model.metric(metric, self._archs, self._coverage)


class FastCosts:
    """Computes tens of thousands of costs in seconds: predicted latencies, and costs that `counts` has tables of.

    Args:
        names: metrics; names of other metrics are ignored.
        extra: a run's own costs, each a function of an architecture; only those in `names` are used.
    """

    def __init__(
        self,
        counts: Counts,
        predictors: Mapping[str, Latency],
        names: Sequence[str],
        extra: Mapping[str, Callable[[Architecture], float]] | None = None,
    ) -> None:
        self._counts = counts
        self._extra = {name: tell for name, tell in (extra or {}).items() if name in names}
        self._predictors = {f"latency_ms@{target}": latency for target, latency in predictors.items()}
        counted = [name for name in names if name in _COLUMNS]
        self.names = [name for name in names if name in self._predictors]
        self.names += counted if counted and counts.tabulated else []
        self.names += self._extra

    def __call__(self, archs: Sequence[Architecture]) -> dict[str, np.ndarray]:
        """Return the costs of n architectures by name, each (n,)."""
        codes = self._counts.space.codes(archs)
        found = {name: own.predict(codes)[0] for name, own in self._predictors.items() if name in self.names}
        if counted := [name for name in self.names if name in _COLUMNS]:
            rows = self._counts(codes).astype(float)
            found |= {name: rows[:, _COLUMNS[name]] for name in counted}
        return found | {name: np.array([tell(arch) for arch in archs]) for name, tell in self._extra.items()}


class CostModel:
    """Counts and predicts the costs of architectures: the `predict` of a study, and its `bound`.

    Args:
        predictors: fitted predictors by target; each adds `latency_ms@TARGET`.
        counted: which of `COSTS` to list for every architecture. Counting all three takes as long as evaluating a small
            network, parameters alone a tenth of that.
        extra: a run's own costs, each a function of an architecture.
    """

    def __init__(
        self,
        supernet: Supernet,
        task: Task,
        predictors: Mapping[str, Latency],
        counted: Sequence[str] = COSTS,
        extra: Mapping[str, Callable[[Architecture], float]] | None = None,
    ) -> None:
        self._supernet = supernet
        self._example = task.example()
        self._predictors = dict(predictors)
        self._profiles: dict[str, Profile] = {}
        self._extra = dict(extra or {})
        self.names = (*counted, *self._extra, *(f"latency_ms@{target}" for target in self._predictors))

    def __call__(self, archs: Sequence[Architecture]) -> Costs:
        return Costs(self, archs)

    def bounds(self, coverage: float, archs: Sequence[Architecture]) -> Bounds:
        """Return the costs on which to check limits."""
        return Bounds(self, archs, coverage)

    def metric(self, name: str, archs: Sequence[Architecture], coverage: float | None = None) -> np.ndarray:
        """Return (n,) values, or upper bounds of a latency if `coverage` is given; raise KeyError for other metrics."""
        if name == "params":
            return np.array([self._supernet.count_parameters(arch) for arch in archs], dtype=float)
        if name in COSTS:
            return np.array([getattr(self.profile(arch), name) for arch in archs], dtype=float)
        if name in self._extra:
            return np.array([self._extra[name](arch) for arch in archs], dtype=float)
        latency = self._predictors[name.removeprefix("latency_ms@")]
        return latency.predict(archs)[0] if coverage is None else latency.upper(archs, coverage)

    def profile(self, arch: Architecture) -> Profile:
        """Return the counts of one architecture; repeated calls do not count again."""
        if arch.digest not in self._profiles:
            self._profiles[arch.digest] = self._supernet.profile(arch, self._example)
        return self._profiles[arch.digest]


def untrained(run: Run, *, sort: bool = True, gates: Gates | None = None) -> Supernet:
    """Return the supernet of a run with its initial weights, its units sorted as the run says unless `sort` is False.

    Units are sorted under entangled sharing, before the weights go to the run's own kind of sharing.

    Args:
        gates: learned gates to sort by, if there are any already; None learns or computes the run's scores.
    """
    example = run.task.example(2)  # shows fused axes
    made = partial(Supernet, run.space, run.build, layout=run.layout, example=example, seed=run.training.seed)
    if not (sort and run.sort):
        return made(sharing=sharing(run.sharing), init=run.init)
    entangled = made(init=run.init)
    sort_units(entangled, run.task, gates or run.sort)
    if isinstance(sharing(run.sharing), Entangled):
        return entangled
    return made(sharing=sharing(run.sharing), init=entangled.state_dict())


def trained(run: Run, directory: Path | str) -> Supernet:
    """Return the supernet of a run with the weights of its finished training.

    Raises:
        NasError: the training is not finished.
    """
    if run.training.steps == 0:
        return untrained(run)
    found = checkpoints.newest(directory)
    if found.step < run.training.steps:
        why = f" ({found.rejected[0]})" if found.rejected else ""
        raise NasError(f"{directory} holds no finished training of {run.name!r}{why}: train it with nas train")
    supernet = untrained(run, sort=False)
    prefix = "weights."
    weights = {k.removeprefix(prefix): v for k, v in found.tensors.items() if k.startswith(prefix)}
    with checkpoints.restoring(directory, found):
        supernet.load_state_dict(weights)
    return supernet


def load_evaluator(
    run_file: str, directory: str, sharing: str, training: TrainingConfig, seed: int | None = None
) -> Evaluate:
    """Return a worker's evaluator: it loads the run from its file and the weights from their checkpoint.

    Args:
        sharing, training, seed: the driver's settings, which may differ from the file's.
    """
    run = replace(load(run_file), sharing=sharing, training=training)
    run = run if seed is None else replace(run, seed=seed)
    return evaluator(run, trained(run, directory) if run.trains else untrained(run))


def network(supernet: Supernet, task: Task, arch: Architecture) -> nn.Module:
    """Return the extracted network of an architecture, with batch norm calibrated as in its evaluation."""
    return recalibrated(supernet.extract(arch), task)


def reconstructed(supernet: Supernet, task: Task, arch: Architecture, batches: int) -> nn.Module:
    """Return the network with its layers fitted to the largest network's on `batches` batches; `network` for 0."""
    if not batches:
        return network(supernet, task, arch)
    found, report = fitted(supernet, arch, task, batches)
    _logger.info("%s, %s", arch.digest, report.table())
    return recalibrated(found, task)


def recalibrated(module: nn.Module, task: Task) -> nn.Module:
    """Return the module itself, in evaluation mode, with batch norm calibrated as in every evaluation."""
    return calibrate.recalibrate(module, task.calibration(CALIBRATION_BATCHES))
