"""Ways to walk a plan: an operator only chooses among feasible codes, so it cannot leave its space.

A constraint too wide for the plan (`loose`) is checked afterwards, and the operator tries again a bounded number of
times.
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

    @property
    def exact(self) -> bool:
        """Whether the plan counts and draws exactly the networks: no loose constraint and no normal form."""
        return not self.solution.loose and not self.layout.normals

    def holds(self, codes: Sequence[int]) -> bool:
        """Return whether codes from the plan are a network, that is, satisfy the constraints outside the plan.

        A normal form may lead outside the plan, so every condition is then checked.
        """
        if self.layout.normals:
            return self.contains(codes)
        return all(self.layout.holds(tie, codes) for tie in self.solution.loose)

    def _walk(self, pick: Pick) -> Row:
        """Return the codes that the plan arrives at, in normal form."""
        codes = self.plan.walk(pick)
        return self.layout.normalised(codes) if self.layout.normals else codes

    # Drawing

    def draw(self, n: int, rng: np.random.Generator, by: Uniform | OptionWeights) -> CodeArray:
        """Return (n, num_slots) codes; loose constraints are met by rejection, so networks stay equally likely.

        With normal forms, every way to write a network is equally likely.
        """
        if self.exact:
            return self.plan.draw(n, rng, by)
        kept: list[CodeArray] = []
        found = drawn = 0
        while found < n:
            if drawn >= DRAWS * (found + 1):
                raise SpaceError(self._rejected(found, drawn))
            size = max(64, 2 * (n - found)) if self.solution.loose else n - found
            batch = self.plan.draw(min(size, 4096), rng, by)
            if self.layout.normals:
                batch = np.array([self.layout.normalised(codes) for codes in batch.tolist()], dtype=batch.dtype)
            good = batch[[self.holds(codes) for codes in batch.tolist()]]
            kept.append(good[: n - found])
            found += len(kept[-1])
            drawn += len(batch)
        return np.concatenate(kept) if kept else self.plan.draw(0, rng, by)

    def _rejected(self, found: int, drawn: int) -> str:
        names = ", ".join(sorted({tie.name for tie in self.solution.loose}))
        if not names:
            return f"{self.name}: of {drawn} networks drawn {found} are in it once written in normal form; narrow less"
        return (
            f"{self.name}: of {drawn} networks drawn {found} satisfy {names}, which reads too many choices at once "
            f'to be solved exactly; narrow the space with where(...), loosen the constraint or write it with each="..."'
        )

    # Extremes

    def extreme(self, last: bool) -> Row:
        """The last (or first) feasible option, slot by slot; under loose constraints, until no one slot can change."""

        def best(slot: int, feasible: tuple[int, ...]) -> int:
            return feasible[-1] if last else feasible[0]

        codes = self._walk(best)
        return codes if self.holds(codes) else self._climbed(last)

    def _climbed(self, last: bool) -> Row:
        opposite = self._walk(lambda slot, feasible: feasible[0] if last else feasible[-1])
        codes = opposite if self.holds(opposite) else self.draw(1, np.random.default_rng(0), "networks")[0].tolist()
        for step in self.plan.steps:
            slot = step.slot
            for code in reversed(self.domains[slot]) if last else self.domains[slot]:
                if codes[slot] < 0 or codes[slot] == code:
                    break
                moved = self._walk(_keeping(codes, {slot: code}, last))
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

        codes = self._walk(best)
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

        walked = self.plan.walk(wanted)
        if all(walked[slot] in allowed for slot, allowed in forced.items()):
            codes = self.layout.normalised(walked)
            if self.holds(codes):
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
        """Another network: each slot that can move does with probability `rate`, and at least one does.

        In a space with a normal form one of the ways to write the network is drawn first, and all slots of one position
        move together: of a graph, one node changes its operation and what it reads.
        """
        for _ in range(TRIES):
            written = self.layout.spread(base, rng) if self.layout.normals else base
            open_slots = [slot for slot, code in enumerate(written) if code >= 0 and len(self.domains[slot]) > 1]
            chance = rate if rate is not None else 1 / max(1, len(open_slots))
            moving = {slot for slot in open_slots if rng.random() < chance}
            codes = self._walk(_moving(written, self._company(moving), rng))
            if codes == base:
                movable = self._movable(written)
                if not movable:
                    return base
                moving = {movable[int(rng.integers(len(movable)))]}
                codes = self._walk(_moving(written, self._company(moving), rng))
            if codes != base and self.holds(codes):
                return codes
        near = list(self.neighbours(base))
        if near:
            return near[int(rng.integers(len(near)))]
        draws = self.draw(TRIES, rng, "networks").tolist()
        return next((codes for codes in draws if codes != base), base)

    def _company(self, moving: set[int]) -> set[int]:
        """The slots that move, and those that move with them."""
        if not self.layout.together:
            return moving
        return moving.union(*(self.layout.together.get(slot, ()) for slot in moving))

    def crossed(self, a: Row, b: Row, rng: np.random.Generator) -> Row:
        """Each slot from one parent or the other, where active and feasible; what has a normal form comes whole."""
        for _ in range(TRIES):
            coins = rng.random(len(a)) < 0.5
            for node in self.layout.normals:
                coins[node.start : node.stop] = coins[node.start]
            codes = self._walk(_mixing(a, b, coins.tolist(), rng))
            if self.holds(codes):
                return codes
        return next((row for row in (a, b) if self.contains(row)), None) or self.draw(1, rng, "networks")[0].tolist()

    def neighbours(self, base: Row, without: frozenset[int] = frozenset()) -> Iterator[Row]:
        """Networks with another option in one slot, none of `without`, everything else kept where possible."""
        seen = {tuple(base)}
        for slot, feasible in self._open(base):
            for code in feasible if slot not in without else ():
                codes = self._walk(_keeping(base, {slot: code}, last=True))
                if tuple(codes) not in seen and self.holds(codes):
                    seen.add(tuple(codes))
                    yield codes

    def neighbour_rows(self, base: CodeArray) -> CodeArray:
        """`neighbours` of (num_slots,) codes as (n, num_slots): in one go for the slots that nothing depends on."""
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
        """The slots that activate no other one and that no constraint or normal form reads."""
        bound = {parent for slot in self.layout.slots for parent, _ in slot.conditions}
        bound.update(slot for node in self.layout.normals for slot in range(node.start, node.stop))
        bound.update(slot for tie in self.layout.ties for slot in tie.scope)
        return frozenset(range(len(self.layout.slots))) - bound

    def nearest(self, base: Row) -> Row:
        """`base` repaired slot after slot; under loose constraints, if need be, the most similar of some draws."""
        codes = self._walk(_keeping(base, {}, last=True))
        if self.holds(codes):
            return codes
        draws = self.draw(TRIES, np.random.default_rng(0), "networks")
        nearest: Row = draws[int((draws == np.array(base)).sum(axis=1).argmax())].tolist()
        return nearest

    def contains(self, codes: Sequence[int]) -> bool:
        """Return whether codes of the declaration satisfy the narrowing, all constraints and normal forms."""
        return (
            all(code < 0 or code in self.domains[slot] for slot, code in enumerate(codes))
            and all(self.layout.holds(tie, codes) for tie in self.layout.ties)
            and (not self.layout.normals or self.layout.normalised(codes) == list(codes))
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
    """Take `changes` and keep the rest of `base`; infeasible codes become the nearest one, new slots the extreme."""

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
    """The codes that slots above must have for a slot to have this code."""
    forced = {slot: frozenset((code,))}
    queue: list[Conditions] = [layout.slots[slot].conditions]
    while queue:
        for parent, allowed in queue.pop():
            forced[parent] = forced.get(parent, allowed) & allowed
            queue.append(layout.slots[parent].conditions)
    return forced
