"""A declaration laid out as flat slots, and architectures read from and written to their codes.

A *slot* is one variable: a choice, or one position of a choice with `per`. Its *code* is the position of the option it
took, or -1 where it is not active. A slot is active when all its conditions hold: each names an earlier slot and the
codes it may have. Everything a space computes, it computes on codes.
"""

import gc
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from search_spaces.architecture import BESIDE, Architecture
from search_spaces.declaration import Constraint, Declaration, Field, Subspace
from search_spaces.derived import choices_of
from search_spaces.errors import SpaceError
from search_spaces.values import listing, same, show, suggestion

Conditions: TypeAlias = tuple[tuple[int, frozenset[int]], ...]
Codes: TypeAlias = Sequence[int]

MAX_SLOTS = 20_000
MAX_REMEMBERED = 50_000  # nested architectures and verdicts kept for their next use

_ABSENT = object()


@dataclass(frozen=True)
class Slot:
    """One variable of a space. Options are JSON values; a nested space appears by its name."""

    path: str
    options: tuple[Any, ...]
    conditions: Conditions

    @property
    def numeric(self) -> bool:
        """Whether every option is a number, so that the options have sizes and not only names."""
        return all(type(option) in (int, float) for option in self.options)


@dataclass(frozen=True)
class Position:
    """A slot of a field, and the node of each of its options that is a nested space. Slots up to `stop` are its own."""

    slot: int
    nodes: tuple["Node | None", ...]
    stop: int


@dataclass(frozen=True)
class Place:
    """A field laid out: its positions, where it is present at all, and what its options are called."""

    field: Field
    positions: tuple[Position, ...]
    presence: Conditions
    depth: int | None  # the slot that says how many positions are active
    labels: tuple[Any, ...]
    index: Mapping[Any, int]
    plain: bool  # no option is a nested space, so the slots of its positions follow one another

    def length(self, codes: Codes, slots: Sequence[Slot]) -> int:
        """How many values the field has, given that it is present."""
        return len(self.positions) if self.depth is None else int(slots[self.depth].options[codes[self.depth]])


@dataclass(frozen=True)
class Node:
    """A space somewhere in the tree of nested spaces; the slots from `start` to `stop` are its own."""

    declaration: Declaration
    path: str
    places: Mapping[str, Place]
    start: int
    stop: int

    @property
    def kind(self) -> str:
        return self.declaration.kind


@dataclass(frozen=True)
class Tie:
    """A constraint at one place of the tree (and one position, with `each`), over the slots it reads."""

    rule: Constraint
    owner: Declaration
    name: str
    places: tuple[Place, ...]
    position: int | None
    scope: tuple[int, ...]


class Layout:
    """All slots of a space class, parents first, the tree that names them, and its constraints."""

    def __init__(self, declaration: Declaration) -> None:
        self.slots: list[Slot] = []
        self.domains: list[tuple[int, ...]] = []  # the options that nested spaces were narrowed to
        self.ties: list[Tie] = []
        self.normals: list[Node] = []  # the spaces with a normal form, inner ones first
        self.together: dict[int, tuple[int, ...]] = {}  # of these, all slots of one position: what mutates as one
        self._normal_codes: dict[tuple[int, tuple[int, ...]], list[int]] = {}
        self._nested_values: dict[tuple[int, tuple[int, ...]], Architecture] = {}
        self._verdicts: dict[tuple[int, int, tuple[Any, ...]], bool] = {}
        self.kind = declaration.kind
        self.root = self._node(declaration, "", ())

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the caches: they are keyed by identity, which other processes do not share."""
        return {**self.__dict__, "_nested_values": {}, "_verdicts": {}, "_normal_codes": {}}

    # Laying out

    def _node(self, declaration: Declaration, path: str, gate: Conditions) -> Node:
        places: dict[str, Place] = {}
        start = len(self.slots)
        for own in declaration.fields.values():
            places[own.name] = self._place(declaration.kind, own, places, path, gate)
        for name, rule in declaration.constraints.items():
            self.ties.extend(self._tied(f"{path or declaration.kind}.{name}", rule, declaration, places))
        node = Node(declaration, path, places, start, len(self.slots))
        if declaration.normal is not None:
            self.normals.append(node)
            self.together |= _positions_together(node)
        return node

    def _place(self, kind: str, own: Field, places: Mapping[str, Place], path: str, gate: Conditions) -> Place:
        depth = places[own.per].positions[0].slot if isinstance(own.per, str) else None
        presence = self._presence(own, places, gate)
        positions: list[Position] = []
        for index in range(self._num_positions(own, depth)):
            conditions = self._conditions(own, places, gate, depth, index)
            if conditions is None:
                break  # nothing deeper is ever active either
            name = own.name if own.per is None else f"{own.name}.{index}"
            positions.append(self._position(own, f"{path}.{name}" if path else name, conditions))
        if not positions:
            raise SpaceError(f"{kind}.{own.name}: its conditions never hold together; loosen `when`")
        index_of = {label: index for index, label in enumerate(own.labels)}
        plain = not any(isinstance(option, Subspace) for option in own.options)
        return Place(own, tuple(positions), presence or (), depth, own.labels, index_of, plain)

    def _num_positions(self, own: Field, depth: int | None) -> int:
        if depth is not None:
            return int(max(self.slots[depth].options))
        return own.per if isinstance(own.per, int) else 1

    def _position(self, own: Field, path: str, conditions: Conditions) -> Position:
        slot = len(self.slots)
        if slot >= MAX_SLOTS:
            raise SpaceError(f"{path}: more than {MAX_SLOTS} choices in all; give nested spaces fewer positions")
        self.slots.append(Slot(path, own.labels, conditions))
        self.domains.append(tuple(range(len(own.options))))
        nodes: list[Node | None] = []
        for index, option in enumerate(own.options):
            if isinstance(option, Subspace):
                inner = path if len(own.options) == 1 else f"{path}.{option.name}"
                nodes.append(self._nested(option, inner, ((slot, frozenset((index,))),)))
            else:
                nodes.append(None)
        return Position(slot, tuple(nodes), len(self.slots))

    def _nested(self, option: Any, path: str, gate: Conditions) -> Node:
        start = len(self.slots)
        node = self._node(option._declared, path, self._simplified(gate) or ())
        self.domains[start:] = option._domains
        return node

    def _presence(self, own: Field, places: Mapping[str, Place], gate: Conditions) -> Conditions | None:
        """The condition that the field has a value, even an empty tuple; its depth must be active too."""
        found: list[tuple[int, frozenset[int]]] = []
        for parent, allowed in own.when:
            if places[parent].field.per is None:
                found.append((places[parent].positions[0].slot, allowed))
            else:
                found.extend(places[parent].presence)
        if own.start is not None:
            found.append(self._any(places[own.start]))
        return self._simplified(tuple(found) or (() if isinstance(own.per, str) else gate))

    def _any(self, place: Place) -> tuple[int, frozenset[int]]:
        """The condition that a plain choice is active."""
        slot = place.positions[0].slot
        return slot, frozenset(range(len(self.slots[slot].options)))

    def _conditions(
        self, own: Field, places: Mapping[str, Place], gate: Conditions, depth: int | None, position: int
    ) -> Conditions | None:
        """The condition that the slot is active, None if it never is. Siblings are active only behind the gate."""
        found: list[tuple[int, frozenset[int]]] = []
        for parent, allowed in own.when:
            place = places[parent]
            index = 0 if place.field.per is None else position
            if index >= len(place.positions):
                return None
            found.append((place.positions[index].slot, allowed))
        if depth is not None:
            options = self.slots[depth].options
            found.append((depth, frozenset(code for code, value in enumerate(options) if value > position)))
        if own.start is not None:
            start = places[own.start].positions[0].slot
            options = self.slots[start].options
            found.append((start, frozenset(code for code, value in enumerate(options) if value <= position)))
        return self._simplified(tuple(found) or gate)

    def _simplified(self, conditions: Conditions) -> Conditions | None:
        """The same conditions without those that always hold or follow from another; None if they contradict."""
        merged: dict[int, frozenset[int]] = {}
        queue = list(conditions)
        while queue:
            slot, allowed = queue.pop()
            if len(allowed) == len(self.slots[slot].options):
                queue.extend(self.slots[slot].conditions)  # "any value" means: active
            else:
                merged[slot] = merged.get(slot, allowed) & allowed
        if not all(merged.values()):
            return None
        implied = {
            parent
            for slot in merged
            for parent, allowed in self.slots[slot].conditions
            if parent in merged and allowed <= merged[parent]
        }
        return tuple(sorted(((s, a) for s, a in merged.items() if s not in implied), key=lambda pair: pair[0]))

    # Constraints

    def _tied(self, path: str, rule: Constraint, owner: Declaration, places: Mapping[str, Place]) -> Iterator[Tie]:
        tied = tuple(places[parameter] for parameter in rule.parameters)
        if rule.each is None:
            yield Tie(rule, owner, path, tied, None, self._scope(tied, rule, None))
            return
        for position in range(min(len(place.positions) for place in tied if place.field.per == rule.each)):
            yield Tie(rule, owner, path, tied, position, self._scope(tied, rule, position))

    def _scope(self, tied: Sequence[Place], rule: Constraint, position: int | None) -> tuple[int, ...]:
        scope: set[int] = set()
        for place in tied:
            elementwise = position is not None and place.field.per == rule.each
            for own in (
                place.positions[position : position + 1] if elementwise and position is not None else place.positions
            ):
                scope.update(range(own.slot, own.stop))
            if place.field.per is not None and not elementwise:
                scope.update(slot for slot, _ in place.presence)
                scope.update(() if place.depth is None else (place.depth,))
        return tuple(sorted(scope))

    def holds(self, tie: Tie, codes: Codes) -> bool:
        """Return whether the constraint holds for these codes; it does if one of its choices is not active."""
        values = self._arguments(tie, codes)
        if values is None:
            return True
        key = (id(tie.owner), id(tie.rule), values)
        if key not in self._verdicts:
            if len(self._verdicts) >= MAX_REMEMBERED:
                self._verdicts.clear()
            self._verdicts[key] = _judge(tie, values)
        return self._verdicts[key]

    def _arguments(self, tie: Tie, codes: Codes) -> tuple[Any, ...] | None:
        values = []
        for place in tie.places:
            if tie.position is not None and place.field.per == tie.rule.each:
                own = place.positions[tie.position]
                value = self._value(place, own, codes) if codes[own.slot] >= 0 else _ABSENT
            else:
                value = self._field_value(place, codes)
            if value is _ABSENT:
                return None
            values.append(value)
        return tuple(values)

    def describe(self, tie: Tie, codes: Codes) -> str:
        """The values a constraint reads, for messages."""
        return _shown(tie, self._arguments(tie, codes) or ())

    # Normal forms

    def normalised(self, codes: Codes) -> list[int]:
        """Return the normal form of consistent codes."""
        row = list(codes)
        for node in self.normals:
            own = tuple(row[node.start : node.stop])
            if any(code >= 0 for code in own):
                row[node.start : node.stop] = self._normal(node, own, row)
        return row

    def _normal(self, node: Node, own: tuple[int, ...], codes: Codes) -> list[int]:
        key = (id(node), own)
        if key not in self._normal_codes:
            if len(self._normal_codes) >= MAX_REMEMBERED:
                self._normal_codes.clear()
            assert node.declaration.normal is not None
            normal = node.declaration.normal(node.kind, self._values(node, codes))
            self._normal_codes[key] = self._rewritten(node, normal, codes)
        return self._normal_codes[key]

    def spread(self, codes: Codes, rng: np.random.Generator) -> list[int]:
        """Other codes of the same network, drawn at random from those that describe it."""
        row = list(codes)
        for node in self.normals:
            form = node.declaration.normal
            if form is not None and form.spread is not None and any(code >= 0 for code in row[node.start : node.stop]):
                row[node.start : node.stop] = self._rewritten(node, form.spread(self._values(node, row), rng), row)
        return row

    def _values(self, node: Node, codes: Codes) -> dict[str, Any]:
        values = {name: self._field_value(place, codes) for name, place in node.places.items()}
        return {name: value for name, value in values.items() if value is not _ABSENT}

    def _rewritten(self, node: Node, values: Mapping[str, Any], codes: Codes) -> list[int]:
        row = [-1 if node.start <= slot < node.stop else code for slot, code in enumerate(codes)]
        self._write(node, values, row)
        return row[node.start : node.stop]

    # Codes to architectures

    def read_all(self, rows: Iterable[Codes]) -> list[Architecture]:
        """`read` for many rows."""
        collecting = gc.isenabled()
        gc.disable()  # nothing made here is garbage, and looking for some took most of the time
        try:
            return [self.read(codes) for codes in rows]
        finally:
            if collecting:
                gc.enable()

    def read(self, codes: Codes) -> Architecture:
        """The architecture of codes that are known to be consistent."""
        return self._read(self.root, self.normalised(codes) if self.normals else codes)

    def _read(self, node: Node, codes: Codes) -> Architecture:
        own = tuple(codes[node.start : node.stop])
        key = (id(node.declaration), own)  # what an active space looks like depends on its own slots only
        if key not in self._nested_values:
            values = self._values(node, codes)
            derived = node.declaration.derive(values) if node.declaration.derived else None
            arch = Architecture(node.kind, values, (node.declaration, own), derived)
            if node is self.root:
                return arch
            if len(self._nested_values) >= MAX_REMEMBERED:
                self._nested_values.clear()
            self._nested_values[key] = arch
        return self._nested_values[key]

    def _field_value(self, place: Place, codes: Codes) -> Any:
        if place.field.per is None:
            own = place.positions[0]
            return self._value(place, own, codes) if codes[own.slot] >= 0 else _ABSENT
        if not _hold(place.presence, codes) or (place.depth is not None and codes[place.depth] < 0):
            return _ABSENT
        length = place.length(codes, self.slots)
        if place.plain:
            first = place.positions[0].slot
            values = (*place.labels, None)  # code -1 takes the last
            return tuple([values[code] for code in codes[first : first + min(length, len(place.positions))]])
        active = place.positions[:length]
        return tuple(self._value(place, own, codes) for own in active)

    def _value(self, place: Place, own: Position, codes: Codes) -> Any:
        code = codes[own.slot]
        if code < 0:
            return None
        node = own.nodes[code]
        return place.labels[code] if node is None else self._read(node, codes)

    # Architectures to codes

    def write(self, value: Any) -> list[int]:
        """The codes of an architecture or of a mapping that describes one; SpaceError says what is wrong with it."""
        codes = [-1] * len(self.slots)
        self._write(self.root, value, codes)
        return self.normalised(codes) if self.normals else codes

    def _write(self, node: Node, value: Any, codes: list[int]) -> None:
        if isinstance(value, Architecture) and value._origin is not None and value._origin[0] is node.declaration:
            codes[node.start : node.stop] = value._origin[1]
            return
        if not isinstance(value, Mapping):
            raise SpaceError(f"{self._at(node, '')}: {show(value)} is no architecture of {node.kind}; give a mapping")
        kind = value.kind if isinstance(value, Architecture) else value.get("is", node.kind)
        if kind != node.kind:
            raise SpaceError(
                f"{self._at(node, '')}: this is a {show(kind)}, not a {node.kind}; ask the space it is from"
            )
        found = 0
        for name, place in node.places.items():
            given = value.get(name, _ABSENT)
            found += given is not _ABSENT
            self._write_field(node, place, given, codes)
        beside = 0 if isinstance(value, Architecture) else sum(name in value for name in BESIDE)
        if found < len(value) - beside:  # "derived" is not read: what it holds is computed anew
            unknown = next(name for name in value if name not in node.places and name not in BESIDE)
            raise SpaceError(
                f"{self._at(node, unknown)}: {_not_chosen(node, unknown, f'{node.kind} has no such choice')}"
            )

    def _write_field(self, node: Node, place: Place, given: Any, codes: list[int]) -> None:
        name = place.field.name
        if place.field.per is None:
            own = place.positions[0]
            if not _hold(self.slots[own.slot].conditions, codes):
                self._check_absent(node, name, given, self.slots[own.slot].conditions)
            else:
                self._write_option(place, own, given, codes)
            return
        if not _hold(place.presence, codes) or (place.depth is not None and codes[place.depth] < 0):
            depth = () if place.depth is None else self.slots[place.depth].conditions
            self._check_absent(node, name, given, place.presence + depth)
            return
        length = place.length(codes, self.slots)
        if not isinstance(given, list | tuple) or len(given) != length:
            shown = "nothing" if given is _ABSENT else show(given)
            raise SpaceError(
                f"{self._at(node, name)}: got {shown}; here it is a list of {length} values, one a position"
            )
        for own, item in zip(place.positions, given, strict=False):
            if _hold(self.slots[own.slot].conditions, codes):
                self._write_option(place, own, item, codes)
            elif item is not None:
                self._check_absent(node, f"{name}.{place.positions.index(own)}", item, self.slots[own.slot].conditions)

    def _check_absent(self, node: Node, name: str, given: Any, conditions: Conditions) -> None:
        if given is not _ABSENT:
            needs = " and ".join(
                f"{self.slots[slot].path} in ({listing(self.slots[slot].options[code] for code in sorted(allowed))})"
                for slot, allowed in conditions
            )
            raise SpaceError(
                f"{self._at(node, name)}: {show(given)} is given where the choice is not active; it needs {needs}"
            )

    def _write_option(self, place: Place, own: Position, given: Any, codes: list[int]) -> None:
        code = self._code(place, own, given)
        codes[own.slot] = code
        node = own.nodes[code]
        if node is not None:
            self._write(node, given, codes)

    def _code(self, place: Place, own: Position, given: Any) -> int:
        value = given
        if type(given) in (int, str):
            code = place.index.get(given)
            if code is not None and type(place.labels[code]) is type(given) and own.nodes[code] is None:
                return code
        if isinstance(given, Architecture):
            value = given.kind
        elif isinstance(given, Mapping):
            nested = [label for label, node in zip(place.labels, own.nodes, strict=True) if node is not None]
            value = given.get("is", nested[0] if len(nested) == 1 else None)
        elif isinstance(given, list):
            value = _tuple(given)
        try:
            code = place.index.get(value)
        except TypeError:  # not hashable, so no option
            code = None
        is_nested = isinstance(given, Mapping)
        if code is None or not same(place.labels[code], value) or (own.nodes[code] is not None) != is_nested:
            shown = "nothing" if given is _ABSENT else show(given)
            path = f"{self.kind}.{self.slots[own.slot].path}"
            raise SpaceError(f"{path}: got {shown}; the options are {listing(place.labels)}")
        return code

    # Paths

    def _at(self, node: Node, name: str) -> str:
        return ".".join(part for part in (self.kind, node.path, name) if part)

    def find(self, path: str) -> list[tuple[Place, Position]]:
        """Positions a path refers to: ``heads`` (all of them), ``heads.2``, ``stages.0.depth``, ``stages.depth``."""
        return self._find(self.root, path.split("."), path)

    def _find(self, node: Node, parts: list[str], path: str) -> list[tuple[Place, Position]]:
        name, *rest = parts
        if name not in node.places:
            raise SpaceError(f"{path!r}: {_not_chosen(node, name, f'{node.kind} has no choice {name!r}')}")
        place = node.places[name]
        positions: Sequence[Position] = place.positions
        if rest and rest[0].isdigit() and place.field.per is not None:
            number = int(rest.pop(0))
            if number >= len(positions):
                raise SpaceError(f"{path!r}: {name!r} has positions 0 to {len(positions) - 1}; name one of them")
            positions = positions[number : number + 1]
        if not rest:
            return [(place, own) for own in positions]
        nodes = [inner for own in positions for inner in own.nodes if inner is not None]
        if rest[0] in {inner.kind for inner in nodes} and len(rest) > 1:
            kind = rest.pop(0)
            nodes = [inner for inner in nodes if inner.kind == kind]
        known = [inner for inner in nodes if rest[0] in inner.places]
        if not known:
            names = sorted({name for inner in nodes for name in inner.places})
            raise SpaceError(f"{path!r}: {name!r} holds no choice {rest[0]!r}; {suggestion(rest[0], names)}")
        return [found for inner in known for found in self._find(inner, rest, path)]


def _positions_together(node: Node) -> dict[int, tuple[int, ...]]:
    groups: dict[tuple[Any, int], list[int]] = defaultdict(list)
    for place in node.places.values():
        for number, own in enumerate(place.positions):
            if place.field.per is not None:
                groups[place.field.per, number].extend(range(own.slot, own.stop))
    return {slot: tuple(group) for group in groups.values() for slot in group}


def _not_chosen(node: Node, name: str, what: str) -> str:
    """Return the message for an unknown choice, with a suggestion."""
    if name in node.declaration.derived:
        return f"{name!r} is derived; name what it comes from: {', '.join(choices_of(name, node.declaration.derived))}"
    return f"{what}; {suggestion(name, node.places)}"


def _hold(conditions: Conditions, codes: Codes) -> bool:
    for slot, allowed in conditions:  # noqa: SIM110 - half the time of all(...), and called for every slot
        if codes[slot] not in allowed:
            return False
    return True


def _tuple(value: Any) -> Any:
    return tuple(_tuple(item) for item in value) if isinstance(value, list) else value


def _shown(tie: Tie, values: Sequence[Any]) -> str:
    return ", ".join(f"{place.field.name}={show(value)}" for place, value in zip(tie.places, values, strict=False))


def _judge(tie: Tie, values: tuple[Any, ...]) -> bool:
    try:
        verdict = tie.rule.function(*values)
    except Exception as error:
        raise SpaceError(
            f"{tie.name}: the constraint raised {type(error).__name__} ({error}) for {_shown(tie, values)}; "
            "make it answer for every network"
        ) from error
    if verdict is None:
        raise SpaceError(f"{tie.name}: the constraint returned None for {_shown(tie, values)}; return True or False")
    return bool(verdict)
