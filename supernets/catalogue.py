"""Lists of the methods in a registry, as text: name, settings, a one-line summary and papers.

All of it comes from the declarations, so a new method needs no further entry.
"""

import re
import sys
from collections.abc import Mapping
from dataclasses import Field, dataclass, fields
from typing import Any

from supernets.spelling import Named, default_text

LONGEST_DEFAULT = 16
"""Number of characters above which a default value is omitted."""

_PAPER = re.compile(r"arXiv:\d{4}\.\d{4,5}")
_ASIDE = re.compile(r"\s*\([^()]*(?:arXiv:|\b(?:19|20)\d\d\b)[^()]*\)")  # parentheses that cite a paper


@dataclass(frozen=True)
class Entry:
    """One method."""

    name: str
    settings: str
    """Settings with their defaults, separated by commas."""
    summary: str
    papers: tuple[str, ...]


def catalogue(registry: Mapping[str, type[Named]]) -> list[Entry]:
    """Return an entry for each method of `supernets.strategies.STRATEGIES` or `supernets.sharing.SHARINGS`."""
    return [_entry(method) for method in registry.values()]


def _entry(method: type[Named]) -> Entry:
    settings = ", ".join(map(_setting, fields(method)))  # type: ignore[arg-type] # methods are dataclasses
    return entry(method.name, settings, method)


def entry(name: str, settings: str, method: type) -> Entry:
    """Return the entry of a method from its docstring, with papers from its module's docstring if it cites none."""
    told, about = method.__doc__ or "", sys.modules[method.__module__].__doc__ or ""
    papers = dict.fromkeys(_PAPER.findall(told) or _PAPER.findall(about))
    summary = _ASIDE.sub("", " ".join(told.split("\n\n")[0].split()))
    return Entry(name, settings, summary.removesuffix("."), tuple(papers))


def _setting(field: Field[Any]) -> str:
    value = default_text(field)
    return f"{field.name}={value}" if 0 < len(value) <= LONGEST_DEFAULT else field.name
