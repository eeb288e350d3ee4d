"""Progressive shrinking: train the full network first, then open one choice after another."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from search_spaces import Space
from search_spaces.narrowing import of_all_positions
from supernets.steps import Course, Distil, Pass, Plan, Step, Strategy, StrategyError
from supernets.strategies.paths import UNIFORM
from supernets.strategies.wishes import keeping, offered

FIRST_OPENING = 25 / 145  # share of a choice's steps with only its two largest options; as for depth and width in OFA
MAX_SUBNETS = 4


@dataclass(frozen=True)
class Progressive(Strategy):
    """The full network, then the choices opened one by one, each gradually (once-for-all, arXiv:1908.09791).

    Choices that are not yet open stay as in the largest network. A choice opens first with its two largest options,
    then with all. Subnets learn the task and, with equal weight, the outputs of the full network as it was when the
    first choice opened. A step trains one subnet for the first choice, two for the second, then four, and sums their
    gradients. Each phase runs through the whole learning rate schedule. Constraints may delay options until later
    choices are open.
    """

    name: ClassVar[str] = "progressive"

    order: tuple[str, ...] = ()
    """Choices in the order in which they open, ``ratio+depth``; the others follow, last declared first."""
    full: float = 0.3
    """Share of the steps for the full network; the choices share the rest equally."""
    peak: float = 0.25
    """Factor of the peak learning rate once choices open; a third of it while only the two largest options are open."""
    sample: str = "choices"
    """choices: subnets are uniform over the options, choice by choice; networks: uniform over networks."""

    def __post_init__(self) -> None:
        if not 0 < self.full <= 1:
            raise StrategyError(f"full = {self.full}: it must be a share of the steps, above 0 and at most 1")
        if not 0 < self.peak <= 1:
            raise StrategyError(f"peak = {self.peak}: it must be a factor of the learning rate, above 0 and at most 1")
        if self.sample not in UNIFORM:
            raise StrategyError(f"sample = {self.sample!r}: sampling is uniform over {' or '.join(UNIFORM)}")

    @property
    def compares_logits(self) -> bool:
        return True

    def plan(self, course: Course) -> Plan:
        return _Phases(self, course)


@dataclass(frozen=True)
class Phase:
    """Steps that train the networks of one space."""

    space: Space
    num_subnets: int
    peak: float
    """Factor of the learning rates; a phase runs through the whole schedule."""
    start: int
    stop: int


class _Phases(Plan):
    def __init__(self, strategy: Progressive, course: Course) -> None:
        self._sample = strategy.sample
        self._course = course
        self._phases = phases(strategy, course.space, course.steps)

    def step(self, index: int) -> Step:
        course = self._course
        phase = next(phase for phase in self._phases if index < phase.stop)
        lr = phase.peak * course.rate((index - phase.start) * course.steps // (phase.stop - phase.start))
        largest = course.space.largest()
        if phase.start == 0:
            return Step((Pass(largest),), lr=lr)
        rng = course.rng(index)
        archs = [phase.space.sample(rng, uniform=self._sample) for _ in range(phase.num_subnets)]  # type: ignore[arg-type]
        passes = tuple(Pass(arch, distil=Distil(teacher="frozen")) for arch in archs)
        return Step(passes, lr=lr, freeze=largest if index == self._phases[0].stop else None)


def phases(strategy: Progressive, space: Space, steps: int) -> list[Phase]:
    """Return the phases in order, without those shorter than a step; the first trains the full network."""
    openings = list(_openings(space, _opening_order(space, strategy.order)))
    whole = sum(opening.share for opening in openings)
    alone = keeping(space, _shut(space))
    found = [Phase(alone, 1, 1.0, 0, max(1, round(strategy.full * steps)) if openings else steps)]
    done = 0.0
    for opening in openings:
        done += opening.share / whole
        stop = round((strategy.full + (1 - strategy.full) * done) * steps)
        if stop > found[-1].stop:
            peak = strategy.peak * opening.peak
            found.append(Phase(opening.space, opening.num_subnets, peak, found[-1].stop, stop))
    return found


@dataclass(frozen=True)
class _Opening:
    space: Space
    num_subnets: int
    share: float
    """Share of the steps, in units of one choice's share."""
    peak: float


def _openings(space: Space, order: Sequence[str]) -> Iterator[_Opening]:
    """Yield ever wider spaces, each with the largest network, without those that constraints leave unchanged."""
    options, kept = offered(space), _shut(space)
    before = offered(keeping(space, kept))
    for number, name in enumerate(order):
        slots = [index for index, slot in enumerate(space.slots) if of_all_positions(slot.path) == name]
        gradual = any(len(options[slot]) > 2 for slot in slots)
        for two in (True, False) if gradual else (False,):
            for slot in slots:
                kept[slot].update(options[slot][-2:] if two else options[slot])
            opened = keeping(space, kept)
            if offered(opened) != before:
                before = offered(opened)
                share = FIRST_OPENING if two else 1 - FIRST_OPENING if gradual else 1.0
                yield _Opening(opened, min(2**number, MAX_SUBNETS), share, 1 / 3 if two else 1.0)


def _shut(space: Space) -> list[set[int]]:
    """Return each slot's code in the largest network; the largest code for slots that are inactive there."""
    largest = space.codes([space.largest()])[0].tolist()
    return [{code} if code >= 0 else set(codes[-1:]) for code, codes in zip(largest, offered(space), strict=True)]


def _opening_order(space: Space, first: tuple[str, ...]) -> list[str]:
    """Return the choices with options to open: first the requested ones, then the others, last declared first.

    Raises:
        StrategyError: a requested choice has no options to open.
    """
    options = offered(space)
    known = dict.fromkeys(
        of_all_positions(slot.path) for slot, codes in zip(space.slots, options, strict=True) if len(codes) > 1
    )
    unknown = [name for name in first if name not in known]
    if unknown:
        raise StrategyError(
            f"order = {unknown[0]!r} is no choice with options to open: name some of {', '.join(known)}"
        )
    return list(dict.fromkeys((*first, *reversed(known))))
