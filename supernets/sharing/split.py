"""Several models, each for a part of the space: few-shot NAS, with given groups or groups from gradient matching.

A list of splits assigns architectures to models: in each split, model `parent` hands the architectures with some
options of a choice over to a new model. The list is a tensor in the store, so checkpoints, digests and evaluations
include it.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, log2, prod
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from search_spaces import Architecture, Space
from search_spaces.narrowing import Closed
from supernets.gradient_matching import Cut, Gradients, Measure, best_cut, candidates, having, lacking
from supernets.layout import Shape
from supernets.sharing.base import Ground, Sharing, Weights
from supernets.sharing.copies import Copies, SharingError, check_models, copied, slots_named
from supernets.steps import Course, Feedback, Plan, Step
from supernets.tasks import to_device

logger = logging.getLogger(__name__)

TABLE = "@splits"


@dataclass(frozen=True)
class Split(Sharing):
    """A separate model for each part of the space (few-shot NAS, arXiv:2006.06863).

    Without `groups`, training starts with one model and finds the parts (GM-NAS, arXiv:2203.15207): at equal intervals
    it splits each model in two at the choice whose options' gradients disagree most. A new model inherits its parent's
    weights and optimiser state. The split of a model costs `batches` backward passes for each option of each compared
    choice, in full precision, on batches that no training step uses.
    """

    name: ClassVar[str] = "split"

    models: int = 4
    """Number of models at the end."""
    groups: str = ""
    """Fixed parts from the start: ``kernel:3+5|7`` makes two models, ``kernel:3+5|7;depth:2|3+4`` four. Architectures
    in which the choice is inactive belong to the first group."""
    until: float = 0.5
    """Share of the steps after which the last split happens."""
    batches: int = 10
    """Number of training batches on which options are compared."""
    choices: int = 16
    """Largest number of choices to compare for one split; if there are more, a random subset."""
    restart: bool = False
    """Whether to reinitialise all models and restart the learning rate after the last split, which keeps only the
    parts."""

    def __post_init__(self) -> None:
        check_models(self.models)
        for name, holds, rule in (
            ("until", 0 < self.until < 1, "a share of the steps, above 0 and below 1"),
            ("batches", self.batches >= 1, "1 or more"),
            ("choices", self.choices >= 1, "1 or more"),
        ):
            if not holds:
                raise SharingError(f"{name} = {getattr(self, name)!r}: it must be {rule}")
        _read_groups(self.groups)

    @property
    def num_models(self) -> int:
        return prod(map(len, _read_groups(self.groups).values())) if self.groups else self.models

    def bind(self, ground: Ground) -> Weights:
        return SplitWeights(ground, self)

    def num_elements(self, shapes: Mapping[str, Shape]) -> int:
        return self.num_models * super().num_elements(shapes)


def _read_groups(text: str) -> dict[str, list[list[str]]]:
    """Parse ``kernel:3+5|7;depth:2|3`` to the groups of options, as written, of each choice."""
    groups: dict[str, list[list[str]]] = {}
    for part in filter(None, text.split(";")):
        path, colon, rest = part.partition(":")
        groups[path.strip()] = [[option.strip() for option in group.split("+")] for group in rest.split("|")]
        if not colon or not all(all(group) for group in groups[path.strip()]) or len(groups[path.strip()]) < 2:
            raise SharingError(f"groups = {text!r}: write a choice and its groups of options, as in kernel:3+5|7")
    return groups


# --- which model ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Handover:
    """Model `parent` gives the architectures with these options (codes) of a slot to a new model."""

    parent: int
    slot: int
    taken: frozenset[int]


class SplitWeights(Copies):
    """Whole models and the splits made so far; split i made model i + 1."""

    def __init__(self, ground: Ground, method: Split) -> None:
        plain = {name: shared.value for name, shared in ground.store.parameters.items()}
        super().__init__(ground, method.num_models, lambda model: plain)
        self.method = method
        self.initialise = ground.initialise
        widest = max(len(slot.options) for slot in self.space.slots)
        self.store.buffers[TABLE] = torch.full((self.num_models - 1, 2 + widest), -1)
        self._read: tuple[Tensor | None, int, tuple[Handover, ...]] = (None, -1, ())
        for path, groups in _read_groups(method.groups).items():
            self._give(path, groups)
        if not method.groups and method.models > 1 and not candidates(self.space, np.random.default_rng(0), 1):
            raise SharingError(
                f"{self.space.name} has no choice of 2 to 12 options to split at: name groups, or use entangled"
            )

    @property
    def splits(self) -> tuple[Handover, ...]:
        """The splits in the order in which they were made."""
        table = self.store.buffers[TABLE]
        if self._read[0] is not table or self._read[1] != table._version:
            rows = [row for row in table.tolist() if row[0] >= 0]
            made = tuple(
                Handover(parent, slot, frozenset(code for code, taken in enumerate(marks) if taken == 1))
                for parent, slot, *marks in rows
            )
            self._read = (table, table._version, made)
        return self._read[2]

    def route(self, arch: Architecture) -> int:
        splits, model = self.splits, 0
        if splits:
            codes = self.space.codes([arch])[0].tolist()
            for index, split in enumerate(splits):
                if split.parent == model and codes[split.slot] in split.taken:
                    model = index + 1
        return model

    def part(self, space: Space, model: int) -> Space | None:
        """Return the architectures of a space that belong to a model; None if there are none."""
        return self._part(space, model, len(self.splits))

    def _part(self, space: Space, model: int, until: int) -> Space | None:
        """Return the same after only the first `until` splits."""
        part: Space | None = space
        if model > 0:
            begun = self.splits[model - 1]
            part = self._part(space, begun.parent, model - 1)
            part = part and having(part, begun.slot, begun.taken)
        for split in self.splits[model:until]:
            if split.parent == model:
                part = part and lacking(part, split.slot, split.taken)
        return part

    def split(self, parent: int, slot: int, taken: frozenset[int]) -> int:
        """Hand some of a model's architectures to a new model with equal weights; return the new model's number."""
        child = len(self.splits) + 1
        row = self.store.buffers[TABLE][child - 1]
        row[2:] = torch.tensor([code in taken for code in range(len(row) - 2)])
        row[1], row[0] = slot, parent
        with torch.no_grad():
            for name in self.names:
                source = self.store.parameters[copied(name, parent)].value
                self.store.parameters[copied(name, child)].value.copy_(source)
        return child

    def accompany(self, plan: Plan, course: Course) -> Plan:
        return plan if self.method.groups else _Splitting(plan, course, self)

    def _give(self, path: str, groups: list[list[str]]) -> None:
        """Split every existing model by these groups."""
        slots = slots_named(self.space, path)
        if len(slots) > 1:
            first, last = (self.space.slots[slot].path for slot in (slots[0], slots[-1]))
            raise SharingError(f"groups of {path!r}: there are {first} to {last}, so name one of them")
        options = [str(option) for option in self.space.slots[slots[0]].options]
        named = [option for group in groups for option in group]
        wrong = [option for option in named if option not in options or named.count(option) > 1]
        left = [option for option in options if option not in named]
        if wrong or left:
            what = f"{wrong[0]!r} is unknown or twice there" if wrong else f"{left[0]!r} is in none"
            raise SharingError(f"groups of {path!r}: {what}: each of {', '.join(options)} belongs in one group")
        for model in range(len(self.splits) + 1):
            for group in groups[1:]:
                self.split(model, slots[0], frozenset(map(options.index, group)))


# --- finding the parts ----------------------------------------------------------------------------------------------


def rounds(models: int, steps: int, until: float) -> dict[int, int]:
    """Return the number of models from each splitting step on; each round at most doubles it."""
    number = ceil(log2(models))
    return {int(until * steps * (done + 1) / number): min(2 ** (done + 1), models) for done in range(number)}


class _Splitting(Plan):
    """Wraps a plan and splits models before some of its steps."""

    def __init__(self, inner: Plan, course: Course, weights: SplitWeights) -> None:
        self._inner = inner
        self._course = course
        self._weights = weights
        self._method = weights.method
        self._rounds = rounds(weights.num_models, course.steps, self._method.until)
        self._last = max(self._rounds, default=course.steps)

    def step(self, index: int) -> Step:
        inherit: tuple[tuple[str, str | None], ...] = ()
        if len(self._weights.splits) + 1 < self._rounds.get(index, 0):
            inherit = self._grow(index)
            if index == self._last and self._method.restart:
                inherit = self._restarted()
        step = self._inner.step(index)
        if inherit:
            step = replace(step, inherit=step.inherit + inherit)
        if self._method.restart and index >= self._last and step.lr is None:
            step = replace(step, lr=self._restarted_rate(index))
        return step

    def observe(self, feedback: Feedback) -> None:
        self._inner.observe(feedback)

    def state(self) -> dict[str, Tensor]:
        return self._inner.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._inner.restore(state)

    @property
    def closed(self) -> tuple[Closed, ...]:
        return self._inner.closed

    def _grow(self, index: int) -> tuple[tuple[str, str], ...]:
        """Split models up to the number for this step; return which tensor inherits whose optimiser state."""
        weights, wanted = self._weights, self._rounds[index]
        rng = np.random.default_rng([self._course.seed, index, 4])
        inherit: list[tuple[str, str]] = []
        while (there := len(weights.splits) + 1) < wanted:
            cuts = [(model, cut) for model in range(there) if (cut := self._best_cut(index, model, rng)) is not None]
            if not cuts:
                logger.warning("step %d: no model has a choice left to split at; there are %d", index, there)
                break
            cuts.sort(key=lambda found: -found[1].conflict)
            for parent, cut in cuts[: wanted - there]:
                child = weights.split(parent, cut.slot, cut.taken)
                inherit += [(copied(name, child), copied(name, parent)) for name in weights.names]
                logger.info("step %d: %s", index, self._described(parent, child, cut))
        return tuple(inherit)

    def _described(self, parent: int, child: int, cut: Cut) -> str:
        slot = self._weights.space.slots[cut.slot]
        options = ", ".join(str(slot.options[code]) for code in sorted(cut.taken))
        return f"model {child} takes {slot.path} = {options} from model {parent} (conflict {cut.conflict:.3f})"

    def _best_cut(self, index: int, model: int, rng: np.random.Generator) -> Cut | None:
        part = self._weights.part(self._course.space, model)
        if part is None:
            return None
        with _untouched(self._weights):
            return best_cut(part, self._measure(model), rng, self._method.batches, self._method.choices)

    def _measure(self, model: int) -> Measure:
        course, store = self._course, self._weights.store

        @lru_cache(maxsize=1)
        def batch_of(number: int) -> Any:
            return to_device(course.task.batch(course.steps + number, course.seed), course.supernet.device)

        def measure(arch: Architecture, number: int) -> Gradients:
            torch.manual_seed(number)  # equal dropout masks, which would otherwise appear as disagreement
            batch = batch_of(number)
            outputs = course.task.outputs(course.supernet.subnet(arch, model).train(), batch)
            course.task.loss(outputs, batch).backward()  # type: ignore[no-untyped-call]
            touched = {
                name: (shared.box, shared.grad)
                for name, shared in store.parameters.items()
                if shared.box is not None and shared.grad is not None
            }
            store.zero_grad()
            return touched

        return measure

    def _restarted(self) -> tuple[tuple[str, None], ...]:
        """Reinitialise every model; return the entries that make the optimiser discard its state."""
        weights = self._weights
        for model in range(weights.num_models):
            values = weights.initialise(model)
            with torch.no_grad():
                for name in weights.names:
                    weights.store.parameters[copied(name, model)].value.copy_(values[name])
        return tuple((copied(name, model), None) for model in range(weights.num_models) for name in weights.names)

    def _restarted_rate(self, index: int) -> float:
        """Return the rate of the full training schedule, compressed into the remaining steps."""
        steps = self._course.steps
        return self._course.rate((index - self._last) * steps // (steps - self._last))


@contextmanager
def _untouched(weights: SplitWeights) -> Iterator[None]:
    """Restore the store's buffers and torch's random state on exit."""
    before = {name: buffer.clone() for name, buffer in weights.store.buffers.items()}
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices=devices):
        yield
    for name, buffer in weights.store.buffers.items():
        buffer.copy_(before[name])
