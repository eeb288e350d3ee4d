"""One network of a space as a value: frozen, hashable, canonical, and its own JSON."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from search_spaces.errors import SpaceError
from search_spaces.reading import MalformedError, json_value
from search_spaces.values import Json, canonical, freeze, show, suggestion

BESIDE = ("is", "derived")
"""Members of an architecture's JSON that are not choices."""


class Architecture(Mapping[str, Any]):
    """The active choices of one network, by attribute (``arch.width``) or by key (``arch["width"]``).

    Spaces make them; choices that are not active in this network are absent, so equal networks are equal values. A
    choice with one value a position is a tuple (None where that position has none), a nested space an Architecture.
    What a space derives from its choices is there by attribute only, and in the JSON under ``"derived"``: the mapping
    holds the choices.
    """

    __slots__ = ("_derived", "_digest", "_json", "_origin", "_values", "kind")
    kind: str
    _values: dict[str, Any]
    _derived: dict[str, Any]
    _json: str | None
    _digest: str | None
    _origin: (
        tuple[object, tuple[int, ...]] | None
    )  # the declaration and the codes it was read from, to save finding them

    def __init__(
        self,
        kind: str,
        values: Mapping[str, Any],
        origin: tuple[object, tuple[int, ...]] | None = None,
        derived: Mapping[str, Any] | None = None,
    ) -> None:
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "_values", dict(values))
        object.__setattr__(self, "_derived", dict(derived or {}))
        object.__setattr__(self, "_json", None)
        object.__setattr__(self, "_digest", None)
        object.__setattr__(self, "_origin", origin)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __getattr__(self, name: str) -> Any:
        if name == "kind":
            self._read()
            return self.kind
        if not name.startswith("_"):
            for known in (self._values, self._derived):
                if name in known:
                    return known[name]
            hint = suggestion(name, [*self._values, *self._derived])
            raise AttributeError(f"{self.kind} has no active choice {name!r}; {hint}")
        if name not in ("_values", "_derived"):
            raise AttributeError(name)
        self._read()
        return self._values if name == "_values" else self._derived

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._values, *self._derived]

    def __eq__(self, other: object) -> bool:
        return self.json() == other.json() if isinstance(other, Architecture) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.json())

    def __repr__(self) -> str:
        return f"{self.kind}({', '.join(f'{name}={value!r}' for name, value in self._values.items())})"

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"an architecture is frozen; {name!r} is set by asking the space for another one")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"an architecture is frozen; {name!r} cannot be deleted")

    def __reduce__(self) -> tuple[type["Architecture"], tuple[str, dict[str, Any], None, dict[str, Any]]]:
        return Architecture, (self.kind, self._values, None, self._derived)

    def __copy__(self) -> "Architecture":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Architecture":
        return self

    def to_dict(self) -> dict[str, Json]:
        """Plain JSON values; in each architecture ``"is"`` is its kind and ``"derived"`` what is derived, if any is."""
        members: dict[str, Json] = {"is": self.kind, **{name: _thaw(value) for name, value in self._values.items()}}
        if self._derived:
            members["derived"] = {name: _thaw(value) for name, value in self._derived.items()}
        return members

    def json(self) -> str:
        """Canonical JSON: equal architectures have equal text, in every process."""
        if self._json is None:
            members = {name: _text(value) for name, value in self._values.items()} | {"is": canonical(self.kind)}
            if self._derived:
                members["derived"] = canonical(self._derived)
            text = ",".join(f"{canonical(name)}:{members[name]}" for name in sorted(members))
            object.__setattr__(self, "_json", f"{{{text}}}")
        assert self._json is not None
        return self._json

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that name this network in caches, files and databases."""
        if self._digest is None:
            object.__setattr__(self, "_digest", hashlib.sha256(self.json().encode()).hexdigest()[:16])
        assert self._digest is not None
        return self._digest

    @classmethod
    def stored(cls, text: str, digest: str) -> "Architecture":
        """Return the architecture with this `json` and `digest`; the JSON is parsed on first access.

        Of ten thousand that a database holds, a front looks into few.
        """
        architecture = object.__new__(cls)
        for name, value in (("_json", text), ("_digest", digest), ("_origin", None)):
            object.__setattr__(architecture, name, value)
        return architecture

    def _read(self) -> None:
        assert self._json is not None
        read = Architecture.from_json(self._json)
        object.__setattr__(self, "kind", read.kind)
        object.__setattr__(self, "_values", read._values)
        object.__setattr__(self, "_derived", read._derived)

    @classmethod
    def from_json(cls, text: str) -> "Architecture":
        """The inverse of `json`; needs no space, so checks none (``space.architecture(text)`` does)."""
        value = parse(text)
        if not isinstance(value, dict):
            raise SpaceError(
                f"{show(text)} is not an architecture; give the JSON object that Architecture.json() wrote"
            )
        architecture = _build(value)
        assert isinstance(architecture, Architecture)
        return architecture

    def leaves(self) -> Iterator[tuple[str, Any]]:
        """The scalars of all choices by path, as ``stages.0.depth``; a choice that has no position now gives ().

        The kind of each architecture is at its ``is``. What is derived is left out.
        """
        return _leaves(self)

    def diff(self, other: "Architecture") -> dict[str, tuple[Any, Any]]:
        """Where two architectures differ: path to (here, there), None where a choice is absent."""
        mine, theirs = dict(self.leaves()), dict(other.leaves())
        paths = [*mine, *(path for path in theirs if path not in mine)]
        pairs = {path: (mine.get(path), theirs.get(path)) for path in paths}
        return {
            path: pair
            for path, pair in pairs.items()
            if (path in mine) != (path in theirs) or canonical(pair[0]) != canonical(pair[1])
        }


def parse(text: str) -> Any:
    """Parse a JSON text; SpaceError if it is malformed."""
    try:
        return json_value(text)
    except MalformedError as error:
        raise SpaceError(f"{show(text)} {error}; give the text that Architecture.json() wrote") from None


def _thaw(value: Any) -> Json:
    if isinstance(value, Architecture):
        return value.to_dict()
    return [_thaw(item) for item in value] if isinstance(value, tuple) else value


def _text(value: Any) -> str:
    """Return the canonical JSON of a value, reusing that of nested architectures."""
    if isinstance(value, Architecture):
        return value.json()
    return f"[{','.join(map(_text, value))}]" if isinstance(value, tuple) else canonical(value)


def _build(value: Any) -> Any:
    if isinstance(value, dict):
        kind = value.get("is")
        if not isinstance(kind, str):
            raise SpaceError(
                f'{show(value)} does not say what it is; an architecture\'s JSON carries "is": "<its space>"'
            )
        derived = value.get("derived", {})
        if not isinstance(derived, dict) or any(isinstance(item, dict) for item in derived.values()):
            raise SpaceError(f"{show(derived)} is not what a space derives; it is an object of scalars and lists")
        values = {name: _build(item) for name, item in value.items() if name not in BESIDE}
        return Architecture(kind, values, None, {name: _build(item) for name, item in derived.items()})
    if isinstance(value, list):
        return tuple(_build(item) for item in value)
    try:
        return freeze(value)
    except ValueError as error:
        raise SpaceError(f"{error}; an architecture holds JSON values only") from None


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every scalar of an architecture by its path; a nested architecture also reports its kind."""
    prefix = f"{path}." if path else ""
    if isinstance(value, Architecture):
        yield f"{prefix}is", value.kind
        for name, item in value.items():
            yield from _leaves(item, prefix + name)
    elif isinstance(value, tuple) and value:
        for position, item in enumerate(value):
            yield from _leaves(item, f"{prefix}{position}")
    else:
        yield path, value
