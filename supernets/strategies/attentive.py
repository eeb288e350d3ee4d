"""The attentive sandwich rule: random networks are the best, or the worst, of several of similar size."""

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
POOL = 200  # networks of known size from which candidates come
NEAR = 0.1  # largest deviation of a candidate's size, relative to the target size
FORGET = 0.995  # decay of earlier observations per step: half remains after 138 steps
RIDGE = 1.0  # ridge penalty: as if each weight had been observed once as 0

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Attentive(Strategy):
    """Largest, smallest and, for random sizes, the most (or least) promising candidate (AttentiveNAS,
    arXiv:2011.09011).

    The largest network learns the task; the others learn its output on the same batch, as in the sandwich rule. For
    each random network the strategy draws a size, and among several networks of about that size trains the one with the
    lowest, or highest, predicted loss. The rule, the two directions and the three candidates come from the paper; the
    rest is ours.

    *Sizes* are numbers of parameters. A pool of 200 uniformly drawn networks represents the space's distribution of
    sizes: the target size is that of one of them, and the candidates are the nearest in size, within a tenth of it.
    After each step new draws replace all its candidates, so a long training covers the whole space and the pool stays
    uniform.

    *The prediction* is a ridge regression, on the space's encoding, of a network's loss minus the smallest network's
    loss in the same step. Both imitate one teacher on one batch, so the difficulty of the batch cancels. Old
    observations decay, because losses change during training. Until the number of observed losses reaches the number of
    columns, candidates are chosen at random.
    """

    name: ClassVar[str] = "attentive"

    towards: str = "best"
    """best or worst: the candidate to train."""
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
        # seeds of four numbers here and three below, distinct from the random stream of any step
        drawn = course.space.sample_many(POOL, np.random.default_rng([course.seed, 0, 7, 0]))
        self._pool = _Pool(course, drawn)
        self._forecast = _Forecast(course.space)

    def step(self, index: int) -> Step:
        space, rng = self._course.space, self._course.rng(index)
        chosen = [self._choose(candidates, rng) for candidates in self._candidates(rng)]
        others = (Pass(arch, task=0.0, distil=Distil()) for arch in (*chosen, space.smallest()))
        return Step((Pass(space.largest()), *others))

    def _candidates(self, rng: np.random.Generator) -> list[list[int]]:
        """Return the candidates of each random network, as positions in the pool."""
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
        """Return a random size, with the distribution of the pool."""
        return int(self.sizes[rng.integers(len(self.sizes))])

    def near(self, size: int, most: int) -> list[int]:
        """Return up to `most` positions of distinct networks, nearest in size first and within NEAR of the size."""
        found: dict[Architecture, int] = {}
        distances = np.abs(self.sizes - size)
        for place in np.argsort(distances, kind="stable").tolist():
            if len(found) == most or distances[place] > NEAR * size:
                break
            found.setdefault(self.archs[place], place)
        return list(found.values())

    def replace(self, places: list[int], rng: np.random.Generator) -> None:
        """Replace the networks at these positions by new random ones."""
        for place, arch in zip(places, self._course.space.sample_many(len(places), rng), strict=True):
            self.archs[place] = arch
            self.sizes[place] = self._course.size(arch)


class _Forecast:
    """Ridge regression on encodings and a constant, with sums that decay at each step."""

    def __init__(self, space: Space) -> None:
        self._space = space
        columns = len(space.feature_names()) + 1
        self._squares = np.zeros((columns, columns))
        self._products = np.zeros(columns)
        self._seen = 0
        self._weights: Numbers | None = None  # current coefficients, computed on demand

    @property
    def ready(self) -> bool:
        return self._seen >= len(self._products)

    def __call__(self, archs: list[Architecture]) -> Numbers:
        weights = self._weights
        if weights is None:
            damping = RIDGE * np.eye(len(self._products))
            damping[0, 0] = 1e-9  # no penalty on the constant
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
