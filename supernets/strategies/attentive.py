"""The sandwich with attention: random networks are the best, or the worst, of some of about one size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from search_spaces import Architecture, Space
from supernets.steps import Course, Distil, Feedback, Pass, Plan, Step, Strategy, StrategyError

TOWARDS = ("best", "worst")
POOL = 200  # networks whose sizes are known, to choose candidates from
NEAR = 0.1  # how far, as a share of the size wished for, a candidate's may be from it
FORGET = 0.995  # what is left after a step of what the steps before it taught: half of it after 138
RIDGE = 1.0  # as if each weight had been seen once to be 0

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Attentive(Strategy):
    """Largest, smallest and, for random sizes, the most (or least) promising of some (AttentiveNAS, arXiv:2011.09011).

    The largest network learns the task, the others its output on the same batch, as in the sandwich. For each random
    one a size is drawn, and of several networks of about that size the one is taken whose loss is predicted lowest, or
    highest. From the paper are the rule, the two directions and the three candidates; what follows is ours.

    *Sizes* are numbers of parameters. A pool of 200 networks, drawn uniformly, stands for the space's distribution of
    sizes: the size wished for is that of one of them, and the candidates are the nearest in size, none further than a
    tenth of it. All networks that were candidates in a step are then replaced by new draws, so a long training looks at
    the whole space, and the pool stays as uniform as it was.

    *The prediction* is a ridge regression, on the encoding of the space, of a network's loss less the smallest one's in
    the same step, for both imitate one teacher on one batch, so what is hard about the batch cancels. It forgets: as
    networks train, their losses move. Until as many losses have been seen as the encoding has columns, candidates are
    taken at random.
    """

    name: ClassVar[str] = "attentive"

    towards: str = "best"
    """best or worst: which of the candidates is trained."""
    candidates: int = 3
    num_random: int = 2

    def __post_init__(self) -> None:
        if self.towards not in TOWARDS:
            raise StrategyError(f"towards = {self.towards!r}: choose {' or '.join(TOWARDS)}")
        for name, least in (("candidates", 1), ("num_random", 0)):
            if getattr(self, name) < least:
                raise StrategyError(f"{name} = {getattr(self, name)}: it must be {least} or more")

    @property
    def compares_logits(self) -> bool:
        return True

    def plan(self, course: Course) -> Plan:
        return _Attending(self, course)


class _Attending(Plan):
    def __init__(self, strategy: Attentive, course: Course) -> None:
        self._strategy = strategy
        self._course = course
        # four numbers, and three below: streams that no step's own random numbers come from
        drawn = course.space.sample_many(POOL, np.random.default_rng([course.seed, 0, 7, 0]))
        self._pool = _Pool(course, drawn)
        self._forecast = _Forecast(course.space)

    def step(self, index: int) -> Step:
        space, rng = self._course.space, self._course.rng(index)
        chosen = [self._choose(candidates, rng) for candidates in self._candidates(rng)]
        others = (Pass(arch, task=0.0, distil=Distil()) for arch in (*chosen, space.smallest()))
        return Step((Pass(space.largest()), *others))

    def _candidates(self, rng: np.random.Generator) -> list[list[int]]:
        """For each random network its candidates, as places in the pool."""
        strategy = self._strategy
        return [self._pool.near(self._pool.size(rng), strategy.candidates) for _ in range(strategy.num_random)]

    def _choose(self, candidates: list[int], rng: np.random.Generator) -> Architecture:
        archs = [self._pool.archs[place] for place in candidates]
        if not self._forecast.ready:
            return archs[int(rng.integers(len(archs)))]
        losses = self._forecast(archs)
        return archs[int(losses.argmin() if self._strategy.towards == "best" else losses.argmax())]

    def observe(self, feedback: Feedback) -> None:
        losses = np.array(feedback.losses)
        if feedback.finite and self._strategy.num_random:
            archs = [one.arch for one in feedback.step.passes[1:-1]]
            self._forecast.learn(archs, losses[1:-1] - losses[-1])
        considered = sorted(
            {place for places in self._candidates(self._course.rng(feedback.index)) for place in places}
        )
        self._pool.replace(considered, np.random.default_rng([self._course.seed, feedback.index, 7]))

    def state(self) -> dict[str, Tensor]:
        codes = self._course.space.codes(self._pool.archs)
        return {"pool": torch.from_numpy(codes), **self._forecast.state()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._pool = _Pool(self._course, self._course.space.decode(state["pool"].numpy()))
        self._forecast.restore(state)


class _Pool:
    """Networks and their sizes."""

    def __init__(self, course: Course, archs: list[Architecture]) -> None:
        self._course = course
        self.archs = archs
        self.sizes = np.array([course.size(arch) for arch in archs])

    def size(self, rng: np.random.Generator) -> int:
        """A size, as likely as it is among the networks."""
        return int(self.sizes[rng.integers(len(self.sizes))])

    def near(self, size: int, most: int) -> list[int]:
        """The places of different networks, nearest first: up to `most`, none further from the size than NEAR of it."""
        found: dict[Architecture, int] = {}
        distances = np.abs(self.sizes - size)
        for place in np.argsort(distances, kind="stable").tolist():
            if len(found) == most or distances[place] > NEAR * size:
                break
            found.setdefault(self.archs[place], place)
        return list(found.values())

    def replace(self, places: list[int], rng: np.random.Generator) -> None:
        """Put new networks there."""
        for place, arch in zip(places, self._course.space.sample_many(len(places), rng), strict=True):
            self.archs[place] = arch
            self.sizes[place] = self._course.size(arch)


class _Forecast:
    """Ridge regression on encodings and a constant, with forgetting: sums that shrink with each step."""

    def __init__(self, space: Space) -> None:
        self._space = space
        columns = len(space.feature_names()) + 1
        self._squares = np.zeros((columns, columns))
        self._products = np.zeros(columns)
        self._seen = 0
        self._weights: Numbers | None = None  # of what is known now, once needed

    @property
    def ready(self) -> bool:
        return self._seen >= len(self._products)

    def __call__(self, archs: list[Architecture]) -> Numbers:
        weights = self._weights
        if weights is None:
            damping = RIDGE * np.eye(len(self._products))
            damping[0, 0] = 1e-9  # the constant is not held back
            weights = self._weights = np.asarray(np.linalg.solve(self._squares + damping, self._products))
        return np.asarray(self._rows(archs) @ weights)

    def learn(self, archs: list[Architecture], losses: Numbers) -> None:
        rows = self._rows(archs)
        self._squares = FORGET * self._squares + rows.T @ rows
        self._products = FORGET * self._products + rows.T @ losses
        self._seen += len(archs)
        self._weights = None

    def _rows(self, archs: list[Architecture]) -> Numbers:
        encoded = self._space.encode(archs).astype(np.float64)
        return np.concatenate([np.ones((len(archs), 1)), encoded], axis=1)

    def state(self) -> dict[str, Tensor]:
        return {
            "squares": torch.from_numpy(self._squares.copy()),
            "products": torch.from_numpy(self._products.copy()),
            "seen": torch.tensor(self._seen),
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._squares, self._products = (state[name].numpy().copy() for name in ("squares", "products"))
        self._seen = int(state["seen"])
        self._weights = None
