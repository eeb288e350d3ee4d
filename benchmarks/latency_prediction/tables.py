"""The published tables of latencies, and the spaces their networks belong to.

Every loader takes the folder of the Parquet files. A value that was not published is nan; nothing else is changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from benchmarks.tables import CELL_OPERATIONS, TableError, read
from search_spaces import NASBench201Space, Space, choice
from search_spaces.nasbench201 import EDGES

if TYPE_CHECKING:
    from pandas import DataFrame

Vector = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int16]

BLOCKS = ("k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip")
"""As the tables number them: kernel, expansion, groups."""
HAT_FEATURES = (
    *(f"encoder_{name}" for name in ("embed_dim", "layer_num", "ffn_embed_dim_avg", "self_attention_heads_avg")),
    *(f"decoder_{name}" for name in ("embed_dim", "layer_num", "ffn_embed_dim_avg", "self_attention_heads_avg")),
    *("decoder_ende_attention_heads_avg", "decoder_arbitrary_ende_attn_avg"),
)


class FBNetSpace(Space):
    """FBNet (arXiv:1812.03443) as in HW-NAS-Bench: one of nine blocks in each of 22 layers."""

    op = choice(*sorted(BLOCKS, key=lambda block: (block != "skip", block)), per=22)


class OFAStage(Space):
    """Two to four blocks."""

    depth = choice(2, 3, 4)
    kernel = choice(3, 5, 7, per="depth")
    expansion = choice(3, 4, 6, per="depth")


class OFASpace(Space):
    """The MobileNetV3 of Once-for-all (arXiv:1908.09791): five stages and the image size."""

    resolution = choice(*range(128, 225, 4))
    stages = choice(OFAStage(), per=5)


@dataclass(frozen=True, eq=False)  # equal only to itself: arrays have no hash
class Table:
    """n networks of a space on several devices."""

    space: Space
    index: npt.NDArray[np.int64]
    """(n,) published numbers of the networks."""
    codes: Codes
    """(n, num_slots) options, as for `Space.encode`."""
    latency: dict[str, Vector]
    """Latencies by device, (n,) in milliseconds."""

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(self.latency)

    @cached_property
    def log(self) -> dict[str, Vector]:
        """Return (n,) logarithms of milliseconds, by device."""
        return {device: np.log(values) for device, values in self.latency.items()}


@dataclass(frozen=True, eq=False)
class Transformers:
    """n translation Transformers of one task on one device, in the order of their measurement."""

    features: Vector
    """(n, 10) features in the order of `HAT_FEATURES`."""
    latency: Vector
    """(n,) mean latencies over repeats, encoder and decoder together, in milliseconds."""
    std: Vector
    """(n, 2) standard deviations over repeats, of encoder and decoder, in milliseconds."""


def nasbench201(folder: Path) -> Table:
    """Return all 15,625 cells on 19 device settings, by number; raise TableError if something is missing."""
    return _cells(folder, read(folder, "nasbench201_latency.parquet", ["arch_index"]))


def nasbench201_subset(folder: Path) -> Table:
    """Return 1,999 of the cells on 9 other devices."""
    return _cells(folder, read(folder, "nasbench201_latency_subset.parquet", ["arch_index"]))


def has_path(table: Table) -> npt.NDArray[np.bool_]:
    """Return (n,) whether a path leads from the input of a cell to its output."""
    at = {edge: position for position, edge in enumerate(EDGES)}
    live = table.codes != table.space.slots[0].options.index("none")
    reached = {0: np.ones(len(live), dtype=np.bool_)}
    for node in (1, 2, 3):
        reached[node] = np.any([reached[source] & live[:, at[source, node]] for source in range(node)], axis=0)
    return reached[3]


def fbnet(folder: Path) -> Table:
    """Return 5,000 networks on 19 device settings."""
    columns = [f"op_{layer:02}" for layer in range(22)]
    frame = read(folder, "fbnet_latency.parquet", ["arch_index", *columns])
    space = FBNetSpace()
    ours = np.array([space.slots[0].options.index(block) for block in BLOCKS], dtype=np.int16)
    return _table(space, frame, ours[frame[columns].to_numpy()], columns)


def ofa(folder: Path) -> Table:
    """Return 5,000 networks on 9 settings of graphics cards."""
    blocks = [f"{letter}_{block:02}" for letter in ("ks", "e") for block in range(20)]
    columns = ["resolution", *(f"d_{stage}" for stage in range(5)), *blocks]
    frame = read(folder, "ofa_latency.parquet", ["arch_index", *columns])
    space = OFASpace()
    return _table(space, frame, _ofa_codes(space, frame), columns)


def hat(folder: Path) -> dict[tuple[str, str], Transformers]:
    """Return the tables by task and device, each with 2,000 rows."""
    columns = ["task", "device", "row", *HAT_FEATURES, "latency_std_encoder", "latency_std_decoder", "latency_total"]
    frame = read(folder, "hat_latency.parquet", columns).sort_values("row")
    return {
        (str(task), str(device)): Transformers(
            rows[list(HAT_FEATURES)].to_numpy(dtype=np.float64),
            rows["latency_total"].to_numpy(dtype=np.float64),
            rows[["latency_std_encoder", "latency_std_decoder"]].to_numpy(dtype=np.float64),
        )
        for (task, device), rows in frame.groupby(["task", "device"])
    }


def _cells(folder: Path, latency: DataFrame) -> Table:
    edges = [f"op_{source}{target}" for source, target in EDGES]
    cells = read(folder, "nasbench201_accuracy.parquet", ["arch_index", *edges])[["arch_index", *edges]]
    frame = latency.merge(cells, on="arch_index", validate="one_to_one").sort_values("arch_index")
    if len(frame) < len(latency):
        missing = len(latency) - len(frame)
        raise TableError(f"{missing} cells of {folder} have a latency but no operations: give the whole tables")
    space = NASBench201Space()
    ours = np.array([space.slots[0].options.index(name) for name in CELL_OPERATIONS], dtype=np.int16)
    return _table(space, frame, ours[frame[edges].to_numpy()], edges)


def _table(space: Space, frame: DataFrame, codes: Codes, declared: Sequence[str]) -> Table:
    """What is neither number nor operation of a network is a device."""
    devices = [name for name in frame if name not in ("arch_index", *declared)]
    latency = {str(device): frame[device].to_numpy(dtype=np.float64) for device in devices}
    return Table(space, frame["arch_index"].to_numpy(dtype=np.int64), codes, latency)


def _ofa_codes(space: Space, frame: DataFrame) -> Codes:
    codes = np.zeros((len(frame), len(space.slots)), dtype=np.int16)  # "stages.1" itself has one option
    for position, slot in enumerate(space.slots):
        column, least_depth = _ofa_column(slot.path)
        if column:
            code_of = {option: code for code, option in enumerate(slot.options)}
            active = frame[f"d_{slot.path.split('.')[1]}"].to_numpy() >= least_depth if least_depth else True
            codes[:, position] = np.where(active, frame[column].map(code_of).fillna(-1).to_numpy(), -1)
    return codes


def _ofa_column(path: str) -> tuple[str, int]:
    """Return the column of a slot, and the depth from which it is active (0: always)."""
    match path.split("."):
        case [_, stage, "depth"]:
            return f"d_{stage}", 0
        case [_, stage, "kernel" | "expansion" as what, block]:
            return f"{'ks' if what == 'kernel' else 'e'}_{4 * int(stage) + int(block):02}", int(block) + 1
        case [name]:
            return name, 0
    return "", 0
