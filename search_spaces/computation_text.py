"""Reads computation graphs that people write: ``a = square(x); mul(a, add(a, x))``."""

from __future__ import annotations

import re
from typing import Any, TypeAlias

from search_spaces.errors import SpaceError
from search_spaces.values import show

Argument: TypeAlias = str | int
"""An input by its name, or a node before this one by its number."""
Node: TypeAlias = tuple[Any, ...]
"""A primitive by its name, and its arguments."""

MOST_NODES = 64
"""Of one graph."""
MOST_CHARACTERS = 20_000
"""Of a text that is read."""
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOKEN = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*|[(),;=])")


def parsed(text: str) -> list[Node]:
    """The nodes of a text, in an order in which each reads those before it; the last expression is the output.

    Raises:
        SpaceError: it is no such text, or too long.
    """
    return _Parser(text).nodes()


def check_word(what: str, name: Any) -> None:
    """Raises SpaceError where it is no name."""
    if not isinstance(name, str) or not _WORD.fullmatch(name):
        raise SpaceError(f"{what} {show(name)} is no name; use letters, digits and '_', beginning with a letter")


class _Parser:
    """One text: statements ``name = expression`` apart by semicolons, the last an expression alone."""

    def __init__(self, text: str) -> None:
        if not isinstance(text, str) or len(text) > MOST_CHARACTERS:
            given = f"{len(text):,} characters" if isinstance(text, str) else show(text)
            raise SpaceError(f"{given} are no graph; give a text of at most {MOST_CHARACTERS:,} characters")
        self._text = text
        self._tokens = self._split()
        self._nodes: list[Node] = []
        self._named: dict[str, Argument] = {}

    def nodes(self) -> list[Node]:
        output: Argument = ""
        while self._tokens:
            name = self._tokens[0][0] if len(self._tokens) > 1 and self._tokens[1][0] == "=" else None
            if name is not None:
                self._take(), self._take()
            output = self._expression()
            if name is not None:
                self._named[name] = output
            if self._tokens:
                self._expect(";")
        if output != len(self._nodes) - 1:  # an input, a name alone, or nothing
            raise self._error("has no primitive as its last expression")
        return self._nodes

    def _split(self) -> list[tuple[str, int]]:
        tokens, place = [], 0
        stripped = self._text.rstrip()
        while place < len(stripped):
            found = _TOKEN.match(stripped, place)
            if found is None:
                raise self._error(f"has {show(stripped[place : place + 10].strip())} at {place}")
            tokens.append((found[1], found.start(1)))
            place = found.end()
        return tokens

    def _take(self) -> str:
        if not self._tokens:
            raise self._error("ends too early")
        return self._tokens.pop(0)[0]

    def _expect(self, *wanted: str) -> str:
        place = self._tokens[0][1] if self._tokens else len(self._text)
        token = self._take()
        if token not in wanted:
            raise self._error(f"has {token!r} at {place} in place of {' or '.join(map(repr, wanted))}")
        return token

    def _expression(self) -> Argument:
        """One expression, without recursion: so deep a text as there may be is read."""
        calls: list[list[Argument]] = []
        while True:
            word = self._take()
            if not _WORD.fullmatch(word):
                raise self._error(f"has {word!r} in place of a name")
            if self._tokens and self._tokens[0][0] == "(":
                self._take()
                calls.append([word])
                continue
            value: Argument = self._named.get(word, word)
            while calls:
                calls[-1].append(value)
                if self._expect(",", ")") == ",":
                    break
                self._nodes.append(tuple(calls.pop()))
                if len(self._nodes) > MOST_NODES:
                    raise self._error(f"has more than {MOST_NODES} nodes")
                value = len(self._nodes) - 1
            else:
                return value

    def _error(self, what: str) -> SpaceError:
        return SpaceError(f"the graph {show(self._text)} {what}; write it like 'a = square(x); mul(a, x)'")
