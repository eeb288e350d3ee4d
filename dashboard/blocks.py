"""The blocks of an architecture, read from its values alone, so that spaces are drawn without their Python class."""

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
    """Options of all choices of a space by name, in order of declaration; nested spaces' choices come after it."""
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
    """The blocks of an architecture in order of the data's path, as far as its values tell.

    A tuple with one value per block spreads over blocks; plain values beside it belong to each of them; a nested
    architecture is a part of its own, unless it stands in such a tuple and is no more than a few values. `order` lists
    field names in the order of their declaration (stem, stages, head), those of nested spaces too.
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
    """Whether a value has blocks of its own: an architecture, or a tuple with one that is more than plain values."""
    if isinstance(value, tuple):
        return any(isinstance(item, Mapping) and not _is_simple(item) for item in value)
    return isinstance(value, Mapping)


def _is_simple(arch: Mapping[str, Any]) -> bool:
    return not any(isinstance(value, (tuple, Mapping)) for value in arch.values())


def _own_blocks(own: Mapping[str, Any], part: str, alone: bool) -> list[Block]:
    """Blocks of one level: one per position of its tuples, or a single one when it has only plain values."""
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
    """What a tuple says of one position: nothing where it is None or too short, all values of a nested architecture."""
    item = items[index] if index < len(items) else None
    if not isinstance(item, Mapping):
        return {} if item is None else {name: item}
    kinds = {getattr(other, "kind", "") for other in items}
    return {**({name: getattr(item, "kind", "")} if len(kinds) > 1 else {}), **item}


def settings(arch: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values of the whole network that sit beside its parts, such as a resolution."""
    if not any(_is_part(value) for value in arch.values()):
        return {}
    return {name: value for name, value in arch.items() if not isinstance(value, (tuple, Mapping))}


def size_field(found: Sequence[Block]) -> str | None:
    """The value that gives the boxes their height: a width by name, or else the number that varies most."""
    names = list(dict.fromkeys(name for block in found for name in block.values))
    columns = {name: [block.values[name] for block in found if name in block.values] for name in names}
    numeric = {name: values for name, values in columns.items() if all(map(is_number, values))}
    for known in _SIZE_NAMES:
        for name in numeric:
            if name == known or name.endswith("_" + known):
                return name
    return max(numeric, key=lambda name: _spread(numeric[name])) if numeric else None


def kind_field(found: Sequence[Block]) -> str | None:
    """The value that gives the boxes their colour: the first one written in words."""
    named = (name for block in found for name, value in block.values.items() if isinstance(value, str))
    return next(named, None)


def is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _spread(values: Sequence[float]) -> float:
    return max(values) / max(min(values), 1e-9) if values and max(values) > 0 else 0.0


def changed_cells(found: Sequence[Block], other: Sequence[Block]) -> set[tuple[str, int, str]]:
    """(part, index, name) of every value that another drawing does not have in the same place."""
    theirs = {block.key: block.values for block in other}
    return {
        (block.part, block.index, name)
        for block in found
        for name, value in block.values.items()
        if theirs.get(block.key, {}).get(name, _ABSENT) != value
    }


_ABSENT = object()
