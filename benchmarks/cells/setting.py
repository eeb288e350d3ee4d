"""What all runs have in common: tables, images, network, training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from benchmarks.cells.tables import Tables
from benchmarks.truth import image
from nas.data import fashion_mnist
from search_spaces import Space
from supernets import Supernet
from supernets.models import nasbench201
from supernets.tasks import Classification
from supernets.training import TrainingConfig

NUM_VALID = 256
"""Images that a cell with inherited weights is judged by: few, because they count as passes."""
NUM_CALIBRATION = 4
"""Batches of its batch-norm statistics."""


@dataclass(frozen=True, eq=False)
class Setting:
    """Tables, task and supernet; the network has one cell in each of three stages."""

    tables: Tables
    task: Classification
    training: TrainingConfig
    width: int
    num_fitted: int
    """Number of cells to whose published latencies the expected costs are fitted."""
    space: Space
    """Space of the supernet: all cells, or some."""

    def supernet(self, seed: int) -> Supernet:
        build = partial(nasbench201.build, in_channels=1, width=self.width, num_cells=1)
        return Supernet(self.space, build, seed=seed)

    @cached_property
    def digest(self) -> str:
        """Digest of everything that runs depend on, except the job."""
        known = [self.tables.digest, self.task.digest, repr(self.training), self.width, self.num_fitted]
        return hashlib.sha256(json.dumps([*known, NUM_CALIBRATION]).encode()).hexdigest()[:12]


def real(tables: Tables) -> Setting:
    """Return Fashion-MNIST at 14 x 14 pixels; weights train as those of networks alone in `benchmarks.truth.image`.

    Raises:
        DataError: the package of the images is not installed.
    """
    data = fashion_mnist()
    train, valid = ((image.halved(images), labels) for images, labels in (data.train, data.valid))
    few = np.linspace(0, len(valid[1]) - 1, NUM_VALID).astype(int)
    task = Classification(train, (valid[0][few], valid[1][few]), batch_size=32, name="fashion-mnist of 14 x 14")
    training = TrainingConfig(lr=1.5e-2, weight_decay=0.01, precision="fp32", evaluate_every=0, checkpoint_every=0)
    return Setting(tables, task, training, width=8, num_fitted=2000, space=tables.space)


def toy(tables: Tables) -> Setting:
    """Return vertical or horizontal stripes in noise, to test the benchmark in seconds."""
    rng = np.random.default_rng(0)

    def drawn(n: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        labels = rng.integers(2, size=n)
        stripes = np.broadcast_to(np.arange(4) % 2, (n, 4, 4))
        images = np.where(labels[:, None, None] == 1, stripes, stripes.swapaxes(1, 2))
        return (images + rng.normal(size=images.shape)).astype(np.float32)[:, None], labels

    training = TrainingConfig(lr=1.5e-2, precision="fp32", evaluate_every=0, checkpoint_every=0)
    task = Classification(drawn(64), drawn(8), batch_size=8)
    space = tables.space.where(op=("skip_connect", "nor_conv_1x1"))
    return Setting(tables, task, training, width=2, num_fitted=40, space=space)


SETTINGS: dict[str, Callable[[Tables], Setting]] = {"real": real, "toy": toy}
