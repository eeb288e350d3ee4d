"""Queries for checking, copying and repairing a whole database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from nas.migrations import tables
from nas.records import Evaluation
from nas.storage.evaluation_rows import SELECTED, evaluation_of, is_sound
from nas.storage.evaluations import SELECT_STUDY, Evaluations, is_linked
from nas.storage.learnt import Learnt
from nas.storage.patience import patient
from nas.storage.sealed import damaged, text_digest

Context = tuple[str, str]
"""Digests of the weights and of the data of evaluations."""

_arch, _e, _link, _context = (
    table.c for table in (tables.architectures, tables.evaluations, tables.study_evaluations, tables.contexts)
)
_KEY = ("context_id", "architecture_id", "attempt")


def _is_key_of(row: Any) -> sa.ColumnElement[bool]:
    return sa.and_(*(_e[name] == row[name] for name in _KEY))


class Keeping(Evaluations, Learnt):
    """Reads everything that is stored, and removes damaged evaluations."""

    def structural_problems(self) -> Iterator[str]:
        """Yield a line per problem that SQLite finds in its file; nothing for a server, which checks its own files."""
        if self._engine.dialect.name != "sqlite":
            return
        with self._reading() as connection:
            for (found,) in connection.exec_driver_sql("PRAGMA integrity_check"):
                if found != "ok":
                    yield f"{self.url}: {' '.join(str(found).split())}"
            for table, *_ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
                yield f"{self.url}: a row of {table} refers to nothing"

    @patient
    def trained(self) -> list[str]:
        """Return the digests of all weights with a curve or a trust report, even if their supernet is not stored."""
        query = sa.union(sa.select(tables.curve_points.c.supernet_digest), sa.select(tables.trust.c.supernet_digest))
        with self._reading() as connection:
            return sorted(connection.execute(query).scalars())

    @patient
    def distributions_key(self, study: str) -> str:
        """Return the key of a study's distributions; empty if it has none."""
        c = tables.distributions.c
        with self._reading() as connection:
            return connection.execute(sa.select(c.key).where(c.study == study).limit(1)).scalar() or ""

    def damaged_architectures(self) -> Iterator[str]:
        """Yield a line per architecture that does not match its digest."""
        with self._reading() as connection:
            rows = self._fetch(connection, sa.select(_arch.digest, _arch.json), {})
        for digest, text in rows:
            if not isinstance(text, str) or text_digest(text) != digest:
                yield f"architecture {digest} is not what was stored"

    # --- evaluations

    @patient
    def positions(self, study: str) -> list[int]:
        """Return the stored positions of a study, ascending."""
        with self._reading() as connection:
            study_id = self._study_id(connection, study)
            query = sa.select(_link.position).where(_link.study_id == study_id).order_by(_link.position)
            return list(connection.execute(query).scalars())

    @patient
    def damaged_positions(self, study: str) -> list[int]:
        """Return the positions of a study whose evaluations do not match their digests."""
        with self._reading() as connection:
            study_id = self._study_id(connection, study)
            rows = self._fetch(connection, SELECT_STUDY, {"study_id": study_id})
            names = self._metric_names(connection)
        return [row[len(SELECTED)] for row in rows if not (is_sound(row, names) and is_linked(row))]

    @patient
    def contexts(self, study: str) -> dict[Context, list[int]]:
        """Return the positions of a study, ascending, by the weights and data of their evaluations."""
        found: dict[Context, list[int]] = {}
        query = sa.select(_context.weights, _context.data, _link.position).join_from(
            tables.study_evaluations, tables.contexts, _context.id == _link.context_id
        )
        with self._reading() as connection:
            study_id = self._study_id(connection, study)
            for weights, data, position in connection.execute(
                query.where(_link.study_id == study_id).order_by(_link.position)
            ):
                found.setdefault((weights, data), []).append(position)
        return found

    @patient
    def unclaimed_evaluations(self) -> dict[Context, list[Evaluation]]:
        """Return the evaluations that no study refers to, such as those of deleted studies, by context.

        Raises:
            DamageError: an evaluation does not match its digest.
        """
        claimed = sa.exists().where(*(_link[name] == _e[name] for name in _KEY))
        query = (
            sa.select(*SELECTED, _arch.json, _context.weights, _context.data)
            .join_from(tables.evaluations, tables.architectures)
            .join(tables.contexts, _context.id == _e.context_id)
            .where(~claimed)
            .order_by(_e.context_id, _e.architecture_id, _e.attempt)
        )
        found: dict[Context, list[Evaluation]] = {}
        with self._reading() as connection:
            names = self._metric_names(connection)
            for row in self._fetch(connection, query, {}):
                digest, (text, weights, data) = row[0], row[-3:]
                if not is_sound(row, names):
                    raise damaged(f"an evaluation of architecture {digest}", self.url)
                evaluation = evaluation_of(row, self._architecture(digest, text), names)
                found.setdefault((weights, data), []).append(evaluation)
        return found

    @patient
    def add_unclaimed(self, evaluations: Sequence[Evaluation], weights: str, data: str) -> None:
        """Store evaluations that belong to no study."""
        with self._writing() as connection:
            context_id = self._context_id(connection, weights, data)
            self._insert_evaluations(connection, context_id, evaluations, in_turn=True)

    @patient
    def forget(self, study: str, positions: Sequence[int]) -> None:
        """Remove evaluations from a study and from all others that share them, so that a search evaluates them again.

        Raises:
            NasError: the study does not exist, or another process drives it.
        """
        with self._writing() as connection:
            self._check_lease(connection, study)
            study_id = self._study_id(connection, study)
            mine = (_link.study_id == study_id) & _link.position.in_(positions)
            rows = connection.execute(sa.select(*(_link[name] for name in _KEY)).where(mine)).mappings().all()
            connection.execute(sa.delete(tables.study_evaluations).where(mine))
            for row in rows:
                shared = sa.and_(*(_link[name] == row[name] for name in _KEY))
                connection.execute(sa.delete(tables.study_evaluations).where(shared))
                connection.execute(sa.delete(tables.evaluations).where(_is_key_of(row)))
