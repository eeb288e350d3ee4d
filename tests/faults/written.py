"""A run's folder as this package writes it, and ways to damage its files."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from supernets import _load, checkpoints
from tests.supernets.test_export import export_case

CHECKPOINTS, EXPORT = "supernet", "network"


def run_folder(place: Path) -> Path:
    """Two checkpoints and a network exported in three formats."""
    generator = torch.Generator().manual_seed(0)
    for step in (1, 2):
        tensors = {f"weights.{name}": torch.randn(12, 9, generator=generator) for name in "abcd"}
        curve = [{"step": at, "split": "valid", "metric": "error", "value": 1 / (at + 1)} for at in range(40)]
        checkpoints.write(place / CHECKPOINTS, step, tensors, {"settings": {"lr": 0.1}, "curve": curve})
    export_case("mlp", place / EXPORT)
    return place


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@contextmanager
def content(path: Path, damaged: bytes) -> Iterator[None]:
    """The file has another content meanwhile."""
    whole = path.read_bytes()
    path.write_bytes(damaged)
    try:
        yield
    finally:
        path.write_bytes(whole)


def flips(folder: Path, number: int, seed: int) -> Iterator[tuple[Path, bytes]]:
    """Files with one bit flipped: half of them drawn among the files, half among all bytes."""
    rng, there = np.random.default_rng(seed), [path for path in files(folder) if path.stat().st_size]
    share = np.array([path.stat().st_size for path in there], float)
    for turn in range(number):
        path = there[rng.choice(len(there), p=share / share.sum() if turn % 2 else None)]
        damaged = bytearray(path.read_bytes())
        damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        yield path, bytes(damaged)


def cuts(folder: Path, number: int, seed: int) -> Iterator[tuple[Path, bytes]]:
    """Files that end too soon, as many of each."""
    rng, there = np.random.default_rng(seed), [path for path in files(folder) if path.stat().st_size]
    for turn in range(number):
        whole = there[turn % len(there)].read_bytes()
        yield there[turn % len(there)], whole[: rng.integers(len(whole))]


def seal(folder: Path) -> None:
    """Put the hashes of an export right, as whoever writes a folder can."""
    named = {path.relative_to(folder).as_posix(): _load.digest(path) for path in files(folder)}
    (folder / _load.SUMS).write_bytes(_load.written({name: sha for name, sha in named.items() if name != _load.SUMS}))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what an export's record says, under right hashes."""
    path = folder / "architecture.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    seal(folder)
