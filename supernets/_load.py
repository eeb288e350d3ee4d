"""Rebuild the network of this folder: `load()` needs only Python, torch and safetensors.

architecture.json names the architecture and the function in source/ that builds it; weights.safetensors holds the
weights. SHA256SUMS has the hash of every file, which is checked before the file is used: `load()` checks the files that
it opens, `checked("network.pt2")` one file for another library, and `check()`, like `sha256sum -c SHA256SUMS`, all.

Hashes detect damage. They do not identify the author of a folder, and `load()` runs the code in it: open only folders
of known origin, or give `load` the fingerprint that you received from the exporter.
"""

import contextlib
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

FOLDER = Path(__file__).resolve().parent
SUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)\n")
_MOST_BYTES = 16 * 2**20  # of a file that is not weights
_OF_OTHERS = sys.stdlib_module_names | {"torch", "safetensors"}
_REMEDY = "export or copy it again"


class DamagedError(RuntimeError):
    """A file of the folder differs from the export; the message is one line and names the file."""


class Architecture(Mapping[str, Any]):
    """The choices of one architecture: `arch.width` or `arch["width"]`; nested ones are of this class, lists tuples.

    What was derived from them is there by attribute only.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.kind = values.get("is")
        self._values = {name: _frozen(value) for name, value in values.items() if name not in ("is", "derived")}
        derived = values.get("derived")
        self._derived = (
            {name: _frozen(value) for name, value in derived.items()} if isinstance(derived, Mapping) else {}
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        known = self._values | self._derived
        if name not in known:
            raise AttributeError(f"the architecture has no choice {name!r}: it has {', '.join(known)}")
        return known[name]

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
    """What architecture.json holds: architecture, input, metadata, versions.

    Raises DamagedError where it is not as it was exported.
    """
    content = _compared("architecture.json", folder, manifest(folder))
    try:
        about = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{folder / 'architecture.json'} is not JSON ({error}): {_REMEDY}") from None
    if not isinstance(about, dict):
        raise DamagedError(f"{folder / 'architecture.json'} is no JSON object: {_REMEDY}")
    return about


def load(device: torch.device | str = "cpu", folder: Path = FOLDER, fingerprint: str | None = None) -> nn.Module:
    """The network with its weights, in evaluation mode. Runs the code of source/, and no other function than one of it.

    `fingerprint` is what the folder's must be: `fingerprint_of` it where it was exported.

    Raises DamagedError where a file is not as it was exported, or the weights do not fit what the code builds.
    """
    if fingerprint is not None and fingerprint_of(folder) != fingerprint:
        raise DamagedError(
            f"{folder} is another export: its fingerprint is {fingerprint_of(folder)}, not {fingerprint}"
        )
    sums, about = manifest(folder), description(folder)
    checked("load.py", folder)
    sources = _sources(folder, sums)
    weights = checked("weights.safetensors", folder)
    network = _build(_reference(about, folder), _Source(folder, sources))
    _fill(network, weights, about["weights"]["tied"])
    return network.to(device).eval()


def checked(name: str, folder: Path = FOLDER) -> Path:
    """Return the path of a file of this folder; raise DamagedError if its content differs from the export."""
    wanted, path = manifest(folder).get(name), folder / name
    if wanted is None:
        raise DamagedError(f"{folder / SUMS} does not name {name}: {_REMEDY}, with the format it belongs to")
    difference = _difference(path, wanted)
    if difference:
        raise DamagedError(f"{path} {difference}: {_REMEDY}")
    return path


def check(folder: Path = FOLDER) -> dict[str, str | None]:
    """Return every file by its name in the folder, with its damage; None if it is intact."""
    try:
        sums = manifest(folder)
    except DamagedError as error:
        return {SUMS: str(error).removeprefix(f"{folder / SUMS} ").removesuffix(f": {_REMEDY}")}
    found = {SUMS: None} | {name: _difference(folder / name, wanted) for name, wanted in sums.items()}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name not in found and not path.is_dir() and not name.startswith("__pycache__/"):
            found[name] = "is not of this export"
    return found


def fingerprint_of(folder: Path = FOLDER) -> str:
    """Return the SHA-256 of SHA256SUMS, which covers all files: equal only for equal exports."""
    return hashlib.sha256(_content(folder / SUMS)).hexdigest()


def manifest(folder: Path = FOLDER) -> dict[str, str]:
    """Return the SHA-256 of every file by its name; raise DamagedError if SHA256SUMS is malformed."""
    content = _content(folder / SUMS)
    lines = _LINE.findall(content.decode("utf-8", "replace"))
    sums = {name: digest for digest, name in lines}
    # writing the parsed content must reproduce the file byte for byte
    if not sums or written(sums) != content or not all(map(_is_within, sums)):
        raise DamagedError(f"{folder / SUMS} is no list of hashes and names of files: {_REMEDY}")
    return sums


def written(sums: Mapping[str, str]) -> bytes:
    """Return the content of SHA256SUMS for these hashes, sorted by name, in the format of `sha256sum -c`."""
    return "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode()


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_within(name: str) -> bool:
    """Return whether a name is a plain path below the folder."""
    path = PurePosixPath(name)
    return name.isprintable() and name == str(path) and not path.is_absolute() and not {"..", "."} & {*path.parts}


def _sources(folder: Path, sums: Mapping[str, str]) -> dict[str, bytes]:
    """Return the exported files of source/; raise DamagedError on any other file, which could shadow one of them."""
    there = (path.relative_to(folder) for path in sorted((folder / "source").rglob("*")) if not path.is_dir())
    unknown = [path for path in there if path.as_posix() not in sums and "__pycache__" not in path.parts]
    if unknown:
        raise DamagedError(f"{folder / unknown[0]} is not of this export: remove it, or {_REMEDY}")
    return {name: _compared(name, folder, sums) for name in sums if name.startswith("source/")}


def _difference(path: Path, wanted: str) -> str | None:
    if not path.is_file():
        return "is not there"
    try:
        return None if digest(path) == wanted else f"does not match its SHA-256 in {SUMS}"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _content(path: Path) -> bytes:
    """Return the content of a small file."""
    if not path.is_file():
        raise DamagedError(f"{path} is not there: {_REMEDY}")
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise DamagedError(f"{path} is larger than {_MOST_BYTES:,} bytes, which none here is: {_REMEDY}")
    return content


def _compared(name: str, folder: Path, sums: Mapping[str, str]) -> bytes:
    """Return the content of a small file: the very bytes whose hash was checked."""
    content = _content(folder / name)
    if hashlib.sha256(content).hexdigest() != sums.get(name):
        raise DamagedError(f"{folder / name} does not match its SHA-256 in {SUMS}: {_REMEDY}")
    return content


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Architecture(value)
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _reference(about: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the builder's reference and arguments, after a check of the format."""
    build, weights = about.get("build"), about.get("weights")
    kinds = {"module": str, "qualname": str, "arguments": list, "keywords": dict}
    whole = (
        isinstance(build, dict)
        and all(isinstance(build.get(name), kind) for name, kind in kinds.items())
        and isinstance(about.get("architecture"), dict)
        and isinstance(weights, dict)
        and isinstance(weights.get("tied"), dict)
    )
    if not whole:
        raise DamagedError(f"{folder / 'architecture.json'} does not say what builds its network: {_REMEDY}")
    try:
        return {**build, "architecture": Architecture(about["architecture"])}  # type: ignore[dict-item]
    except RecursionError:
        raise DamagedError(f"{folder / 'architecture.json'} is nested too deep: {_REMEDY}") from None


def _build(reference: Mapping[str, Any], source: "_Source") -> nn.Module:
    """Call the builder, and preserve the state of torch's random numbers on the CPU.

    Only a function or class that a file of source/ defines may be called: its own `__module__` and `__qualname__` must
    match the reference, which rules out functions of other packages and functions that the file imports.
    """
    module, qualname = reference["module"], reference["qualname"]
    named = f"{module}:{qualname}"[:100]
    refused = f"{source.folder}: {named!r} is not defined by a file of source/, and no other is called"
    if not source.has(module) or not all(part.isidentifier() for part in qualname.split(".")):
        raise DamagedError(f"{refused}: {_REMEDY}")
    with source.importing(), torch.random.fork_rng(devices=[]):
        builder: Any = importlib.import_module(module)
        for name in qualname.split("."):
            builder = getattr(builder, name, None)
        if (getattr(builder, "__module__", None), getattr(builder, "__qualname__", None)) != (module, qualname):
            raise DamagedError(f"{refused}: {_REMEDY}")
        network: nn.Module = builder(*reference["arguments"], reference["architecture"], **reference["keywords"])
    return network


class _Source(importlib.abc.MetaPathFinder, importlib.abc.ExecutionLoader):
    """Imports the modules of source/ from content that was compared, not from the disk again and never from a cache."""

    def __init__(self, folder: Path, files: Mapping[str, bytes]) -> None:
        self.folder = folder / "source"
        self.files = {str(folder / name): content for name, content in files.items() if name.endswith(".py")}
        self.roots = {PurePosixPath(name).parts[1].removesuffix(".py") for name in files if name.endswith(".py")}
        if self.roots & _OF_OTHERS:
            raise DamagedError(
                f"{self.folder} has a module {min(self.roots & _OF_OTHERS)}, which is not its own: {_REMEDY}"
            )

    @contextlib.contextmanager
    def importing(self) -> Iterator[None]:
        """Imports find source/ first; others' modules of the same names are put aside meanwhile and come back."""
        alone = not any(_found_elsewhere(name, self.folder) for name in self.roots)
        aside, stays = _forget(self.roots), False  # also of an earlier load of this folder, which may have changed
        sys.meta_path[:] = [self, *(one for one in sys.meta_path if getattr(one, "folder", None) != self.folder)]
        try:
            yield
            stays = alone  # for what the network imports when it runs
        finally:
            if not stays:
                sys.meta_path.remove(self)
                _forget(self.roots)
                sys.modules.update(aside)

    def has(self, module: str) -> bool:
        return self._place(module) is not None

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        place = self._place(fullname)
        if place is None:
            return None
        # a package without places of its own: what it has is found here or not at all
        within: list[str] | None = [] if place.name == "__init__.py" else None
        return importlib.util.spec_from_file_location(fullname, place, loader=self, submodule_search_locations=within)

    def get_filename(self, fullname: str) -> str:
        place = self._place(fullname)
        if place is None:
            raise ImportError(f"{self.folder} has no module {fullname}")
        return str(place)

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self.files[self.get_filename(fullname)])

    def is_package(self, fullname: str) -> bool:
        return self.get_filename(fullname).endswith("__init__.py")

    def _place(self, module: str) -> Path | None:
        parts = module.split(".")
        if not all(part.isidentifier() for part in parts):
            return None
        base = self.folder.joinpath(*parts)
        return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if str(path) in self.files), None)


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


def _fill(network: nn.Module, weights: Path, tied: Mapping[str, str]) -> None:
    """Put the saved values in, in their own precision. A tied weight is saved once, under the first of its names."""
    try:
        tensors = load_file(weights)
        _put(network, tensors | {name: tensors[first] for name, first in tied.items()})
    except (SafetensorError, RuntimeError, LookupError, AttributeError, TypeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise DamagedError(f"{weights} does not fit what source/ builds ({reason}): {_REMEDY}") from error


def _put(network: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    persistent = set(network.state_dict())
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if name in tensors:
            tensor.data = tensor.data.to(tensors[name].dtype)
    network.load_state_dict({name: tensors[name] for name in tensors if name in persistent}, strict=True)
    # the rest are non-persistent buffers
    for name in tensors.keys() - persistent:
        path, _, leaf = name.rpartition(".")
        network.get_submodule(path).register_buffer(leaf, tensors[name], persistent=False)


if __name__ == "__main__":
    print(load())
