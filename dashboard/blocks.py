"""Derives the blocks of an architecture from its values, so that drawing does not need the space's Python class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

_DEPTH_NAMES = ("depth", "layers", "num_layers", "blocks", "num_blocks", "repeats")
_SIZE_NAMES = ("width", "channels", "dim", "hidden", "embed", "size", "features", "filters", "units")


@dataclass(frozen=True, slots=True)
class Block:
    """One box of the drawing: the part it belongs to, its place in that part, and its values by name."""

    part: str
    index: int
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, int]:
        return self.part, self.index


def declared_fields(declaration: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the options of all choices by name, in order of declaration; choices of nested spaces come last."""
    found: dict[str, list[Any]] = {}
    nested: list[Mapping[str, Any]] = []
    for name, described in (declaration.get("choices") or {}).items():
        options = described.get("options", [])
        found.setdefault(name, []).extend(option for option in options if not isinstance(option, dict))
        nested += [option for option in options if isinstance(option, dict)]
    for inner in nested:
        for name, options in declared_fields(inner).items():
            found.setdefault(name, []).extend(options)
    return found


def blocks(arch: Mapping[str, Any], order: Sequence[str] = (), part: str = "") -> list[Block]:
    """Return the blocks of an architecture in the order of the data flow, as far as its values show.

    A tuple has one value per block; plain values beside it apply to all of these blocks. A nested architecture is a
    separate part, unless it is in such a tuple and has only plain values. `order` lists field names in order of
    declaration (stem, stages, head), including those of nested spaces.
    """
    ranks = {name: rank for rank, name in enumerate(order)}
    names = sorted(arch, key=lambda name: ranks.get(name, len(ranks)))
    parts = [name for name in names if _is_part(arch[name])]
    found = _own_blocks({name: arch[name] for name in names if name not in parts}, part, alone=not parts)
    for name in parts:
        path, value = f"{part}.{name}" if part else name, arch[name]
        members = {path: value} if isinstance(value, Mapping) else {f"{path}.{i}": one for i, one in enumerate(value)}
        for label, member in members.items():
            inner = blocks(member, order, label) if isinstance(member, Mapping) else []
            found.extend(inner or [Block(label, 0, {} if isinstance(member, Mapping) else {name: member})])
    return found


def _is_part(value: object) -> bool:
    """Return whether a value has its own blocks: an architecture, or a tuple with a nontrivial one."""
    if isinstance(value, tuple):
        return any(isinstance(item, Mapping) and not _is_simple(item) for item in value)
    return isinstance(value, Mapping)


def _is_simple(arch: Mapping[str, Any]) -> bool:
    return not any(isinstance(value, (tuple, Mapping)) for value in arch.values())


def _own_blocks(own: Mapping[str, Any], part: str, alone: bool) -> list[Block]:
    """Return the blocks of one level: one per position of its tuples, or a single one if it has only plain values."""
    spread = {name: value for name, value in own.items() if isinstance(value, tuple)}
    common = {name: value for name, value in own.items() if name not in spread}
    if not spread:
        return [Block(part, 0, common)] if common and alone else []
    length = max(len(value) for value in spread.values())
    common = {name: value for name, value in common.items() if not (name in _DEPTH_NAMES and value == length)}
    found = []
    for index in range(length):
        values = dict(common)
        for name, items in spread.items():
            values |= _at(name, items, index)
        found.append(Block(part, index, values))
    return found


def _at(name: str, items: tuple[Any, ...], index: int) -> dict[str, Any]:
    """Return a tuple's values at a position: {} if it is None or too short; all values of a nested architecture."""
    item = items[index] if index < len(items) else None
    if not isinstance(item, Mapping):
        return {} if item is None else {name: item}
    kinds = {getattr(other, "kind", "") for other in items}
    return {**({name: getattr(item, "kind", "")} if len(kinds) > 1 else {}), **item}


def settings(arch: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain values of the whole network, beside its parts, such as a resolution."""
    if not any(_is_part(value) for value in arch.values()):
        return {}
    return {name: value for name, value in arch.items() if not isinstance(value, (tuple, Mapping))}


def size_field(found: Sequence[Block]) -> str | None:
    """Return the name of the value shown as height: a width, or else the number that varies most."""
    names = list(dict.fromkeys(name for block in found for name in block.values))
    columns = {name: [block.values[name] for block in found if name in block.values] for name in names}
    numeric = {name: values for name, values in columns.items() if all(map(is_number, values))}
    for known in _SIZE_NAMES:
        for name in numeric:
            if name == known or name.endswith("_" + known):
                return name
    return max(numeric, key=lambda name: _spread(numeric[name])) if numeric else None


def kind_field(found: Sequence[Block]) -> str | None:
    """Return the name of the value shown as colour: the first one that is text."""
    named = (name for block in found for name, value in block.values.items() if isinstance(value, str))
    return next(named, None)


def is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _spread(values: Sequence[float]) -> float:
    return max(values) / max(min(values), 1e-9) if values and max(values) > 0 else 0.0


def changed_cells(found: Sequence[Block], other: Sequence[Block]) -> set[tuple[str, int, str]]:
    """Return (part, index, name) of every value that differs from another drawing's in the same place."""
    theirs = {block.key: block.values for block in other}
    return {
        (block.part, block.index, name)
        for block in found
        for name, value in block.values.items()
        if theirs.get(block.key, {}).get(name, _ABSENT) != value
    }


_ABSENT = object()
