"""Narrow a space while its supernet trains: remove unhelpful options, and report the reasons (NEAS).

The two criteria, potential and diversity, and the removal of one option of each choice at a time come from "One-Shot
Neural Ensemble Architecture Search by Diversity-Guided Search Space Shrinking" (CVPR 2021). The decision rule is ours:
quality decides if the difference is significant; among equally good options, the most redundant one goes.
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
    """Return the symmetric Kullback-Leibler divergence of two distributions from logits, in nats, averaged over
    rows."""
    log_p, log_q = a.double().log_softmax(-1), b.double().log_softmax(-1)
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1).mean() / 2


DISTANCES = {"kl": _kl, "squared": _squared}


@dataclass(frozen=True)
class Narrowing(Strategy):
    """Another strategy, in a space that loses options by their potential and diversity (NEAS, 2021).

    In several rounds between `start` and `stop`, each choice with more than `keep` options loses one. *Potential* is
    the mean quality, each on one validation batch, of the networks with an option that were trained since the last
    round. The option that is most clearly worse than the others goes, if the difference is significant. Otherwise
    *diversity* decides: the mean distance between the outputs of networks with an option and with each other option,
    all else equal. The option nearest to the others goes. An ensemble counts as one network, and an option belongs to
    one of its paths.

    `TrainingResult.closed` lists the removed options with the reasons; a run searches the remaining space.
    """

    name: ClassVar[str] = "narrowing"
    narrows: ClassVar[bool] = True

    of: str = "uniform(over=choices)"
    """The strategy that trains: uniform, fair, sandwich or deps, optionally with settings."""
    choices: tuple[str, ...] = ()
    """Choices that lose options, ``first+second``, by path; a path without position means all positions. Empty: choices
    whose options are not numbers, because small sizes have lower quality but remain wanted."""
    keep: int = 2
    """Least number of options that each choice keeps."""
    start: float = 0.2
    """Share of the steps after which the first options go."""
    stop: float = 0.6
    """Share of the steps after which the last options go."""
    confidence: float = 0.95
    """One-sided confidence that an option is worse than the others."""
    least: int = 5
    """Least number of trained networks with an option for a judgement; with fewer, the option stays."""
    probes: int = 4
    """Number of sets of networks, equal in all but one choice, whose outputs are compared."""
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
    """The reason for a removal, in numbers only, for checkpoints."""

    slot: int
    code: int
    step: int
    networks: int
    quality: float
    """Mean quality of the networks with the option."""
    others: float
    """Mean quality of the networks without it."""
    error: float
    """Half the width of the confidence interval of the difference."""
    distance: float
    """Mean distance of its outputs from those with other options; NaN if quality decided."""
    nearest: float
    """The least such distance among the other options."""

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

    # --- removal

    def _narrow(self, step: int) -> None:
        """Remove one option of each choice with more than `keep` options, in the order of the choices."""
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
        """Return the verdict on the option that is most clearly worse; None without a significant difference."""
        enough = self._enough(slot, codes)
        if len(enough) < 2:
            return None
        found = [self._judged(slot, code, step) for code in enough]
        worst = max(found, key=lambda one: (one.others - one.quality - one.error, self._name(slot, one.code)))
        return worst if worst.others - worst.quality > worst.error else None

    def _alike(self, slot: int, codes: Sequence[int], step: int, rng: np.random.Generator) -> Verdict | None:
        """Return the verdict on the option whose outputs are nearest to those of the other options, if comparable."""
        enough = self._enough(slot, codes)
        if len(enough) < 2:
            return None
        distances = self._distances(slot, enough, rng)
        order = sorted(distances, key=lambda code: (distances[code], self._name(slot, code)))
        return self._judged(slot, order[0], step, distances[order[0]], distances[order[1]]) if order else None

    def _name(self, slot: int, code: int) -> str:
        """Return a key that breaks ties between options, independently of their order."""
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
        """Yield networks in which the choice is active, one for each option, otherwise as equal as possible."""
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

    # --- state

    def _follow(self) -> None:
        self._space = narrowed(self._course.space, self.closed)
        self._within = replace(self._course, space=self._space)

    def _forget(self) -> None:
        """Reset the qualities, so that each round compares them over the same steps."""
        most = max(len(slot.options) for slot in self._course.space.slots)
        self._seen: Numbers = np.zeros((len(self._course.space.slots), most, 3))  # count, sum, and sum of squares

    def state(self) -> dict[str, Tensor]:
        rows = np.array([astuple(verdict) for verdict in self._verdicts], dtype=np.float64).reshape(-1, 9)
        return {"closed": torch.from_numpy(rows), "seen": torch.from_numpy(self._seen.copy())}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._verdicts = [Verdict(*map(int, row[:4]), *row[4:]) for row in state["closed"].tolist()]
        self._seen = state["seen"].numpy().copy()
        self._follow()


def _slots(names: Sequence[str], space: Space) -> list[int]:
    """Return the slots that lose options.

    Raises:
        StrategyError: the space has no such choice.
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
    """Return the step counts after which options go: one round per surplus option of the choice with the most."""
    most = max((len(course.space.domains[slot]) for slot in slots), default=0) - strategy.keep
    first, last = strategy.start * course.steps, strategy.stop * course.steps
    return {max(1, round(first + (last - first) * done / max(most - 1, 1))) for done in range(most)}


def _moments(sums: Numbers) -> tuple[float, float, float]:
    """Return count, mean and unbiased variance."""
    number, total, squares = map(float, sums)
    mean = total / number
    return number, mean, max(squares / number - mean * mean, 0.0) * number / max(number - 1, 1.0)


def _plain(option: Any) -> Any:
    """Return an option with tuples as lists, as in JSON."""
    return [_plain(one) for one in option] if isinstance(option, tuple) else option
