"""Weights as they are handed over: a state dict, a module, or safetensors on the disk, read one tensor at a time.

A folder holds `model.safetensors`, or several such files and `model.safetensors.index.json`, whose "weight_map" tells
the file of each name. Nothing is unpickled, and no file outside the folder is opened by an index.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from search_spaces.reading import MalformedError, file_bytes, json_object
from supernets.errors import SupernetError

Weights = Mapping[str, Tensor] | nn.Module | str | Path
"""A state dict, a module, a safetensors file, or a folder with such files."""

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_MOST_BYTES = 64 * 2**20  # of an index: a name and a file for each tensor


class WeightsError(SupernetError):
    """Weights that cannot be read; the message names the file or the name."""


@dataclass(frozen=True)
class Source:
    """Named tensors that are read when they are asked for, in the order of `names`."""

    label: str
    names: tuple[str, ...]
    read: Callable[[], Iterator[tuple[str, Tensor]]]


def source(weights: Weights) -> Source:
    """The tensors of what was handed over.

    Raises:
        WeightsError: it is none of these, a file is missing or damaged, or an index names what is not in its folder.
    """
    if isinstance(weights, nn.Module):
        return _of_module(weights)
    if isinstance(weights, Mapping):
        return _of_mapping(weights, "the state dict")
    if isinstance(weights, str | Path):
        return _of_path(Path(weights).expanduser())
    raise WeightsError(
        f"init is of type {type(weights).__name__}: give a state dict, a module, or the path of a .safetensors file or "
        "of a folder that has one"
    )


def _of_module(module: nn.Module) -> Source:
    """Its state dict, and the buffers that it leaves out of it: they tell whether ours are built alike."""
    return _of_mapping(module.state_dict() | dict(module.named_buffers()), type(module).__name__)


def _of_mapping(tensors: Mapping[str, Tensor], label: str) -> Source:
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            inner = f"init[{name!r}]" if isinstance(tensor, Mapping) else "module.state_dict()"
            raise WeightsError(f"{label} holds a {type(tensor).__name__} under {name!r}, no tensor: give {inner}")
        if tensor.is_meta:
            raise WeightsError(f"{name} of {label} is on the meta device and has no values: load its weights first")
    return Source(label, tuple(tensors), lambda: iter(tensors.items()))


def _of_path(path: Path) -> Source:
    if path.is_file() and path.name.endswith(".json"):
        return _of_index(path)
    if path.is_file():
        return _of_file(path)
    if not path.is_dir():
        raise WeightsError(f"{path} does not exist: give a .safetensors file, or a folder that has one")
    if (path / SINGLE).is_file():
        return _of_file(path / SINGLE)
    if (path / INDEX).is_file():
        return _of_index(path / INDEX)
    raise WeightsError(f"{path} has neither {SINGLE} nor {INDEX}: write them with model.save_pretrained(folder)")


def _of_file(path: Path) -> Source:
    return Source(str(path), _names(path), lambda: _tensors(path, _names(path)))


def _of_index(path: Path) -> Source:
    by_file: dict[str, list[str]] = {}
    for name, file in _weight_map(path).items():
        by_file.setdefault(file, []).append(name)
    for file, names in by_file.items():
        absent = sorted(set(names) - set(_names(path.parent / file)))
        if absent:
            raise WeightsError(f"{path} says that {absent[0]!r} is in {file}, where it is not: fetch the files again")

    def read() -> Iterator[tuple[str, Tensor]]:
        for file, names in by_file.items():
            yield from _tensors(path.parent / file, names)

    return Source(str(path.parent), tuple(name for names in by_file.values() for name in names), read)


def _weight_map(path: Path) -> dict[str, str]:
    """The file of each name, every one a plain name of a file that lies beside the index."""
    try:
        files: dict[str, str] = json_object(file_bytes(path, _MOST_BYTES), most_bytes=_MOST_BYTES, weight_map=dict)[
            "weight_map"
        ]
    except MalformedError as error:
        raise WeightsError(f"{path} {error}: fetch it again") from None
    if not files:
        raise WeightsError(f'{path} has an empty "weight_map" from names to files: fetch it again')
    for name, file in files.items():
        plain = isinstance(file, str) and re.fullmatch(r"[^/\\\x00-\x1f]+\.safetensors", file)
        if not plain:
            raise WeightsError(
                f"{path} puts {name!r} into {file!r}: it must be the plain name of a .safetensors file beside it"
            )
        if not (path.parent / file).is_file():
            raise WeightsError(f"{path} names {file}, which is not there: fetch the files that are missing")
    return files


def _names(path: Path) -> tuple[str, ...]:
    with _opened(path) as file:
        return tuple(file.keys())


def _tensors(path: Path, names: list[str] | tuple[str, ...]) -> Iterator[tuple[str, Tensor]]:
    with _opened(path) as file:
        for name in names:
            yield name, file.get_tensor(name)


def _opened(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is no safetensors file ({error}): write one with save_pretrained(folder) or "
            "safetensors.torch.save_file"
        ) from error
