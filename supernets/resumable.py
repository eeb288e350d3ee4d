"""The one loop that survives being stopped: it runs steps, saves checkpoints, and resumes from the newest valid one.

Supernets, single networks and gradient searches train by it; what differs is a `Training`. What a step does must depend
on the training's state and the step's number alone: then a training killed anywhere and started again in the same
directory ends with the same bits as one never stopped. (On a GPU as far as its kernels are deterministic.)
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from supernets import checkpoints
from supernets.checkpoints import Checkpoint
from supernets.occupied import occupied
from supernets.progress import Interruption, reporting

logger = logging.getLogger(__name__)

MAX_SKIPPED_IN_A_ROW = 20


class Training(Protocol):
    """What the loop needs of the training it runs."""

    @property
    def steps(self) -> int:
        """Total number of steps."""

    @property
    def checkpoint_every(self) -> int:
        """Steps between checkpoints; 0 writes only one, at the end."""

    def take(self, index: int) -> float:
        """Do step `index` of 0 ... steps - 1, and return the loss to report."""

    def look(self, done: int) -> None:
        """Look at the state after `done` steps, as for a curve."""

    def is_over(self) -> bool:
        """Return whether it ends before its last step."""

    def settings(self) -> dict[str, Any]:
        """Return as JSON what must be equal for a training to resume."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that steps change."""

    def meta(self) -> dict[str, Any]:
        """Return as JSON what else they change."""

    def restore(self, found: Checkpoint) -> None:
        """Load the state of a checkpoint."""


@contextmanager
def resumed(training: Training, directory: Path | str | None) -> Iterator[Checkpoint]:
    """Lock a folder for a training and restore the newest valid checkpoint in it; yields that, of step 0 if none.

    Raises:
        CheckpointError: another process trains there, or the folder holds the checkpoints of another training.
    """
    with nullcontext() if directory is None else occupied(directory):
        if directory is None:
            yield Checkpoint(0, {}, {}, [])
            return
        found = checkpoints.newest(directory)
        for line in found.rejected:
            logger.warning("%s", line)
        if found.step > 0:
            with checkpoints.restoring(directory, found):
                adopt(training, directory, found)
            if found.step < training.steps:
                logger.info("going on from step %d of %s", found.step, directory)
        yield found


def adopt(training: Training, place: Path | str, found: Checkpoint) -> None:
    """Restore a checkpoint whose settings are the training's own; CheckpointError names the first that differs."""
    checkpoints.require_same(place, found.meta["settings"], training.settings())
    training.restore(found)


def meta(training: Training) -> dict[str, Any]:
    """Return the record of a checkpoint: the settings, and the state that is no tensor."""
    return {"settings": training.settings(), **training.meta()}


def run(training: Training, start: int, directory: Path | str | None, title: str, *, progress: bool) -> None:
    """Run the steps from `start` to the end; a signal ends it after the current step, with a checkpoint written."""
    done = start
    with (
        own_random_numbers(),
        Interruption() as interruption,
        reporting(title, done, training.steps, wanted=progress) as report,
    ):
        while done < training.steps and not training.is_over():
            loss = training.take(done)
            done += 1
            report(done, loss)
            training.look(done)
            leaving = interruption.signal is not None
            over = training.is_over() or due(done, training.steps, training.checkpoint_every)
            if directory is not None and (leaving or over):
                checkpoints.write(directory, done, training.tensors(), meta(training))
            if leaving:
                interruption.leave()


def due(done: int, steps: int, every: int) -> bool:
    """Return whether something that happens every so many steps, and at the end, happens after `done` steps."""
    return done == steps or (every > 0 and done % every == 0)


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def shapes(tensors: Mapping[str, Tensor]) -> str:
    """Return a digest of the names, shapes and types of tensors."""
    lines = "".join(f"{name}{tuple(t.shape)}{t.dtype}\n" for name, t in sorted(tensors.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


@contextmanager
def own_random_numbers() -> Iterator[None]:
    """Give the block torch's global generators; afterwards the caller's states are restored."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices=devices):
        yield


@dataclass
class Skipped:
    """Counts steps left out because a loss or a gradient was not finite, for each part that takes steps."""

    total: int = 0
    in_a_row: dict[str, int] = field(default_factory=dict)

    def note(self, part: str, finite: bool) -> int:
        """Count one step of a part; returns how many in a row it has left out, this one included."""
        self.in_a_row[part] = 0 if finite else self.in_a_row.get(part, 0) + 1
        self.total += not finite
        return self.in_a_row[part]

    def meta(self) -> dict[str, Any]:
        """Return the counts as JSON."""
        return {"skipped": self.total, "in_a_row": self.in_a_row}

    def restore(self, meta: Mapping[str, Any]) -> None:
        """Load the counts."""
        self.total, self.in_a_row = meta["skipped"], dict(meta["in_a_row"])
