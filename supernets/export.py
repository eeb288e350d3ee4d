"""Write a found network to a folder that runs without this package: weights, code to rebuild it, torch.export, ONNX.

Every format is run on the spot against the module it came from, at several batch sizes. The folder appears whole or not
at all: it is written beside its place and renamed at the end.
"""

from __future__ import annotations

import copy
import glob
import importlib.metadata
import importlib.util
import inspect
import io
import json
import logging
import math
import os
import platform
import shutil
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from search_spaces import Architecture
from supernets import _load, _sources, pretrained_folder, views
from supernets.disk import writing
from supernets.errors import ExportError

Format = Literal["safetensors", "torch", "onnx", "transformers"]
OF_ANY_MODEL: tuple[Format, ...] = ("safetensors", "torch", "onnx")
FORMATS: tuple[Format, ...] = (*OF_ANY_MODEL, "transformers")
FILES: dict[Format, str] = {
    "safetensors": "weights.safetensors",
    "torch": "network.pt2",
    "onnx": "network.onnx",
    "transformers": pretrained_folder.FOLDER,
}
RECORD = "architecture.json"
_ONE_FILE_BYTES = 1_500_000_000  # an ONNX file is a protobuf, which ends at 2 GiB: larger weights go beside it

Inputs = tuple[Tensor, ...]


@dataclass(frozen=True)
class Exported:
    """What an export wrote. Differences are the largest absolute ones between outputs of the file and of the module."""

    directory: Path
    paths: dict[str, Path]
    """The files by name of their format; `architecture`, `load` and `sums`, the hashes, besides."""
    differences: dict[str, float]
    """By format; ONNX is missing where onnxruntime is not installed to run it."""

    @property
    def max_abs_difference(self) -> float:
        return max(self.differences.values(), default=0.0)


def export(
    module: nn.Module,
    *,
    arch: Mapping[str, Any],
    build: Callable[..., nn.Module],
    example: Tensor | Inputs,
    directory: Path | str,
    formats: Sequence[Format] = OF_ANY_MODEL,
    metadata: Mapping[str, Any] | None = None,
    tolerance: float = 1e-4,
) -> Exported:
    """Write `module`, which `build(arch)` rebuilds, to `directory`, and check each file against it.

    `example` is what `module` takes, a tensor or a tuple of them, each with the batch as its first axis. `metadata`
    (JSON) goes into architecture.json: metrics, where the network came from. An earlier export in `directory` is
    replaced.

    Raises:
        ExportError: the module's weights are views of a supernet's, a format is unknown or lacks its packages, the
            directory holds something else, or a file's outputs differ by more than `tolerance`.
        ExportError: the code of `build` cannot be taken along.
        NotUniformError: the format transformers is asked for, and no config of that library describes the network.
    """
    directory = Path(directory).absolute()
    inputs = (example,) if isinstance(example, Tensor) else tuple(example)
    _check(module, inputs, directory, formats, metadata)
    network = _own(module)
    inputs = tuple(tensor.detach().cpu() for tensor in inputs)
    sources = _sources.collect(build)
    expected = _expected(network, inputs)
    with _written_at_once(directory) as folder:
        record = _record(arch, sources, inputs, network, metadata, formats)
        differences = {}
        if "safetensors" in formats:
            differences["safetensors"] = _write_safetensors(folder, network, sources, record, expected)
        if "transformers" in formats:
            opened = pretrained_folder.write(folder / pretrained_folder.FOLDER, network)
            differences["transformers"] = _difference(opened, expected)
        if "torch" in formats or "onnx" in formats:
            program = _program(network, inputs)
            if "torch" in formats:
                differences["torch"] = _write_torch(folder, program, expected)
            if "onnx" in formats:
                difference = _write_onnx(folder, program, network, expected)
                differences |= {} if difference is None else {"onnx": difference}
        _within(differences, tolerance)
        _seal(folder, record | {"differences": differences, "tolerance": tolerance})
    return Exported(directory, _paths(directory, formats), differences)


# Before anything is written


def _check(
    module: nn.Module, inputs: Inputs, directory: Path, formats: Sequence[str], metadata: Mapping[str, Any] | None
) -> None:
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise ExportError(f"format {unknown[0] if unknown else ''!r} is not known: choose of {', '.join(FORMATS)}")
    if "onnx" in formats:
        require_onnx()
    shared = views.shared_views(module)
    if shared:
        raise ExportError(
            f"{shared[0]!r} is a view of a larger tensor, as in a subnet: export what supernet.extract(arch) returns"
        )
    batches = {tensor.shape[0] if tensor.ndim else 0 for tensor in inputs}
    if len(batches) != 1 or 0 in batches:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs) or "none"
        raise ExportError(
            f"the example has shapes {shapes}: each tensor's first axis must be the same batch, 1 or more"
        )
    try:
        json.dumps(metadata, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ExportError(f"metadata must be JSON values: {error}") from None
    if directory.exists() and not _replaceable(directory):
        raise ExportError(f"{directory} exists and is no earlier export: choose another directory or remove it")


def require_onnx() -> None:
    """Raise ExportError naming the extra unless the packages that write ONNX are installed."""
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(f"ONNX files need {' and '.join(missing)}: pip install nas[onnx], or leave the format out")


def rebuilt(directory: Path | str) -> nn.Module:
    """The network of an export that has safetensors, as its load.py makes it: runs the code in its source/.

    Raises:
        ExportError: a file is not as it was exported, or its code does not build what the weights are of.
    """
    try:
        return _load.load(folder=Path(directory).absolute())
    except _load.DamagedError as error:
        raise ExportError(str(error)) from error
    except Exception as error:  # whatever the user's code raises becomes one message
        reason = " ".join(str(error).split())[:300]
        raise ExportError(f"the network cannot be rebuilt from its source: {type(error).__name__}: {reason}") from error


def is_export(directory: Path | str) -> bool:
    """Whether a folder holds an exported network, or what is left of one."""
    return any((Path(directory) / name).is_file() for name in (RECORD, _load.SUMS))


def fingerprint(directory: Path | str) -> str:
    """What equal exports have in common and no others: `load(fingerprint=...)` of a load.py refuses another one."""
    return _load.fingerprint_of(Path(directory).absolute())


def check(directory: Path | str) -> dict[str, str | None]:
    """Every file of an export by its name with what is wrong with it, None where nothing is. Runs none of its code."""
    return _load.check(Path(directory).absolute())


def available_formats(network: nn.Module) -> tuple[Format, ...]:
    """The formats that the installed packages can write of a network."""
    absent: set[Format] = set()
    if not all(importlib.util.find_spec(name) is not None for name in ("onnx", "onnxscript")):
        absent.add("onnx")
    try:
        pretrained_folder.config_of(network)
    except pretrained_folder.NotUniformError:
        absent.add("transformers")
    return tuple(name for name in FORMATS if name not in absent)


def _replaceable(directory: Path) -> bool:
    return directory.is_dir() and (not any(directory.iterdir()) or (directory / RECORD).is_file())


def _own(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode on the CPU, so that the caller's module stays as it is."""
    try:
        return copy.deepcopy(module).cpu().eval()
    except RuntimeError as error:
        raise ExportError(f"the module cannot be copied ({error}): export a freshly extracted one") from error


# Inputs, outputs and their differences


def _expected(network: nn.Module, inputs: Inputs) -> list[tuple[Inputs, list[Tensor]]]:
    """Inputs of several batch sizes, one of them 1, with the outputs of the module that is exported."""
    size = inputs[0].shape[0]
    batches = [_resized(inputs, other) for other in sorted({1, size, size + 1})]
    return [(batch, _outputs(network, batch)) for batch in batches]


def _outputs(network: nn.Module, inputs: Inputs) -> list[Tensor]:
    try:
        return _run(network, inputs)
    except Exception as error:  # whatever the user's forward raises becomes one message
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ExportError(
            f"{type(network).__name__} fails on a batch of {inputs[0].shape[0]} ({reason}): "
            "make its forward independent of the batch size, and the example what it takes"
        ) from error


def _resized(inputs: Inputs, size: int) -> Inputs:
    """As many rows, made of the example's: repeated rows are rolled along their last axis, to differ."""
    return tuple(_rows(tensor, size) for tensor in inputs)


def _rows(tensor: Tensor, size: int) -> Tensor:
    copies = -(-size // tensor.shape[0])
    rolled = [tensor.roll(turn, dims=-1) if tensor.ndim > 1 else tensor for turn in range(copies)]
    return torch.cat(rolled)[:size].clone()


def _run(call: Callable[..., Any], inputs: Inputs) -> list[Tensor]:
    with torch.inference_mode():
        return list(views.leaves(call(*(tensor.clone() for tensor in inputs))))


def _difference(call: Callable[..., Any], expected: list[tuple[Inputs, list[Tensor]]]) -> float:
    """The largest absolute difference over all batches; infinite where shapes differ or only one is a number."""
    return max(_apart(_run(call, inputs), outputs) for inputs, outputs in expected)


def _apart(got: list[Tensor], wanted: list[Tensor]) -> float:
    if [tensor.shape for tensor in got] != [tensor.shape for tensor in wanted]:
        return math.inf
    worst = 0.0
    for one, other in zip(got, wanted, strict=True):
        one, other = one.double(), other.double()
        gap = torch.where((one == other) | (one.isnan() & other.isnan()), 0.0, (one - other).abs())
        if gap.numel():
            worst = max(worst, float(gap.nan_to_num(nan=math.inf, posinf=math.inf).max()))
    return worst


def _within(differences: Mapping[str, float], tolerance: float) -> None:
    for name, difference in differences.items():
        if not difference <= tolerance:
            raise ExportError(
                f"outputs of the {name} file differ from the module's by {difference:.3g}, more than {tolerance:g}: "
                "does `build` make this module, and does its output depend on the inputs alone? Nothing was written"
            )


# The formats


def _write_safetensors(
    folder: Path,
    network: nn.Module,
    sources: _sources.Sources,
    record: dict[str, Any],
    expected: list[tuple[Inputs, list[Tensor]]],
) -> float:
    """Weights, code and load.py, which is run."""
    tensors, tied = _unique(network)
    record["weights"] = {"tied": tied}
    with writing(folder / FILES["safetensors"]):
        save_file(tensors, folder / FILES["safetensors"], metadata={"format": "pt"})
    for name, text in sources.files.items():
        path = folder / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    shutil.copyfile(str(_load.__file__), folder / "load.py")
    shutil.copymode(folder / "load.py", folder / FILES["safetensors"])  # which safetensors gives to its owner alone
    _seal(folder, record)
    return _difference(rebuilt(folder), expected)


def _unique(network: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Each tensor once under its first name, contiguous; and the further names of tied ones."""
    extra = [name for name, value in network.state_dict().items() if not isinstance(value, Tensor)]
    if extra:
        raise ExportError(
            f"the state {extra[0]!r} is not a tensor: safetensors holds tensors only, leave the format out"
        )
    first: dict[tuple[Any, ...], str] = {}
    tensors, tied = {}, {}
    for name, tensor in views.tensors(network).items():
        key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype) if tensor.numel() else (name,)
        if first.setdefault(key, name) == name:
            tensors[name] = tensor.detach().clone(memory_format=torch.contiguous_format)
        else:
            tied[name] = first[key]
    return tensors, tied


def _program(network: nn.Module, inputs: Inputs) -> torch.export.ExportedProgram:
    """The traced graph with its batch axis left open."""
    batch = torch.export.Dim("batch")
    # a traced size of 1 would be taken for a constant
    traced = _resized(inputs, max(2, inputs[0].shape[0]))
    with quiet():
        try:
            program = torch.export.export(network, traced, dynamic_shapes=_open_axes(network, inputs, batch))
        except Exception as error:  # torch.export raises many kinds, all for what the user's model does
            reason = str(error).strip().split("\n")[0]
            raise ExportError(
                f"torch.export cannot trace {type(network).__name__} with an open batch axis: {reason}: "
                "make its forward independent of the batch size, or leave out the formats torch and onnx"
            ) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # holds paths of this machine
    return program


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporters' own warnings: deprecations within torch, and packages they would also know of."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _open_axes(network: nn.Module, inputs: Inputs, batch: Any) -> dict[str, Any]:
    """The batch as first axis of every argument, by the argument's name; a `*args` takes a tuple."""
    bound = inspect.signature(network.forward).bind(*inputs)
    return {
        name: tuple({0: batch} for _ in value) if isinstance(value, tuple) else {0: batch}
        for name, value in bound.arguments.items()
    }


def _write_torch(
    folder: Path, program: torch.export.ExportedProgram, expected: list[tuple[Inputs, list[Tensor]]]
) -> float:
    path = folder / FILES["torch"]
    with quiet():
        written = io.BytesIO()  # on a disk that refuses, PyTorch's own writer ends the process
        torch.export.save(program, written)
        with writing(path):
            path.write_bytes(written.getbuffer())
        loaded = torch.export.load(path).module()
    return _difference(loaded, expected)


def _write_onnx(
    folder: Path,
    program: torch.export.ExportedProgram,
    network: nn.Module,
    expected: list[tuple[Inputs, list[Tensor]]],
) -> float | None:
    path = folder / FILES["onnx"]
    size = sum(tensor.numel() * tensor.element_size() for tensor in views.tensors(network).values())
    with quiet():
        try:
            with writing(path):
                torch.onnx.export(program, f=path, dynamo=True, external_data=size > _ONE_FILE_BYTES, verbose=False)
        except OSError:
            raise
        except Exception as error:
            reason = str(error).strip().split("\n")[0]
            raise ExportError(
                f"{type(network).__name__} has no ONNX form: {reason}: leave out the format onnx"
            ) from error
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    return _difference(_onnx_session(path), expected)


def _onnx_session(path: Path) -> Callable[..., list[Tensor]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def call(*inputs: Tensor) -> list[Tensor]:
        feed = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        return [torch.as_tensor(output) for output in session.run(None, feed)]

    return call


# The record and the folder


def _record(
    arch: Mapping[str, Any],
    sources: _sources.Sources,
    inputs: Inputs,
    network: nn.Module,
    metadata: Mapping[str, Any] | None,
    formats: Sequence[str],
) -> dict[str, Any]:
    names = ["torch", "safetensors", *(["onnx", "onnxscript", "onnxruntime"] if "onnx" in formats else [])]
    return {
        "format": 1,
        "architecture": arch.to_dict() if isinstance(arch, Architecture) else _plain(arch),
        "build": sources.reference,
        "input": [
            {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")} for tensor in inputs
        ],
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "metadata": dict(metadata or {}),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in names}},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Architecture):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, tuple | list) else value


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _seal(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the record, and then the hash of every file."""
    text = json.dumps(record, indent=2, allow_nan=False)
    (folder / RECORD).write_text(text + "\n", encoding="utf-8")
    (folder / _load.SUMS).unlink(missing_ok=True)
    files = [path for path in folder.rglob("*") if path.is_file()]
    sums = {path.relative_to(folder).as_posix(): _load.digest(path) for path in files}
    (folder / _load.SUMS).write_bytes(_load.written(sums))


def _paths(directory: Path, formats: Sequence[Format]) -> dict[str, Path]:
    paths = {str(name): directory / FILES[name] for name in formats}
    extra = {"architecture": directory / RECORD, "sums": directory / _load.SUMS}
    if "safetensors" in formats:
        extra["load"] = directory / "load.py"
    return paths | extra


@contextmanager
def _written_at_once(directory: Path) -> Iterator[Path]:
    """A new folder beside `directory` that takes its place at the end, and is gone after an error."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_over(directory)
    partial = directory.with_name(_partial_name(directory, os.getpid()))
    partial.mkdir()
    try:
        yield partial
        _replace(directory, partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _replace(directory: Path, new: Path) -> None:
    if not directory.exists():
        new.rename(directory)
        return
    old = new.with_name(new.name + ".old")
    directory.rename(old)
    new.rename(directory)
    shutil.rmtree(old)


def _partial_name(directory: Path, process: int | str) -> str:
    return f".{directory.name}.partial-{socket.gethostname()}-{process}"


def _remove_left_over(directory: Path) -> None:
    """Remove what killed exports to the same directory left; an earlier export that one had moved away comes back."""
    for path in directory.parent.glob(glob.escape(_partial_name(directory, "")) + "*"):
        process, _, suffix = path.name.rsplit("-", 1)[1].partition(".")
        if process != str(os.getpid()) and _runs(int(process)):
            continue
        if suffix == "old" and not directory.exists():
            path.rename(directory)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
