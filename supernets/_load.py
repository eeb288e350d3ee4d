"""Rebuild the network of this folder: `load()` needs Python, torch and safetensors, and nothing of what found it.

architecture.json says which architecture it is and how to build it; source/ holds the code that builds; the weights
come from weights.safetensors and are checked against their SHA-256.
"""

import contextlib
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

FOLDER = Path(__file__).resolve().parent


class Architecture(Mapping[str, Any]):
    """The choices of one architecture: `arch.width` or `arch["width"]`; nested ones are of this class, lists tuples."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.kind = values.get("is")
        self._values = {name: _frozen(value) for name, value in values.items() if name != "is"}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._values:
            raise AttributeError(
                f"the architecture has no choice {name!r}: it has {', '.join(self.__dict__['_values'])}"
            )
        return self._values[name]

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash((self.kind, tuple(self._values.items())))

    def __repr__(self) -> str:
        return f"Architecture({self._values})"


def description(folder: Path = FOLDER) -> dict[str, Any]:
    """What architecture.json holds: architecture, input, metadata, versions, the files and their hashes."""
    content: dict[str, Any] = json.loads((folder / "architecture.json").read_text(encoding="utf-8"))
    return content


def load(device: torch.device | str = "cpu", folder: Path = FOLDER) -> nn.Module:
    """The network with its weights, in evaluation mode.

    Raises RuntimeError where the weights are not those that were exported or do not fit what the code builds.
    """
    about = description(folder)
    weights = folder / "weights.safetensors"
    if hashlib.sha256(weights.read_bytes()).hexdigest() != about["files"][weights.name]["sha256"]:
        raise RuntimeError(f"{weights} does not match its SHA-256 in architecture.json: export or copy it again")
    network = _build(about, folder / "source")
    _fill(network, load_file(weights), about["weights"]["tied"])
    return network.to(device).eval()


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Architecture(value)
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _build(about: dict[str, Any], source: Path) -> nn.Module:
    """Call the builder; random numbers drawn for weights that are replaced anyway disturb nobody."""
    reference = about["build"]
    with _importing(source), torch.random.fork_rng(devices=[]):
        builder: Any = importlib.import_module(reference["module"])
        for name in reference["qualname"].split("."):
            builder = getattr(builder, name)
        network: nn.Module = builder(
            *reference["arguments"], Architecture(about["architecture"]), **reference["keywords"]
        )
    return network


@contextlib.contextmanager
def _importing(source: Path) -> Iterator[None]:
    """Imports find source/ first. Modules of the same names from elsewhere are put aside meanwhile and come back."""
    names = {path.stem for path in source.iterdir() if not path.name.startswith(("_", "."))}
    foreign = any(_found_elsewhere(name, source) for name in names)
    aside = _forget(names) if foreign else {}
    finder = _Finder(source, names)
    sys.meta_path.insert(0, finder)
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # the folder stays as it was exported
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        sys.dont_write_bytecode = writes
        if foreign:
            _forget(names)
            sys.modules.update(aside)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds in source/ what is there, and nothing else."""

    def __init__(self, source: Path, names: set[str]) -> None:
        self.source = source
        self.names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.split(".")[0] not in self.names:
            return None
        return importlib.machinery.PathFinder.find_spec(fullname, [str(self.source)] if path is None else path)


def _found_elsewhere(name: str, source: Path) -> bool:
    if name in sys.modules:
        place = getattr(sys.modules[name], "__file__", None)
    else:
        try:
            spec = importlib.util.find_spec(name)
        except ImportError:
            return False
        if spec is None:
            return False
        place = spec.origin
    return place is None or source not in Path(place).parents


def _forget(names: set[str]) -> dict[str, Any]:
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in names}


def _fill(network: nn.Module, tensors: dict[str, torch.Tensor], tied: dict[str, str]) -> None:
    """Put the saved values in, in their own precision. A tied weight is saved once, under the first of its names."""
    tensors |= {name: tensors[first] for name, first in tied.items()}
    persistent = set(network.state_dict())
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if name in tensors:
            tensor.data = tensor.data.to(tensors[name].dtype)
    network.load_state_dict({name: tensors[name] for name in tensors if name in persistent}, strict=True)
    # what is left are buffers that a state dict leaves out
    for name in tensors.keys() - persistent:
        path, _, leaf = name.rpartition(".")
        network.get_submodule(path).register_buffer(leaf, tensors[name], persistent=False)


if __name__ == "__main__":
    print(load())
