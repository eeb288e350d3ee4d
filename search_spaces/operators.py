"""Ways to walk a plan: each operator only says which of the feasible codes to take, so none can leave its space.

Where a constraint is too wide for the plan (`loose`), its verdict is asked afterwards and the operator tries again, a
bounded number of times.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np

from search_spaces.counting import CodeArray, OptionWeights, Pick, Plan, Solution, Uniform
from search_spaces.errors import SpaceError
from search_spaces.layout import Conditions, Layout

TRIES = 100
DRAWS = 20_000  # networks drawn in search of one that the loose constraints allow

Row = list[int]


class Operators:
    """Sampling, extremes and variation over the codes of one space."""

    def __init__(self, name: str, layout: Layout, domains: Sequence[tuple[int, ...]], solution: Solution) -> None:
        self.name = name
        self.layout = layout
        self.domains = domains
        self.solution = solution

    @property
    def plan(self) -> Plan:
        return self.solution.plan

    def holds(self, codes: Sequence[int]) -> bool:
        """Whether the constraints outside the plan hold."""
        return all(self.layout.holds(tie, codes) for tie in self.solution.loose)

    # Drawing

    def draw(self, n: int, rng: np.random.Generator, by: Uniform | OptionWeights) -> CodeArray:
        """(n, num_slots) codes; rejection where constraints are loose, so uniform over the networks they allow."""
        if not self.solution.loose:
            return self.plan.draw(n, rng, by)
        kept: list[CodeArray] = []
        found = drawn = 0
        while found < n:
            if drawn >= DRAWS * (found + 1):
                raise SpaceError(self._rejected(found, drawn))
            batch = self.plan.draw(min(max(64, 2 * (n - found)), 4096), rng, by)
            good = batch[[self.holds(codes) for codes in batch.tolist()]]
            kept.append(good[: n - found])
            found += len(kept[-1])
            drawn += len(batch)
        return np.concatenate(kept) if kept else self.plan.draw(0, rng, by)

    def _rejected(self, found: int, drawn: int) -> str:
        names = ", ".join(sorted({tie.name for tie in self.solution.loose}))
        return (
            f"{self.name}: of {drawn} networks drawn {found} satisfy {names}, which reads too many choices at once "
            f'to be solved exactly; narrow the space with where(...), loosen the constraint or write it with each="..."'
        )

    # Extremes

    def extreme(self, last: bool) -> Row:
        """The last (or first) feasible option, slot after slot; under loose constraints no one slot can go further."""

        def best(slot: int, feasible: tuple[int, ...]) -> int:
            return feasible[-1] if last else feasible[0]

        codes = self.plan.walk(best)
        return codes if self.holds(codes) else self._climbed(last)

    def _climbed(self, last: bool) -> Row:
        opposite = self.plan.walk(lambda slot, feasible: feasible[0] if last else feasible[-1])
        codes = opposite if self.holds(opposite) else self.draw(1, np.random.default_rng(0), "networks")[0].tolist()
        for step in self.plan.steps:
            slot = step.slot
            for code in reversed(self.domains[slot]) if last else self.domains[slot]:
                if codes[slot] < 0 or codes[slot] == code:
                    break
                moved = self.plan.walk(_keeping(codes, {slot: code}, last))
                if moved[slot] == code and self.holds(moved):
                    codes = moved
                    break
        return codes

    def variants(
        self, solve: Callable[[Sequence[tuple[int, ...]], frozenset[int]], Solution]
    ) -> Iterator[tuple[str, Row]]:
        """For every slot and option the largest network that has it; `solve` plans for narrower domains."""
        yield "largest", self.extreme(last=True)
        for index, slot in enumerate(self.layout.slots):
            for code in self.domains[index]:
                codes = self._largest_having(_forced(self.layout, index, code), solve)
                if codes is not None:
                    yield f"{slot.path}={slot.options[code]}", codes

    def largest_with(
        self, codes: Mapping[int, int], solve: Callable[[Sequence[tuple[int, ...]], frozenset[int]], Solution]
    ) -> Row | None:
        """The largest network whose slots have these codes."""
        forced: dict[int, frozenset[int]] = {}
        for slot, code in codes.items():
            for parent, allowed in _forced(self.layout, slot, code).items():
                forced[parent] = forced.get(parent, allowed) & allowed
        return self._largest_having(forced, solve) if all(forced.values()) else None

    def likeliest(self, weights: OptionWeights) -> Row:
        """The feasible code of the largest weight, slot after slot; the likeliest of draws under loose constraints."""

        def best(slot: int, feasible: tuple[int, ...]) -> int:
            return max(feasible, key=lambda code: (weights[slot][code + 1] if slot in weights else 1.0, code))

        codes = self.plan.walk(best)
        if self.holds(codes):
            return codes
        draws = self.draw(TRIES, np.random.default_rng(0), weights)
        chances = [self.plan.probability(row[None], weights) for row in draws]
        likeliest: Row = draws[int(np.argmax(chances))].tolist()
        return likeliest

    def _largest_having(
        self,
        forced: dict[int, frozenset[int]],
        solve: Callable[[Sequence[tuple[int, ...]], frozenset[int]], Solution],
    ) -> Row | None:
        def wanted(slot: int, feasible: tuple[int, ...]) -> int:
            return (
                max((code for code in feasible if code in forced[slot]), default=feasible[-1])
                if slot in forced
                else max(feasible)
            )

        codes = self.plan.walk(wanted)
        if all(codes[slot] in allowed for slot, allowed in forced.items()) and self.holds(codes):
            return codes
        domains = [
            tuple(code for code in domain if code in forced.get(slot, domain))
            for slot, domain in enumerate(self.domains)
        ]
        if not all(domains):
            return None
        narrowed = Operators(self.name, self.layout, domains, solve(domains, frozenset(forced)))
        if narrowed.plan.total == 0:
            return None
        try:
            return narrowed.extreme(last=True)
        except SpaceError:  # none found under loose constraints: as far as can be told, no network has it
            return None

    # Variation

    def mutated(self, base: Row, rng: np.random.Generator, rate: float | None) -> Row:
        """Another network: each slot that can move does with probability `rate`, and at least one does."""
        open_slots = [slot for slot, code in enumerate(base) if code >= 0 and len(self.domains[slot]) > 1]
        chance = rate if rate is not None else 1 / max(1, len(open_slots))
        for _ in range(TRIES):
            moving = {slot for slot in open_slots if rng.random() < chance}
            codes = self.plan.walk(_moving(base, moving, rng))
            if codes == base:
                movable = self._movable(base)
                if not movable:
                    return base
                codes = self.plan.walk(_moving(base, {movable[int(rng.integers(len(movable)))]}, rng))
            if codes != base and self.holds(codes):
                return codes
        near = list(self.neighbours(base))
        if near:
            return near[int(rng.integers(len(near)))]
        draws = self.draw(TRIES, rng, "networks").tolist()
        return next((codes for codes in draws if codes != base), base)

    def crossed(self, a: Row, b: Row, rng: np.random.Generator) -> Row:
        """Each slot from one parent or the other, where active and feasible."""
        for _ in range(TRIES):
            coins = rng.random(len(a)) < 0.5
            codes = self.plan.walk(_mixing(a, b, coins.tolist(), rng))
            if self.holds(codes):
                return codes
        return next((row for row in (a, b) if self.contains(row)), None) or self.draw(1, rng, "networks")[0].tolist()

    def neighbours(self, base: Row, without: frozenset[int] = frozenset()) -> Iterator[Row]:
        """Networks with another option in one slot, none of `without`, everything else kept where possible."""
        seen = {tuple(base)}
        for slot, feasible in self._open(base):
            for code in feasible if slot not in without else ():
                codes = self.plan.walk(_keeping(base, {slot: code}, last=True))
                if tuple(codes) not in seen and self.holds(codes):
                    seen.add(tuple(codes))
                    yield codes

    def neighbour_rows(self, base: CodeArray) -> CodeArray:
        """`neighbours` of (num_slots,) codes, (n, num_slots): at once for the slots that nothing hangs on."""
        free = [slot for slot in self._free if base[slot] >= 0]
        moves = [(slot, code) for slot in free for code in self.domains[slot] if code != base[slot]]
        moved = np.repeat(base[None], len(moves), axis=0)
        if moves:
            slots, codes = np.array(moves).T
            moved[np.arange(len(moves)), slots] = codes
        walked = list(self.neighbours(base.tolist(), without=self._free))
        return np.concatenate([moved, np.array(walked, dtype=base.dtype).reshape(-1, len(base))])

    @cached_property
    def _free(self) -> frozenset[int]:
        """The slots that activate no other one and that no constraint reads."""
        bound = {parent for slot in self.layout.slots for parent, _ in slot.conditions}
        bound.update(slot for tie in self.layout.ties for slot in tie.scope)
        return frozenset(range(len(self.layout.slots))) - bound

    def nearest(self, base: Row) -> Row:
        """`base` repaired slot after slot; under loose constraints the most alike of some draws may have to do."""
        codes = self.plan.walk(_keeping(base, {}, last=True))
        if self.holds(codes):
            return codes
        draws = self.draw(TRIES, np.random.default_rng(0), "networks")
        nearest: Row = draws[int((draws == np.array(base)).sum(axis=1).argmax())].tolist()
        return nearest

    def contains(self, codes: Sequence[int]) -> bool:
        """Whether codes of the declaration keep to the narrowing and to every constraint."""
        return all(code < 0 or code in self.domains[slot] for slot, code in enumerate(codes)) and all(
            self.layout.holds(tie, codes) for tie in self.layout.ties
        )

    def _open(self, base: Row) -> list[tuple[int, tuple[int, ...]]]:
        """The slots that can move while those before them are kept, with their feasible codes."""
        found: list[tuple[int, tuple[int, ...]]] = []
        keep = _keeping(base, {}, last=True)

        def noting(slot: int, feasible: tuple[int, ...]) -> int:
            found.append((slot, feasible))
            return keep(slot, feasible)

        self.plan.walk(noting)
        return found

    def _movable(self, base: Row) -> list[int]:
        return [slot for slot, _ in self._open(base)]


def _keeping(base: Sequence[int], changes: dict[int, int], last: bool) -> Pick:
    """Take `changes`, keep the rest of `base`; what cannot be kept takes the nearest, what is new the extreme."""

    def pick(slot: int, feasible: tuple[int, ...]) -> int:
        wish = changes.get(slot, base[slot])
        if wish in feasible:
            return wish
        if wish < 0:
            return feasible[-1] if last else feasible[0]
        return min(feasible, key=lambda code: (abs(code - wish), -code))

    return pick


def _moving(base: Sequence[int], moving: set[int], rng: np.random.Generator) -> Pick:
    def pick(slot: int, feasible: tuple[int, ...]) -> int:
        if base[slot] in feasible and slot not in moving:
            return base[slot]
        others = [code for code in feasible if code != base[slot]]
        return others[int(rng.integers(len(others)))]

    return pick


def _mixing(a: Sequence[int], b: Sequence[int], coins: Sequence[bool], rng: np.random.Generator) -> Pick:
    def pick(slot: int, feasible: tuple[int, ...]) -> int:
        wishes = (a[slot], b[slot]) if coins[slot] else (b[slot], a[slot])
        inherited = next((code for code in wishes if code in feasible), None)
        return feasible[int(rng.integers(len(feasible)))] if inherited is None else inherited

    return pick


def _forced(layout: Layout, slot: int, code: int) -> dict[int, frozenset[int]]:
    """What a slot having a code asks of the slots above it."""
    forced = {slot: frozenset((code,))}
    queue: list[Conditions] = [layout.slots[slot].conditions]
    while queue:
        for parent, allowed in queue.pop():
            forced[parent] = forced.get(parent, allowed) & allowed
            queue.append(layout.slots[parent].conditions)
    return forced
