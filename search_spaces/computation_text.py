"""Parse computation graphs from text: ``a = square(x); mul(a, add(a, x))``."""

from __future__ import annotations

import re
from typing import Any, TypeAlias

from search_spaces.errors import SpaceError
from search_spaces.values import show

Argument: TypeAlias = str | int
"""An input by name, or an earlier node by number."""
Node: TypeAlias = tuple[Any, ...]
"""A primitive by name, and its arguments."""

MOST_NODES = 64
"""Largest number of nodes in a graph."""
MOST_CHARACTERS = 20_000
"""Largest number of characters in a text to parse."""
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOKEN = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*|[(),;=])")


def parsed(text: str) -> list[Node]:
    """Return the nodes of a text in an order where each reads only earlier ones; the last expression is the output.

    Raises:
        SpaceError: the text is malformed or too long.
    """
    return _Parser(text).nodes()


def check_word(what: str, name: Any) -> None:
    """Raise SpaceError if `name` is not a valid name."""
    if not isinstance(name, str) or not _WORD.fullmatch(name):
        raise SpaceError(f"{what} {show(name)} is no name; use letters, digits and '_', beginning with a letter")


class _Parser:
    """Parses a text of statements ``name = expression``, separated by semicolons; the last is a bare expression."""

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
        """Parse one expression iteratively, so that deeply nested texts cause no recursion error."""
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
