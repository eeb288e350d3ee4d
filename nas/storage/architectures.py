"""Stores each architecture once, under a small id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from nas.migrations import tables
from nas.storage.database import Database, Prepared
from nas.storage.rows import chunks, expanding
from nas.storage.sealed import damaged, text_digest
from search_spaces import Architecture

_arch = tables.architectures.c
_SELECT_TEXTS = sa.select(_arch.digest, _arch.json).where(expanding(_arch.digest))
_SELECT_IDS = sa.select(_arch.digest, _arch.id).where(expanding(_arch.digest))


class Architectures(Database):
    """Stores architectures and returns their ids."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        insert = self._insert_new(tables.architectures, "digest")
        self._add_architectures = Prepared(insert, ("digest", "json"), self._engine.dialect)

    def _insert_architectures(self, connection: sa.Connection, texts: Mapping[str, str]) -> None:
        # The sorted order prevents deadlocks between two writers of the same architectures.
        self._add_architectures(connection, [{"digest": digest, "json": texts[digest]} for digest in sorted(texts)])

    def _architecture_ids(self, connection: sa.Connection, digests: Iterable[str]) -> dict[str, int]:
        found = (connection.execute(_SELECT_IDS, {"digests": chunk}) for chunk in chunks(digests))
        return {digest: key for rows in found for digest, key in rows}

    def _read_architectures(self, connection: sa.Connection, digests: Iterable[str]) -> dict[str, Architecture]:
        found = (connection.execute(_SELECT_TEXTS, {"digests": chunk}) for chunk in chunks(digests))
        return {digest: self._architecture(digest, text) for rows in found for digest, text in rows}

    def _architecture(self, digest: str, text: str) -> Architecture:
        """Return the architecture of a JSON text, which it parses on first access.

        Raises:
            DamageError: the text does not match the digest.
        """
        if text_digest(text) != digest:
            raise damaged(f"architecture {digest}", self.url)
        return Architecture.stored(text, digest)
