"""The declaration in the body of a space, checked once and put in normal form.

All mistakes of a declaration are found here, when its class is made, and reported by field.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeAlias, overload

from search_spaces.architecture import BESIDE, Architecture
from search_spaces.derived import Derived, choices_of, compute, in_order, plain
from search_spaces.errors import SpaceError
from search_spaces.normal import NormalForm
from search_spaces.values import freeze, listing, same, show, suggestion

MAX_OPTIONS = 32_767  # a code is an int16
MAX_POSITIONS = 10_000

Per: TypeAlias = str | int | None


class Subspace:
    """A nested space as the outer space sees it: its name, its declaration and the options left in each slot."""

    _declared: ClassVar["Declaration"]
    _domains: tuple[tuple[int, ...], ...]

    @property
    def name(self) -> str:
        """The name of the class; architectures carry it as their kind."""
        return type(self).__name__


@dataclass(frozen=True)
class Choice:
    """A declared choice; `choice` makes it, and the class it belongs to checks it."""

    options: tuple[Any, ...]
    per: Per = None
    when: Mapping[str, Any] = field(default_factory=dict)
    start: str | None = None


@dataclass(frozen=True)
class Constraint:
    """A rule over sibling choices, named by the parameters of its function; `constraint` makes it."""

    function: Callable[..., Any]
    each: str | int | None = None
    reads: tuple[str, ...] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the choices it reads: `reads`, or the names of its function's parameters."""
        return tuple(inspect.signature(self.function).parameters) if self.reads is None else self.reads


def choice(*options: Any, per: Per = None, when: Mapping[str, Any] | None = None, start: str | None = None) -> Choice:
    """A choice among `options`, given from small to large.

    An option is a JSON scalar, a list of them (it becomes a tuple) or an instance of a `Space`, whose own choices are
    then nested. ``per="depth"`` makes one choice for each of the first `depth` positions, where `depth` is a sibling
    choice of integers; ``per=6`` makes six. ``when={"op": "conv"}`` or ``when={"op": ("conv", "sep")}`` makes it
    active only for these values; where both have the same `per`, position by position. ``start="split"`` leaves out the
    first `split` of the positions, `split` being a sibling choice of integers with 0 among them. At a position that is
    not active the value is None.
    """
    return Choice(options, per, {} if when is None else when, start)


@overload
def constraint(function: Callable[..., Any], /) -> Constraint: ...


@overload
def constraint(*, each: str | int) -> Callable[[Callable[..., Any]], Constraint]: ...


def constraint(
    function: Callable[..., Any] | None = None, /, *, each: str | int | None = None
) -> Constraint | Callable[[Callable[..., Any]], Constraint]:
    """A rule that every network of the space satisfies: a function, in the body of the class, of sibling choices.

    Its parameters name choices, or values derived from them; it returns whether they go together. A choice with `per`
    comes whole, as a tuple. With ``each="depth"`` the rule holds for every position on its own, and the choices with
    ``per="depth"`` come one value at a time, which also keeps counting and sampling cheap. Where one of the choices is
    not active the rule holds by itself.
    """
    if function is None:
        return lambda body: Constraint(plain(body), each)
    return Constraint(plain(function))


@dataclass(frozen=True)
class Field:
    """A checked choice: its options frozen, its conditions as positions among the options of its siblings."""

    name: str
    options: tuple[Any, ...]
    per: Per
    when: tuple[tuple[str, frozenset[int]], ...]
    start: str | None = None

    @property
    def labels(self) -> tuple[Any, ...]:
        """The options as JSON values: a nested space is called by its name."""
        return tuple(option.name if isinstance(option, Subspace) else option for option in self.options)

    def find(self, value: Any) -> int | None:
        """The position of the option that `value` means, if there is one."""
        return next((index for index, label in enumerate(self.labels) if same(label, value)), None)

    def select(self, wanted: Any, where: str) -> frozenset[int]:
        """Positions of one option or of several; `where` begins the message of a SpaceError."""
        values = list(wanted) if isinstance(wanted, list | tuple | set | frozenset | range) else [wanted]
        if isinstance(wanted, list | tuple) and self.find(_frozen(wanted)) is not None:
            values = [wanted]
        if not values:
            raise SpaceError(f"{where}: no option is named; name at least one of {listing(self.labels)}")
        return frozenset(self._one(value, where) for value in values)

    def _one(self, value: Any, where: str) -> int:
        index = self.find(_frozen(value))
        if index is None:
            hint = "; name a nested space by its name as a string" if isinstance(value, Subspace) else ""
            raise SpaceError(f"{where}: {show(value)} is not among the options {listing(self.labels)}{hint}")
        return index


@dataclass(frozen=True)
class Declaration:
    """The choices of a space, parents before the choices that depend on them, its rules and what it derives, by name.

    Constraints read choices only: those written over derived values compute these themselves. Derived values stand
    after those that they read.
    """

    kind: str
    fields: Mapping[str, Field]
    constraints: Mapping[str, Constraint]
    derived: Mapping[str, Derived] = field(default_factory=dict)
    normal: NormalForm | None = None

    def derive(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The derived values of an architecture with these active choices; SpaceError where one cannot be computed."""
        return compute(self.kind, self.derived, values)


def declare(cls: type, base: type) -> Declaration:
    """The declaration of a subclass of `base` (the Space class): its own attributes after those it inherits."""
    kind = cls.__name__
    members: dict[str, Choice | Constraint | Derived | NormalForm] = {}
    for name, value in _attributes(cls, base):
        place = f"{kind}.{name}"
        if isinstance(value, Subspace):
            value = Choice((value,))
        if isinstance(value, Choice | Constraint | Derived | NormalForm):
            _check_name(place, name, base)
            members[name] = value
        elif name in members:
            raise SpaceError(f"{place}: {show(value)} hides an inherited choice; say choice({show(value)}) to fix it")
        elif isinstance(value, type) and issubclass(value, Subspace) and value.__name__ != name:
            raise SpaceError(f"{place}: {value.__name__} is a class; a nested space is an instance: {value.__name__}()")
        elif isinstance(value, list | tuple | set | range) and not name.startswith("_"):
            raise SpaceError(f"{place}: a plain {type(value).__name__} declares nothing; say choice(...) of its items")
    choices = {name: member for name, member in members.items() if isinstance(member, Choice)}
    constraints = {name: member for name, member in members.items() if isinstance(member, Constraint)}
    derived = {name: member for name, member in members.items() if isinstance(member, Derived)}
    bare = {name: _field(f"{kind}.{name}", name, value) for name, value in choices.items()}
    for name, declared in choices.items():
        _check_chosen(f"{kind}.{name}", declared, derived)
    fields = {name: _linked(f"{kind}.{name}", bare, bare[name], choices[name]) for name in bare}
    for name, rule in derived.items():
        _check_parameters(f"{kind}.{name}", "derived value", rule.function, [*fields, *derived])
    normal = _normal(kind, {name: member for name, member in members.items() if isinstance(member, NormalForm)}, fields)
    found = Declaration(kind, _ordered(kind, fields), {}, in_order(kind, derived), normal)
    for name, limit in constraints.items():
        _check_constraint(f"{kind}.{name}", limit, fields, derived)
    return replace(found, constraints={name: _of_choices(limit, found) for name, limit in constraints.items()})


def _attributes(cls: type, base: type) -> Iterator[tuple[str, Any]]:
    for ancestor in reversed(cls.__mro__):
        if issubclass(ancestor, base) and ancestor is not base:
            yield from ((name, value) for name, value in vars(ancestor).items() if not name.startswith("__"))


def _frozen(value: Any) -> Any:
    try:
        return freeze(value)
    except ValueError:
        return value


def _check_name(place: str, name: str, base: type) -> None:
    if (
        name.startswith("_")
        or name in (*BESIDE, "input", "output")
        or hasattr(base, name)
        or hasattr(Architecture, name)
    ):
        raise SpaceError(
            f"{place}: {name!r} is a reserved name; call the field something else, such as {_other(name)!r}"
        )


def _other(name: str) -> str:
    return f"{name.strip('_') or 'choice'}_"


def _field(place: str, name: str, declared: Choice) -> Field:
    if not declared.options:
        raise SpaceError(f"{place}: no options; give at least one, as in choice(16, 32)")
    if len(declared.options) > MAX_OPTIONS:
        raise SpaceError(
            f"{place}: {len(declared.options)} options; at most {MAX_OPTIONS} are possible, so thin them out"
        )
    options = tuple(_option(place, option) for option in declared.options)
    checked = Field(name, options, _per(place, declared.per), ())
    _check_distinct(place, checked)
    return checked


def _option(place: str, option: Any) -> Any:
    if isinstance(option, Subspace):
        return option
    if isinstance(option, type) and issubclass(option, Subspace):
        name = option.__name__
        raise SpaceError(f"{place}: option {name} is a class; a nested space is an instance: choice({name}())")
    try:
        return freeze(option)
    except ValueError as error:
        raise SpaceError(f"{place}: option {error}; options are JSON scalars, lists of them, or spaces") from None


def _check_distinct(place: str, checked: Field) -> None:
    seen: dict[Any, Any] = {}
    for option, label in zip(checked.options, checked.labels, strict=True):
        if label not in seen:
            seen[label] = option
        elif isinstance(option, Subspace) and isinstance(seen[label], Subspace):
            raise SpaceError(f"{place}: two options are {label}; declare them as classes with different names")
        elif isinstance(option, Subspace) or isinstance(seen[label], Subspace):
            raise SpaceError(f"{place}: {label!r} names both a nested space and a plain option; rename one of them")
        elif same(option, seen[label]):
            raise SpaceError(f"{place}: option {show(option)} is given twice; options are distinct")
        else:
            raise SpaceError(
                f"{place}: options {show(seen[label])} and {show(option)} are equal in Python; use one type"
            )


def _per(place: str, per: Per) -> Per:
    if isinstance(per, bool) or not isinstance(per, str | int | None):
        raise SpaceError(f"{place}: per={show(per)}; it names a sibling choice or is a number of positions")
    if isinstance(per, int) and not 1 <= per <= MAX_POSITIONS:
        raise SpaceError(f"{place}: per={per}; a fixed number of positions is between 1 and {MAX_POSITIONS}")
    return per


def _linked(place: str, fields: Mapping[str, Field], own: Field, declared: Choice) -> Field:
    when = declared.when
    if isinstance(own.per, str):
        _check_depth(place, fields, own.per)
    if declared.start is not None:
        _check_start(place, fields, own, declared.start)
    if not isinstance(when, Mapping):
        raise SpaceError(f"{place}: when={show(when)}; it maps sibling choices to values, as in when={{'op': 'conv'}}")
    conditions = []
    for parent, wanted in when.items():
        if parent not in fields:
            raise SpaceError(
                f"{place}: when names {show(parent)}, which is no choice here; {suggestion(parent, fields)}"
            )
        other = fields[parent]
        if other.per is not None and other.per != own.per:
            raise SpaceError(
                f"{place}: when names {parent!r}, which has a value a position; give this choice per={other.per!r} too"
            )
        if other.per is not None and None in own.options:
            raise SpaceError(
                f"{place}: None marks the positions where {parent!r} turns it off; use a word as the option"
            )
        conditions.append((parent, other.select(wanted, f"{place}: when {parent!r}")))
    return Field(own.name, own.options, own.per, tuple(conditions), declared.start)


def _check_depth(place: str, fields: Mapping[str, Field], per: str) -> None:
    if per not in fields:
        raise SpaceError(f"{place}: per={per!r} names no choice here; {suggestion(per, fields)}")
    if fields[per].per is not None:
        raise SpaceError(
            f"{place}: per={per!r} has a value a position itself; the number of positions is one plain choice"
        )
    for option in fields[per].options:
        if type(option) is not int or option < 0:
            raise SpaceError(
                f"{place}: per={per!r} has the option {show(option)}; a number of positions is an int >= 0"
            )
    if not 1 <= max(fields[per].options) <= MAX_POSITIONS:
        most = max(fields[per].options)
        raise SpaceError(
            f"{place}: per={per!r} gives at most {most} positions; it is to be between 1 and {MAX_POSITIONS}"
        )


def _check_start(place: str, fields: Mapping[str, Field], own: Field, start: str) -> None:
    if own.per is None:
        raise SpaceError(f"{place}: start={start!r} leaves out positions, and there is one only; give `per` too")
    if start not in fields:
        raise SpaceError(f"{place}: start={show(start)} names no choice here; {suggestion(start, fields)}")
    if fields[start].per is not None:
        raise SpaceError(f"{place}: start={start!r} has a value a position itself; where to start is one plain choice")
    most = max(fields[own.per].options) if isinstance(own.per, str) else own.per
    for option in fields[start].options:
        if type(option) is not int or not 0 <= option <= most:
            raise SpaceError(
                f"{place}: start={start!r} has the option {show(option)}; a number of positions to leave out is an int "
                f"from 0 to {most}"
            )
    if 0 not in fields[start].options:
        raise SpaceError(f"{place}: start={start!r} has no option 0; declare it, and leave it out with where(...)")
    if None in own.options:
        raise SpaceError(f"{place}: None marks the positions that {start!r} leaves out; use a word as the option")


def _check_chosen(place: str, declared: Choice, derived: Mapping[str, Derived]) -> None:
    """Check that no choice depends on a derived value: its presence must be known before anything is computed."""
    named = {name for name in (declared.per, declared.start) if isinstance(name, str)}
    named.update(declared.when if isinstance(declared.when, Mapping) else ())
    for name in sorted(named & derived.keys()):
        raise SpaceError(
            f"{place}: {name!r} is derived; `per`, `start` and `when` name choices, so name those it is derived from"
        )


def _check_constraint(
    place: str, rule: Constraint, fields: Mapping[str, Field], derived: Mapping[str, Derived]
) -> None:
    _check_parameters(place, "constraint", rule.function, [*fields, *derived])
    if rule.each is not None and all(name in derived or fields[name].per != rule.each for name in rule.parameters):
        raise SpaceError(
            f"{place}: each={rule.each!r}, but none of its choices has per={rule.each!r}; leave `each` out"
        )
    if rule.each is not None and (whole := [name for name in rule.parameters if name in derived]):
        raise SpaceError(f"{place}: {whole[0]!r} is derived and comes whole; leave each={rule.each!r} out")


def _normal(kind: str, forms: Mapping[str, NormalForm], fields: Mapping[str, Field]) -> NormalForm | None:
    if len(forms) > 1:
        raise SpaceError(f"{kind}: {' and '.join(forms)} are both normal forms; networks are written in one way")
    for name, form in forms.items():
        _check_parameters(f"{kind}.{name}", "normal form", form.function, [*fields])
        return form
    return None


def _check_parameters(place: str, what: str, function: Callable[..., Any], names: Sequence[str]) -> None:
    parameters = inspect.signature(function).parameters.values()
    if not parameters:
        raise SpaceError(f"{place}: a {what} names its choices as parameters, as in def {place.split('.')[1]}(width)")
    for parameter in parameters:
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD or parameter.default is not parameter.empty:
            raise SpaceError(f"{place}: parameter {str(parameter)!r}; a {what} takes choices by plain names only")
        if parameter.name not in names:
            hint = suggestion(parameter.name, names)
            raise SpaceError(f"{place}: the {what} names {parameter.name!r}, which is no choice here; {hint}")


def _of_choices(rule: Constraint, declaration: Declaration) -> Constraint:
    """The same constraint as a function of choices alone; it computes the derived values that it reads."""
    if not declaration.derived.keys() & set(rule.parameters):
        return rule
    found = [name for parameter in rule.parameters for name in choices_of(parameter, declaration.derived)]
    read = tuple(dict.fromkeys(found))

    def over_choices(*given: Any) -> Any:
        values = dict(zip(read, given, strict=True))
        values |= declaration.derive(values)
        return rule.function(*(values[name] for name in rule.parameters))

    return Constraint(over_choices, None, read)


def _ordered(kind: str, fields: Mapping[str, Field]) -> dict[str, Field]:
    """The order of declaration, except that a choice comes after those it depends on."""
    ordered: dict[str, Field] = {}
    while len(ordered) < len(fields):
        ready = next((f for f in fields.values() if f.name not in ordered and _parents(f) <= ordered.keys()), None)
        if ready is None:
            circle = ", ".join(name for name in fields if name not in ordered)
            raise SpaceError(f"{kind}: {circle} depend on each other in a circle; let one of them stand without `when`")
        ordered[ready.name] = ready
    return ordered


def _parents(own: Field) -> set[str]:
    return {name for name, _ in own.when} | {name for name in (own.per, own.start) if isinstance(name, str)}
