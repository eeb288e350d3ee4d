"""Stores when a study received its evaluations, and how their architectures were proposed.

This explains a finished search to its users. No result depends on it, so no digest covers it; copies include it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from nas.migrations import tables
from nas.records import Life, Lived, Origin
from nas.storage.patience import patient
from nas.storage.rows import chunks, expanding
from nas.storage.sealed import damaged, loads
from nas.storage.studies import Studies

_link = tables.study_evaluations.c
_arch, _e = tables.architectures.c, tables.evaluations.c
_SELECT = sa.select(_link.position, _link.stored, _link.origin).where(_link.study_id == sa.bindparam("study_id"))
_SELECT_LIVED = (
    sa.select(_arch.digest, _link.position, _e.seconds, _e.worker, _link.stored, _link.origin)
    .join_from(tables.study_evaluations, tables.evaluations)
    .join(tables.architectures, _arch.id == _link.architecture_id)
    .where(_link.study_id == sa.bindparam("study_id"), expanding(_arch.digest))
)


class Lives(Studies):
    """Reads the life of each evaluation of a study."""

    @patient
    def lives(self, study_name: str, start: int = 0) -> dict[int, Life]:
        """Return the lives of evaluations by position, from `start`; empty lives if an earlier version stored them.

        Raises:
            NasError: the study does not exist.
        """
        query = _SELECT.where(_link.position >= start)
        with self._reading() as connection:
            rows = connection.execute(query, {"study_id": self._study_id(connection, study_name)}).all()
        return {position: Life(stored, self._origin(text)) for position, stored, text in rows}

    @patient
    def life(self, study_name: str, position: int) -> Life:
        """Return the life of the evaluation at one position; an empty one if there is no evaluation.

        Raises:
            NasError: the study does not exist.
        """
        query = _SELECT.where(_link.position == position)
        with self._reading() as connection:
            row = connection.execute(query, {"study_id": self._study_id(connection, study_name)}).one_or_none()
        return Life() if row is None else Life(row.stored, self._origin(row.origin))

    @patient
    def lived(self, study_name: str, digests: Iterable[str]) -> dict[str, Lived]:
        """Return position, cost and life of the study's evaluations of these architectures, by digest.

        Raises:
            NasError: the study does not exist.
        """
        found = {}
        with self._reading() as connection:
            study_id = self._study_id(connection, study_name)
            for chunk in chunks(digests):
                rows = connection.execute(_SELECT_LIVED, {"study_id": study_id, "digests": chunk})
                for digest, position, seconds, worker, stored, origin in rows:
                    found[digest] = Lived(position, seconds, worker, Life(stored, self._origin(origin)))
        return found

    def _origin(self, text: str | None) -> Origin | None:
        if text is None:
            return None
        what = "how an architecture was proposed"
        told = loads(text, list, what, self.url)
        if not told or not all(isinstance(one, str) for one in told):
            raise damaged(what, self.url)
        return Origin(told[0], tuple(told[1:]))

    def _linking(self) -> sa.Insert:
        """Return the insertion of rows with the values of `life_of`; the database sets the time of new ones."""
        at: sa.BindParameter[float] = sa.bindparam("at", type_=sa.Double())
        is_new: sa.BindParameter[bool] = sa.bindparam("is_new", type_=sa.Boolean())
        return sa.insert(tables.study_evaluations).values(stored=sa.case((is_new, self._clock), else_=at))


def life_of(life: Life | None) -> dict[str, Any]:
    """Return the stored values of a life; `is_new` unless it has a time or is `Life()`, the copy of an unknown life."""
    origin = life.origin if life else None
    text = json.dumps([origin.how, *origin.parents]) if origin else None
    return {
        "at": life.stored if life else None,
        "origin": text,
        "is_new": life != Life() and (life is None or life.stored is None),
    }
