"""What a trust report trains, at which cost, and the training of it: some architectures alone, a few of them twice.

The cost of a training is counted in multiply-accumulates of an example, summed over all its forward and backward
passes: a step of a supernet that sums four networks costs those four. A report is given a share of what the supernet's
training costs; from this follow the number of networks and the steps of each.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from search_spaces import Architecture, Space
from supernets import calibrate
from supernets.ranking import RankingReport, Row, report
from supernets.skeleton import build_initialised
from supernets.strategies import Course, strategy
from supernets.supernet import Supernet
from supernets.tasks import Task
from supernets.training import TrainingConfig, TrainingError, train_network

logger = logging.getLogger(__name__)

FEWEST = 6
"""Networks of a report whose share is small: the order of fewer says nothing."""
MOST = 24
"""Networks of a report whose share is large; what is left makes their trainings longer."""
REPEATED = 1 / 3
FEWEST_REPEATED = 3
"""This share of the networks, and at least so many of them, are trained a second time."""
ENOUGH = 1 / 4
"""Of the supernet's steps: once each network is trained for so many, a larger share trains more networks."""
SHORT, SHORT_STEPS = 1 / 40, 50
"""Of the supernet's steps, and as a number: where a share does not pay for these, its report comes to no conclusion."""
_LOOKED_AT = 12  # steps of a strategy that its cost is estimated from, and networks

Cost = Callable[[Architecture], float]
"""Of one forward and backward pass of a network, in any unit."""


# --- what is to be trained ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StandalonePlan:
    """The trainings of a report."""

    archs: tuple[Architecture, ...]
    """From the smallest to the largest."""
    repeated: tuple[Architecture, ...]
    """Those that are trained a second time with another seed."""
    steps: int
    """Of each training."""
    share: float
    """The cost of all of them, as a share of the cost of the supernet's training."""
    asked: float
    """The share that was given."""
    caveat: str = ""
    """Why nothing can be concluded from such a report, for its verdict; empty where something can."""

    @property
    def trainings(self) -> int:
        return len(self.archs) + len(self.repeated)


def plan(
    space: Space,
    cost: Cost,
    training_cost: float,
    training_steps: int,
    share: float,
    rng: np.random.Generator,
    size: Cost,
    *,
    networks: int | None = None,
    steps: int | None = None,
) -> StandalonePlan:
    """The trainings that a share of a supernet's training pays for.

    At least FEWEST networks, those of REPEATED twice, and of as many steps as the share then pays for; of more than
    ENOUGH of the supernet's steps only once there are MOST networks, and never of more than the supernet's.

    Args:
        networks, steps: stated ones are taken as they are, whatever they cost.
    """
    least = min(training_steps, max(SHORT_STEPS, math.ceil(SHORT * training_steps)))
    if networks is None:
        few = trust_sample(space, FEWEST, rng, size)
        affordable = share * training_cost / _mean(cost, few)
        networks = num_networks(affordable, steps or max(least, math.ceil(ENOUGH * training_steps)))
    archs = trust_sample(space, networks, rng, size)
    repeated = spread(archs, num_repeated(len(archs)))
    one_step = sum(map(cost, archs)) + sum(map(cost, repeated))
    found = steps or min(training_steps, max(1, math.floor(share * training_cost / one_step)))
    caveat = ""
    if steps is None and found < least:
        needed = math.ceil(100 * least * one_step / training_cost) / 100
        caveat = (
            f"a share of {share:g} of the supernet's training pays for {found} steps of each network alone, and fewer "
            f"than {least} say little; a share of {needed:g} pays for those"
        )
    return StandalonePlan(tuple(archs), tuple(repeated), found, one_step * found / training_cost, share, caveat)


def _mean(cost: Cost, archs: Sequence[Architecture]) -> float:
    return sum(map(cost, archs)) / len(archs)


def num_networks(affordable: float, steps: int) -> int:
    """How many networks to train for so many steps when `affordable` steps can be paid for, repetitions included."""
    return min(MOST, max(FEWEST, math.floor(affordable / steps / (1 + REPEATED))))


def num_repeated(networks: int) -> int:
    """How many of so many networks to train a second time."""
    return min(networks, max(FEWEST_REPEATED, round(REPEATED * networks)))


def spread(archs: Sequence[Architecture], n: int) -> list[Architecture]:
    """`n` of them, evenly from the first to the last."""
    return [archs[round(i)] for i in np.linspace(0, len(archs) - 1, n)]


def training_cost(supernet: Supernet, task: Task, config: TrainingConfig, cost: Cost) -> float:
    """The cost of all passes of a supernet's training, from a few steps spread over it."""
    course = Course(supernet.space, config.seed, config.steps, lambda step: 1.0, supernet, task)
    steps = strategy(config.strategy).plan(course)
    looked_at = sorted({round(i) for i in np.linspace(0, config.steps - 1, _LOOKED_AT)})
    costs = [sum(cost(one.arch) for one in steps.step(index).passes) for index in looked_at]
    return config.steps * sum(costs) / len(costs)


def macs(supernet: Supernet, task: Task) -> Cost:
    """The cost of a pass in multiply-accumulates, each network counted once."""
    example = task.example()
    return lru_cache(maxsize=None)(lambda arch: float(max(1, supernet.profile(arch, example).macs)))


def trust_sample(space: Space, n: int, rng: np.random.Generator, size: Cost) -> list[Architecture]:
    """`n` distinct architectures, one uniformly from each n-quantile of size; all of them where there are no more.

    Uniform samples crowd around the middle sizes; the order of a few of one size says little about a whole space. The
    quantiles are those of the whole space where it is small, else of 16 n uniform samples: `size` (number of
    parameters, say) should be cheap.
    """
    large = space.count() > 16 * n
    pool = space.sample_many(16 * n, rng, distinct=True) if large else list(space.enumerate())
    ordered = sorted(pool, key=lambda arch: (size(arch), arch.digest))
    strata = np.array_split(np.arange(len(ordered)), min(n, len(ordered)))
    return [ordered[rng.choice(stratum)] for stratum in strata]


# --- training it --------------------------------------------------------------------------------------------------


def measure(
    supernet: Supernet,
    task: Task,
    archs: Sequence[Architecture],
    config: TrainingConfig,
    *,
    repeated: Sequence[Architecture] | None = None,
    split: str = "valid",
    done: Mapping[str, Row] | None = None,
    on_row: Callable[[Row], None] | None = None,
    directory: Path | None = None,
    progress: bool = True,
    caveat: str = "",
) -> RankingReport:
    """Train each architecture alone, from its module's own initialisation, and set it against what it inherits.

    All are evaluated with batch-norm statistics from the same batches. A training whose losses are not finite counts
    as metric infinity, not as an error: it is a finding, and is left out of the ranks and counted.

    Args:
        config: of the stand-alone trainings; same loop and settings as the supernet's, with steps that are enough.
        repeated: those to train again with the next seed, once all have been trained; None takes a third of them.
        done: rows known already by the architecture's digest, as `on_row` gave them: what they hold is not trained
            again.
        on_row: told each row that is new or has a new repetition, to keep it; a stopped report goes on by handing them
            back as `done`.
        directory: for checkpoints, so that a stopped training goes on too; they are gone once its row is told.
        caveat: as `ranking.report` has it.
    """
    alone = _Alone(supernet, task, config, split, directory, progress)
    rows = dict(done or {})
    again = {arch.digest for arch in (spread(archs, num_repeated(len(archs))) if repeated is None else repeated)}

    def keep(row: Row, seed: int) -> None:
        rows[row.arch.digest] = row
        if on_row is not None:
            on_row(row)
        alone.tidy(row.arch, seed)

    for arch in archs:
        if arch.digest not in rows:
            keep(alone.row(arch), config.seed)
    for arch in archs:
        row = rows[arch.digest]
        if arch.digest in again and not row.again:
            metric, seconds = alone.trained(arch, config.seed + 1)
            keep(replace(row, again=(metric,), seconds=row.seconds + seconds), config.seed + 1)
    return report([rows[arch.digest] for arch in archs], seed=config.seed, caveat=caveat)


@dataclass(frozen=True)
class _Alone:
    """Trains one architecture at a time."""

    supernet: Supernet
    task: Task
    config: TrainingConfig
    split: str
    directory: Path | None
    progress: bool

    def row(self, arch: Architecture) -> Row:
        profile = self.supernet.profile(arch, self.task.example())
        inherited = calibrate.evaluate(self.supernet, arch, self.task, self.split)[self.task.metric]
        standalone, seconds = self.trained(arch, self.config.seed)
        return Row(arch, inherited, standalone, seconds, params=profile.params, macs=profile.macs)

    def trained(self, arch: Architecture, seed: int) -> tuple[float, float]:
        """The metric of a new training, infinity where it came to nothing; and its seconds."""
        began = time.monotonic()
        config = replace(self.config, seed=seed)
        module = build_initialised(self.supernet.build, arch, seed).to(self.supernet.device)
        try:
            train_network(module, self.task, config, directory=self._place(arch, seed), progress=self.progress)
        except TrainingError as error:
            logger.warning("%s trained alone: %s", arch.json(), error)
            return math.inf, time.monotonic() - began
        calibrate.recalibrate(module, self.task.calibration(calibrate.NUM_BATCHES))
        return self.task.evaluate(module, self.split)[self.task.metric], time.monotonic() - began

    def tidy(self, arch: Architecture, seed: int) -> None:
        """The training is kept as a row: its checkpoints are not needed any more."""
        if (place := self._place(arch, seed)) is not None:
            shutil.rmtree(place, ignore_errors=True)

    def _place(self, arch: Architecture, seed: int) -> Path | None:
        """Each setting has a folder: no training goes on from another's."""
        settings = json.dumps([self.task.digest, asdict(replace(self.config, seed=seed))], sort_keys=True)
        known = hashlib.sha256(settings.encode()).hexdigest()[:8]
        return None if self.directory is None else self.directory / f"{arch.digest}-{known}"
