"""This machine's processor, with ONNX Runtime: times the exported network."""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nas.targets import fingerprint, networks
from nas.targets.energy import Counter, energy_mj, rapl
from nas.targets.measuring import Clock, Repeats, clocked, in_rounds
from nas.targets.results import results
from nas.targets.settings import settings_of
from nas.targets.target import Inputs, LatencyResult, TargetError
from supernets.export import quiet

if TYPE_CHECKING:
    from torch import Tensor, nn

    from search_spaces import Architecture

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class ONNXTarget(Repeats, networks.AnyNetwork):
    """ONNX Runtime on this machine's processor, with a graph exported for the shape of the example.

    Raises:
        TargetError: a setting is out of range.
    """

    name: str = "onnx"
    threads: int = 1
    """Threads within an operation; operations run one after the other."""
    precision: str = "float32"
    """Of weights, inputs and arithmetic: float32 or float16."""
    clock: Clock = field(default=time.perf_counter, metadata={"setting": False})
    energy: Counter | None = field(default_factory=rapl, metadata={"setting": False})

    kind = "onnx"

    def __post_init__(self) -> None:
        super().__post_init__()
        networks.check_threads(self.threads)
        if self.precision not in ("float32", "float16"):
            raise TargetError(f"precision={self.precision!r} is unknown to ONNX targets: choose float32 or float16")

    @property
    def settings(self) -> dict[str, Any]:
        return settings_of(self)

    def describe(self) -> dict[str, Any]:
        """Processor, cores, system, threads, precision, versions.

        Raises:
            TargetError: ONNX Runtime or the exporter is not installed.
        """
        _require(self.name)
        versions = {name: importlib.import_module(name).__version__ for name in _PACKAGES}
        return {
            **fingerprint.machine(),
            **versions,
            "torch": torch.__version__,  # whose exporter writes the graph
            "threads": self.threads,
            "precision": self.precision,
        }

    def measure(
        self, modules: Sequence[nn.Module], example: Tensor | Inputs, archs: Sequence[Architecture] = ()
    ) -> list[LatencyResult]:
        """Export each network for inputs of this shape and time runs of its session.

        Raises:
            TargetError: packages are missing, weights are views into larger ones, or a network cannot be exported.
        """
        _require(self.name)
        given, load = networks.as_inputs(example), fingerprint.load()
        networks.check_inputs(given)
        copies = networks.each(modules, partial(networks.ready, precision=self.precision))
        inputs = networks.inputs_in(given, self.precision)
        with networks.evaluating(copies, self.threads):
            runs = networks.each(copies, lambda module: self._session(module, inputs))
            rounds = in_rounds([clocked(run, self.clock) for run in runs], self, self.clock)
            energies = [energy_mj(run, self.energy, self.clock) for run in runs]
        conditions = {**networks.shown_inputs(inputs), "threads": self.threads, "load": load}
        return results(rounds, conditions, energies=energies)

    def _session(self, module: nn.Module, inputs: Inputs) -> Callable[[], object]:
        """Return a function that runs the exported network on the inputs."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3  # errors, which are raised too
        try:
            with tempfile.TemporaryDirectory() as folder, quiet():
                path = Path(folder) / "network.onnx"
                torch.onnx.export(module, inputs, f=path, dynamo=True, verbose=False)
                session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # exporter and runtime raise many kinds of errors, all caused by the user's model
            reason = str(error).strip().split("\n")[0]
            remedy = "measure it on a target of another kind"
            raise TargetError(f"{type(module).__name__} does not run in ONNX Runtime: {reason}: {remedy}") from error
        names = [value.name for value in session.get_inputs()]
        feed = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        return lambda: session.run(None, feed)


def _require(name: str) -> None:
    missing = [package for package in _PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        raise TargetError(
            f"target {name!r} needs ONNX Runtime, but {missing[0]} is not installed: pip install nas[onnx]"
        )
