"""Shrinking a space while its supernet is trained: options that do no good are left out, and why is said (NEAS).

From "One-Shot Neural Ensemble Architecture Search by Diversity-Guided Search Space Shrinking" (CVPR 2021) are the two
criteria, potential and diversity, and that one option of each choice goes at a time. How they decide is ours: quality
does where the difference is certain, and of options that are as good as each other the most alike goes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from math import isfinite, sqrt
from statistics import NormalDist, fmean
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces import Architecture, Space, SpaceError
from search_spaces.narrowing import Closed, narrowed, of_all_positions
from search_spaces.values import canonical
from supernets import calibrate
from supernets.spelling import parse
from supernets.steps import Course, Feedback, Plan, Step, Strategy, StrategyError
from supernets.strategies.fair import Fair
from supernets.strategies.paths import Uniform
from supernets.strategies.sandwich import Sandwich
from supernets.strategies.shrinking import DelayedShrinking
from supernets.strategies.wishes import granted, offered
from supernets.tasks import evaluating, to_device

logger = logging.getLogger(__name__)

Numbers = npt.NDArray[np.float64]
INNER: Mapping[str, type[Strategy]] = {method.name: method for method in (Uniform, Fair, Sandwich, DelayedShrinking)}


def _squared(a: Tensor, b: Tensor) -> Tensor:
    return F.mse_loss(a, b)


def _kl(a: Tensor, b: Tensor) -> Tensor:
    """The symmetric Kullback-Leibler divergence of two distributions given by logits, in nats; a mean over rows."""
    log_p, log_q = a.double().log_softmax(-1), b.double().log_softmax(-1)
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1).mean() / 2


DISTANCES = {"kl": _kl, "squared": _squared}


@dataclass(frozen=True)
class Narrowing(Strategy):
    """Another strategy in a space that loses options on the way, by their potential and diversity (NEAS, 2021).

    A few times between `start` and `stop`, each choice that has more than `keep` options loses one. *Potential*: the
    mean quality, on a validation batch each, of the networks with an option that were trained since the last time. The
    option that is worse than the others with certainty goes, the most clearly worse first. *Diversity*: where none is,
    how far the outputs of networks with an option are on average from those with each of the others, all else equal;
    the option that is nearest to the others goes. Of ensembles a network is one, and an option belongs to one path.

    What goes, and why, is `TrainingResult.closed`; a run searches what is left.
    """

    name: ClassVar[str] = "narrowing"
    narrows: ClassVar[bool] = True

    of: str = "uniform(over=choices)"
    """The strategy that trains: uniform, fair, sandwich or deps, with settings where it has some."""
    choices: tuple[str, ...] = ()
    """Choices that lose options, ``first+second``, by path; without a position all of them. Empty: those whose options
    are no numbers, for small sizes are worse and wanted all the same."""
    keep: int = 2
    """Options that each choice keeps at least."""
    start: float = 0.2
    """Share of the steps after which options begin to go."""
    stop: float = 0.6
    """Share of the steps after which none goes any more."""
    confidence: float = 0.95
    """Confidence that an option is worse than the others, one-sided."""
    least: int = 5
    """Trained networks that an option is judged by; of fewer, it stays."""
    probes: int = 4
    """Networks, in all but one choice alike, whose outputs are compared."""
    distance: str = "kl"
    """Distance of outputs: symmetric KL divergence of logits, otherwise squared."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "of", self.of.strip())
        parse(self.of, INNER, "strategy to narrow by")
        for name, holds, rule in (
            ("keep", self.keep >= 1, "1 or more options of a choice"),
            ("start", 0 < self.start < 1, "a share of the steps between 0 and 1"),
            ("stop", self.start <= self.stop <= 1, f"a share of the steps from start = {self.start} to 1"),
            ("confidence", 0.5 <= self.confidence < 1, "from 0.5 to below 1, 0.95 say"),
            ("least", self.least >= 2, "2 or more networks, for there is no spread in one"),
            ("probes", self.probes >= 1, "1 or more networks"),
            ("distance", self.distance in DISTANCES, f"one of {', '.join(DISTANCES)}"),
        ):
            if not holds:
                raise StrategyError(f"{name} = {getattr(self, name)!r}: it must be {rule}")

    def plan(self, course: Course) -> Plan:
        return _Narrowing(self, course)


@dataclass(frozen=True)
class Verdict:
    """Why an option went: all of it numbers, to be kept in checkpoints."""

    slot: int
    code: int
    step: int
    networks: int
    quality: float
    """Mean of the networks with it."""
    others: float
    """Mean of those without it."""
    error: float
    """Half the width of the interval of the difference."""
    distance: float
    """Mean distance of outputs to those with other options; NaN where quality decided."""
    nearest: float
    """The least such distance of another option."""

    def closed(self, space: Space) -> Closed:
        chosen = space.slots[self.slot]
        gap = self.others - self.quality
        seen = (
            f"quality {self.quality:.3f} in {self.networks} networks with it and {self.others:.3f} without, "
            f"a difference of {gap:.3f} [{gap - self.error:.3f}, {gap + self.error:.3f}]"
        )
        if isfinite(self.distance):
            why = (
                f"it adds the least: its outputs are {self.distance:.2g} from the others', the next {self.nearest:.2g}"
            )
            return Closed(chosen.path, _plain(chosen.options[self.code]), f"step {self.step}: {why}; {seen}")
        return Closed(chosen.path, _plain(chosen.options[self.code]), f"step {self.step}: it is worse: {seen}")


class _Narrowing(Plan):
    def __init__(self, strategy: Narrowing, course: Course) -> None:
        self._strategy = strategy
        self._course = course
        self._inner = parse(strategy.of, INNER, "strategy to narrow by")
        self._slots = _slots(strategy.choices, course.space)
        self._when = _rounds(strategy, course, self._slots)
        self._verdicts: list[Verdict] = []
        self._follow()
        self._forget()
        if not self._when:
            logger.warning(
                "narrowing leaves %s as it is: no choice of names has more than keep = %d options, so name some in "
                "choices",
                course.space.name,
                strategy.keep,
            )

    @property
    def closed(self) -> tuple[Closed, ...]:
        return tuple(verdict.closed(self._course.space) for verdict in self._verdicts)

    def step(self, index: int) -> Step:
        step = self._inner.step(self._within, index)
        return replace(step, watch=step.watch | {"valid"}) if index < max(self._when, default=0) else step

    def observe(self, feedback: Feedback) -> None:
        if feedback.valid:
            codes = self._space.codes([one.arch for one in feedback.step.passes])
            for row, score in zip(codes, feedback.valid, strict=True):
                self._note(row, score)
        if feedback.index + 1 in self._when:
            self._narrow(feedback.index + 1)

    def _note(self, codes: npt.NDArray[np.int16], score: float) -> None:
        for slot in self._slots:
            if codes[slot] >= 0 and isfinite(score):
                self._seen[slot, codes[slot]] += (1.0, score, score * score)

    # --- what goes

    def _narrow(self, step: int) -> None:
        """One option of each choice that has more than it keeps, in the order of the choices."""
        rng = np.random.default_rng([self._course.seed, step, 11])
        found = []
        for slot in self._slots:
            codes = self._space.domains[slot]
            if len(codes) > self._strategy.keep:
                verdict = self._worse(slot, codes, step) or self._alike(slot, codes, step, rng)
                found += [verdict] if verdict is not None else []
        for verdict in found:
            try:
                narrowed(self._course.space, [*self.closed, verdict.closed(self._course.space)])
            except SpaceError:  # constraints allow no network without it
                continue
            self._verdicts.append(verdict)
        self._follow()
        self._forget()

    def _judged(self, slot: int, code: int, step: int, distance: float = np.nan, nearest: float = np.nan) -> Verdict:
        number, quality, variance = _moments(self._seen[slot, code])
        rest = self._seen[slot].sum(0) - self._seen[slot, code]
        others, mean, spread = _moments(rest)
        error = NormalDist().inv_cdf(self._strategy.confidence) * sqrt(variance / number + spread / others)
        return Verdict(slot, code, step, int(number), quality, mean, error, distance, nearest)

    def _enough(self, slot: int, codes: Sequence[int]) -> list[int]:
        return [code for code in codes if self._seen[slot, code, 0] >= self._strategy.least]

    def _worse(self, slot: int, codes: Sequence[int], step: int) -> Verdict | None:
        """The option that is worse than the others with certainty, the most clearly so."""
        enough = self._enough(slot, codes)
        if len(enough) < 2:
            return None
        found = [self._judged(slot, code, step) for code in enough]
        worst = max(found, key=lambda one: (one.others - one.quality - one.error, self._name(slot, one.code)))
        return worst if worst.others - worst.quality > worst.error else None

    def _alike(self, slot: int, codes: Sequence[int], step: int, rng: np.random.Generator) -> Verdict | None:
        """The option whose networks' outputs are nearest to those with the others."""
        enough = self._enough(slot, codes)
        if len(enough) < 2:
            return None
        distances = self._distances(slot, enough, rng)
        order = sorted(distances, key=lambda code: (distances[code], self._name(slot, code)))
        return self._judged(slot, order[0], step, distances[order[0]], distances[order[1]]) if order else None

    def _name(self, slot: int, code: int) -> str:
        """Break ties between equal options, independently of their order."""
        return canonical(_plain(self._space.slots[slot].options[code]))

    def _distances(self, slot: int, codes: Sequence[int], rng: np.random.Generator) -> dict[int, float]:
        """Return each option's mean distance to the others, over some networks and a batch."""
        distance = DISTANCES[self._strategy.distance]
        found: dict[int, list[float]] = {code: [] for code in codes}
        batch = to_device(self._course.task.batch(self._verdict_batch(slot), self._course.seed), self._device)
        for _ in range(self._strategy.probes):
            outputs = {code: self._outputs(arch, batch) for code, arch in self._alternatives(slot, codes, rng)}
            for code, own in outputs.items():
                found[code] += [float(distance(own, other)) for name, other in outputs.items() if name != code]
        return {code: fmean(own) for code, own in found.items() if own}

    def _verdict_batch(self, slot: int) -> int:
        return len(self._verdicts) * len(self._space.slots) + slot

    @property
    def _device(self) -> torch.device:
        return self._course.supernet.device

    def _alternatives(
        self, slot: int, codes: Sequence[int], rng: np.random.Generator
    ) -> Iterator[tuple[int, Architecture]]:
        """A network in which the choice is there, with each of the options; all else is equal as far as it can be."""
        options = offered(self._space)
        wish = [int(rng.choice(own)) if own else 0 for own in options]
        todo = [slot]
        while todo:
            for parent, allowed in self._space.slots[todo.pop()].conditions:
                wish[parent] = int(rng.choice(sorted(allowed.intersection(options[parent]) or allowed)))
                todo.append(parent)
        for code in codes:
            wish[slot] = code
            arch = granted(self._space, wish)
            if int(self._space.codes([arch])[0][slot]) == code:
                yield code, arch

    def _outputs(self, arch: Architecture, batch: Any) -> Tensor:
        task = self._course.task
        network = calibrate.recalibrate(self._course.supernet.subnet(arch), task.calibration(1))
        with evaluating(network):
            return task.outputs(network, batch)

    # --- what is left

    def _follow(self) -> None:
        self._space = narrowed(self._course.space, self.closed)
        self._within = replace(self._course, space=self._space)

    def _forget(self) -> None:
        """Qualities are compared over the same stretch of the training."""
        most = max(len(slot.options) for slot in self._course.space.slots)
        self._seen: Numbers = np.zeros((len(self._course.space.slots), most, 3))  # how many, their sum, of squares

    def state(self) -> dict[str, Tensor]:
        rows = np.array([astuple(verdict) for verdict in self._verdicts], dtype=np.float64).reshape(-1, 9)
        return {"closed": torch.from_numpy(rows), "seen": torch.from_numpy(self._seen.copy())}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._verdicts = [Verdict(*map(int, row[:4]), *row[4:]) for row in state["closed"].tolist()]
        self._seen = state["seen"].numpy().copy()
        self._follow()


def _slots(names: Sequence[str], space: Space) -> list[int]:
    """The slots that lose options.

    Raises:
        StrategyError: there is no such choice.
    """
    paths = [slot.path for slot in space.slots]
    for name in names:
        if not any(name in (path, of_all_positions(path)) for path in paths):
            there = ", ".join(dict.fromkeys(map(of_all_positions, paths)))
            raise StrategyError(f"choices = {name!r} is no choice of {space.name}: its choices are {there}")
    if not names:
        return [number for number, slot in enumerate(space.slots) if not slot.numeric]
    wanted = set(names)
    return [number for number, path in enumerate(paths) if wanted & {path, of_all_positions(path)}]


def _rounds(strategy: Narrowing, course: Course, slots: Sequence[int]) -> set[int]:
    """The numbers of done steps after which options go: as often as the choice with the most has too many."""
    most = max((len(course.space.domains[slot]) for slot in slots), default=0) - strategy.keep
    first, last = strategy.start * course.steps, strategy.stop * course.steps
    return {max(1, round(first + (last - first) * done / max(most - 1, 1))) for done in range(most)}


def _moments(sums: Numbers) -> tuple[float, float, float]:
    """Count, mean and unbiased variance."""
    number, total, squares = map(float, sums)
    mean = total / number
    return number, mean, max(squares / number - mean * mean, 0.0) * number / max(number - 1, 1.0)


def _plain(option: Any) -> Any:
    """As JSON has it."""
    return [_plain(one) for one in option] if isinstance(option, tuple) else option
