"""When evaluations were stored in a study, and how their architectures came to be proposed.

For people who look back at a search. No result depends on it, so it is in no digest, and copies take it along.
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
    """Tells of each evaluation of a study when and by whom."""

    @patient
    def lives(self, study_name: str, start: int = 0) -> dict[int, Life]:
        """By position, from one on; of what earlier versions of this package stored nothing is known.

        Raises:
            NasError: there is no such study.
        """
        query = _SELECT.where(_link.position >= start)
        with self._reading() as connection:
            rows = connection.execute(query, {"study_id": self._study_id(connection, study_name)}).all()
        return {position: Life(stored, self._origin(text)) for position, stored, text in rows}

    @patient
    def life(self, study_name: str, position: int) -> Life:
        """Of the evaluation at one position; nothing is known of one that is not there.

        Raises:
            NasError: there is no such study.
        """
        query = _SELECT.where(_link.position == position)
        with self._reading() as connection:
            row = connection.execute(query, {"study_id": self._study_id(connection, study_name)}).one_or_none()
        return Life() if row is None else Life(row.stored, self._origin(row.origin))

    @patient
    def lived(self, study_name: str, digests: Iterable[str]) -> dict[str, Lived]:
        """Of those of these architectures that the study evaluated, by their digests.

        Raises:
            NasError: there is no such study.
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
        """Insertion of rows with `life_of` in them: what is stored now has its time from the database."""
        at: sa.BindParameter[float] = sa.bindparam("at", type_=sa.Double())
        is_new: sa.BindParameter[bool] = sa.bindparam("is_new", type_=sa.Boolean())
        return sa.insert(tables.study_evaluations).values(stored=sa.case((is_new, self._clock), else_=at))


def life_of(life: Life | None) -> dict[str, Any]:
    """What is stored of it. One without a time is new, unless nothing at all is known of it, as of a copied one."""
    origin = life.origin if life else None
    text = json.dumps([origin.how, *origin.parents]) if origin else None
    return {
        "at": life.stored if life else None,
        "origin": text,
        "is_new": life != Life() and (life is None or life.stored is None),
    }
