"""The trainings of a trust report: some architectures alone, a few of them twice, at a planned cost.

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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from search_spaces import Architecture, Space
from supernets import calibrate
from supernets.ranking import RankingReport, Row, report
from supernets.scaled import initialised, train_alone
from supernets.strategies import Course, strategy
from supernets.supernet import Supernet
from supernets.tasks import Task
from supernets.training import TrainingConfig, TrainingError

logger = logging.getLogger(__name__)

FEWEST = 8
"""Networks of a report whose share is small: the order of fewer says nothing, and corrects nothing."""
MOST = 32
"""Networks of a report whose share is large; what is left makes their trainings longer."""
REPEATED = 1 / 3
FEWEST_REPEATED = 3
"""This share of the networks, and at least so many of them, are trained a second time."""
ENOUGH = 1 / 6
"""Of the supernet's steps: once each network is trained for so many, a larger share trains more networks. In
benchmarks/results/short_trainings.md, where supernets have 1,200 steps, 200 rank nearly as a whole training does."""
SHORT, SHORT_STEPS = 1 / 12, 50
"""Of the supernet's steps, and as a number: fewer rank poorly there, so a share that pays for fewer buys none. Whoever
states how many networks to train may know a task whose order shows sooner; then the number alone counts."""
_LOOKED_AT = 12  # steps of a strategy that its cost is estimated from, and networks

Cost = Callable[[Architecture], float]
"""The cost of one forward and backward pass of a network, in any unit."""


# --- what is to be trained ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StandalonePlan:
    """The trainings of a report."""

    archs: tuple[Architecture, ...]
    """From the smallest to the largest."""
    repeated: tuple[Architecture, ...]
    """Architectures to train a second time, with another seed."""
    steps: int
    """Number of steps of each training."""
    share: float
    """The cost of all trainings, as a share of the cost of the supernet's training."""
    asked: float
    """The share that was given."""
    refused: str = ""
    """Why nothing is trained, with the remedy: the share pays for nothing that could decide. Empty where it does."""

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
    front: Sequence[Architecture] = (),
) -> StandalonePlan:
    """The trainings that a share of a supernet's training pays for; none where they could decide nothing.

    At least FEWEST networks, those of REPEATED twice, of as many steps as the share surely pays for, SHORT at least; of
    more than ENOUGH of the supernet's steps only once there are MOST networks, and never of more than the
    supernet's.

    Args:
        networks, steps: stated ones are taken as they are; stated steps whatever they cost.
        front: as in `trust_sample`; as much of it as the share pays for. Its networks may be large, so steps are
            planned as if half of all networks were of the larger half, whatever front there is by now.
    """
    least = min(training_steps, SHORT_STEPS if networks else max(SHORT_STEPS, math.ceil(SHORT * training_steps)))
    if networks is None:
        few = trust_sample(space, FEWEST, rng, size)
        affordable = share * training_cost / (_mean(cost, few) * _reserve(cost, few))
        networks = num_networks(affordable, steps or max(least, math.ceil(ENOUGH * training_steps)))
    sample = trust_sample(space, networks, rng, size)
    one_step = _one_step(cost, sample) * _reserve(cost, sample)
    found = steps or min(training_steps, math.floor(share * training_cost / one_step))
    if steps is None and found < least:
        why = _refusal(share, found, least, math.ceil(100 * least * one_step / training_cost) / 100, len(sample))
        return StandalonePlan((), (), 0, 0.0, share, why)
    ordered = _by_size(dict.fromkeys(front), size)
    some_of_front = (spread(ordered, n) for n in range(min(networks // 2, len(ordered)), 0, -1))
    with_front = (trust_sample(space, networks, rng, size, few) for few in some_of_front)
    paid_for = (archs for archs in with_front if steps or _one_step(cost, archs) * found <= share * training_cost)
    archs = next(paid_for, sample)
    repeated = spread(archs, num_repeated(len(archs)))
    return StandalonePlan(tuple(archs), tuple(repeated), found, _one_step(cost, archs) * found / training_cost, share)


def _one_step(cost: Cost, archs: Sequence[Architecture]) -> float:
    """The cost of a step of each, and of those that are trained twice."""
    return sum(map(cost, archs)) + sum(map(cost, spread(archs, num_repeated(len(archs)))))


def _reserve(cost: Cost, archs: Sequence[Architecture]) -> float:
    """How many times as much networks cost of which half are of the larger half; they are sorted by size."""
    return (1 + _mean(cost, archs[len(archs) // 2 :]) / _mean(cost, archs)) / 2


def _refusal(share: float, found: int, least: int, needed: float, networks: int) -> str:
    paid = f"{found or 'no'} step{'s' * (found != 1)}"
    return (
        f"trust={share:g} pays for {paid} of each of {networks} networks trained alone, and fewer than {least} decide "
        f"nothing, so none are trained; trust={needed:g} pays for those"
    )


def _mean(cost: Cost, archs: Sequence[Architecture]) -> float:
    return sum(map(cost, archs)) / len(archs)


def num_networks(affordable: float, steps: int) -> int:
    """Return how many networks to train for so many steps, with `affordable` steps in all, repetitions included."""
    return min(MOST, max(FEWEST, math.floor(affordable / steps / (1 + REPEATED))))


def num_repeated(networks: int) -> int:
    """Return how many of so many networks to train a second time."""
    return min(networks, max(FEWEST_REPEATED, round(REPEATED * networks)))


def spread(archs: Sequence[Architecture], n: int) -> list[Architecture]:
    """Return `n` items, evenly spaced from the first to the last."""
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


def trust_sample(
    space: Space, n: int, rng: np.random.Generator, size: Cost, front: Sequence[Architecture] = ()
) -> list[Architecture]:
    """`n` distinct architectures from the smallest to the largest; all of them where there are no more.

    Up to half are spread over the sizes of `front`, for its networks are those to be chosen from. Of the others one is
    from each quantile of size: uniform samples crowd around the middle sizes, and the order of a few of one size says
    little about a whole space. It is the one of which those before it tell least, in a Bayesian linear model over
    choices and size (greedy D-optimal design, Chaloner and Verdinelli 1995), so that every option is seen.

    The quantiles are those of the whole space where it is small, else of 16 n uniform samples: `size` (number of
    parameters, say) should be cheap.
    """
    large = space.count_bound() > 16 * n
    pool = space.sample_many(16 * n, rng, distinct=True) if large else list(space.enumerate())
    in_front = _by_size(dict.fromkeys(front), size)
    given = spread(in_front, min(n // 2, len(in_front)))
    others = _by_size((arch for arch in pool if arch not in set(given)), size)
    strata = np.array_split(np.arange(len(others)), max(1, min(n - len(given), len(others))))
    told = _Told(_rows(space, [*others, *given], size))
    for index in range(len(given)):
        told.look(len(others) + index)
    for turn in rng.permutation(len(strata)):
        if len(strata[turn]):
            told.look(told.least_told(strata[turn]))
    every = [*others, *given]
    return _by_size((every[index] for index in told.seen), size)


def _by_size(archs: Iterable[Architecture], size: Cost) -> list[Architecture]:
    return sorted(archs, key=lambda arch: (size(arch), arch.digest))


def _rows(space: Space, archs: Sequence[Architecture], size: Cost) -> npt.NDArray[np.float64]:
    """(n, p) a constant, the choices and the logarithm of size, each of mean square 1 in all."""
    sizes = np.log(np.array([max(size(arch), 1e-9) for arch in archs]))[:, None]
    parts = [part - part.mean(0) for part in (space.encode(archs), sizes)]
    scaled = [part / (math.sqrt(float(np.square(part).sum(1).mean())) or 1.0) for part in parts]
    return np.hstack([np.ones((len(archs), 1)), *scaled])


class _Told:
    """What rows that were looked at, each with noise of variance 1, leave unsure of all rows (m, p)."""

    def __init__(self, rows: npt.NDArray[np.float64]) -> None:
        self.seen: list[int] = []
        self._rows = rows
        self._covariance = np.eye(rows.shape[1])

    def look(self, index: int) -> None:
        pull = self._covariance @ self._rows[index]
        self._covariance -= np.outer(pull, pull) / (1.0 + self._rows[index] @ pull)
        self.seen.append(index)

    def least_told(self, among: npt.NDArray[np.intp]) -> int:
        rows = self._rows[among]
        unsure = np.einsum("ij,jk,ik->i", rows, self._covariance, rows)
        return int(among[np.argmax(np.round(unsure, 9))])


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
    warm: bool = False,
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
        warm: begin with the inherited weights in place of the module's own initialisation. Such a label is near what a
            long training reaches after few steps, but knows what it inherited: it cannot judge the ranks by itself.
        directory: for checkpoints, so that a stopped training goes on too; they are gone once its row is told.
    """
    alone = _Alone(supernet, task, config, split, directory, progress, warm)
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
    return report([rows[arch.digest] for arch in archs], seed=config.seed)


@dataclass(frozen=True)
class _Alone:
    """Trains one architecture at a time."""

    supernet: Supernet
    task: Task
    config: TrainingConfig
    split: str
    directory: Path | None
    progress: bool
    warm: bool

    def row(self, arch: Architecture) -> Row:
        profile = self.supernet.profile(arch, self.task.example())
        inherited = calibrate.evaluate(self.supernet, arch, self.task, self.split)[self.task.metric]
        standalone, seconds = self.trained(arch, self.config.seed)
        return Row(arch, inherited, standalone, seconds, params=profile.params, macs=profile.macs)

    def trained(self, arch: Architecture, seed: int) -> tuple[float, float]:
        """The metric of a new training, infinity where it came to nothing; and its seconds."""
        began = time.monotonic()
        config = replace(self.config, seed=seed)
        space, build = self.supernet.space, self.supernet.build
        begun = self.supernet.extract(arch) if self.warm else initialised(build, arch, config, self.task.example(2))
        place, device = self._place(arch, seed), self.supernet.device
        try:
            module = train_alone(
                begun, self.task, config, space, build, device=device, directory=place, progress=self.progress
            )
        except TrainingError as error:
            logger.warning("%s trained alone: %s", arch.json(), error)
            return math.inf, time.monotonic() - began
        return self.task.evaluate(module, self.split)[self.task.metric], time.monotonic() - began

    def tidy(self, arch: Architecture, seed: int) -> None:
        """The training is kept as a row: its checkpoints are not needed any more."""
        if (place := self._place(arch, seed)) is not None:
            shutil.rmtree(place, ignore_errors=True)

    def _place(self, arch: Architecture, seed: int) -> Path | None:
        """Each setting has a folder: no training goes on from another's."""
        settings = json.dumps([self.task.digest, asdict(replace(self.config, seed=seed)), self.warm], sort_keys=True)
        known = hashlib.sha256(settings.encode()).hexdigest()[:8]
        return None if self.directory is None else self.directory / f"{arch.digest}-{known}"
