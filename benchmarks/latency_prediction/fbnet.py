"""FBNet: latency of networks of a space of 9^22, from ten measured on a device, or a hundred with no other known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from benchmarks.latency_prediction import leave_out
from benchmarks.latency_prediction.rotations import (
    ALONE,
    BASELINES,
    CEILING,
    DESIGNED,
    RANDOM,
    SPREAD,
    Row,
    Rows,
    Unseen,
    chosen,
    evaluated,
    fitted_many,
    rotations,
    scored,
)
from benchmarks.latency_prediction.tables import Table, Vector, fbnet
from nas.predictors.transfer import Transfer

NAME = "fbnet"
MEASURED = 10
MEASURED_ALONE = 100
ALONE_ROTATION = "alone"
CEILING_PART = 0.8
"""Of the networks, measured for the ceiling."""
AIM = 0.93
AIMED = (RANDOM, DESIGNED)
WHOLE_MILLISECONDS = ("essential_ph_1", "samsung_a50", "samsung_s7")
_REFERENCE = 300


@dataclass(frozen=True, eq=False)
class Networks:
    """The table, with predictors of all its devices."""

    table: Table
    _made: dict[tuple[str, ...], Unseen] = field(default_factory=dict)

    @cached_property
    def onehot(self) -> Rows:
        return self.table.space.encode(self.table.codes).astype(float)

    @cached_property
    def known(self) -> Rows:
        """Return (n, devices) predictions, each of a predictor fitted to all measurements of its device."""
        return fitted_many(self.onehot, np.stack(list(self.table.latency.values()), axis=1), self.onehot)

    def beside(self, unseen: tuple[str, ...]) -> Unseen:
        """Return the data of a new device; all devices except `unseen` are known."""
        if unseen not in self._made:
            self._made[unseen] = self._unseen([device for device in self.table.devices if device not in unseen])
        return self._made[unseen]

    def _unseen(self, known: Sequence[str]) -> Unseen:
        at = [self.table.devices.index(device) for device in known]
        errors = np.array([(self.known[:, i] - self.table.latency[self.table.devices[i]]).std() for i in at])
        reference = np.random.default_rng(0).permutation(len(self.onehot))[:_REFERENCE]
        return Unseen.of(self.table, self.known[:, at], errors, np.empty((len(self.onehot), 0)), reference)


def rows(data: Path, draws: int, done: Callable[[Row], bool]) -> Iterator[Row]:
    """Yield rows of every rotation, and of every device alone."""
    networks = Networks(fbnet(data))
    table = networks.table
    yield from _todo(_ceilings(table, draws), done, lambda keys: _ceiling(networks, keys))
    for draw in range(draws):
        for rotation, turns in rotations(64).items():
            for turn, unseen in enumerate(turns):
                shared = {"part": NAME, "rotation": rotation, "turn": turn, "draw": draw, "k": MEASURED}
                asked = unseen if rotation == SPREAD else unseen[:3]
                designs = (RANDOM, DESIGNED) if rotation == SPREAD else (RANDOM,)
                keys = [{**shared, "device": device, "design": design} for device in asked for design in designs]
                yield from _todo(keys, done, partial(_scored, networks, unseen))
        shared = {"part": NAME, "rotation": ALONE_ROTATION, "turn": 0, "draw": draw, "k": MEASURED_ALONE}
        keys = [{**shared, "device": device, "design": RANDOM} for device in table.devices]
        yield from _todo(keys, done, lambda key: _alone(networks, key))


def report(rows: Sequence[Row]) -> list[str]:
    """Return tables of every rotation and of each device of the first one, and the aim."""
    own = {design: [r for r in rows if r["rotation"] == SPREAD and r["design"] == design] for design in AIMED}
    alone = [row for row in rows if row["rotation"] == ALONE_ROTATION]
    reached = [f"{design} {leave_out.aimed(of, {MEASURED: AIM}, 0)}" for design, of in own.items()]
    whole = [[row for row in of if row["device"] not in WHOLE_MILLISECONDS] for of in own.values()]
    apart = [f"{design} {leave_out.aimed(of, {MEASURED: AIM}, 0)}" for design, of in zip(AIMED, whole, strict=True)]
    return [
        "## FBNet, devices left out",
        "",
        "As above, on 5,000 random networks; known devices are ridge on one-hot operations.",
        *leave_out.sections(rows),
        "",
        "Each device, settings spread, ten drawn at random; then a hundred with no other known:",
        "",
        leave_out.by_device(own[RANDOM], [MEASURED]),
        "",
        leave_out.by_device(alone, [MEASURED_ALONE]),
        "",
        f"Spearman of the transfer: {'; '.join(reached)}.",
        f"Without the three phones whose table is whole milliseconds: {'; '.join(apart)}.",
    ]


def _todo(keys: Sequence[Row], done: Callable[[Row], bool], make: Callable[[Row], Row]) -> Iterator[Row]:
    return ({**key, **make(key)} for key in keys if not done(key))


def _scored(networks: Networks, unseen: tuple[str, ...], key: Row) -> Row:
    new, y = networks.beside(unseen), networks.table.latency[key["device"]]
    measured = chosen(new, key["design"], y, key["k"], [key["turn"], key["draw"]])
    return evaluated(new, y, measured, np.ones(len(y), dtype=np.bool_))


def _alone(networks: Networks, key: Row) -> Row:
    """Evaluate a device with no other one known: the predictor is the ensemble."""
    y, codes = networks.table.latency[key["device"]], networks.table.codes
    measured = np.random.default_rng([5, key["draw"]]).permutation(len(y))[: key["k"]]
    new = Unseen(networks.onehot, np.empty((len(y), 0)), None, networks.onehot)
    means = {name: BASELINES[name](new, measured, y[measured]) for name in ALONE}
    predictor = Transfer(networks.table.space, {})
    predictor.fit(codes[measured], y[measured])
    means["transfer"] = predictor.predict(codes)[0]
    return {"scores": _scores(means, y, measured)}


def _ceilings(table: Table, draws: int) -> list[Row]:
    shared = {"part": NAME, "rotation": CEILING, "k": round(CEILING_PART * len(table.codes))}
    return [{**shared, "device": device, "draw": draw} for device in table.devices for draw in range(draws)]


def _ceiling(networks: Networks, key: Row) -> Row:
    y = networks.table.latency[key["device"]]
    measured = np.random.default_rng([99, key["draw"]]).permutation(len(y))[: key["k"]]
    mean = fitted_many(networks.onehot[measured], y[measured, None], networks.onehot)[:, 0]
    return {"scores": _scores({"ridge on one-hot": mean}, y, measured)}


def _scores(means: dict[str, Vector], y: Vector, measured: npt.NDArray[np.intp]) -> dict[str, list[float]]:
    others = np.ones(len(y), dtype=np.bool_)
    others[measured] = False
    ranks = rankdata(y[others])
    return {name: scored(mean, y, ranks, others, others) for name, mean in means.items()}
