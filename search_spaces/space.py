"""A search space is a declaration: a class whose attributes are choices.

    class TinyViT(Space):
        width = choice(64, 96, 128)
        depth = choice(2, 3, 4)
        heads = choice(2, 3, 4, per="depth")       # one value per active block

        @constraint(each="depth")
        def divides(width, heads):
            return width % heads == 0

What follows from choices in one formula is computed, not chosen (`derive`, in `derived`).

An instance samples, counts, checks, varies and encodes architectures; `where` makes narrower ones. Rows of codes
(`layout`) do the work, a plan of exact counts (`counting`) guides it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from typing import Any, ClassVar, NoReturn, Self, TypeVar

import numpy as np
import numpy.typing as npt

from search_spaces import graph as graphs
from search_spaces.architecture import BESIDE, Architecture, parse
from search_spaces.counting import MAX_CELLS, OptionWeights, Problem, Solution, TooWideError, Uniform, solve
from search_spaces.declaration import Declaration, Subspace, declare
from search_spaces.encoding import Features, FloatArray, check_codes
from search_spaces.errors import SpaceError
from search_spaces.layout import Layout, Slot
from search_spaces.operators import Operators
from search_spaces.values import Json, canonical, listing, show

MOST_LISTED = 100_000  # networks that are counted one by one, where nothing else counts them
TINY = 1e-300  # the least share of a weight: none is rounded to 0
OptionChances = Mapping[str, Sequence[float] | npt.NDArray[np.float64]]
Domains = tuple[tuple[int, ...], ...]
ConstraintTable = tuple[list[tuple[int, ...]], npt.NDArray[np.bool_]]
AnySpace = TypeVar("AnySpace", bound="Space")


class Space(Subspace):
    """The networks that the choices of a subclass describe; an instance, given options to keep, only those.

    ``TinyViT(width=(64, 96))`` is ``TinyViT().where(width=(64, 96))``. Instances are values: frozen, hashable.
    """

    _layout: ClassVar[Layout]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._declared = declare(cls, Space)
        cls._layout = Layout(cls._declared)

    def __init__(self, **options: Any) -> None:
        if not getattr(type(self), "_declared", Declaration("", {}, {})).fields:
            raise SpaceError(
                f"{self.name} has no choices; declare some in a subclass of Space, as in width = choice(16, 32)"
            )
        self.__dict__["_domains"] = self._narrowed(tuple(self._layout.domains), options)
        self._check_not_empty()

    # What it is

    @cached_property
    def digest(self) -> str:
        """The version of the declaration, of its constraints' names and of the narrowing: 16 hexadecimal digits."""
        return sha256(canonical(self.declaration()).encode()).hexdigest()[:16]

    def declaration(self) -> dict[str, Json]:
        """The declaration as JSON; constraints and derived values are known by name and by what they read."""
        choices: dict[str, Json] = {}
        for name, own in self._declared.fields.items():
            of_choice: dict[str, Json] = {
                "options": [o.declaration() if isinstance(o, Space) else _json(o) for o in own.options]
            }
            if own.per is not None:
                of_choice["per"] = own.per
            if own.start is not None:
                of_choice["start"] = own.start
            if own.when:
                of_choice["when"] = {
                    parent: [_json(self._declared.fields[parent].labels[code]) for code in sorted(allowed)]
                    for parent, allowed in own.when
                }
            choices[name] = of_choice
        rules: dict[str, Json] = {
            name: {"choices": list(rule.parameters), "each": rule.each}
            for name, rule in self._declared.constraints.items()
        }
        kept: dict[str, Json] = {path: _json(options) for path, options in self._kept().items()}
        derived: dict[str, Json] = {name: list(rule.parameters) for name, rule in self._declared.derived.items()}
        described: dict[str, Json] = {"is": self.name, "choices": choices, "constraints": rules, "narrowing": kept}
        normal = self._declared.normal
        described |= {"normal": list(normal.parameters)} if normal else {}
        return described | ({"derived": derived} if derived else {})

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The variables of the space, parents first; the same for all its narrowings."""
        return tuple(self._layout.slots)

    @property
    def domains(self) -> tuple[tuple[int, ...], ...]:
        """For each slot the codes (positions among its options) that the space keeps."""
        return self._domains

    @property
    def constraint_scopes(self) -> tuple[tuple[int, ...], ...]:
        """The slots that each constraint reads, by position in `slots`: with `each` one entry for each position."""
        return tuple(tie.scope for tie in self._layout.ties)

    def broken_constraints(self, codes: Sequence[int]) -> list[int]:
        """Which constraints, by position in `constraint_scopes`, do not hold for one network (num_slots,)."""
        return [number for number, tie in enumerate(self._layout.ties) if not self._layout.holds(tie, codes)]

    def constraint_tables(self) -> Iterator[tuple[tuple[int, ...], ConstraintTable | None]]:
        """Each scope, and which of its combinations the constraint allows: the codes along each axis, and a bool array.

        None in place of the table of a constraint that reads too many choices at once. Combinations that no network
        has count as allowed.
        """
        problem = Problem(self._layout, self._domains, frozenset(), MAX_CELLS)
        for tie in self._layout.ties:
            factor = problem.constraint(tie)
            codes = [problem.codes[slot] for slot in tie.scope]
            yield tie.scope, None if factor is None else (codes, factor.table.astype(np.bool_))

    def __repr__(self) -> str:
        return f"{self.name}()" + (f".where(**{self._kept()!r})" if self._kept() else "")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Space):
            return NotImplemented
        return type(self) is type(other) and self._domains == other._domains

    def __hash__(self) -> int:
        return hash((type(self), self._domains))

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"a space is frozen; where({name}=...) gives a narrower one")

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self._domains)

    def _kept(self) -> dict[str, tuple[Any, ...]]:
        """The options left in each slot that has lost some, by path."""
        return {
            slot.path: tuple(slot.options[code] for code in domain)
            for slot, domain, declared in zip(self.slots, self._domains, self._layout.domains, strict=True)
            if domain != declared
        }

    # How many, and which

    def count(self, limit: int = MAX_CELLS) -> int:
        """The exact number of different networks, constraints included.

        `limit` bounds the entries of the largest table the count may build; SpaceError names what needs more.
        """
        solution = self._solution if limit == MAX_CELLS else self._solve(self._domains, limit=limit)
        if self._operators.exact:
            return solution.plan.total
        if solution.plan.total <= MOST_LISTED:
            return sum(self._operators.holds(codes) for codes in solution.plan.rows().tolist())
        if self._layout.normals:
            kinds = listing(dict.fromkeys(node.kind for node in self._layout.normals))
            raise SpaceError(
                f"{self.name}: too many to count: {kinds} can be written in {solution.plan.total:.1e} ways, "
                "several of which are one network; ask for count_bound(), or narrow the space with where(...)"
            )
        names = listing(dict.fromkeys(tie.name for tie in solution.loose))
        raise SpaceError(
            f"{self.name}: {names} reads too many choices at once to count exactly; "
            f'write it with each="...", narrow the space with where(...), or raise count(limit={limit})'
        )

    def count_bound(self) -> int:
        """`count` if it can be computed, else an upper bound."""
        total = self._solution.plan.total
        return total if self._operators.exact or total > MOST_LISTED else self.count()

    def how_many(self) -> str:
        """`count` for people: ``1,234``, or ``at most 4e+22`` where networks are too many to count."""
        try:
            return f"{self.count():,}"
        except SpaceError:
            return f"at most {self.count_bound():.0e}"

    @property
    def is_normalised(self) -> bool:
        """Whether choices can describe one network in several ways; architectures then use the normal form."""
        return bool(self._layout.normals)

    def sample(
        self,
        rng: np.random.Generator,
        *,
        uniform: Uniform = "networks",
        weights: OptionChances | None = None,
    ) -> Architecture:
        """One architecture, every network being equally likely; with normal forms, every way to write one.

        With ``uniform="choices"`` the options of choice after choice, in order, are equally likely, as far as feasible.
        With ``weights={"heads": (1, 2, 4)}`` they are likely by these weights instead, one an option of the
        declaration, all above 0; paths are those of `where`. Choices without weights, and those whose weights are
        equal, are drawn as by ``uniform="choices"``, with the same random numbers.
        Raises SpaceError where a constraint that is too wide to solve rejects every network drawn.
        """
        return self.sample_many(1, rng, uniform=uniform, weights=weights)[0]

    def probability(self, arch: Architecture, *, weights: OptionChances | None = None) -> float:
        """How likely `sample` with these weights draws an architecture of this space; None: ``uniform="choices"``.

        Constraints that are too wide to solve reject networks afterwards; that is left out, a factor common to all.
        """
        return self._solution.plan.probability(self.codes([arch]), self._weighted(weights or {}))

    def sample_many(
        self,
        n: int,
        rng: np.random.Generator,
        *,
        uniform: Uniform = "networks",
        weights: OptionChances | None = None,
        distinct: bool = False,
    ) -> list[Architecture]:
        """`n` architectures, drawn as by `sample`; with `distinct` no two are equal (SpaceError if too few exist)."""
        self._check_request(n, rng, uniform)
        by: Uniform | OptionWeights = uniform if weights is None else self._weighted(weights)
        codes = self._distinct(n, rng, by) if distinct else self._operators.draw(n, rng, by)
        return self._layout.read_all(codes.tolist())

    def sample_codes(self, n: int, rng: np.random.Generator, *, uniform: Uniform = "networks") -> npt.NDArray[np.int16]:
        """`n` architectures as (n, num_slots) codes, without making objects of them."""
        self._check_request(n, rng, uniform)
        return self._operators.draw(n, rng, uniform)

    def enumerate(self, limit: int = 100_000) -> Iterator[Architecture]:
        """All architectures; SpaceError if there are more than `limit`."""
        return map(self._layout.read, self.enumerate_codes(limit).tolist())

    def enumerate_codes(self, limit: int = 100_000) -> npt.NDArray[np.int16]:
        """`enumerate` as (n, num_slots) codes, without making objects of them."""
        most = self._solution.plan.total
        if most > limit:
            raise SpaceError(
                f"{self.name} has up to {most} networks, more than limit={limit}; narrow it or raise the limit"
            )
        rows = self._solution.plan.rows()
        if self._operators.exact:
            return rows
        return rows[[self._operators.holds(codes) for codes in rows.tolist()]]

    def largest(self) -> Architecture:
        """The last option everywhere; under constraints the last feasible one, choice after choice."""
        return self._layout.read(self._operators.extreme(last=True))

    def smallest(self) -> Architecture:
        """The first option everywhere; under constraints the first feasible one, choice after choice."""
        return self._layout.read(self._operators.extreme(last=False))

    def largest_with(self, codes: Mapping[int, int]) -> Architecture | None:
        """The largest architecture in which these slots, by position in `slots`, have these codes; None if none has."""
        row = self._operators.largest_with(codes, self._solve)
        return None if row is None else self._layout.read(row)

    def likeliest(self, weights: OptionChances) -> Architecture:
        """Choice after choice the feasible option of the largest weight, the last of equal ones.

        Weights are those of `sample`; choices without any take their last feasible option.
        """
        return self._layout.read(self._operators.likeliest(self._weighted(weights)))

    def variants(self) -> Iterator[tuple[str, Architecture]]:
        """The largest architecture, and for every slot and option the largest that has it: label and architecture.

        Together they show every option of the space at its largest. Each architecture comes once; options that no
        network can have under the constraints are left out.
        """
        seen = set()
        for label, codes in self._operators.variants(self._solve):
            if tuple(codes) not in seen:
                seen.add(tuple(codes))
                yield label, self._layout.read(codes)

    # Checking

    def architecture(self, value: Mapping[str, Any] | str) -> Architecture:
        """The architecture that a mapping or JSON text describes, with the options as this space spells them.

        Raises SpaceError naming the choice, the value and the options, or the constraint.
        """
        codes = self._layout.write(parse(value) if isinstance(value, str) else value)
        for slot, code, domain in zip(self.slots, codes, self._domains, strict=True):
            if code >= 0 and code not in domain:
                kept = listing(slot.options[kept] for kept in domain)
                got = show(slot.options[code])
                raise SpaceError(f"{self.name}.{slot.path}: got {got}, but this space is narrowed to {kept}")
        for tie in self._layout.ties:
            if not self._layout.holds(tie, codes):
                values = self._layout.describe(tie, codes)
                raise SpaceError(
                    f"{tie.name}: the constraint does not hold for {values}; choose values that go together"
                )
        return self._layout.read(codes)

    def __contains__(self, arch: object) -> bool:
        if not isinstance(arch, Architecture):
            return False
        try:
            codes = self._layout.write(arch)
        except SpaceError:
            return False
        return self._operators.contains(codes) and self._layout.read(codes) == arch

    # Varying

    def mutate(self, arch: Architecture, rng: np.random.Generator, rate: float | None = None) -> Architecture:
        """Another architecture of this space: each choice changes with probability `rate`, by default about one does.

        Never equal to `arch` if the space has two networks or more; what the change makes infeasible is repaired.
        """
        self._check_request(1, rng, "networks")
        if rate is not None and not 0 <= rate <= 1:
            raise SpaceError(f"rate={rate}; the probability that a choice changes is between 0 and 1")
        return self._layout.read(self._operators.mutated(self._layout.write(arch), rng, rate))

    def crossover(self, a: Architecture, b: Architecture, rng: np.random.Generator) -> Architecture:
        """Each choice from `a` or from `b`, where it is active and feasible; otherwise from the other, or at random."""
        self._check_request(1, rng, "networks")
        return self._layout.read(self._operators.crossed(self._layout.write(a), self._layout.write(b), rng))

    def neighbours(self, arch: Architecture) -> Iterator[Architecture]:
        """Architectures with another option in one choice, each once, never `arch` itself.

        The other choices keep their values where possible; those that become active take their largest.
        """
        return (self._layout.read(codes) for codes in self._operators.neighbours(self._layout.write(arch)))

    def neighbour_codes(self, codes: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """`neighbours` of one network of this space, (num_slots,) codes, as (n, num_slots) codes in another order."""
        return self._operators.neighbour_rows(codes)

    def mutated_codes(self, codes: npt.NDArray[np.int16], rng: np.random.Generator) -> npt.NDArray[np.int16]:
        """`mutate` of one network, (num_slots,) codes, as codes: quicker where many are made and few are wanted."""
        return np.array(self._operators.mutated(codes.tolist(), rng, None), dtype=np.int16)

    def crossed_codes(
        self, a: npt.NDArray[np.int16], b: npt.NDArray[np.int16], rng: np.random.Generator
    ) -> npt.NDArray[np.int16]:
        """`crossover` of two networks, (num_slots,) codes each, as codes."""
        return np.array(self._operators.crossed(a.tolist(), b.tolist(), rng), dtype=np.int16)

    def nearest(self, arch: Architecture) -> Architecture:
        """The network of this space that is most like one of the same declaration, which may lie outside it.

        Choice after choice keeps its value where that is feasible, or takes the nearest option; what becomes active
        takes its largest. So ``space.where(width=64).nearest(arch)`` is `arch` with another width.
        """
        return self._layout.read(self._operators.nearest(self._layout.write(arch)))

    # Narrowing

    def where(self, **options: Any) -> Self:
        """The same space with only these options: ``where(width=(64, 96))``, ``where(**{"stages.0.depth": 2})``.

        A path without a position means all positions. The slots stay, so encodings of both spaces agree.
        """
        return _restored(type(self), self._narrowed(self._domains, options))

    def at(self, **values: Any) -> Self:
        """The same space with these values fixed; a tuple fixes each position, an architecture a nested space."""
        fixed = {path: [value] for name, given in values.items() for path, value in self._fixed(name, given)}
        return self.where(**fixed)

    def _fixed(self, path: str, value: Any) -> Iterator[tuple[str, Any]]:
        place = self._layout.find(path)[0][0]
        if isinstance(value, Mapping):
            kind = value.kind if isinstance(value, Architecture) else value.get("is")
            if kind is not None:
                yield path, kind
            for name, item in value.items():
                if name not in BESIDE:
                    yield from self._fixed(f"{path}.{name}" if kind is None else f"{path}.{kind}.{name}", item)
        elif isinstance(value, list | tuple) and place.field.per is not None and not path.split(".")[-1].isdigit():
            for position, item in enumerate(value):
                if item is not None:
                    yield from self._fixed(f"{path}.{position}", item)
        else:
            yield path, value

    def _narrowed(self, domains: Domains, options: Mapping[str, Any]) -> Domains:
        narrowed = list(domains)
        for path, wanted in options.items():
            for place, own in self._layout.find(path):
                kept = place.field.select(wanted, f"{self.name}.{path}")
                before = narrowed[own.slot]
                narrowed[own.slot] = tuple(code for code in before if code in kept)
                if not narrowed[own.slot]:
                    left = listing(self._layout.slots[own.slot].options[code] for code in before)
                    raise SpaceError(f"{self.name}.{path}: {show(wanted)} leaves no option; there were only {left}")
        return tuple(narrowed)

    # Numbers and pictures

    def codes(self, archs: Iterable[Architecture]) -> npt.NDArray[np.int16]:
        """(n, num_slots) positions of the options taken, -1 where a choice is not active; different networks differ."""
        rows = [self._layout.write(arch) for arch in archs]
        return np.array(rows, dtype=np.int16).reshape(len(rows), len(self._layout.slots))

    def decode(self, codes: npt.ArrayLike) -> list[Architecture]:
        """The inverse of `codes`; SpaceError where a row is no network of the declaration."""
        return self._layout.read_all(check_codes(self._layout, codes).tolist())

    def effective_codes(self, codes: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """(n, num_slots) the part of `codes` that has an effect: networks with equal rows compute the same.

        Here the codes themselves. A space in which choices may come to nothing, as an operation does from which no path
        leads to the output, overrides this: a search then learns of all such networks from one.
        """
        return codes

    def encode(self, archs: Sequence[Architecture] | npt.NDArray[Any]) -> FloatArray:
        """(n, num_features) float32 in [0, 1] of architectures or of codes; `feature_names` tells the columns."""
        return self._features.encode(
            check_codes(self._layout, archs) if isinstance(archs, np.ndarray) else self.codes(archs)
        )

    def encode_codes(self, codes: npt.NDArray[Any]) -> FloatArray:
        """`encode` for codes."""
        return self._features.encode(check_codes(self._layout, codes))

    def feature_names(self) -> tuple[str, ...]:
        """The names of the columns of `encode`, in order."""
        return self._features.names

    def graph(self, arch: Architecture) -> graphs.Graph:
        """The architecture as a graph from ``input`` to ``output`` with JSON attributes; a space may draw its own."""
        return graphs.chain(self._declared, arch)

    # The machinery

    @cached_property
    def _features(self) -> Features:
        return Features.of(self._layout.slots)

    @cached_property
    def _solution(self) -> Solution:
        return self._solve(self._domains)

    @cached_property
    def _operators(self) -> Operators:
        return Operators(self.name, self._layout, self._domains, self._solution)

    def _solve(
        self, domains: Sequence[tuple[int, ...]], required: frozenset[int] = frozenset(), limit: int = MAX_CELLS
    ) -> Solution:
        try:
            return solve(self._layout, domains, required, limit=limit)
        except TooWideError as error:
            tied = listing(self._layout.slots[slot].path for slot in sorted(error.slots))
            raise SpaceError(
                f"{self.name}: conditions tie too many choices together ({tied}); use fewer `when`"
            ) from None

    def _check_not_empty(self) -> None:
        if not self._layout.ties or self._solution.plan.total > 0:
            return
        names = list(dict.fromkeys(tie.name for tie in self._layout.ties))
        for name in names:
            alone = [tie for tie in self._layout.ties if tie.name == name]
            if solve(self._layout, self._domains, ties=alone).plan.total == 0:
                names = [name]
                break
        raise SpaceError(
            f"{self.name}: no network satisfies {' and '.join(names)}; loosen the constraint or add options"
        )

    def _check_request(self, n: int, rng: object, uniform: str) -> None:
        if not isinstance(rng, np.random.Generator):
            raise SpaceError(f"rng={show(rng)}; randomness comes from a generator, as in numpy.random.default_rng(0)")
        if n < 0:
            raise SpaceError(f"n={n}; the number of architectures is 0 or more")
        if uniform not in ("networks", "choices"):
            raise SpaceError(f"uniform={uniform!r}; it is 'networks' or 'choices'")

    def _weighted(self, weights: OptionChances) -> OptionWeights:
        """Weights by slot and code + 1, the largest of a slot 1, so that equal ones are exactly 1."""
        found = {}
        for path, given in weights.items():
            array = np.asarray(given, dtype=np.float64)
            for _, own in self._layout.find(path):
                options = self._layout.slots[own.slot].options
                if array.shape != (len(options),) or not np.all((array > 0) & np.isfinite(array)):
                    raise SpaceError(
                        f"{self.name}.{path}: weights {show(given)}; give {len(options)} numbers above 0, "
                        f"for {listing(options)}"
                    )
                found[own.slot] = np.concatenate([[1.0], np.maximum(array / array.max(), TINY)])
        return found

    def _distinct(self, n: int, rng: np.random.Generator, by: Uniform | OptionWeights) -> npt.NDArray[np.int16]:
        """The first `n` different ones of a stream of draws."""
        total = self._solution.plan.total
        if n > total:
            raise SpaceError(f"{n} distinct architectures asked of {self.name}, which has {total}; ask for fewer")
        if by == "networks" and total <= max(2 * n, 1000):
            rows = self._solution.plan.rows()
            rows = rows[[self._operators.holds(codes) for codes in rows.tolist()]]
            if n > len(rows):
                raise SpaceError(
                    f"{n} distinct architectures asked of {self.name}, which has {len(rows)}; ask for fewer"
                )
            return rows[rng.permutation(len(rows))[:n]]
        found = self._operators.draw(n, rng, by)
        for _ in range(1000):
            _, first = np.unique(found, axis=0, return_index=True)
            found = found[np.sort(first)]
            if len(found) >= n:
                return found[:n]
            found = np.concatenate([found, self._operators.draw(max(64, 2 * (n - len(found))), rng, by)])
        raise SpaceError(
            f"{self.name}: only {len(found)} distinct architectures turned up instead of {n}; ask for fewer"
        )


def _restored(cls: type[AnySpace], domains: Domains) -> AnySpace:
    space = cls.__new__(cls)
    space.__dict__["_domains"] = domains
    space._check_not_empty()
    return space


def _json(value: Any) -> Json:
    return [_json(item) for item in value] if isinstance(value, tuple) else value
